//! One block incremental file: its map, then the blocks that are not there yet (repository-format.md §7.5).

use std::sync::Arc;

use super::file::{FileOutcome, Found, Restorer};
use super::plan::row_at;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::block_delta::{DeltaRead, SuperBlockReader, plan_reads};
use crate::filter::{Digest, SinkClosed};
use crate::format::Checksum;
use crate::format::block_map::BlockMap;
use crate::format::manifest::FileRow;
use crate::pgdata::SyncPolicy;
use crate::progress::{Context, blocking};
use crate::repository::backup_file::{
    Take, block_map, check_content, map_size_bytes, object_with_blocks, stored_place, super_block_spec, wrong_blocks,
};
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
    let map_bytes = map_size_bytes(row)?;
    let (blocks, map) = usize::try_from(map_bytes)
        .ok()
        .and_then(|map_bytes| stored.split_at_checked(stored.len().checked_sub(map_bytes)?))
        .ok_or_else(|| Error::new(ErrorKind::Format, format!("the block map cannot have {map_bytes} bytes")))?;
    let passphrase = restorer.passphrase.as_ref();
    let map = block_map(&restorer.manifest, row, passphrase, &restorer.codecs, |take| take(map))?;
    let reads = plan_reads(&map, &[]);
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
    let existing = match found {
        Found::Right => return Ok(FileOutcome::Kept),
        Found::Nothing => Vec::new(),
        Found::Blocks(existing) => existing,
    };
    let map = read_map(restorer, place, context).await?;
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

/// The map stands at the end of the file's stored bytes: encrypted, not compressed.
async fn read_map(restorer: &Arc<Restorer>, place: u32, context: &Context) -> Result<BlockMap> {
    let row = row_at(&restorer.manifest, place).ok_or_else(no_such_file)?;
    let map_bytes = map_size_bytes(row)?;
    let (object, start) = stored_place(&restorer.repository, &restorer.manifest, row)?
        .ok_or_else(|| Error::new(ErrorKind::Assert, "the file is not stored"))?;
    let offset = start
        .checked_add(row.size_repo_bytes.saturating_sub(map_bytes))
        .ok_or_else(|| Error::new(ErrorKind::Format, "the place of the block map is out of range"))?;
    let range = ByteRange { offset, length: Some(map_bytes) };
    let reading = Arc::clone(restorer);
    load(restorer, &object, range, context, move |source| {
        let row = row_at(&reading.manifest, place).ok_or_else(no_such_file)?;
        let passphrase = reading.passphrase.as_ref();
        block_map(&reading.manifest, row, passphrase, &reading.codecs, |take| source.exact(map_bytes, take))
    })
    .await
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
    let object = object_with_blocks(&restorer.repository, &restorer.manifest, row, &read)?;
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

/// Writes the wanted blocks of `read`, whose stored bytes come from `feed`. Blocking.
fn patch(
    restorer: &Restorer,
    row: &FileRow,
    read: DeltaRead,
    feed: impl FnOnce(&mut Take<'_>) -> Result<()>,
) -> Result<()> {
    let file = restorer.open_existing(row)?.ok_or_else(|| changed(restorer, row))?.into_target();
    let spec = super_block_spec(&restorer.manifest, restorer.passphrase.as_ref());
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
        reader.write(stored, &mut sink).map_err(|error| wrong_blocks(&error))
    });
    if let Some(error) = refused {
        return Err(error);
    }
    taken?;
    reader.finish().map_err(|error| wrong_blocks(&error))
}

async fn end_at(restorer: &Arc<Restorer>, place: u32) -> Result<()> {
    let restorer = Arc::clone(restorer);
    blocking(move || end(&restorer, row_at(&restorer.manifest, place).ok_or_else(no_such_file)?)).await
}

/// Checks the file as it is now and gives it its attributes.
fn end(restorer: &Restorer, row: &FileRow) -> Result<()> {
    let mut file = restorer.open_existing(row)?.ok_or_else(|| changed(restorer, row))?;
    let digest = Digest { size_bytes: file.info().size_bytes, sha1: Checksum(file.sha1()?) };
    check_content(digest, row)?;
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

fn changed(restorer: &Restorer, row: &FileRow) -> Error {
    let path = restorer.written_path(row);
    Error::new(ErrorKind::FileOpen, format!("'{path}' was changed by somebody else while it was restored"))
}

fn no_such_file() -> Error {
    Error::new(ErrorKind::Assert, "the file is not in the manifest")
}
