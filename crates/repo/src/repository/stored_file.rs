//! Small files of a repository, decoded and encoded whole in memory.

use bytes::Bytes;

use crate::clock::Random;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::order::{self, LoadSpec, StoreSpec};
use crate::filter::{Codecs, Compression, FilterError, Form, Passphrase, SinkClosed};
use crate::format::CompressType;

/// The plain bytes of a stored file, at most `plain_bytes_max` of them. `name` is for errors.
///
/// # Errors
/// [`ErrorKind::Crypto`] for bytes that do not decrypt, [`ErrorKind::Format`] for bytes that do not decompress.
pub fn decode_all(
    name: &str,
    stored: &[u8],
    compress: CompressType,
    passphrase: Option<&Passphrase>,
    plain_bytes_max: u64,
    codecs: &Codecs,
) -> Result<Vec<u8>> {
    let spec =
        LoadSpec { compress, cipher: passphrase, form: Form::Standard, plain_size_max_bytes: Some(plain_bytes_max) };
    let mut plain = Vec::new();
    let mut sink = |piece: &[u8]| {
        plain.extend_from_slice(piece);
        Ok::<(), SinkClosed>(())
    };
    let mut chain = order::load(&spec, codecs).map_err(|error| decode_failed(name, &error))?;
    chain.write(stored, &mut sink).map_err(|error| decode_failed(name, &error))?;
    chain.finish(&mut sink).map_err(|error| decode_failed(name, &error))?;
    Ok(plain)
}

/// The stored bytes of a small file.
///
/// # Errors
/// [`ErrorKind::Crypto`] when no salt can be made, else [`ErrorKind::Memory`].
pub fn encode_all(
    name: &str,
    plain: &[u8],
    compress: Compression,
    passphrase: Option<&Passphrase>,
    codecs: &Codecs,
    random: &dyn Random,
) -> Result<Bytes> {
    let spec = StoreSpec { compress, cipher: passphrase, form: Form::Standard, pages: None };
    let mut stored = Vec::new();
    let mut sink = |piece: &[u8]| {
        stored.extend_from_slice(piece);
        Ok::<(), SinkClosed>(())
    };
    let mut chain = order::store(&spec, codecs, random).map_err(|error| encode_failed(name, &error))?;
    chain.write(plain, &mut sink).map_err(|error| encode_failed(name, &error))?;
    chain.finish(&mut sink).map_err(|error| encode_failed(name, &error))?;
    Ok(stored.into())
}

/// The error for bytes of the repository that do not decode.
pub(crate) fn decode_failed(name: &str, error: &FilterError) -> Error {
    let kind = match error {
        FilterError::Decrypt(_) => ErrorKind::Crypto,
        FilterError::SinkClosed(_) => ErrorKind::Term,
        FilterError::Ended => ErrorKind::Assert,
        _ => ErrorKind::Format,
    };
    Error::new(kind, format!("unable to decode '{name}': {error}"))
}

/// The error for bytes that cannot be encoded.
pub(crate) fn encode_failed(name: &str, error: &FilterError) -> Error {
    let kind = match error {
        FilterError::Random(_) => ErrorKind::Crypto,
        FilterError::SinkClosed(_) => ErrorKind::Term,
        FilterError::Ended => ErrorKind::Assert,
        _ => ErrorKind::Memory,
    };
    Error::new(kind, format!("unable to encode '{name}': {error}"))
}
