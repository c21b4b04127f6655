//! LZ4 frames as the original writes them: linked blocks of 64 KiB, a content checksum in the standard form only, no
//! content size.
//!
//! Level 1, the default, is a fast encoder of its own; levels above are `lz4_high`. The negative ones, which trade size
//! for speed in the original, give the output of level 1: it is faster here than they are there.

use std::io::Write as _;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::super::codecs::{Codecs, Lease};
use super::super::error::FilterError;
use super::super::form::Form;
use super::super::piece::PIECE_BYTES_MAX;
use super::super::transform::{Next, Transform};
use super::lz4_high;
use crate::format::compress_type::CompressType;

/// The state of an encoder, made for one form. Its output gathers in memory, for one piece of input at a time.
pub(in super::super) struct FrameWriter {
    form: Form,
    state: FrameEncoder<Vec<u8>>,
    is_open: bool,
    is_spent: bool,
}

impl FrameWriter {
    fn new(form: Form) -> Self {
        let info = FrameInfo::new()
            .block_size(BlockSize::Max64KB)
            .block_mode(BlockMode::Linked)
            .content_checksum(form == Form::Standard);
        Self { form, state: FrameEncoder::with_frame_info(info, Vec::new()), is_open: false, is_spent: false }
    }

    /// A frame that was left open cannot be forgotten by the library.
    pub(in super::super) fn is_reusable(&self) -> bool {
        !self.is_open && !self.is_spent
    }

    fn write(&mut self, input: &[u8]) -> Result<(), FilterError> {
        self.is_open = true;
        self.state.write_all(input).map_err(|error| failed(&error))
    }

    fn finish(&mut self) -> Result<(), FilterError> {
        if !self.is_open {
            // After its first frame the library ends an empty one without having begun it.
            *self = Self::new(self.form);
            self.is_spent = true;
        }
        self.is_open = false;
        self.state.try_finish().map_err(|error| failed(&error))
    }

    /// Hands on what gathered.
    fn flush(&mut self, next: &mut Next<'_>) -> Result<(), FilterError> {
        let result = self.state.get_ref().chunks(PIECE_BYTES_MAX).try_for_each(next);
        self.state.get_mut().clear();
        result
    }
}

pub(super) fn failed(error: &dyn std::error::Error) -> FilterError {
    FilterError::Compress { kind: CompressType::Lz4, reason: error.to_string() }
}

struct Lz4Encoder {
    writer: Lease<FrameWriter>,
}

/// The highest level of the fast encoder.
const FAST_LEVEL_MAX: i32 = 1;

pub(super) fn encoder(level: i32, form: Form, codecs: &Codecs) -> Result<Box<dyn Transform>, FilterError> {
    if level > FAST_LEVEL_MAX {
        return lz4_high::encoder(level.unsigned_abs(), form);
    }
    let writer = codecs.lease(|waiting: &FrameWriter| waiting.form == form, || FrameWriter::new(form));
    Ok(Box::new(Lz4Encoder { writer }))
}

impl Transform for Lz4Encoder {
    fn write(&mut self, input: &[u8], next: &mut Next<'_>) -> Result<(), FilterError> {
        for piece in input.chunks(PIECE_BYTES_MAX) {
            self.writer.write(piece)?;
            self.writer.flush(next)?;
        }
        Ok(())
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), FilterError> {
        self.writer.finish()?;
        self.writer.flush(next)
    }
}
