//! What ends a command, as an exit code.

use pgbr_config::ConfigError;
use pgbr_repo::error::{Error, ErrorKind};

/// How a command ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did what was asked.
    Done,
    /// `archive-get` or `repo-get --ignore-missing`: what was asked for is not there.
    Missing,
    /// `plan`: the target cannot be reached.
    Unreachable,
}

impl Outcome {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Outcome::Done => 0,
            Outcome::Missing | Outcome::Unreachable => 1,
        }
    }
}

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// The message with its hints.
    pub message: String,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { code: error.kind().code(), message: error.message().to_owned() }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { code: error.class.code(), message: error.with_hints() }
    }
}

impl Failure {
    /// A failure of the program's own.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error::new(kind, message).into()
    }
}
