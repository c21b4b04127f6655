//! Saves the copy of the manifest while files are copied (`manifest-save-threshold`), so that a backup that resumes knows
//! the checksums of what is stored.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::process::{Process, lock};
use super::results::Results;
use crate::error::Error;

/// Saves the manifest each time enough was copied.
#[derive(Debug)]
pub(super) struct Saver<'a> {
    process: &'a Process<'a>,
    /// Bytes between two saves; `None` when nobody will resume.
    step_bytes: Option<u64>,
    /// Bytes done at the last save.
    saved_bytes: AtomicU64,
    wanted: Notify,
    saving: AsyncMutex<()>,
}

impl<'a> Saver<'a> {
    /// For `total_bytes` to copy: at most a hundred times.
    pub(super) fn new(process: &'a Process<'a>, total_bytes: u64) -> Self {
        let options = process.options;
        let step_bytes = options.resume.then(|| options.manifest_save_threshold_bytes.max(total_bytes / 100).max(1));
        Self { process, step_bytes, saved_bytes: AtomicU64::new(0), wanted: Notify::new(), saving: AsyncMutex::new(()) }
    }

    /// Hears that so many bytes are done.
    pub(super) fn consider(&self, done_bytes: u64) {
        let Some(step_bytes) = self.step_bytes else { return };
        let saved_bytes = self.saved_bytes.load(Ordering::Relaxed);
        if done_bytes.saturating_sub(saved_bytes) >= step_bytes {
            self.saved_bytes.store(done_bytes, Ordering::Relaxed);
            self.wanted.notify_one();
        }
    }

    /// Saves when it is time. Ends only with an error.
    pub(super) async fn run(&self, results: &Mutex<Results<'_>>) -> Error {
        loop {
            self.wanted.notified().await;
            let _saving = self.saving.lock().await;
            let snapshot = lock(results).snapshot();
            let process = self.process;
            let saved = process.ownership.save(&snapshot, process.manifest_passphrase, process.context).await;
            drop(snapshot);
            let caught_up = saved.and_then(|()| lock(results).catch_up());
            if let Err(error) = caught_up {
                return error;
            }
        }
    }

    /// Waits until nothing is being saved.
    pub(super) async fn idle(&self) {
        drop(self.saving.lock().await);
    }
}
