//! The block map of a file, which stands at the end of its stored bytes: encrypted, never compressed
//! (repository-format.md §7.2).

use super::open::Repository;
use super::stored_file::decode_failed;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::order::{self, LoadSpec};
use crate::filter::{Codecs, Form, Passphrase, SinkClosed};
use crate::format::block_map::{BlockGeometry, BlockMap, BlockMapFacts};
use crate::format::manifest::{FileLocation, FileRow};
use crate::format::{CompressType, Manifest, path};
use crate::storage::StoragePath;

/// The largest stored map that is read; one of a file of 1 GiB in the smallest blocks has some 3 MiB.
pub const BLOCK_MAP_BYTES_MAX: u64 = 32 * 1024 * 1024;

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
        let bad = |reason: String| Error::new(ErrorKind::Format, reason);
        let size_bytes = block_map_bytes(file)?;
        let (object, start) = match manifest.location(file) {
            FileLocation::Bundle { label, place } => {
                (path::bundle(self.stanza(), &label, place.id), place.offset_bytes)
            }
            FileLocation::Object { label, stored } => {
                let object = path::file(self.stanza(), &label, file.name(), stored);
                (object.map_err(|error| bad(error.to_string()))?, 0)
            }
            FileLocation::Nowhere => return Err(Error::new(ErrorKind::Assert, "the file is not stored")),
        };
        let offset = start.checked_add(file.size_repo_bytes.saturating_sub(size_bytes));
        let offset = offset.ok_or_else(|| bad("the place of the block map is out of range".to_owned()))?;
        Ok(BlockMapPlace { object, offset, size_bytes })
    }
}

/// The stored size of a file's map, small enough to be read whole.
///
/// # Errors
/// [`ErrorKind::Format`] when it is not.
pub fn block_map_bytes(file: &FileRow) -> Result<u64> {
    let size_bytes = file.block_incr.map_or(0, |block| block.map_size_bytes);
    match size_bytes > BLOCK_MAP_BYTES_MAX || size_bytes > file.size_repo_bytes {
        true => Err(Error::new(ErrorKind::Format, format!("the block map cannot have {size_bytes} bytes"))),
        false => Ok(size_bytes),
    }
}

/// How a block incremental file is cut.
///
/// # Errors
/// [`ErrorKind::Format`] for values that no writer makes, [`ErrorKind::Assert`] for a file without blocks.
pub fn block_geometry(file: &FileRow) -> Result<BlockGeometry> {
    let block = file.block_incr.ok_or_else(|| Error::new(ErrorKind::Assert, "the file has no blocks"))?;
    BlockGeometry::new(block.block_size_bytes.into(), block.checksum_size_bytes.into())
        .map_err(|error| Error::new(ErrorKind::Format, error.to_string()))
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
