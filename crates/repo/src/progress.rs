//! What a running command needs from its caller: time, randomness, a budget of memory, a way to stop it, and an ear
//! for what it reports.

use std::fmt::Debug;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Random};
use crate::error::{Error, ErrorKind};
use crate::filter::Codecs;
use crate::transfer::Budget;

/// How important a message is; the levels of pgBackRest's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something a person should look at.
    Warn,
    /// What the command did.
    Info,
    /// What it did file by file.
    Detail,
    /// For the developer.
    Debug,
}

/// How far a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// Receives what a command reports. Called from any thread; must not block for long.
pub trait Reporter: Debug + Send + Sync {
    /// A message by worker `worker` (0 is the command itself, as in the original's `P00`).
    fn message(&self, level: Level, worker: usize, text: &str);

    /// A failure that does not end the command at once, by its kind.
    fn failure(&self, kind: ErrorKind, text: &str) {
        self.message(Level::Error, 0, &format!("[{:03}]: {text}", kind.code()));
    }

    /// How far the command is.
    fn progress(&self, progress: Progress);
}

/// Reports to nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn message(&self, _level: Level, _worker: usize, _text: &str) {}
    fn progress(&self, _progress: Progress) {}
}

/// What every command is given.
#[derive(Debug, Clone)]
pub struct Context {
    /// The clock of labels and timestamps.
    pub clock: Arc<dyn Clock>,
    /// Salts and passphrases.
    pub random: Arc<dyn Random>,
    /// Bytes in flight, for the whole process.
    pub budget: Budget,
    /// States of encoders and decoders, kept between files.
    pub codecs: Codecs,
    /// Stops the command at the next safe point.
    pub cancel: CancellationToken,
    /// Hears what the command does.
    pub reporter: Arc<dyn Reporter>,
}

impl Context {
    /// Reports a warning of the command itself.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.reporter.message(Level::Warn, 0, text.as_ref());
    }

    /// Reports what the command itself did.
    pub fn info(&self, text: impl AsRef<str>) {
        self.reporter.message(Level::Info, 0, text.as_ref());
    }

    /// Reports a detail of the command itself.
    pub fn detail(&self, text: impl AsRef<str>) {
        self.reporter.message(Level::Detail, 0, text.as_ref());
    }

    /// Fails when the command was asked to stop.
    ///
    /// # Errors
    /// [`ErrorKind::Term`].
    pub fn check_cancelled(&self) -> Result<(), Error> {
        if self.cancel.is_cancelled() { Err(cancelled()) } else { Ok(()) }
    }
}

/// The error of a command that was asked to stop.
pub(crate) fn cancelled() -> Error {
    Error::new(ErrorKind::Term, "terminated before it was done")
}

/// A size as messages show it: rounded to one decimal, which is left out when it is zero, in the largest unit below it
/// (pgBackRest's `strSizeFormat`).
pub fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KB", "MB", "GB"];
    let exponent = (bytes.max(1).ilog2() / 10).min(3);
    let unit = 1_u64 << (exponent * 10);
    let hundredths = u128::from(bytes) * 100 / u128::from(unit);
    let tenths = hundredths / 10 + u128::from(hundredths % 10 >= 5);
    let name = UNITS.get(usize::try_from(exponent).unwrap_or(3)).unwrap_or(&"GB");
    match tenths % 10 {
        0 => format!("{}{name}", tenths / 10),
        tenth => format!("{}.{tenth}{name}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::size_text;

    #[test]
    fn sizes_read_as_the_original_prints_them() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KB"),
            (2200, "2.1KB"),
            (1024 * 1024 - 1, "1024KB"),
            (24_858_624, "23.7MB"),
            (5 * 1024 * 1024 * 1024 * 1024, "5120GB"),
        ] {
            assert_eq!(size_text(bytes), text);
        }
    }
}
