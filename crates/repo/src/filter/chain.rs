//! Filters one behind the other, and what they report at the end.

use std::fmt;
use std::mem;

use super::cipher::Encrypt;
use super::error::{FilterError, SinkClosed};
use super::hash::{Digest, Hasher};
use super::observer::Observer;
use super::page_checksum::{PageCheck, PageReport};
use super::piece::PIECE_BYTES_MAX;
use super::transform::{Next, Transform, Transforms, finish_through, write_through};

/// Takes the output of a chain, in pieces of at most [`PIECE_BYTES_MAX`] bytes, never empty.
pub type Sink<'a> = dyn FnMut(&[u8]) -> Result<(), SinkClosed> + 'a;

/// What a chain saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainReport {
    /// Size and checksum of the file itself.
    pub plain: Digest,
    /// Size and checksum of the bytes in the repository.
    pub stored: Digest,
    /// What the check of the pages found, where one was asked for.
    pub pages: Option<PageReport>,
}

/// Which end of the chain the plain bytes are at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Plain bytes in, stored bytes out.
    Store,
    /// Stored bytes in, plain bytes out, no more than this many.
    Load { plain_size_max_bytes: Option<u64> },
}

/// The filters for one file, from its plain to its stored form or back. Made by [`order`](super::order) only.
///
/// A chain works on the calling thread, needs no other thread (see [`Chain::write_beside`]) and holds a few fixed-size buffers besides the states of
/// its codecs. What the sink got is worth nothing until [`Chain::finish`] has succeeded and the caller has compared the
/// report with what the file should be.
pub struct Chain {
    direction: Direction,
    input: Observer,
    transforms: Transforms,
    output: Hasher,
    /// Without transforms the output is the input, which need not be hashed again.
    output_differs: bool,
    ended: bool,
}

impl Chain {
    pub(super) fn new(direction: Direction, transforms: Transforms, pages: Option<PageCheck>) -> Self {
        Self {
            direction,
            input: Observer::new(pages),
            output: Hasher::default(),
            output_differs: !transforms.is_empty(),
            transforms,
            ended: false,
        }
    }

    /// Takes all of `input` and hands what is ready to `sink`.
    ///
    /// # Errors
    /// [`FilterError`]; the chain has ended then.
    pub fn write(&mut self, input: &[u8], sink: &mut Sink<'_>) -> Result<(), FilterError> {
        self.run(|chain| input.chunks(PIECE_BYTES_MAX).try_for_each(|piece| chain.write_piece(piece, sink)))
    }

    /// As [`Chain::write`], with the input hashed and checked on a thread of its own meanwhile: quicker where a core has
    /// nothing else to do. Worth it for pieces that take much longer than a thread takes to begin, some 100 KiB or more.
    ///
    /// # Errors
    /// As [`Chain::write`].
    pub fn write_beside(&mut self, input: &[u8], sink: &mut Sink<'_>) -> Result<(), FilterError> {
        self.run(|chain| {
            let mut observer = mem::take(&mut chain.input);
            let (transforms, mut out) = chain.output_side(sink);
            let mut pieces = input.chunks(PIECE_BYTES_MAX);
            let written = observer
                .observe_beside(input, || pieces.try_for_each(|piece| write_through(transforms, piece, &mut out)));
            drop(out);
            chain.input = observer;
            written
        })
    }

    /// There is no more input: hands the rest to `sink` and reports.
    ///
    /// # Errors
    /// [`FilterError`], also when the input is cut short. The chain has ended in any case.
    pub fn finish(&mut self, sink: &mut Sink<'_>) -> Result<ChainReport, FilterError> {
        self.run(|chain| {
            let (transforms, mut out) = chain.output_side(sink);
            finish_through(transforms, &mut out)
        })?;
        self.ended = true;
        Ok(self.report())
    }

    /// Like one [`Chain::write`] of all input and [`Chain::finish`], for input whose compressed form is known already.
    pub(super) fn finish_precompressed(
        &mut self,
        plain: &[u8],
        compressed: &[u8],
        sink: &mut Sink<'_>,
    ) -> Result<ChainReport, FilterError> {
        self.output_differs = true;
        self.run(|chain| {
            for piece in plain.chunks(PIECE_BYTES_MAX) {
                chain.input.observe(piece);
            }
            let (transforms, mut out) = chain.output_side(sink);
            compressed.chunks(PIECE_BYTES_MAX).try_for_each(|piece| write_through(transforms, piece, &mut out))?;
            finish_through(transforms, &mut out)
        })?;
        self.ended = true;
        Ok(self.report())
    }

    /// Runs a step; an error ends the chain.
    fn run(&mut self, step: impl FnOnce(&mut Self) -> Result<(), FilterError>) -> Result<(), FilterError> {
        if self.ended {
            return Err(FilterError::Ended);
        }
        step(self).inspect_err(|_| self.ended = true)
    }

    fn write_piece(&mut self, piece: &[u8], sink: &mut Sink<'_>) -> Result<(), FilterError> {
        self.input.observe(piece);
        let (transforms, mut out) = self.output_side(sink);
        write_through(transforms, piece, &mut out)
    }

    /// The transforms, and what takes the pieces that the last one hands on.
    fn output_side<'a>(
        &'a mut self,
        sink: &'a mut Sink<'_>,
    ) -> (&'a mut Transforms, impl FnMut(&[u8]) -> Result<(), FilterError> + 'a) {
        let Self { direction, transforms, output, output_differs, .. } = self;
        let hashes = *output_differs;
        let size_max_bytes = match *direction {
            Direction::Store => None,
            Direction::Load { plain_size_max_bytes } => plain_size_max_bytes,
        };
        let out = move |piece: &[u8]| -> Result<(), FilterError> {
            if hashes {
                output.observe(piece);
            } else {
                output.count(piece.len());
            }
            match size_max_bytes {
                Some(size_max_bytes) if output.size_bytes() > size_max_bytes => {
                    Err(FilterError::PlainTooLarge { size_max_bytes })
                }
                _ => Ok(sink(piece)?),
            }
        };
        (transforms, out)
    }

    fn report(&mut self) -> ChainReport {
        let input = self.input.digest();
        let output = if self.output_differs { self.output.digest() } else { input };
        let pages = self.input.finish_pages();
        match self.direction {
            Direction::Store => ChainReport { plain: input, stored: output, pages },
            Direction::Load { .. } => ChainReport { plain: output, stored: input, pages },
        }
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("direction", &self.direction)
            .field("transforms", &self.transforms.len())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// What hashes the output of the last transform and hands it to the sink.
pub(super) fn sink_piece<'a>(
    stored: &'a mut Hasher,
    sink: &'a mut Sink<'_>,
) -> impl FnMut(&[u8]) -> Result<(), FilterError> + 'a {
    |piece| {
        stored.observe(piece);
        Ok(sink(piece)?)
    }
}

/// Encrypts what a chain without cipher put out, and hashes the result: the second half of storing one file in several
/// repositories, each with a passphrase of its own. Made by [`order::seal`](super::order::seal).
pub struct SealChain {
    encrypt: Encrypt,
    stored: Hasher,
    ended: bool,
}

impl SealChain {
    pub(super) fn new(encrypt: Encrypt) -> Self {
        Self { encrypt, stored: Hasher::default(), ended: false }
    }

    /// Takes all of `input` and hands what is ready to `sink`.
    ///
    /// # Errors
    /// [`FilterError`]; the chain has ended then.
    pub fn write(&mut self, input: &[u8], sink: &mut Sink<'_>) -> Result<(), FilterError> {
        self.run(sink, |encrypt, out| encrypt.write(input, out))
    }

    /// There is no more input: hands the rest to `sink` and tells size and checksum of all that it got.
    ///
    /// # Errors
    /// [`FilterError`]. The chain has ended in any case.
    pub fn finish(&mut self, sink: &mut Sink<'_>) -> Result<Digest, FilterError> {
        self.run(sink, |encrypt, out| encrypt.finish(out))?;
        self.ended = true;
        Ok(self.stored.digest())
    }

    fn run(
        &mut self,
        sink: &mut Sink<'_>,
        step: impl FnOnce(&mut Encrypt, &mut Next<'_>) -> Result<(), FilterError>,
    ) -> Result<(), FilterError> {
        if self.ended {
            return Err(FilterError::Ended);
        }
        let result = step(&mut self.encrypt, &mut sink_piece(&mut self.stored, sink));
        self.ended |= result.is_err();
        result
    }
}

impl fmt::Debug for SealChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealChain").field("ended", &self.ended).finish_non_exhaustive()
    }
}
