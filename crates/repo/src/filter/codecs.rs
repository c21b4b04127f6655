//! Encoder and decoder states that outlive a chain.
//!
//! Making the state of an encoder costs more than compressing a small file with it: zstd does 8 KiB frames twice as
//! fast when its context is kept. Chains lease states from [`Codecs`] and give them back when they are dropped.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use zstd::zstd_safe::{CCtx, DCtx};

use super::compress::gz::{Deflater, Inflater, WholeDeflater, WholeInflater};
use super::compress::lz4::FrameWriter;

/// States that wait for their next use. A clone shares them; a worker has its own or all share one.
#[derive(Clone)]
pub struct Codecs {
    shelves: Arc<Shelves>,
}

struct Shelves {
    idle_max: usize,
    idle: Mutex<Idle>,
    whole_taken: AtomicBool,
    /// Cores of the machine, or as many as its limits leave to this process.
    cores: usize,
    encoding: AtomicUsize,
}

/// What waits, by kind.
#[derive(Default)]
pub(super) struct Idle {
    pieces: Vec<Box<[u8]>>,
    zst_encoders: Vec<CCtx<'static>>,
    zst_decoders: Vec<DCtx<'static>>,
    deflaters: Vec<Deflater>,
    whole_deflaters: Vec<WholeDeflater>,
    inflaters: Vec<Inflater>,
    whole_inflaters: Vec<WholeInflater>,
    lz4_writers: Vec<FrameWriter>,
}

/// How many piece buffers a chain holds at most: one for each transform.
const PIECES_PER_CHAIN: usize = 2;

impl Codecs {
    /// Keeps at most `idle_max` states of each kind between chains; more are dropped. The number of chains that run at
    /// once is the right value: 1 for a worker of its own. Zero keeps nothing.
    #[must_use]
    pub fn new(idle_max: usize) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self::with_cores(idle_max, cores)
    }

    /// As [`Codecs::new`], for a process that is to use this many cores: with one, nothing is helped by a second thread.
    #[must_use]
    pub fn with_cores(idle_max: usize, cores: usize) -> Self {
        let (whole_taken, encoding) = (AtomicBool::new(false), AtomicUsize::new(0));
        Self { shelves: Arc::new(Shelves { idle_max, idle: Mutex::default(), whole_taken, cores, encoding }) }
    }

    /// Takes a state that `fits` from those that wait, or makes one.
    pub(super) fn lease<T: Shelved>(&self, fits: impl FnMut(&T) -> bool, make: impl FnOnce() -> T) -> Lease<T> {
        self.lease_waiting(fits).unwrap_or_else(|| self.lend(make()))
    }

    /// Takes a state that `fits` from those that wait.
    pub(super) fn lease_waiting<T: Shelved>(&self, mut fits: impl FnMut(&T) -> bool) -> Option<Lease<T>> {
        let mut idle = self.shelves.idle();
        let shelf = T::shelf(&mut idle);
        let place = shelf.iter().rposition(&mut fits)?;
        let item = shelf.swap_remove(place);
        drop(idle);
        Some(self.lend(item))
    }

    /// The one place for a file that is in memory as a whole; `None` while another has it. What a process holds would
    /// otherwise grow by a file with each that is in work.
    #[must_use]
    pub fn try_whole(&self) -> Option<WholePlace> {
        let taken = self.shelves.whole_taken.swap(true, Ordering::Acquire);
        (!taken).then(|| WholePlace { shelves: Arc::clone(&self.shelves) })
    }

    /// Counts a file that is being encoded, so that others know whether a core is left for help.
    #[must_use]
    pub fn begin_encoding(&self) -> Encoding {
        self.shelves.encoding.fetch_add(1, Ordering::Relaxed);
        Encoding { shelves: Arc::clone(&self.shelves) }
    }

    /// Wraps a new state, which will wait here after its first use.
    pub(super) fn lend<T: Shelved>(&self, item: T) -> Lease<T> {
        Lease { item: Some(item), shelves: Arc::clone(&self.shelves) }
    }
}

impl fmt::Debug for Codecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codecs").field("idle_max", &self.shelves.idle_max).finish_non_exhaustive()
    }
}

impl Shelves {
    /// A panic elsewhere leaves the lists whole, so a poisoned lock is no reason to stop.
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to hold a whole file in memory, until it is dropped.
pub struct WholePlace {
    shelves: Arc<Shelves>,
}

impl fmt::Debug for WholePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WholePlace").finish_non_exhaustive()
    }
}

impl Drop for WholePlace {
    fn drop(&mut self) {
        self.shelves.whole_taken.store(false, Ordering::Release);
    }
}

/// A file that is being encoded, until it is dropped.
pub struct Encoding {
    shelves: Arc<Shelves>,
}

impl Encoding {
    /// Whether this process encodes fewer files than it has cores: then a second thread can help with this one.
    #[must_use]
    pub fn has_core_to_spare(&self) -> bool {
        self.shelves.encoding.load(Ordering::Relaxed) < self.shelves.cores
    }
}

impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoding").finish_non_exhaustive()
    }
}

impl Drop for Encoding {
    fn drop(&mut self) {
        self.shelves.encoding.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A state that can wait on a shelf.
pub(super) trait Shelved: Sized {
    /// The shelf of its kind.
    fn shelf(idle: &mut Idle) -> &mut Vec<Self>;

    /// How many wait for each chain.
    const PER_CHAIN: usize = 1;

    /// Whether it can be used again. One that cannot (a frame was left open) is dropped.
    fn is_reusable(&self) -> bool {
        true
    }
}

impl Shelved for Box<[u8]> {
    const PER_CHAIN: usize = PIECES_PER_CHAIN;

    fn shelf(idle: &mut Idle) -> &mut Vec<Self> {
        &mut idle.pieces
    }
}

impl Shelved for CCtx<'static> {
    fn shelf(idle: &mut Idle) -> &mut Vec<Self> {
        &mut idle.zst_encoders
    }
}

impl Shelved for DCtx<'static> {
    fn shelf(idle: &mut Idle) -> &mut Vec<Self> {
        &mut idle.zst_decoders
    }
}

impl Shelved for Deflater {
    fn shelf(idle: &mut Idle) -> &mut Vec<Self> {
        &mut idle.deflaters
    }
}

impl Shelved for WholeDeflater {
    fn shelf(idle: &mut Idle) -> &mut Vec<Self> {
        &mut idle.whole_deflaters
    }
}

impl Shelved for WholeInflater {
    fn shelf(idle: &mut Idle) -> &mut Vec<Self> {
        &mut idle.whole_inflaters
    }
}

impl Shelved for Inflater {
    fn shelf(idle: &mut Idle) -> &mut Vec<Self> {
        &mut idle.inflaters
    }
}

impl Shelved for FrameWriter {
    fn shelf(idle: &mut Idle) -> &mut Vec<Self> {
        &mut idle.lz4_writers
    }

    fn is_reusable(&self) -> bool {
        FrameWriter::is_reusable(self)
    }
}

/// A state in use; it goes back to its shelf when dropped.
pub(super) struct Lease<T: Shelved> {
    item: Option<T>,
    shelves: Arc<Shelves>,
}

impl<T: Shelved> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.item.as_ref().expect("a lease holds its item until it is dropped")
    }
}

impl<T: Shelved> DerefMut for Lease<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.item.as_mut().expect("a lease holds its item until it is dropped")
    }
}

impl<T: Shelved> Drop for Lease<T> {
    fn drop(&mut self) {
        let Some(item) = self.item.take().filter(Shelved::is_reusable) else {
            return;
        };
        let waiting_max = self.shelves.idle_max.saturating_mul(T::PER_CHAIN);
        let mut idle = self.shelves.idle();
        let shelf = T::shelf(&mut idle);
        if waiting_max == 0 {
            return;
        }
        if shelf.len() >= waiting_max {
            // The newest fits the next chain best: an old one of another level or form makes room.
            shelf.remove(0);
        }
        shelf.push(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_left_when_fewer_files_are_encoded() {
        let codecs = Codecs::with_cores(0, 2);
        let first = codecs.begin_encoding();
        assert!(first.has_core_to_spare());
        let second = codecs.clone().begin_encoding();
        assert!(!first.has_core_to_spare() && !second.has_core_to_spare(), "clones share the count");
        drop(second);
        assert!(first.has_core_to_spare());
        let alone = Codecs::with_cores(0, 1).begin_encoding();
        assert!(!alone.has_core_to_spare(), "a single core has no help to give");
    }
}
