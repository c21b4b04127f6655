//! The one interface of everything that turns bytes into other bytes.

use super::error::FilterError;

/// Where a transform hands its output: the next transform, at last the sink. Pieces are at most
/// [`PIECE_BYTES_MAX`](super::PIECE_BYTES_MAX) bytes.
pub(super) type Next<'a> = dyn FnMut(&[u8]) -> Result<(), FilterError> + 'a;

/// Turns bytes into other bytes, with memory that does not depend on how many there are. After an error it is not
/// called again.
pub(super) trait Transform: Send {
    /// Takes all of `input`; hands on what is ready.
    fn write(&mut self, input: &[u8], next: &mut Next<'_>) -> Result<(), FilterError>;

    /// There is no more input: hands on all that is left, or says why the input could not end here.
    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), FilterError>;
}

/// Sends `input` through all of `transforms`, the first one first, and what comes out to `out`.
pub(super) fn write_through(
    transforms: &mut [Box<dyn Transform>],
    input: &[u8],
    out: &mut Next<'_>,
) -> Result<(), FilterError> {
    match transforms.split_first_mut() {
        None => out(input),
        Some((first, rest)) => first.write(input, &mut |bytes| write_through(rest, bytes, out)),
    }
}

/// Ends the transforms one after the other, so that each sees all output of the one before it.
pub(super) fn finish_through(transforms: &mut [Box<dyn Transform>], out: &mut Next<'_>) -> Result<(), FilterError> {
    let Some((first, rest)) = transforms.split_first_mut() else {
        return Ok(());
    };
    first.finish(&mut |bytes| write_through(rest, bytes, out))?;
    finish_through(rest, out)
}
