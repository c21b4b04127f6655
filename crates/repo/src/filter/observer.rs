//! What is learnt of a file's plain bytes while they pass: size, checksum, invalid pages.

use std::thread;

use super::hash::{Digest, Hasher};
use super::page_checksum::{PageCheck, PageObserver, PageReport};

/// Hashing and looking at pages needs next to no stack.
const STACK_BYTES: usize = 128 * 1024;

impl Digest {
    /// Size and checksum of `bytes`, taken on a thread of its own while `work` runs on this one.
    pub fn beside<R>(bytes: &[u8], work: impl FnOnce() -> R) -> (Self, R) {
        let mut observer = Observer::default();
        let result = observer.observe_beside(bytes, work);
        (observer.digest(), result)
    }
}

/// The observers at a chain's input.
#[derive(Debug, Default)]
pub(super) struct Observer {
    hasher: Hasher,
    pages: Option<PageObserver>,
}

impl Observer {
    /// Hashes, and checks pages where that is asked for.
    pub(super) fn new(pages: Option<PageCheck>) -> Self {
        Self { hasher: Hasher::default(), pages: pages.map(PageObserver::new) }
    }

    /// Takes the next bytes into account.
    pub(super) fn observe(&mut self, bytes: &[u8]) {
        self.hasher.observe(bytes);
        if let Some(pages) = &mut self.pages {
            pages.observe(bytes);
        }
    }

    /// Takes the next bytes into account on a thread of its own while `work` runs on this one. Where the system has no
    /// thread for it, they follow each other.
    pub(super) fn observe_beside<R>(&mut self, bytes: &[u8], work: impl FnOnce() -> R) -> R {
        let mut observed = false;
        let result = thread::scope(|scope| {
            let (observer, observed) = (&mut *self, &mut observed);
            let beside = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, move || {
                observer.observe(bytes);
                *observed = true;
            });
            let result = work();
            // The scope waits for it; without it the bytes are looked at below.
            drop(beside);
            result
        });
        if !observed {
            self.observe(bytes);
        }
        result
    }

    /// Size and checksum of all bytes so far.
    pub(super) fn digest(&self) -> Digest {
        self.hasher.digest()
    }

    /// What was found of the pages; there is no more to come.
    pub(super) fn finish_pages(&mut self) -> Option<PageReport> {
        self.pages.take().map(PageObserver::finish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_is_the_same_as_before() {
        let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let (mut before, mut beside) = (Observer::new(None), Observer::new(None));
        for piece in bytes.chunks(30_000) {
            before.observe(piece);
            assert_eq!(beside.observe_beside(piece, || piece.len()), piece.len());
        }
        assert_eq!(before.digest(), beside.digest());
        assert_eq!(before.digest(), Digest::of(&bytes));
        assert_eq!(Digest::beside(&bytes, || 7), (Digest::of(&bytes), 7));
    }
}
