//! gzip, and zlib for the raw form.
//!
//! Streams go through zlib-rs. Input that is held whole can go through libdeflate instead, which takes a third of the
//! time of zlib for the same size; it writes one member too, so readers see no difference.

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use libdeflater::{CompressionLvl, Compressor};

use super::super::codecs::Codecs;
use super::super::codecs::Lease;
use super::super::error::StreamFault;
use super::super::form::Form;
use super::super::transform::Transform;
use super::stream::{Decode, Decoder, Encode, Encoder, Step};
use crate::format::compress_type::CompressType;

/// log2 of zlib's window, as the original has it in both forms.
const WINDOW_BITS: u8 = 15;

/// zlib's own default, which level -1 asks for.
const LEVEL_DEFAULT: u32 = 6;

/// First byte of a gzip member.
const MEMBER_FIRST_BYTE: u8 = 0x1f;

/// The state of an encoder, made for one form and level.
pub(in super::super) struct Deflater {
    form: Form,
    level: u32,
    state: Compress,
}

/// The state of a libdeflate encoder, made for one level.
pub(in super::super) struct WholeDeflater {
    level: u32,
    state: Compressor,
}

/// The state of a decoder, made for one form.
pub(in super::super) struct Inflater {
    form: Form,
    state: Decompress,
}

pub(super) fn encoder(level: i32, form: Form, codecs: &Codecs) -> Box<dyn Transform> {
    let level = zlib_level(level);
    let mut deflater = codecs.lease(
        |waiting: &Deflater| waiting.form == form && waiting.level == level,
        || {
            let compression = flate2::Compression::new(level);
            let state = match form {
                Form::Standard => Compress::new_gzip(compression, WINDOW_BITS),
                Form::Raw => Compress::new(compression, true),
            };
            Deflater { form, level, state }
        },
    );
    deflater.state.reset();
    Box::new(Encoder::new(CompressType::Gz, deflater, codecs))
}

pub(super) fn decoder(form: Form, codecs: &Codecs) -> Box<dyn Transform> {
    let mut inflater = codecs.lease(
        |waiting: &Inflater| waiting.form == form,
        || {
            let state = match form {
                Form::Standard => Decompress::new_gzip(WINDOW_BITS),
                Form::Raw => Decompress::new(true),
            };
            Inflater { form, state }
        },
    );
    inflater.state.reset(true);
    Box::new(Decoder::new(CompressType::Gz, inflater, codecs))
}

/// Compresses bytes held whole into `output`; tells how many bytes came out, or `None` when they do not fit or the
/// level has no counterpart: then a stream must do it.
pub(in super::super) fn compress_whole(
    input: &[u8],
    output: &mut [u8],
    level: i32,
    form: Form,
    codecs: &Codecs,
) -> Option<usize> {
    let level = zlib_level(level);
    let libdeflate_level = i32::try_from(level).ok().filter(|level| *level > 0)?;
    let libdeflate_level = CompressionLvl::new(libdeflate_level).ok()?;
    let mut deflater = codecs.lease(
        |waiting: &WholeDeflater| waiting.level == level,
        || WholeDeflater { level, state: Compressor::new(libdeflate_level) },
    );
    match form {
        Form::Standard => deflater.state.gzip_compress(input, output).ok(),
        Form::Raw => deflater.state.zlib_compress(input, output).ok(),
    }
}

/// Levels are -1 to 9; -1 is zlib's default.
fn zlib_level(level: i32) -> u32 {
    u32::try_from(level).unwrap_or(LEVEL_DEFAULT)
}

/// The difference of two totals of one call, which fits since the buffers do.
fn taken(before: u64, after: u64) -> usize {
    usize::try_from(after.saturating_sub(before)).unwrap_or(usize::MAX)
}

impl Encode for Lease<Deflater> {
    fn step(&mut self, input: &[u8], output: &mut [u8], last: bool) -> Result<Step, String> {
        let flush = if last { FlushCompress::Finish } else { FlushCompress::None };
        let (total_in, total_out) = (self.state.total_in(), self.state.total_out());
        let status = self.state.compress(input, output, flush).map_err(|error| error.to_string())?;
        Ok(Step {
            consumed: taken(total_in, self.state.total_in()),
            produced: taken(total_out, self.state.total_out()),
            ended: status == Status::StreamEnd,
        })
    }
}

impl Decode for Lease<Inflater> {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, StreamFault> {
        let (total_in, total_out) = (self.state.total_in(), self.state.total_out());
        let status = self
            .state
            .decompress(input, output, FlushDecompress::None)
            .map_err(|error| StreamFault::Corrupt(error.message().unwrap_or("invalid data").to_owned()))?;
        Ok(Step {
            consumed: taken(total_in, self.state.total_in()),
            produced: taken(total_out, self.state.total_out()),
            ended: status == Status::StreamEnd,
        })
    }

    fn begin_member(&mut self, rest: &[u8]) -> bool {
        let begins = self.form == Form::Standard && rest.first() == Some(&MEMBER_FIRST_BYTE);
        if begins {
            self.state.reset(true);
        }
        begins
    }
}
