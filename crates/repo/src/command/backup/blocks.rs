//! One file into the repository in blocks: only those that the prior backup does not have (repository-format.md §7).
//! Blocking, but for fetching the prior maps.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::file::{Copied, Copier, Source, encode_failed};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::block_incr::{BlockIncr, BlockIncrError, BlockIncrReport, BlockIncrSpec};
use crate::format::block_map::{BlockGeometry, BlockMap, BlockMapFacts};
use crate::pgdata::{DisplayPath, SourceFile};
use crate::progress::{Context, Level, Reporter};
use crate::repository::{BlockMapPlace, Repository, decode_block_map};
use crate::storage::{ErrorClass, StorageExt};
use crate::transfer::PieceWriter;

/// Prior maps of one bundle that are fetched at once.
const FETCHES_MAX: usize = 8;

/// What is held of each block: an item of the prior map, and one of the new.
const BLOCK_BYTES: u64 = 2 * size_of::<crate::format::block_map::BlockMapItem>() as u64;

/// How a file is stored in blocks.
#[derive(Debug, Clone)]
pub(super) struct Blocks {
    pub(super) geometry: BlockGeometry,
    /// The plain size at which a super block is complete.
    pub(super) size_super_bytes: u64,
    /// The new backup's place in its list of references.
    pub(super) reference: u32,
    /// The number of the bundle; 0 for an object of its own.
    pub(super) bundle: u64,
    /// The map of what the prior backups have.
    pub(super) prior: Option<PriorMap>,
}

/// A map in a prior backup.
#[derive(Debug, Clone)]
pub(super) struct PriorMap {
    pub(super) place: BlockMapPlace,
    pub(super) facts: BlockMapFacts,
    /// Its stored bytes; empty until they are fetched.
    pub(super) stored: Bytes,
}

impl Blocks {
    /// What copying a file of this size holds at most, beside what is held of every file.
    pub(super) fn memory_bytes(&self, size_bytes: u64) -> u64 {
        let prior = self.prior.as_ref();
        let size_bytes = size_bytes.max(prior.map_or(0, |map| map.facts.file_size_bytes));
        let items = self.geometry.block_count(size_bytes).saturating_mul(BLOCK_BYTES);
        let map = prior.map_or(0, |map| map.place.size_bytes);
        items.saturating_add(self.geometry.block_size_bytes()).saturating_add(map.saturating_mul(2))
    }
}

/// Fetches the maps that the files of one transfer continue. A map that is not there, or not whole, is done without:
/// all blocks of its file are stored anew, and a warning says so (faults.md BK18).
///
/// # Errors
/// The storage's, when it cannot tell.
pub(super) async fn fetch_prior_maps(repository: &Repository, sources: &mut [Source], context: &Context) -> Result<()> {
    let continued = sources.iter_mut().filter_map(|source| source.blocks.as_mut().map(|blocks| (&source.name, blocks)));
    let fetches = continued.filter(|(_, blocks)| blocks.prior.is_some());
    let fetches: Vec<_> = fetches.map(|(name, blocks)| fetch(repository, name, blocks, context).boxed()).collect();
    stream::iter(fetches).buffer_unordered(FETCHES_MAX).try_collect::<()>().await
}

async fn fetch(repository: &Repository, name: &[u8], blocks: &mut Blocks, context: &Context) -> Result<()> {
    let Some(map) = &mut blocks.prior else { return Ok(()) };
    let BlockMapPlace { object, offset, size_bytes } = &map.place;
    let length_bytes = usize::try_from(*size_bytes).unwrap_or(usize::MAX);
    match repository.storage().read_range(object, *offset, length_bytes).await {
        Ok(stored) => map.stored = stored,
        Err(error) if matches!(error.class(), ErrorClass::Missing | ErrorClass::Permanent) => {
            done_without(name, map, &error.to_string(), context.reporter.as_ref());
            blocks.prior = None;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn done_without(name: &[u8], map: &PriorMap, reason: &str, reporter: &dyn Reporter) {
    let BlockMapPlace { object, offset, size_bytes } = &map.place;
    let text = format!(
        "unable to read block map for '{}' from '{object}' at offset {offset} size {size_bytes}, all of its blocks are \
         stored: {reason}\n\
         HINT: the prior backup may be damaged, verify tells.",
        DisplayPath(name)
    );
    reporter.message(Level::Warn, 0, &text);
}

impl Copier {
    /// Stores the blocks of an open file that changed, and its new map.
    pub(super) fn copy_blocks(
        &self,
        source: &Source,
        blocks: &Blocks,
        mut file: SourceFile,
        buffer: &mut [u8],
        out: &mut PieceWriter,
    ) -> Result<Copied> {
        let offset_bytes = out.written_bytes();
        let prior = self.prior_map(source, blocks);
        let report = self.store_blocks(source, blocks, prior, &mut file, buffer, out)?;
        if report.plain.size_bytes == 0 {
            return Ok(Copied::Emptied);
        }
        let Some(map_size_bytes) = report.map_stored_bytes else {
            if source.expected == Some(report.plain) {
                return Ok(Copied::Unchanged);
            }
            // All blocks have the short checksums that they had, and the file has another one. Without the map all of
            // them are stored.
            let anew = Source { blocks: Some(Blocks { prior: None, ..blocks.clone() }), ..source.clone() };
            return self.copy(&anew, buffer, out);
        };
        let mut stored = self.stored(offset_bytes, report.plain, report.stored);
        stored.checksum_repo = Some(report.stored.sha1);
        stored.map_size_bytes = map_size_bytes;
        self.judge_pages(&file, report.pages, &mut stored)?;
        Ok(Copied::Stored(stored))
    }

    fn store_blocks(
        &self,
        source: &Source,
        blocks: &Blocks,
        prior: Option<BlockMap>,
        file: &mut SourceFile,
        buffer: &mut [u8],
        out: &mut PieceWriter,
    ) -> Result<BlockIncrReport> {
        let spec = BlockIncrSpec {
            geometry: blocks.geometry,
            size_super_bytes: blocks.size_super_bytes,
            compress: self.compress,
            cipher: self.passphrase.clone(),
            reference: blocks.reference,
            bundle: blocks.bundle,
            offset: out.written_bytes(),
            pages: source.pages,
        };
        let failed = |error: BlockIncrError| match error {
            BlockIncrError::Filter(error) => encode_failed(&source.name, &error),
            BlockIncrError::PriorMap(error) => Error::new(ErrorKind::Assert, error.to_string()),
        };
        let mut incr = BlockIncr::new(spec, prior, &self.codecs, self.random.clone());
        let mut sink = |piece: &[u8]| out.write(piece);
        loop {
            let filled = self.fill(file, buffer)?;
            let plain = buffer.get(..filled).unwrap_or_default();
            let written = match filled == buffer.len() && self.idle.any() {
                true => incr.write_beside(plain, &mut sink),
                false => incr.write(plain, &mut sink),
            };
            written.map_err(failed)?;
            if filled < buffer.len() {
                return incr.finish(&mut sink).map_err(failed);
            }
        }
    }

    /// The prior map, unless it is damaged.
    fn prior_map(&self, source: &Source, blocks: &Blocks) -> Option<BlockMap> {
        let prior = blocks.prior.as_ref()?;
        let name = prior.place.object.as_str();
        let map = decode_block_map(name, &prior.stored, prior.facts, self.passphrase.as_ref(), &self.codecs);
        // A map that cannot be written again cannot be continued; one without blocks is of a file that was empty.
        let checked = map.and_then(|map| match map.items().is_empty() || map.write().is_ok() {
            true => Ok(map),
            false => Err(Error::new(ErrorKind::Format, "its super blocks are in an impossible order")),
        });
        match checked {
            Ok(map) => Some(map).filter(|map| !map.items().is_empty()),
            Err(error) => {
                done_without(&source.name, prior, &error.to_string(), self.reporter.as_ref());
                None
            }
        }
    }
}
