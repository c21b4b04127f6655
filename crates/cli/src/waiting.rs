//! A wait with an end, in small steps.

use std::time::Duration;

use tokio::time::Instant;

/// The first step; each is twice as long as the one before.
const STEP_FIRST: Duration = Duration::from_millis(2);

/// The longest step: what a marker may be old before somebody sees it.
const STEP_MAX: Duration = Duration::from_millis(50);

/// A wait of limited length.
#[derive(Debug)]
pub struct Waiting {
    since: Instant,
    limit: Duration,
    step: Duration,
    began: bool,
}

impl Waiting {
    /// A wait that begins now.
    pub fn new(limit: Duration) -> Self {
        Self { since: Instant::now(), limit, step: STEP_FIRST, began: false }
    }

    /// Waits a step, longer each time; false when the time is over.
    pub async fn more(&mut self) -> bool {
        let step = self.step;
        self.step = step.saturating_mul(2).min(STEP_MAX);
        self.more_at(step).await
    }

    /// Waits a step of this length; false when the time is over.
    pub async fn more_at(&mut self, step: Duration) -> bool {
        self.began = true;
        if self.is_over() {
            return false;
        }
        tokio::time::sleep(step).await;
        true
    }

    /// Whether a step was waited for.
    pub fn began(&self) -> bool {
        self.began
    }

    /// Whether the time is over.
    pub fn is_over(&self) -> bool {
        self.since.elapsed() >= self.limit
    }

    /// How long it lasts at most.
    pub fn limit(&self) -> Duration {
        self.limit
    }
}
