//! LZ4's slow levels: more work for smaller output in the same frames. By the reference library, whose encoder cannot be
//! used again after a frame; beside its work a new one costs nothing.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use lz4::liblz4::BlockChecksum;
use lz4::{BlockMode, BlockSize, ContentChecksum, EncoderBuilder};

use super::super::error::FilterError;
use super::super::form::Form;
use super::super::piece::PIECE_BYTES_MAX;
use super::super::transform::{Next, Transform};
use super::lz4::failed;

/// Output that waits to be handed on: what one piece of input gave. The encoder lends its writer to nobody, so both
/// hold it.
#[derive(Debug, Clone, Default)]
struct Gathered(Arc<Mutex<Vec<u8>>>);

impl Gathered {
    fn flush_to(&self, next: &mut Next<'_>) -> Result<(), FilterError> {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let result = bytes.chunks(PIECE_BYTES_MAX).try_for_each(next);
        bytes.clear();
        result
    }
}

impl Write for Gathered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct HighEncoder {
    /// `None` once the frame has ended.
    state: Option<lz4::Encoder<Gathered>>,
    gathered: Gathered,
}

/// The encoder for a level above 1.
pub(super) fn encoder(level: u32, form: Form) -> Result<Box<dyn Transform>, FilterError> {
    let checksum = match form {
        Form::Standard => ContentChecksum::ChecksumEnabled,
        Form::Raw => ContentChecksum::NoChecksum,
    };
    let gathered = Gathered::default();
    let state = EncoderBuilder::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Linked)
        .block_checksum(BlockChecksum::NoBlockChecksum)
        .checksum(checksum)
        .level(level)
        .build(gathered.clone())
        .map_err(|error| failed(&error))?;
    Ok(Box::new(HighEncoder { state: Some(state), gathered }))
}

impl Transform for HighEncoder {
    fn write(&mut self, input: &[u8], next: &mut Next<'_>) -> Result<(), FilterError> {
        for piece in input.chunks(PIECE_BYTES_MAX) {
            if let Some(state) = &mut self.state {
                state.write_all(piece).map_err(|error| failed(&error))?;
            }
            self.gathered.flush_to(next)?;
        }
        Ok(())
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), FilterError> {
        if let Some(state) = self.state.take() {
            state.finish().1.map_err(|error| failed(&error))?;
        }
        self.gathered.flush_to(next)
    }
}
