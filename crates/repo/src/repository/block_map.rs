//! The block map of a file, which stands at the end of its stored bytes: encrypted, never compressed
//! (repository-format.md §7.2).

use super::backup_file::{map_size_bytes, stored_place};
use super::open::Repository;
use super::stored_file::decode_failed;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::order::{self, LoadSpec};
use crate::filter::{Codecs, Form, Passphrase, SinkClosed};
use crate::format::block_map::{BlockMap, BlockMapFacts};
use crate::format::manifest::FileRow;
use crate::format::{CompressType, Manifest};
use crate::storage::StoragePath;

/// Where the stored bytes of a map are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMapPlace {
    /// The bundle, or the file's own object.
    pub object: StoragePath,
    /// Where the map begins in it.
    pub offset: u64,
    /// How long it is.
    pub size_bytes: u64,
}

impl Repository {
    /// Where the map of a file of `manifest` is stored.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for numbers that no writer makes, [`ErrorKind::Assert`] for a file that has no map.
    pub fn block_map_place(&self, manifest: &Manifest, file: &FileRow) -> Result<BlockMapPlace> {
        let size_bytes = map_size_bytes(file)?;
        let (object, start) = stored_place(self, manifest, file)?
            .ok_or_else(|| Error::new(ErrorKind::Assert, "the file is not stored"))?;
        let offset = start.checked_add(file.size_repo_bytes.saturating_sub(size_bytes));
        let offset =
            offset.ok_or_else(|| Error::new(ErrorKind::Format, "the place of the block map is out of range"))?;
        Ok(BlockMapPlace { object, offset, size_bytes })
    }
}

/// Reads a map from its stored bytes. `name` is for errors.
///
/// # Errors
/// [`ErrorKind::Crypto`] for bytes that do not decrypt, [`ErrorKind::Format`] for bytes that are no map of the file.
pub fn decode_block_map(
    name: &str,
    stored: &[u8],
    facts: BlockMapFacts,
    passphrase: Option<&Passphrase>,
    codecs: &Codecs,
) -> Result<BlockMap> {
    let spec = LoadSpec {
        compress: CompressType::None,
        cipher: passphrase,
        form: Form::Raw,
        plain_size_max_bytes: u64::try_from(stored.len()).ok(),
    };
    let mut plain = Vec::new();
    let mut sink = |bytes: &[u8]| {
        plain.extend_from_slice(bytes);
        Ok::<(), SinkClosed>(())
    };
    let mut chain = order::load(&spec, codecs).map_err(|error| decode_failed(name, &error))?;
    chain.write(stored, &mut sink).map_err(|error| decode_failed(name, &error))?;
    chain.finish(&mut sink).map_err(|error| decode_failed(name, &error))?;
    BlockMap::read(&plain, facts).map_err(|error| Error::new(ErrorKind::Format, error.to_string()))
}
