//! Zstandard; the raw form is the standard one. Contexts are reset and used again: for small frames that is a factor
//! of two.

use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, InBuffer, OutBuffer, ResetDirective};

use super::super::codecs::{Codecs, Lease};
use super::super::error::{FilterError, StreamFault};
use super::super::transform::Transform;
use super::stream::{Decode, Decoder, Encode, Encoder, Step};
use crate::format::compress_type::CompressType;

pub(super) fn encoder(level: i32, codecs: &Codecs) -> Result<Box<dyn Transform>, FilterError> {
    let failed = |reason: &str| FilterError::Compress { kind: CompressType::Zst, reason: reason.to_owned() };
    let mut context = match codecs.lease_waiting(|_: &CCtx<'static>| true) {
        Some(context) => context,
        None => codecs.lend(CCtx::try_create().ok_or_else(|| failed("no memory for an encoder"))?),
    };
    context
        .reset(ResetDirective::SessionAndParameters)
        .and_then(|_| context.set_parameter(CParameter::CompressionLevel(level)))
        .map_err(|code| failed(zstd_safe::get_error_name(code)))?;
    Ok(Box::new(Encoder::new(CompressType::Zst, context, codecs)))
}

/// Takes frames with windows up to 128 MiB, the library's limit, which level 22 of the original uses; a frame with a
/// larger one is refused before memory is taken.
pub(super) fn decoder(codecs: &Codecs) -> Result<Box<dyn Transform>, FilterError> {
    let failed = |fault| FilterError::Decompress { kind: CompressType::Zst, fault };
    let mut context = match codecs.lease_waiting(|_: &DCtx<'static>| true) {
        Some(context) => context,
        None => codecs.lend(DCtx::try_create().ok_or_else(|| failed(StreamFault::Memory))?),
    };
    context
        .reset(ResetDirective::SessionAndParameters)
        .map_err(|code| failed(StreamFault::Corrupt(zstd_safe::get_error_name(code).to_owned())))?;
    Ok(Box::new(Decoder::new(CompressType::Zst, context, codecs)))
}

impl Encode for Lease<CCtx<'static>> {
    fn step(&mut self, input: &[u8], output: &mut [u8], last: bool) -> Result<Step, String> {
        let directive = if last { ZSTD_EndDirective::ZSTD_e_end } else { ZSTD_EndDirective::ZSTD_e_continue };
        let mut input = InBuffer::around(input);
        let mut output = OutBuffer::around(output);
        let left = self
            .compress_stream2(&mut output, &mut input, directive)
            .map_err(|code| zstd_safe::get_error_name(code).to_owned())?;
        Ok(Step { consumed: input.pos(), produced: output.pos(), ended: last && left == 0 })
    }
}

impl Decode for Lease<DCtx<'static>> {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, StreamFault> {
        let mut input = InBuffer::around(input);
        let mut output = OutBuffer::around(output);
        let hint = self
            .decompress_stream(&mut output, &mut input)
            .map_err(|code| StreamFault::Corrupt(zstd_safe::get_error_name(code).to_owned()))?;
        Ok(Step { consumed: input.pos(), produced: output.pos(), ended: hint == 0 })
    }

    fn begin_member(&mut self, _: &[u8]) -> bool {
        false
    }
}
