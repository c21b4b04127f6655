//! The one error of the server connection.

use std::fmt;

/// What kind of failure it was. The number in each line is pgBackRest's error code (`src/build/error/error.yaml`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DbErrorKind {
    /// There is no session to be had (56).
    Connect,
    /// A statement failed, or its answer is not what it must be (57).
    Query,
    /// The user cannot see the settings that are needed (57).
    Settings,
    /// A statement took longer than the time-out and was cancelled (57).
    Timeout,
    /// The session ended; a backup that it held has ended with it (57).
    Lost,
    /// The server is not the expected one (58).
    Mismatch,
    /// A primary went into recovery under its backup (25).
    Recovery,
}

/// A database operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DbError {
    kind: DbErrorKind,
    message: String,
    sql_state: Option<String>,
}

impl DbError {
    /// A failure. `message` says what happened, lower case, no full stop.
    pub fn new(kind: DbErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), sql_state: None }
    }

    /// A failure that the server reported with this SQLSTATE.
    pub(super) fn with_sql_state(mut self, sql_state: Option<&str>) -> Self {
        self.sql_state = sql_state.map(str::to_owned);
        self
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> DbErrorKind {
        self.kind
    }

    /// The server's five-character code, if it reported the failure.
    pub fn sql_state(&self) -> Option<&str> {
        self.sql_state.as_deref()
    }
}

impl fmt::Display for DbError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for DbError {}
