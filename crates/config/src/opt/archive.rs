//! WAL: archive-push and archive-get.

use super::key::*;
use super::row::*;
use crate::command::set::*;

options! {
    "push or fetch WAL ahead of PostgreSQL's requests, in the background"
    ARCHIVE_ASYNC: Key<Boolean> = global("archive-async", AG.with(AP)).default("n").background();

    "bytes of WAL that archive-get may fetch ahead"
    ARCHIVE_GET_QUEUE_MAX: Key<Size> = global("archive-get-queue-max", AG.with(SE))
        .default("128MiB").range("0B", "4PiB").background();

    "compare version and system identifier of each segment with the stanza"
    ARCHIVE_HEADER_CHECK: Key<Boolean> = global("archive-header-check", AP.with(SE)).default("y").background();

    "ask again for a segment that a background run did not find"
    ARCHIVE_MISSING_RETRY: Key<Boolean> = global("archive-missing-retry", AG).default("y");

    "bytes of WAL that one background run pushes"
    ARCHIVE_PUSH_BATCH_SIZE: Key<Size> = global("archive-push-batch-size", AP)
        .default("16GiB").range("1MiB", "4PiB").background();

    "bytes of waiting WAL above which it is DROPPED to keep the disk from filling up"
    ARCHIVE_PUSH_QUEUE_MAX: Key<Size> = global("archive-push-queue-max", AP)
        .optional().range("0B", "4PiB").background().deprecated(&[old("archive-queue-max")]);

    "end archive-get with exit code 200 on every error, and where later segments show that WAL has a hole; PostgreSQL \
     takes codes up to 125 for the end of WAL and opens the cluster, and stops at those above"
    RECOVERY_STOP_ON_ERROR: Key<Boolean> = global("recovery-stop-on-error", AG).default("n").own();

    "time without a request after which a resident archiver that systemd started ends; the next request starts it again"
    SERVE_IDLE: Key<Time> = global("serve-idle", SE).default("5m").range("1s", "7d").own();

    "socket of the resident archiver (default: STANZA-serve.sock in lock-path)"
    SERVE_SOCKET: Key<Path> = global("serve-socket", AG.with(AP).with(SE)).optional().own();
}
