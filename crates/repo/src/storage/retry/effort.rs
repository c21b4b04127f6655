//! [`Effort`]: how much was spent on one request, and how long to wait before the next try.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{self, Instant};

use crate::clock::Random;
use crate::storage::{Attempt, ErrorClass, StorageError};

use super::RetryPolicy;

/// Failed tries that the last error lists; of more, the first and the latest.
const ATTEMPTS_LISTED: usize = 10;

/// The tries of one request.
#[derive(Debug)]
pub(super) struct Effort {
    policy: RetryPolicy,
    random: Arc<dyn Random>,
    started: Instant,
    retries: u32,
    attempts: Vec<Attempt>,
}

/// Whether another try can help.
pub(super) fn may_pass(error: &StorageError) -> bool {
    matches!(error.class(), ErrorClass::Throttled | ErrorClass::Transient)
}

impl Effort {
    pub(super) fn new(policy: RetryPolicy, random: Arc<dyn Random>) -> Self {
        Self { policy, random, started: Instant::now(), retries: 0, attempts: Vec::new() }
    }

    /// Whether a try failed before.
    pub(super) fn has_tried(&self) -> bool {
        self.retries > 0
    }

    /// Waits before the next try, or gives up.
    ///
    /// # Errors
    /// `error` with the tries before it, when no other try can help or may be made.
    pub(super) async fn wait(&mut self, error: StorageError) -> Result<(), StorageError> {
        let Some(wait) = self.next_wait(&error) else { return Err(self.give_up(error)) };
        tracing::debug!(%error, wait_ms = wait.as_millis(), "storage request failed, trying again");
        if self.attempts.len() >= ATTEMPTS_LISTED {
            self.attempts.remove(1);
        }
        self.attempts.push(Attempt { after: self.started.elapsed(), detail: error.detail().to_owned() });
        self.retries = self.retries.saturating_add(1);
        time::sleep(wait).await;
        Ok(())
    }

    /// `error` with the tries before it.
    pub(super) fn give_up(&self, error: StorageError) -> StorageError {
        // An error from within that lists its own tries keeps them.
        if self.attempts.is_empty() || !error.attempts().is_empty() {
            return error;
        }
        error.with_attempts(self.attempts.clone())
    }

    fn next_wait(&self, error: &StorageError) -> Option<Duration> {
        if !may_pass(error) || self.retries.saturating_add(1) >= self.policy.tries_max {
            return None;
        }
        let asked = error.retry_after().unwrap_or_default();
        // One jittered step behind the time the store asked for, or all that were told the same come back at once.
        let wait = self.jittered(self.backoff()).max(asked + self.jittered(self.policy.wait_start));
        let fits = self.started.elapsed() + wait <= self.policy.elapsed_max;
        let owed = self.retries < self.policy.retries_min && asked <= self.policy.elapsed_max;
        (fits || owed).then_some(wait)
    }

    fn backoff(&self) -> Duration {
        self.policy.wait_start.saturating_mul(1 << self.retries.min(20)).min(self.policy.wait_max)
    }

    /// Between half of `wait` and all of it.
    fn jittered(&self, wait: Duration) -> Duration {
        let mut bytes = [0; 2];
        // Waits that are not spread are no reason to fail.
        let _unspread = self.random.fill(&mut bytes);
        let half = wait / 2;
        half + half.mul_f64(f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX))
    }
}
