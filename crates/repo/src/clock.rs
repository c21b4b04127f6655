//! Time and random bytes come into the engine through these two traits, so that tests own both.
//!
//! Waiting is not here: it uses `tokio::time`, which tests can pause.

use std::fmt::Debug;

/// A source of wall-clock time.
pub trait Clock: Debug + Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64;

    /// Whole seconds since the Unix epoch, rounded down.
    fn now_s(&self) -> i64 {
        self.now_ms().div_euclid(1000)
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system for the time")]
    fn now_ms(&self) -> i64 {
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        }
    }
}

/// A source of unpredictable bytes: salts and generated passphrases.
pub trait Random: Debug + Send + Sync {
    /// Fills `buffer` wholly, or fails without a usable result.
    ///
    /// # Errors
    /// [`RandomUnavailable`] when the system has no random bytes to give; the operation must stop (faults.md CR06).
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomUnavailable>;
}

/// The random source failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the system's random source failed: {0}")]
pub struct RandomUnavailable(pub String);

/// The operating system's random source.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomUnavailable> {
        getrandom::fill(buffer).map_err(|error| RandomUnavailable(error.to_string()))
    }
}
