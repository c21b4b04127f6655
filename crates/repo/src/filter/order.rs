//! The one place that says in which order filters run (repository-format.md §5.1).
//!
//! ```text
//! store:  plain  -> hash, page check -> compress   -> encrypt    -> hash -> stored
//! load:   stored -> hash             -> decrypt    -> decompress -> hash -> plain
//! ```
//!
//! Block incremental uses the same two transforms for each super block.

use super::chain::{Chain, ChainReport, Direction, SealChain, Sink};
use super::cipher::{Decrypt, Encrypt};
use super::codecs::Codecs;
use super::compress::{self, Compression, gz};
use super::error::FilterError;
use super::form::Form;
use super::hash::Digest;
use super::page_checksum::PageCheck;
use super::passphrase::Passphrase;
use super::piece::PIECE_BYTES_MAX;
use super::transform::{Transform, Transforms};
use crate::clock::Random;
use crate::format::compress_type::CompressType;

/// What is to happen to a file on its way into the repository.
#[derive(Debug, Clone, Copy)]
pub struct StoreSpec<'a> {
    /// Type and level of the compression.
    pub compress: Compression,
    /// The passphrase, where the repository is encrypted.
    pub cipher: Option<&'a Passphrase>,
    /// The form of the stored bytes.
    pub form: Form,
    /// Which page checksums to check, if any.
    pub pages: Option<PageCheck>,
}

/// What happened to a file on its way into the repository.
#[derive(Debug, Clone, Copy)]
pub struct LoadSpec<'a> {
    /// The compression of the stored bytes.
    pub compress: CompressType,
    /// The passphrase, where the stored bytes are encrypted.
    pub cipher: Option<&'a Passphrase>,
    /// The form of the stored bytes.
    pub form: Form,
    /// The size of the plain bytes where it is known, or a ceiling: decoding stops with an error as soon as there are
    /// more. Without it only the disk limits what a few stored bytes can become (faults.md HI05).
    pub plain_size_max_bytes: Option<u64>,
}

/// The chain from plain to stored bytes.
///
/// # Errors
/// [`FilterError::Random`] without a salt, [`FilterError::Compress`] without memory for the encoder.
pub fn store(spec: &StoreSpec<'_>, codecs: &Codecs, random: &dyn Random) -> Result<Chain, FilterError> {
    let transforms = store_transforms(spec.compress, spec.cipher, spec.form, codecs, random)?;
    Ok(Chain::new(Direction::Store, transforms, spec.pages))
}

/// The transforms of [`store`] alone, for super blocks and block maps: they are hashed as a whole, not one by one.
pub(super) fn store_transforms(
    compress: Compression,
    cipher: Option<&Passphrase>,
    form: Form,
    codecs: &Codecs,
    random: &dyn Random,
) -> Result<Transforms, FilterError> {
    let compress = compress::encoder(compress, form, codecs)?;
    let encrypt = encrypt(cipher, form, codecs, random)?;
    Ok(compress.into_iter().chain(encrypt).collect())
}

/// The chain from stored to plain bytes.
///
/// # Errors
/// [`FilterError::Decompress`] without memory for the decoder.
pub fn load(spec: &LoadSpec<'_>, codecs: &Codecs) -> Result<Chain, FilterError> {
    let direction = Direction::Load { plain_size_max_bytes: spec.plain_size_max_bytes };
    Ok(Chain::new(direction, load_transforms(spec, codecs)?, None))
}

/// The transforms of [`load`] alone, for super blocks: their bytes are hashed block by block, not as a whole.
pub(super) fn load_transforms(spec: &LoadSpec<'_>, codecs: &Codecs) -> Result<Transforms, FilterError> {
    let decrypt = spec.cipher.map(|passphrase| boxed(Decrypt::new(passphrase, spec.form, codecs)));
    let decompress = compress::decoder(spec.compress, spec.form, codecs)?;
    Ok(decrypt.into_iter().chain(decompress).collect())
}

/// The second half of [`store`], for one file in several repositories: run [`store`] without a cipher once, then this
/// over its output for each encrypted repository. A repository without a cipher takes the output, and the report of
/// the first half, as they are.
///
/// # Errors
/// [`FilterError::Random`] without a salt.
pub fn seal(
    passphrase: &Passphrase,
    form: Form,
    codecs: &Codecs,
    random: &dyn Random,
) -> Result<SealChain, FilterError> {
    Ok(SealChain::new(Encrypt::new(passphrase, form, codecs, random)?))
}

/// [`store`] for a file that is in memory as a whole. gz goes through an encoder that takes a third of the time but
/// needs room for its whole output: at most `room_bytes_max`, which is worth as much as half of the input. What does
/// not fit is streamed, as the other types are.
///
/// # Errors
/// As for [`store`], [`Chain::write`] and [`Chain::finish`].
pub fn store_whole(
    spec: &StoreSpec<'_>,
    plain: &[u8],
    room_bytes_max: usize,
    codecs: &Codecs,
    random: &dyn Random,
    sink: &mut Sink<'_>,
) -> Result<ChainReport, FilterError> {
    let compressed = match spec.compress.kind() {
        CompressType::Gz => gz_whole(spec, plain, room_bytes_max, codecs),
        _ => None,
    };
    let Some(compressed) = compressed else {
        let mut chain = store(spec, codecs, random)?;
        chain.write(plain, sink)?;
        return chain.finish(sink);
    };
    let transforms = encrypt(spec.cipher, spec.form, codecs, random)?.into_iter().collect();
    let mut chain = Chain::new(Direction::Store, transforms, spec.pages);
    chain.finish_precompressed(plain, &compressed, sink)
}

/// [`load`] for stored bytes that are in memory as a whole. gz goes through a decoder that takes half of the time but
/// needs room for its whole output, at most `room_bytes_max`; it must have the size
/// [`LoadSpec::plain_size_max_bytes`]. Everything else is streamed.
///
/// # Errors
/// As for [`load`], [`Chain::write`] and [`Chain::finish`].
pub fn load_whole(
    spec: &LoadSpec<'_>,
    stored: &[u8],
    room_bytes_max: usize,
    codecs: &Codecs,
    sink: &mut Sink<'_>,
) -> Result<ChainReport, FilterError> {
    if let Some(plain) = gunzip_whole(spec, stored, room_bytes_max, codecs)? {
        plain.chunks(PIECE_BYTES_MAX).try_for_each(&mut *sink)?;
        return Ok(ChainReport { plain: Digest::of(&plain), stored: Digest::of(stored), pages: None });
    }
    let mut chain = load(spec, codecs)?;
    chain.write(stored, sink)?;
    chain.finish(sink)
}

fn gunzip_whole(
    spec: &LoadSpec<'_>,
    stored: &[u8],
    room_bytes_max: usize,
    codecs: &Codecs,
) -> Result<Option<Vec<u8>>, FilterError> {
    let size_bytes = spec.plain_size_max_bytes.and_then(|size| usize::try_from(size).ok());
    let Some(size_bytes) = size_bytes.filter(|size| *size <= room_bytes_max) else {
        return Ok(None);
    };
    if spec.compress != CompressType::Gz {
        return Ok(None);
    }
    let mut decrypted = Vec::new();
    let compressed = match spec.cipher {
        None => stored,
        Some(passphrase) => {
            let mut decrypt = Decrypt::new(passphrase, spec.form, codecs);
            decrypted.reserve_exact(stored.len());
            let mut gather = |piece: &[u8]| {
                decrypted.extend_from_slice(piece);
                Ok(())
            };
            decrypt.write(stored, &mut gather)?;
            decrypt.finish(&mut gather)?;
            &decrypted
        }
    };
    let mut plain = vec![0; size_bytes];
    let decoded_bytes = gz::decompress_whole(compressed, &mut plain, spec.form, codecs);
    // Another size than the expected one is a shorter file, or the first of several members: the stream tells.
    Ok((decoded_bytes == Some(size_bytes)).then_some(plain))
}

/// The compressed bytes of a file that is in memory as a whole, in the standard form, where the encoder for that takes them and
/// they fit into `room_bytes_max`: gz alone. A caller that gets `None` streams.
pub fn compress_whole(compress: Compression, plain: &[u8], room_bytes_max: usize, codecs: &Codecs) -> Option<Vec<u8>> {
    let spec = StoreSpec { compress, cipher: None, form: Form::Standard, pages: None };
    if compress.kind() == CompressType::Gz { gz_whole(&spec, plain, room_bytes_max, codecs) } else { None }
}

fn gz_whole(spec: &StoreSpec<'_>, plain: &[u8], room_bytes_max: usize, codecs: &Codecs) -> Option<Vec<u8>> {
    /// What deflate adds to bytes that it cannot compress: 5 for each stored block, and headers.
    const OVERHEAD_BYTES: usize = 256;
    let room_bytes = plain.len().saturating_add(plain.len() / 1024).saturating_add(OVERHEAD_BYTES);
    let mut compressed = vec![0; room_bytes.min(room_bytes_max)];
    let size_bytes = gz::compress_whole(plain, &mut compressed, spec.compress.level(), spec.form, codecs)?;
    compressed.truncate(size_bytes);
    Some(compressed)
}

fn encrypt(
    passphrase: Option<&Passphrase>,
    form: Form,
    codecs: &Codecs,
    random: &dyn Random,
) -> Result<Option<Box<dyn Transform>>, FilterError> {
    passphrase.map(|passphrase| Encrypt::new(passphrase, form, codecs, random).map(boxed)).transpose()
}

fn boxed(transform: impl Transform + 'static) -> Box<dyn Transform> {
    Box::new(transform)
}

#[cfg(test)]
mod tests;
