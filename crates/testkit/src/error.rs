//! The one error of the kit: it is read by a person who looks at a failed test.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Shorthand for results of the kit.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a real part could not do its work.
#[derive(thiserror::Error)]
pub enum Error {
    /// A file, folder or process operation failed; `what` names it.
    #[error("{what}: {source}")]
    Io {
        /// The operation and the path or program.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A program ended with another status than 0.
    #[error("{command}: {status}\n--- stdout\n{stdout}--- stderr\n{stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended, in words.
        status: String,
        /// All of its standard output.
        stdout: String,
        /// All of its standard error.
        stderr: String,
    },
    /// Something did not happen in time.
    #[error("{what}: not within {limit:?}")]
    TimedOut {
        /// What was awaited, with what was seen last.
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// A program or package is not to be had on this machine.
    #[error("{0}")]
    Missing(String),
    /// Output or a sample file does not look as expected.
    #[error("{0}")]
    Unexpected(String),
}

/// `unwrap` in a test prints the debug form: make it the readable one.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names the operation and the path of an [`io::Error`].
pub(crate) trait Context<T> {
    fn context(self, operation: &str, path: &Path) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, operation: &str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { what: format!("{operation} {}", path.display()), source })
    }
}
