//! [`Budget`]: bytes in flight for the whole process.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One permit stands for this many bytes, so that the largest budget fits the semaphore.
const UNIT_BYTES: usize = 1024;

/// The bytes that all transfers of the process may hold together. Clones share the same budget.
#[derive(Debug, Clone)]
pub struct Budget {
    units: Arc<Semaphore>,
    units_total: u32,
}

/// A part of the budget, given back when it and its clones are dropped: each half of a transfer holds one.
#[derive(Debug, Clone)]
pub struct Reservation(#[expect(dead_code, reason = "held for its drop")] Arc<OwnedSemaphorePermit>);

impl Budget {
    /// A budget of `bytes`, at least 1 MiB.
    pub fn new(bytes: usize) -> Self {
        let units_total = u32::try_from(bytes.max(1024 * 1024) / UNIT_BYTES).unwrap_or(u32::MAX >> 3);
        Self { units: Arc::new(Semaphore::new(units_total as usize)), units_total }
    }

    /// Waits until `bytes` are free and takes them. A request above the whole budget takes the whole budget, so that
    /// one transfer at a time can always go on.
    pub async fn reserve(&self, bytes: usize) -> Reservation {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(self.units_total);
        match Arc::clone(&self.units).acquire_many_owned(units).await {
            Ok(permit) => Reservation(Arc::new(permit)),
            Err(_) => unreachable!("the semaphore is never closed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_until_bytes_are_given_back() {
        let budget = Budget::new(2 * 1024 * 1024);
        let first = budget.reserve(1536 * 1024).await;
        let second = tokio::time::timeout(std::time::Duration::from_millis(20), budget.reserve(1024 * 1024)).await;
        assert!(second.is_err(), "more was given than there is");
        drop(first);
        drop(budget.reserve(1024 * 1024).await);
        drop(budget.reserve(usize::MAX).await);
    }
}
