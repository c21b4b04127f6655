//! The loops around encoders and decoders that work step by step between two buffers, as zlib made usual.

use super::super::codecs::Codecs;
use super::super::error::{FilterError, StreamFault};
use super::super::piece::PieceBuffer;
use super::super::transform::{Next, Transform};
use crate::format::compress_type::CompressType;

/// What one step did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// Bytes of the input that are done with.
    pub(super) consumed: usize,
    /// Bytes of the output that are written.
    pub(super) produced: usize,
    /// Whether the stream has ended and all its output is written.
    pub(super) ended: bool,
}

/// An encoder that works step by step.
pub(super) trait Encode: Send {
    /// Encodes what fits. `last`: there is no input after this; repeated until the stream has ended.
    fn step(&mut self, input: &[u8], output: &mut [u8], last: bool) -> Result<Step, String>;
}

/// A decoder that works step by step.
pub(super) trait Decode: Send {
    /// Decodes what fits.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, StreamFault>;

    /// The stream has ended and `rest` follows: begins the next member, if the type allows one and `rest` begins like
    /// one.
    fn begin_member(&mut self, rest: &[u8]) -> bool;
}

/// The transform around an encoder.
pub(super) struct Encoder<E> {
    kind: CompressType,
    encode: E,
    output: PieceBuffer,
}

impl<E: Encode> Encoder<E> {
    pub(super) fn new(kind: CompressType, encode: E, codecs: &Codecs) -> Self {
        Self { kind, encode, output: PieceBuffer::new(codecs) }
    }

    fn step(&mut self, input: &[u8], last: bool, next: &mut Next<'_>) -> Result<Step, FilterError> {
        let step = self
            .encode
            .step(input, self.output.spare(), last)
            .map_err(|reason| FilterError::Compress { kind: self.kind, reason })?;
        self.output.advance(step.produced);
        if self.output.is_full() {
            self.output.flush(next)?;
        } else if step.consumed == 0 && step.produced == 0 && !step.ended {
            // It had input or was asked to end, and room for output: going on would never stop.
            return Err(FilterError::Compress { kind: self.kind, reason: "the encoder makes no progress".to_owned() });
        }
        Ok(step)
    }
}

impl<E: Encode> Transform for Encoder<E> {
    fn write(&mut self, input: &[u8], next: &mut Next<'_>) -> Result<(), FilterError> {
        let mut rest = input;
        while !rest.is_empty() {
            let step = self.step(rest, false, next)?;
            rest = rest.get(step.consumed..).unwrap_or_default();
        }
        Ok(())
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), FilterError> {
        while !self.step(&[], true, next)?.ended {}
        self.output.flush(next)
    }
}

/// The transform around a decoder.
pub(super) struct Decoder<D> {
    kind: CompressType,
    decode: D,
    output: PieceBuffer,
    ended: bool,
}

impl<D: Decode> Decoder<D> {
    pub(super) fn new(kind: CompressType, decode: D, codecs: &Codecs) -> Self {
        Self { kind, decode, output: PieceBuffer::new(codecs), ended: false }
    }

    fn fault(&self, fault: StreamFault) -> FilterError {
        FilterError::Decompress { kind: self.kind, fault }
    }
}

impl<D: Decode> Transform for Decoder<D> {
    fn write(&mut self, input: &[u8], next: &mut Next<'_>) -> Result<(), FilterError> {
        let mut rest = input;
        loop {
            if self.ended {
                if rest.is_empty() {
                    return Ok(());
                }
                if !self.decode.begin_member(rest) {
                    return Err(self.fault(StreamFault::TrailingBytes));
                }
                self.ended = false;
            }
            let step = self.decode.step(rest, self.output.spare()).map_err(|fault| self.fault(fault))?;
            rest = rest.get(step.consumed..).unwrap_or_default();
            self.output.advance(step.produced);
            self.ended = step.ended;
            let is_full = self.output.is_full();
            if is_full {
                self.output.flush(next)?;
            }
            // With room left over, the decoder has nothing more to say about the input that it has taken.
            if !self.ended && rest.is_empty() && !is_full {
                return Ok(());
            }
            if !self.ended && !is_full && step.consumed == 0 && step.produced == 0 {
                return Err(self.fault(StreamFault::Corrupt("the decoder makes no progress".to_owned())));
            }
        }
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), FilterError> {
        if !self.ended {
            return Err(self.fault(StreamFault::Truncated));
        }
        self.output.flush(next)
    }
}
