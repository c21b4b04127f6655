//! Runs pgBackRest's command line, whoever implements it: the original or `pgbr`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::canary;
use crate::conf::Conf;
use crate::error::Result;
use crate::process::{self, DEFAULT_LIMIT, Outcome};
use crate::user;

/// A program with pgBackRest's command line.
#[derive(Debug, Clone)]
pub struct Engine {
    name: String,
    binary: PathBuf,
}

impl Engine {
    /// The program at this path; copied to where the unprivileged user reaches it if need be.
    ///
    /// # Errors
    /// When such a copy cannot be made.
    pub fn at(name: String, binary: &Path) -> Result<Self> {
        Ok(Self { name, binary: user::reachable_copy(binary)? })
    }

    /// What to call it in messages, such as `pgBackRest 2.55.1`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Full path of the program.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The command `pgbackrest --config=... --stanza=... ARGUMENTS` as the unprivileged user, for tests that set
    /// environment variables or kill it.
    #[must_use]
    pub fn command(&self, conf: &Conf, arguments: &[&str]) -> Command {
        let mut command = user::command(&self.binary);
        command.arg(conf.config_option()).arg(conf.stanza_option()).args(arguments);
        command
    }

    /// Runs a command to its end, successful or not. A secret of a test in what it prints, or in its logs, markers and lock
    /// files, fails the test.
    ///
    /// # Errors
    /// When it cannot be started or does not end within [`DEFAULT_LIMIT`]; see [`Outcome::success`] for the exit code.
    pub fn run(&self, conf: &Conf, arguments: &[&str]) -> Result<Outcome> {
        let outcome = process::run(&mut self.command(conf, arguments), DEFAULT_LIMIT);
        for folder in conf.written() {
            canary::look_below(&folder);
        }
        outcome
    }

    /// Runs a command that must succeed.
    ///
    /// # Errors
    /// As [`Engine::run`], and with all output when the exit code is not 0.
    pub fn ok(&self, conf: &Conf, arguments: &[&str]) -> Result<Outcome> {
        self.run(conf, arguments)?.success()
    }

    /// The value of `archive_command` for this configuration.
    #[must_use]
    pub fn archive_command(&self, conf: &Conf) -> String {
        format!("{} {} {} archive-push %p", self.binary.display(), conf.config_option(), conf.stanza_option())
    }
}
