//! One stored file of a backup: where its bytes are, how they decode, and whether they are the file
//! (repository-format.md §5, §7). What restores and what verifies asks the same questions here, so that the two cannot
//! disagree.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::filter::block_delta::{DeltaError, DeltaRead, SuperBlockSpec};
use crate::filter::order::LoadSpec;
use crate::filter::{Codecs, Digest, FilterError, Form, Passphrase};
use crate::format::block_map::{BlockGeometry, BlockMap, BlockMapFacts};
use crate::format::manifest::{FileLocation, FileRow, Manifest};
use crate::format::path::{self, BundleId, StoredFile};
use crate::storage::StoragePath;

use super::block_map::decode_block_map;
use super::open::Repository;

/// The largest stored map that is read; one of a file of 1 GiB in the smallest blocks has some 3 MiB.
const MAP_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Hands stored bytes to whoever decodes them.
pub type Take<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// The object that holds a file, and where in it the stored form of the file begins; `None` for a file that is not
/// stored.
///
/// # Errors
/// [`ErrorKind::Format`] for a name that cannot be that of an object.
pub fn stored_place(repository: &Repository, manifest: &Manifest, row: &FileRow) -> Result<Option<(StoragePath, u64)>> {
    let stanza = repository.stanza();
    Ok(match manifest.location(row) {
        FileLocation::Nowhere => None,
        FileLocation::Bundle { label, place } => Some((path::bundle(stanza, &label, place.id), place.offset_bytes)),
        FileLocation::Object { label, stored } => {
            Some((path::file(stanza, &label, row.name(), stored).map_err(bad_path)?, 0))
        }
    })
}

/// The object with the bytes of `read`. Map items name a backup by its number in the manifest's list, so that no other
/// stanza's object is ever read.
///
/// # Errors
/// [`ErrorKind::Format`] for a number that is not in the list.
pub fn object_with_blocks(
    repository: &Repository,
    manifest: &Manifest,
    row: &FileRow,
    read: &DeltaRead,
) -> Result<StoragePath> {
    let stanza = repository.stanza();
    let label = usize::try_from(read.reference).ok().and_then(|number| manifest.references().get(number));
    let label = label.ok_or_else(|| {
        Error::new(ErrorKind::Format, format!("the block map names reference {}, which is not there", read.reference))
    })?;
    match BundleId::new(read.bundle) {
        Some(id) => Ok(path::bundle(stanza, label, id)),
        None => path::file(stanza, label, row.name(), StoredFile::BlockIncremental).map_err(bad_path),
    }
}

/// Cuts files of a bundle, in the order of their offsets, into runs that one request each reads: a gap of at most
/// `read_over_bytes` is read and thrown away.
pub fn runs(rows: &[&FileRow], read_over_bytes: u64) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut end_of_last = 0_u64;
    for (at, row) in rows.iter().enumerate() {
        let offset = row.bundle.map_or(0, |bundle| bundle.offset_bytes);
        let gap = offset.checked_sub(end_of_last);
        match runs.last_mut() {
            Some(run) if gap.is_some_and(|gap| gap <= read_over_bytes) => run.end = at + 1,
            _ => runs.push(at..at + 1),
        }
        end_of_last = offset.saturating_add(row.size_repo_bytes);
    }
    runs
}

/// How a file that is stored whole decodes.
pub fn whole_spec<'a>(manifest: &Manifest, row: &FileRow, passphrase: Option<&'a Passphrase>) -> LoadSpec<'a> {
    LoadSpec {
        compress: manifest.options().compress_type,
        cipher: passphrase,
        form: if manifest.is_raw(row) { Form::Raw } else { Form::Standard },
        plain_size_max_bytes: Some(row.size_bytes),
    }
}

/// How the super blocks of a backup decode.
pub fn super_block_spec(manifest: &Manifest, passphrase: Option<&Passphrase>) -> SuperBlockSpec {
    SuperBlockSpec { compress: manifest.options().compress_type, cipher: passphrase.cloned() }
}

/// How a block incremental file is cut.
///
/// # Errors
/// [`ErrorKind::Format`] for sizes that cannot be.
pub fn geometry(row: &FileRow) -> Result<BlockGeometry> {
    let block = row.block_incr.ok_or_else(|| Error::new(ErrorKind::Assert, "the file has no blocks"))?;
    BlockGeometry::new(block.block_size_bytes.into(), block.checksum_size_bytes.into())
        .map_err(|error| Error::new(ErrorKind::Format, error.to_string()))
}

/// The stored size of a file's block map, which stands at the end of its stored form.
///
/// # Errors
/// [`ErrorKind::Format`] for one that is larger than the stored form, or than any map.
pub fn map_size_bytes(row: &FileRow) -> Result<u64> {
    let map_bytes = row.block_incr.map_or(0, |block| block.map_size_bytes);
    if map_bytes > MAP_BYTES_MAX || map_bytes > row.size_repo_bytes {
        return Err(Error::new(ErrorKind::Format, format!("the block map cannot have {map_bytes} bytes")));
    }
    Ok(map_bytes)
}

/// Reads a block map from its stored bytes, which `feed` hands on: encrypted, not compressed.
///
/// # Errors
/// Those of `feed`; [`ErrorKind::Crypto`] or [`ErrorKind::Format`] for bytes that are no map of the file.
pub fn block_map(
    manifest: &Manifest,
    row: &FileRow,
    passphrase: Option<&Passphrase>,
    codecs: &Codecs,
    feed: impl FnOnce(&mut Take<'_>) -> Result<()>,
) -> Result<BlockMap> {
    let mut stored = Vec::new();
    feed(&mut |bytes| {
        stored.extend_from_slice(bytes);
        Ok(())
    })?;
    let facts = BlockMapFacts {
        geometry: geometry(row)?,
        file_size_bytes: row.size_bytes,
        reference_count: manifest.references().len(),
    };
    decode_block_map("block map", &stored, facts, passphrase, codecs)
}

/// Whether size and checksum are those of the manifest.
pub fn is_content(found: Digest, row: &FileRow) -> bool {
    found.size_bytes == row.size_bytes && Some(found.sha1) == row.checksum
}

/// Fails unless size and checksum are those of the manifest.
///
/// # Errors
/// [`ErrorKind::Checksum`].
pub fn check_content(found: Digest, row: &FileRow) -> Result<()> {
    if is_content(found, row) {
        return Ok(());
    }
    let expected = row.checksum.map_or_else(|| "none".to_owned(), |checksum| checksum.to_string());
    Err(Error::new(
        ErrorKind::Checksum,
        format!(
            "{} bytes with checksum '{}' do not match the expected {} bytes with checksum '{expected}'",
            found.size_bytes, found.sha1, row.size_bytes
        ),
    ))
}

/// The error for stored bytes that do not decode.
pub fn undecodable(error: &FilterError) -> Error {
    let kind = match error {
        FilterError::Decrypt(_) => ErrorKind::Crypto,
        FilterError::SinkClosed(_) => ErrorKind::Term,
        FilterError::Ended => ErrorKind::Assert,
        _ => ErrorKind::Format,
    };
    Error::new(kind, error.to_string())
}

/// The error for super blocks that are not what the block map says.
pub fn wrong_blocks(error: &DeltaError) -> Error {
    match error {
        DeltaError::Filter { source, .. } => Error::new(undecodable(source).kind(), error.to_string()),
        DeltaError::BlockChecksum { .. } => Error::new(ErrorKind::Checksum, error.to_string()),
        DeltaError::SinkClosed(_) => Error::new(ErrorKind::Term, error.to_string()),
        DeltaError::SuperBlockSize { .. } | DeltaError::ReadSize { .. } => {
            Error::new(ErrorKind::Format, error.to_string())
        }
    }
}

fn bad_path(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Format, error.to_string())
}
