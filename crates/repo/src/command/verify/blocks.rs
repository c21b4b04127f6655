//! Block incremental files: their own blocks are decoded and compared with the map; blocks that an earlier backup stores
//! are trusted where that backup's stored file is known to be whole and holds them, and read otherwise.

use std::collections::VecDeque;
use std::sync::Arc;

use super::known::{Content, Verdict};
use super::look::{Looker, is_fatal, stored_range};
use super::report::{Fault, FaultKind};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::block_delta::{DeltaRead, SuperBlockReader, plan_reads_of};
use crate::filter::{Digest, Hasher};
use crate::format::block_map::{BlockMap, BlockMapItem};
use crate::format::manifest::FileRow;
use crate::progress::Context;
use crate::repository::backup_file::{
    block_map, is_content, map_size_bytes, object_with_blocks, super_block_spec, wrong_blocks,
};
use crate::storage::{ByteRange, StoragePath};

/// The map at the end of the stored form of a file.
pub(super) fn map_at_end(looker: &Looker, row: &FileRow, stored: &[u8]) -> Result<BlockMap> {
    let map_bytes = map_size_bytes(row)?;
    let start = usize::try_from(map_bytes).ok().and_then(|map_bytes| stored.len().checked_sub(map_bytes));
    let map = start.and_then(|start| stored.get(start..));
    let map = map.ok_or_else(|| Error::new(ErrorKind::Format, "the block map is larger than the stored file"))?;
    block_map(&looker.manifest, row, looker.passphrase.as_ref(), &looker.codecs, |take| take(map))
}

/// Reads the map of the file whose stored form begins at `start` of `object`.
pub(super) async fn read_map(
    looker: &Arc<Looker>,
    file: u32,
    object: &StoragePath,
    start: u64,
    context: &Context,
) -> Result<BlockMap> {
    let row = looker.row(file)?;
    let map_bytes = map_size_bytes(row)?;
    let offset = start.saturating_add(row.size_repo_bytes.saturating_sub(map_bytes));
    let range = ByteRange { offset, length: Some(map_bytes) };
    let reading = Arc::clone(looker);
    looker
        .load(object, range, context, move |source| {
            let row = reading.row(file)?;
            let passphrase = reading.passphrase.as_ref();
            block_map(&reading.manifest, row, passphrase, &reading.codecs, |take| source.exact(map_bytes, take))
        })
        .await
}

/// The verdict on a file whose map cannot be read. `stored` is the digest of its stored form, if that was read.
pub(super) fn broken_map(row: &FileRow, stored: Option<Digest>, error: &Error) -> Verdict {
    let is_stored = |stored: Digest| row.checksum_repo.is_none_or(|expected| expected == stored.sha1);
    let fault = Fault::of(error);
    Verdict::broken(if stored.is_some_and(is_stored) || row.checksum_repo.is_none() {
        fault
    } else {
        Fault::new(FaultKind::Checksum, fault.detail)
    })
}

/// What the stored form of a file and its own blocks say.
pub(super) fn judge(row: &FileRow, stored: Digest, own: Result<Option<Digest>>) -> Verdict {
    let stored_fault = match row.checksum_repo {
        Some(expected) if expected != stored.sha1 => Some(FaultKind::Checksum),
        _ if stored.size_bytes != row.size_repo_bytes => Some(FaultKind::Size),
        _ => None,
    };
    let (content, detail, decoded_fault) = match own {
        Err(error) => {
            let fault = Fault::of(&error);
            (Content::Wrong, fault.detail, Some(fault.kind))
        }
        Ok(Some(plain)) if !is_content(plain, row) => {
            (Content::Wrong, "the stored blocks are another file".to_owned(), Some(FaultKind::Other))
        }
        Ok(_) => (Content::Right, "other bytes are stored".to_owned(), None),
    };
    let fault = stored_fault.or(decoded_fault).map(|kind| Fault::new(kind, detail));
    Verdict { fault, content, elsewhere: None }
}

/// Whether an item of the map is one of the blocks that the file's own stored form holds.
fn is_own(looker: &Looker, row: &FileRow, item: &BlockMapItem) -> bool {
    let own = row.reference.map_or_else(
        || looker.manifest.references().len().checked_sub(1),
        |index| usize::try_from(index.number()).ok(),
    );
    let stored = stored_range(row);
    let map_bytes = row.block_incr.map_or(0, |block| block.map_size_bytes);
    let blocks_end = stored.end.saturating_sub(map_bytes);
    let end = item.offset.saturating_add(item.size_stored_bytes);
    usize::try_from(item.reference).ok() == own
        && item.bundle == row.bundle.map_or(0, |bundle| bundle.id.number())
        && item.offset >= stored.start
        && end <= blocks_end
}

/// Decodes the blocks that a file's own stored form holds, while that streams by.
pub(super) struct OwnBlocks<'a> {
    looker: &'a Looker,
    reads: VecDeque<DeltaRead>,
    current: Option<(SuperBlockReader, u64)>,
    /// Where in the object the next byte is.
    position: u64,
    /// The plain file, as long as its blocks come in order and none is missing.
    plain: Hasher,
    file_size_bytes: u64,
    failed: Option<Error>,
}

impl<'a> OwnBlocks<'a> {
    pub(super) fn new(looker: &'a Looker, row: &FileRow, map: &BlockMap) -> Self {
        let reads = plan_reads_of(map, |_, item| is_own(looker, row, item)).into();
        let position = stored_range(row).start;
        Self {
            looker,
            reads,
            current: None,
            position,
            plain: Hasher::default(),
            file_size_bytes: row.size_bytes,
            failed: None,
        }
    }

    /// Takes the next stored bytes.
    pub(super) fn write(&mut self, stored: &[u8]) {
        if self.failed.is_none()
            && let Err(error) = self.write_checked(stored)
        {
            self.failed = Some(error);
        }
    }

    fn write_checked(&mut self, stored: &[u8]) -> Result<()> {
        let mut rest = stored;
        while !rest.is_empty() {
            let Some((reader, missing_bytes)) = &mut self.current else {
                let Some(behind) = self.skip_to_next(rest)? else { return Ok(()) };
                rest = behind;
                continue;
            };
            let count = usize::try_from(*missing_bytes).unwrap_or(usize::MAX).min(rest.len());
            let (part, behind) = rest.split_at(count);
            let plain = &mut self.plain;
            let mut sink = |offset: u64, bytes: &[u8]| {
                if offset == plain.size_bytes() {
                    plain.observe(bytes);
                }
                Ok(())
            };
            reader.write(part, &mut sink).map_err(|error| wrong_blocks(&error))?;
            rest = behind;
            *missing_bytes -= count as u64;
            self.position = self.position.saturating_add(count as u64);
            if *missing_bytes == 0
                && let Some((reader, _)) = self.current.take()
            {
                reader.finish().map_err(|error| wrong_blocks(&error))?;
            }
        }
        Ok(())
    }

    /// Passes over what is before the next super block, and begins with that when it is reached; `None` behind the last.
    fn skip_to_next<'b>(&mut self, stored: &'b [u8]) -> Result<Option<&'b [u8]>> {
        let Some(read) = self.reads.front() else { return Ok(None) };
        let Some(gap) = read.offset.checked_sub(self.position) else {
            return Err(Error::new(ErrorKind::Format, "super blocks of the block map overlap"));
        };
        let skipped = usize::try_from(gap).unwrap_or(usize::MAX).min(stored.len());
        self.position = self.position.saturating_add(skipped as u64);
        if self.position == read.offset
            && let Some(read) = self.reads.pop_front()
        {
            let size_bytes = read.size_bytes;
            let spec = super_block_spec(&self.looker.manifest, self.looker.passphrase.as_ref());
            self.current = Some((SuperBlockReader::new(read, spec, &self.looker.codecs), size_bytes));
        }
        Ok(stored.get(skipped..))
    }

    /// The digest of the plain file if all of its blocks came by in order.
    ///
    /// # Errors
    /// What is wrong with the blocks.
    pub(super) fn finish(self) -> Result<Option<Digest>> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.current.is_some() || !self.reads.is_empty() {
            return Err(Error::new(ErrorKind::Format, "the stored file ended before its last super block"));
        }
        Ok((self.plain.size_bytes() == self.file_size_bytes).then(|| self.plain.digest()))
    }
}

/// Adds to the verdict on a file's own stored form what is to say of blocks that are stored elsewhere. That these are whole
/// says nothing when the map may have been changed: then they are compared with what it wants, as a restore does.
pub(super) async fn follow(
    looker: &Arc<Looker>,
    file: u32,
    own: Verdict,
    map: &BlockMap,
    context: &Context,
) -> Result<Verdict> {
    let row = looker.row(file)?;
    if own.content != Content::Right {
        return Ok(own);
    }
    let map_is_whole = own.fault.is_none() && row.checksum_repo.is_some();
    for read in plan_reads_of(map, |_, item| !is_own(looker, row, item)) {
        context.check_cancelled()?;
        let bytes = read.offset..read.offset.saturating_add(read.size_bytes);
        let label = usize::try_from(read.reference).ok().and_then(|index| looker.manifest.references().get(index));
        if map_is_whole
            && label.is_some_and(|label| looker.known(|known| known.has_blocks(label, row, read.bundle, &bytes)))
        {
            continue;
        }
        let object = match object_with_blocks(&looker.repository, &looker.manifest, row, &read) {
            Ok(object) => object,
            Err(error) => return Ok(Verdict::broken(own.fault.unwrap_or_else(|| Fault::of(&error)))),
        };
        if let Err(error) = decode_elsewhere(looker, &object, read, context).await {
            if is_fatal(&error) {
                return Err(error);
            }
            let broken = Verdict::broken(elsewhere_fault(&error));
            return Ok(match own.fault {
                // The damage is the file's own; what is stored elsewhere has a verdict of its own.
                Some(fault) => Verdict { fault: Some(fault), ..broken },
                None => Verdict { elsewhere: Some(object), ..broken },
            });
        }
    }
    Ok(own)
}

/// A range that the object does not have is the damage of its end.
fn elsewhere_fault(error: &Error) -> Fault {
    use crate::storage::ErrorClass;
    match error.storage_class() {
        Some(ErrorClass::Permanent) => Fault::new(FaultKind::Checksum, error.message()),
        _ => Fault::of(error),
    }
}

/// Reads super blocks of an earlier backup and compares the blocks that are wanted.
async fn decode_elsewhere(
    looker: &Arc<Looker>,
    object: &StoragePath,
    read: DeltaRead,
    context: &Context,
) -> Result<()> {
    let range = ByteRange { offset: read.offset, length: Some(read.size_bytes) };
    let decoding = Arc::clone(looker);
    looker
        .load(object, range, context, move |source| {
            let size_bytes = read.size_bytes;
            let spec = super_block_spec(&decoding.manifest, decoding.passphrase.as_ref());
            let mut reader = SuperBlockReader::new(read, spec, &decoding.codecs);
            source.exact(size_bytes, |stored| {
                decoding.check_cancelled()?;
                reader.write(stored, &mut |_, _| Ok(())).map_err(|error| wrong_blocks(&error))
            })?;
            reader.finish().map_err(|error| wrong_blocks(&error))
        })
        .await
}
