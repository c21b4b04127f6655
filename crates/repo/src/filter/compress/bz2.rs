//! bzip2; the raw form is the standard one.

use bzip2::{Action, Compress, Decompress, Status};

use super::super::codecs::Codecs;
use super::super::error::StreamFault;
use super::super::form::Form;
use super::super::transform::Transform;
use super::stream::{Decode, Decoder, Encode, Encoder, Step};
use crate::format::compress_type::CompressType;

/// Zero is the library's default, as the original asks for.
const WORK_FACTOR: u32 = 0;

/// First byte of a bzip2 stream.
const STREAM_FIRST_BYTE: u8 = b'B';

struct Bz2Encode(Compress);

struct Bz2Decode {
    state: Decompress,
    form: Form,
}

// The library cannot reset its states, so they are made for each stream.

pub(super) fn encoder(level: i32, codecs: &Codecs) -> Box<dyn Transform> {
    let level = u32::try_from(level).unwrap_or(9).clamp(1, 9);
    let state = Compress::new(bzip2::Compression::new(level), WORK_FACTOR);
    Box::new(Encoder::new(CompressType::Bz2, Bz2Encode(state), codecs))
}

pub(super) fn decoder(form: Form, codecs: &Codecs) -> Box<dyn Transform> {
    Box::new(Decoder::new(CompressType::Bz2, Bz2Decode { state: Decompress::new(false), form }, codecs))
}

/// The difference of two totals of one call, which fits since the buffers do.
fn taken(before: u64, after: u64) -> usize {
    usize::try_from(after.saturating_sub(before)).unwrap_or(usize::MAX)
}

impl Encode for Bz2Encode {
    fn step(&mut self, input: &[u8], output: &mut [u8], last: bool) -> Result<Step, String> {
        let action = if last { Action::Finish } else { Action::Run };
        let (total_in, total_out) = (self.0.total_in(), self.0.total_out());
        let status = self.0.compress(input, output, action).map_err(|error| error.to_string())?;
        Ok(Step {
            consumed: taken(total_in, self.0.total_in()),
            produced: taken(total_out, self.0.total_out()),
            ended: status == Status::StreamEnd,
        })
    }
}

impl Decode for Bz2Decode {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, StreamFault> {
        let (total_in, total_out) = (self.state.total_in(), self.state.total_out());
        let status = self.state.decompress(input, output).map_err(|error| StreamFault::Corrupt(error.to_string()))?;
        if status == Status::MemNeeded {
            return Err(StreamFault::Memory);
        }
        Ok(Step {
            consumed: taken(total_in, self.state.total_in()),
            produced: taken(total_out, self.state.total_out()),
            ended: status == Status::StreamEnd,
        })
    }

    fn begin_member(&mut self, rest: &[u8]) -> bool {
        let begins = self.form == Form::Standard && rest.first() == Some(&STREAM_FIRST_BYTE);
        if begins {
            self.state = Decompress::new(false);
        }
        begins
    }
}
