//! The fixed-size buffers through which every transform hands on its output.

use super::codecs::{Codecs, Lease};
use super::error::FilterError;
use super::transform::Next;

/// The largest piece that a chain hands to its sink, and the size of each buffer inside it: 64 KiB. Speed does not
/// depend on it between 16 KiB and 16 MiB, so memory decides.
pub const PIECE_BYTES_MAX: usize = 64 * 1024;

/// A buffer of [`PIECE_BYTES_MAX`] bytes that fills up and is handed on when full.
pub(super) struct PieceBuffer {
    bytes: Lease<Box<[u8]>>,
    filled: usize,
}

impl PieceBuffer {
    pub(super) fn new(codecs: &Codecs) -> Self {
        Self { bytes: codecs.lease(|_| true, || vec![0; PIECE_BYTES_MAX].into_boxed_slice()), filled: 0 }
    }

    /// The room that is left.
    pub(super) fn spare(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.filled..).unwrap_or_default()
    }

    /// Says that the first `count` bytes of [`PieceBuffer::spare`] are written.
    pub(super) fn advance(&mut self, count: usize) {
        self.filled = self.filled.saturating_add(count).min(PIECE_BYTES_MAX);
    }

    /// Copies as much of `input` as there is room for, and returns the rest of it.
    pub(super) fn fill<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        let spare = self.spare();
        let (taken, rest) = input.split_at(input.len().min(spare.len()));
        if let Some(room) = spare.get_mut(..taken.len()) {
            room.copy_from_slice(taken);
        }
        self.advance(taken.len());
        rest
    }

    pub(super) fn is_full(&self) -> bool {
        self.filled == PIECE_BYTES_MAX
    }

    pub(super) fn len(&self) -> usize {
        self.filled
    }

    /// The bytes that wait to be handed on, for a change in place.
    pub(super) fn filled_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.filled).unwrap_or_default()
    }

    /// Drops the last `count` bytes.
    pub(super) fn shorten(&mut self, count: usize) {
        self.filled = self.filled.saturating_sub(count);
    }

    /// Hands on what there is and empties the buffer.
    pub(super) fn flush(&mut self, next: &mut Next<'_>) -> Result<(), FilterError> {
        let filled = std::mem::take(&mut self.filled);
        match self.bytes.get(..filled) {
            Some(bytes) if !bytes.is_empty() => next(bytes),
            _ => Ok(()),
        }
    }
}
