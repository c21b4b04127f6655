//! What is logged, and where to.

use super::key::*;
use super::row::*;
use super::why;
use crate::command::set::*;

options! {
    "least severity that goes to standard output"
    LOG_LEVEL_CONSOLE: Key<StringId> = global("log-level-console", ANY)
        .default("warn").allowed(&["off", "error", "warn", "info", "detail", "debug", "trace"]).background();

    "least severity that goes to the log file"
    LOG_LEVEL_FILE: Key<StringId> = global("log-level-file", ANY)
        .default("info").allowed(&["off", "error", "warn", "info", "detail", "debug", "trace"]).background();

    "least severity that goes to standard error"
    LOG_LEVEL_STDERR: Key<StringId> = global("log-level-stderr", ANY)
        .default("off").allowed(&["off", "error", "warn", "info", "detail", "debug", "trace"]).background();

    "directory of log files"
    LOG_PATH: Key<Path> = global("log-path", ANY).default("/var/log/pgbackrest").background();

    "log what worker processes do"
    LOG_SUBPROCESS: Key<Boolean> = global("log-subprocess", REPOSITORY).default("n").background().idle(why::PROTOCOL);

    "put time and duration into log lines"
    LOG_TIMESTAMP: Key<Boolean> = global("log-timestamp", ANY).default("y").background();
}
