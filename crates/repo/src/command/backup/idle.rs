//! Whether a worker has nothing to do while others still copy: then the last large files get its help.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the transfers that run and those that wait. A clone shares the counts.
#[derive(Debug, Clone)]
pub(super) struct IdleWorkers {
    workers: usize,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    running: AtomicUsize,
    waiting: AtomicUsize,
}

/// A transfer that runs.
#[derive(Debug)]
pub(super) struct Running(Arc<Counts>);

impl IdleWorkers {
    /// For this many workers, before there is work.
    pub(super) fn new(workers: usize) -> Self {
        Self { workers, counts: Arc::default() }
    }

    /// There are more transfers to come.
    pub(super) fn add_waiting(&self, transfers: usize) {
        self.counts.waiting.fetch_add(transfers, Ordering::Relaxed);
    }

    /// One of those that waited begins.
    pub(super) fn begin(&self) -> Running {
        self.counts.running.fetch_add(1, Ordering::Relaxed);
        self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
        Running(Arc::clone(&self.counts))
    }

    /// Whether a worker has nothing to do, now and later.
    pub(super) fn any(&self) -> bool {
        self.counts.waiting.load(Ordering::Relaxed) == 0 && self.counts.running.load(Ordering::Relaxed) < self.workers
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_idle_when_nothing_waits_and_fewer_run() {
        let idle = IdleWorkers::new(2);
        idle.add_waiting(3);
        let (first, second) = (idle.begin(), idle.begin());
        assert!(!idle.any(), "one waits");
        drop(first);
        assert!(!idle.any(), "it still does");
        let third = idle.begin();
        assert!(!idle.any(), "two run");
        drop(second);
        assert!(idle.any());
        drop(third);
        let alone = IdleWorkers::new(1);
        alone.add_waiting(1);
        let _only = alone.begin();
        assert!(!alone.any(), "a single worker is not to take two cores");
    }
}
