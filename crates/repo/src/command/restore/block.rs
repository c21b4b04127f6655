//! One block incremental file: its map, then the blocks that are not there yet (repository-format.md §7.5).

use std::sync::Arc;

use super::file::{FileOutcome, Found, Restorer, check, decode_failed};
use super::plan::row_at;
use super::process::blocking;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::block_delta::{DeltaError, DeltaRead, SuperBlockReader, SuperBlockSpec, plan_reads};
use crate::filter::{Digest, SinkClosed};
use crate::format::Checksum;
use crate::format::block_map::{BlockMap, BlockMapFacts};
use crate::format::manifest::FileRow;
use crate::format::path::{self, BundleId, StoredFile};
use crate::pgdata::SyncPolicy;
use crate::progress::Context;
use crate::repository::{BlockMapPlace, block_geometry, block_map_bytes, decode_block_map};
use crate::storage::{ByteRange, StoragePath};
use crate::transfer::{self, PieceReader};

/// The largest stored form of a file that is read together with its neighbours in a bundle, and held for that.
const TOGETHER_BYTES_MAX: u64 = 1024 * 1024;

/// What is left to do for a file: blocks that are stored elsewhere.
#[derive(Debug)]
pub(super) struct Rest {
    reads: Vec<DeltaRead>,
    patched_bytes: u64,
}

/// Whether a new file can be made from its stored bytes read in one go, without another request where it has all of its
/// blocks.
pub(super) fn is_read_together(row: &FileRow) -> bool {
    row.bundle.is_some() && row.is_block_incremental() && row.size_repo_bytes <= TOGETHER_BYTES_MAX
}

/// Makes the file at `place` from the next bytes of `source`, which are its stored form: super blocks, then the map.
/// Blocking.
pub(super) fn write_together(restorer: &Restorer, place: u32, source: &mut PieceReader) -> Result<Rest> {
    let row = row_at(&restorer.manifest, place).ok_or_else(no_such_file)?;
    let mut stored = Vec::new();
    source.exact(row.size_repo_bytes.min(TOGETHER_BYTES_MAX), |bytes| {
        stored.extend_from_slice(bytes);
        Ok(())
    })?;
    let map_bytes = usize::try_from(block_map_bytes(row)?).unwrap_or(usize::MAX);
    let (blocks, map) = stored
        .len()
        .checked_sub(map_bytes)
        .and_then(|blocks| stored.split_at_checked(blocks))
        .ok_or_else(|| Error::new(ErrorKind::Format, format!("the block map cannot have {map_bytes} bytes")))?;
    let reads = plan_reads(&decode_map(restorer, row, map)?, &[]);
    let patched_bytes = reads.iter().map(DeltaRead::wanted_bytes).fold(0, u64::saturating_add);
    let file = restorer.create(row)?;
    file.set_length(row.size_bytes).map_err(|error| restorer.write_failed(row, error))?;
    drop(file);
    let mut rest = Rest { reads: Vec::new(), patched_bytes };
    for read in reads {
        match part_here(restorer, row, &read, blocks) {
            Some(part) => patch(restorer, row, read, |take| take(part))?,
            None => rest.reads.push(read),
        }
    }
    if rest.reads.is_empty() {
        end(restorer, row)?;
    }
    Ok(rest)
}

/// The bytes of `read`, if they are among the stored bytes of the file itself.
fn part_here<'a>(restorer: &Restorer, row: &FileRow, read: &DeltaRead, blocks: &'a [u8]) -> Option<&'a [u8]> {
    let label = restorer.manifest.references().get(usize::try_from(read.reference).ok()?)?;
    let bundle = row.bundle?;
    if *label != restorer.manifest.stored_in(row) || read.bundle != bundle.id.number() {
        return None;
    }
    let start = usize::try_from(read.offset.checked_sub(bundle.offset_bytes)?).ok()?;
    blocks.get(start..start.checked_add(usize::try_from(read.size_bytes).ok()?)?)
}

/// Does the rest for a file that [`write_together`] began.
pub(super) async fn write_rest(
    restorer: &Arc<Restorer>,
    place: u32,
    rest: Rest,
    context: &Context,
) -> Result<FileOutcome> {
    let is_finished = rest.reads.is_empty();
    for read in rest.reads {
        apply(restorer, place, read, context).await?;
    }
    if !is_finished {
        end_at(restorer, place).await?;
    }
    Ok(FileOutcome::Patched(rest.patched_bytes))
}

/// Restores the file at `place` of the manifest, of which `found` is there.
pub(super) async fn restore_blocks(
    restorer: &Arc<Restorer>,
    place: u32,
    found: Found,
    context: &Context,
) -> Result<FileOutcome> {
    let row = row_at(&restorer.manifest, place).ok_or_else(no_such_file)?;
    let existing = match found {
        Found::Right => return Ok(FileOutcome::Kept),
        Found::Nothing => Vec::new(),
        Found::Blocks(existing) => existing,
    };
    let map = read_map(restorer, row, context).await?;
    let is_new = existing.is_empty();
    let (reads, patched_bytes) = blocking(move || {
        let reads = plan_reads(&map, &existing);
        let patched_bytes = reads.iter().map(DeltaRead::wanted_bytes).fold(0, u64::saturating_add);
        Ok((reads, patched_bytes))
    })
    .await?;
    begin(restorer, place, is_new).await?;
    for read in reads {
        apply(restorer, place, read, context).await?;
    }
    end_at(restorer, place).await?;
    Ok(FileOutcome::Patched(patched_bytes))
}

/// Hands stored bytes to whoever decodes them.
type Take<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

fn decode_map(restorer: &Restorer, row: &FileRow, stored: &[u8]) -> Result<BlockMap> {
    let facts = BlockMapFacts {
        geometry: block_geometry(row)?,
        file_size_bytes: row.size_bytes,
        reference_count: restorer.manifest.references().len(),
    };
    decode_block_map("block map", stored, facts, restorer.passphrase.as_ref(), &restorer.codecs)
}

async fn read_map(restorer: &Arc<Restorer>, row: &FileRow, context: &Context) -> Result<BlockMap> {
    let BlockMapPlace { object, offset, size_bytes } = restorer.repository.block_map_place(&restorer.manifest, row)?;
    let range = ByteRange { offset, length: Some(size_bytes) };
    let stored = load(restorer, &object, range, context, move |source| {
        let mut stored = Vec::new();
        source.exact(size_bytes, |bytes| {
            stored.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(stored)
    })
    .await?;
    decode_map(restorer, row, &stored)
}

/// Makes the file that blocks are written to: new, or as it is with the right length.
async fn begin(restorer: &Arc<Restorer>, place: u32, is_new: bool) -> Result<()> {
    let restorer = Arc::clone(restorer);
    blocking(move || {
        let row = row_at(&restorer.manifest, place).ok_or_else(no_such_file)?;
        let file = if is_new {
            restorer.create(row)?
        } else {
            restorer.open_existing(row)?.ok_or_else(|| changed(&restorer, row))?.into_target()
        };
        file.set_length(row.size_bytes).map_err(|error| restorer.write_failed(row, error))
    })
    .await
}

/// Reads super blocks that lie next to each other and writes the blocks that are wanted.
async fn apply(restorer: &Arc<Restorer>, place: u32, read: DeltaRead, context: &Context) -> Result<()> {
    let row = row_at(&restorer.manifest, place).ok_or_else(no_such_file)?;
    let object = object_of(restorer, row, &read)?;
    let range = ByteRange { offset: read.offset, length: Some(read.size_bytes) };
    let name = object.to_string();
    let writing = Arc::clone(restorer);
    load(restorer, &object, range, context, move |source| {
        let row = row_at(&writing.manifest, place).ok_or_else(no_such_file)?;
        let size_bytes = read.size_bytes;
        patch(&writing, row, read, |take| source.exact(size_bytes, take))
    })
    .await
    .map_err(|error| error.context(format!("blocks in '{name}'")))
}

/// Map items name a backup by its number in the manifest's list, so that no other stanza's object is ever read.
fn object_of(restorer: &Restorer, row: &FileRow, read: &DeltaRead) -> Result<StoragePath> {
    let stanza = restorer.repository.stanza();
    let label = usize::try_from(read.reference).ok().and_then(|number| restorer.manifest.references().get(number));
    let label = label.ok_or_else(|| {
        Error::new(ErrorKind::Format, format!("the block map names reference {}, which is not there", read.reference))
    })?;
    match BundleId::new(read.bundle) {
        Some(id) => Ok(path::bundle(stanza, label, id)),
        None => path::file(stanza, label, row.name(), StoredFile::BlockIncremental).map_err(bad_path),
    }
}

/// Writes the wanted blocks of `read`, whose stored bytes come from `feed`. Blocking.
fn patch(
    restorer: &Restorer,
    row: &FileRow,
    read: DeltaRead,
    feed: impl FnOnce(&mut Take<'_>) -> Result<()>,
) -> Result<()> {
    let file = restorer.open_existing(row)?.ok_or_else(|| changed(restorer, row))?.into_target();
    let spec =
        SuperBlockSpec { compress: restorer.manifest.options().compress_type, cipher: restorer.passphrase.clone() };
    let mut reader = SuperBlockReader::new(read, spec, &restorer.codecs);
    let mut refused = None;
    let mut sink = |offset: u64, bytes: &[u8]| {
        // The map was read with the size of the file, so that blocks are inside; nothing is ever written beyond.
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= row.size_bytes);
        let written = match end {
            Some(_) => file.write_at(offset, bytes).map_err(|error| restorer.write_failed(row, error)),
            None => Err(Error::new(ErrorKind::Format, format!("a block at {offset} ends beyond the file"))),
        };
        written.map_err(|error| {
            refused = Some(error);
            SinkClosed
        })
    };
    let taken = feed(&mut |stored| {
        restorer.check_cancelled()?;
        reader.write(stored, &mut sink).map_err(|error| delta_failed(&error))
    });
    if let Some(error) = refused {
        return Err(error);
    }
    taken?;
    reader.finish().map_err(|error| delta_failed(&error))
}

async fn end_at(restorer: &Arc<Restorer>, place: u32) -> Result<()> {
    let restorer = Arc::clone(restorer);
    blocking(move || end(&restorer, row_at(&restorer.manifest, place).ok_or_else(no_such_file)?)).await
}

/// Checks the file as it is now and gives it its attributes.
fn end(restorer: &Restorer, row: &FileRow) -> Result<()> {
    let mut file = restorer.open_existing(row)?.ok_or_else(|| changed(restorer, row))?;
    let digest = Digest { size_bytes: file.info().size_bytes, sha1: Checksum(file.sha1()?) };
    check(digest, row)?;
    file.into_target()
        .finish(restorer.layout.attributes(row), SyncPolicy::FileSystem)
        .map_err(|error| restorer.write_failed(row, error))
}

async fn load<T, F>(restorer: &Restorer, object: &StoragePath, range: ByteRange, context: &Context, job: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&mut PieceReader) -> Result<T> + Send + 'static,
{
    transfer::load(restorer.repository.storage().as_ref(), object, range, None, &context.budget, job).await
}

fn delta_failed(error: &DeltaError) -> Error {
    match error {
        DeltaError::Filter { source, .. } => {
            let kind = decode_failed(source).kind();
            Error::new(kind, error.to_string())
        }
        DeltaError::BlockChecksum { .. } => Error::new(ErrorKind::Checksum, error.to_string()),
        DeltaError::SinkClosed(_) => Error::new(ErrorKind::Term, error.to_string()),
        DeltaError::SuperBlockSize { .. } | DeltaError::ReadSize { .. } => {
            Error::new(ErrorKind::Format, error.to_string())
        }
    }
}

fn changed(restorer: &Restorer, row: &FileRow) -> Error {
    let path = restorer.written_path(row);
    Error::new(ErrorKind::FileOpen, format!("'{path}' was changed by somebody else while it was restored"))
}

fn bad_path(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Format, error.to_string())
}

fn no_such_file() -> Error {
    Error::new(ErrorKind::Assert, "the file is not in the manifest")
}
