//! The moments of a write that decide what a power failure leaves; tests record them and make them fail.

use rustix::io::Errno;

/// A moment of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    MakeDirectory,
    Write,
    SyncFile,
    Place,
    SyncDirectory,
    SyncFileSystem,
}

/// What tests know of the steps; empty otherwise.
#[derive(Debug, Default)]
pub(super) struct Steps {
    #[cfg(test)]
    pub(super) taken: std::sync::Mutex<Vec<(Step, String)>>,
    #[cfg(test)]
    pub(super) fail: std::sync::Mutex<Option<(Step, Errno)>>,
}

impl Steps {
    /// Called before the step is taken; `name` is what it is taken on.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the shape that tests need")]
    pub(super) fn before(&self, _step: Step, _name: &str) -> Result<(), Errno> {
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn before(&self, step: Step, name: &str) -> Result<(), Errno> {
        if let Some((_, errno)) = self.fail.lock().unwrap().filter(|(failing, _)| *failing == step) {
            return Err(errno);
        }
        self.taken.lock().unwrap().push((step, name.to_owned()));
        Ok(())
    }
}
