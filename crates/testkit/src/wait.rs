//! Waiting for what happens elsewhere, for so long and no longer.

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks until something is found, and gives it.
///
/// # Panics
/// When it is not within `limit`; `what` says what was waited for.
#[track_caller]
pub fn found<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(PAUSE);
    }
}

/// Looks until something is so.
///
/// # Panics
/// As for [`found`].
#[track_caller]
pub fn until(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    found(limit, what, || holds().then_some(()));
}
