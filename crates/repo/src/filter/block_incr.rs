//! Stores the blocks of a file that changed since its prior backup, and the map of all of its blocks
//! (repository-format.md §7.2; pgBackRest `src/command/backup/blockIncr.c`).
//!
//! ```text
//! plain -> hash, page check -> cut into blocks -> changed ones -> super block -> [compress -> encrypt]  \
//!                                                                 map          -> [encrypt]             -> hash -> stored
//! ```
//!
//! Changed blocks go into the open super block as soon as they are known, so only one block is held; with a block size
//! of 88 KiB, the largest that the original chooses for young files, that and the maps are all the memory there is.

use std::fmt;
use std::mem;
use std::sync::Arc;

use super::codecs::Codecs;
use super::compress::Compression;
use super::error::FilterError;
use super::form::Form;
use super::hash::{Digest, Hasher};
use super::observer::Observer;
use super::order;
use super::page_checksum::{PageCheck, PageReport};
use super::passphrase::Passphrase;
use super::piece::PIECE_BYTES_MAX;
use super::transform::{Transforms, finish_through, write_through};
use super::{Sink, chain::sink_piece};
use crate::clock::Random;
use crate::format::block_map::{BlockGeometry, BlockMap, BlockMapItem, BlockMapWriteError};

/// How the blocks of a file are to be stored.
#[derive(Debug, Clone)]
pub struct BlockIncrSpec {
    /// How the file is cut.
    pub geometry: BlockGeometry,
    /// The plain size at which a super block is complete; rounded up to whole blocks.
    pub size_super_bytes: u64,
    /// Compression of the super blocks.
    pub compress: Compression,
    /// The passphrase of the set, where it is encrypted.
    pub cipher: Option<Passphrase>,
    /// The backup that is being made, as index in its list of references.
    pub reference: u32,
    /// The bundle the file goes to; 0 for its own `.pgbi`.
    pub bundle: u64,
    /// Where in the bundle the file begins; 0 in a `.pgbi`.
    pub offset: u64,
    /// Which page checksums to check, if any.
    pub pages: Option<PageCheck>,
}

/// What was stored of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockIncrReport {
    /// Size and checksum of the file itself.
    pub plain: Digest,
    /// Size and checksum of super blocks and map. Nothing at all when the file is the one of the prior map.
    pub stored: Digest,
    /// The stored bytes of the map, which are the last ones; none when no map was needed: the file has not changed, or
    /// is empty.
    pub map_stored_bytes: Option<u64>,
    /// What the check of the pages found, where one was asked for.
    pub pages: Option<PageReport>,
}

/// Storing a file in blocks failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BlockIncrError {
    /// The filters of a super block or of the map failed.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The prior map has an order of super blocks that cannot be written again; the file must be stored without it.
    #[error("the prior block map cannot be continued: {0}")]
    PriorMap(#[from] BlockMapWriteError),
}

/// Cuts a file into blocks and stores those that changed.
pub struct BlockIncr {
    spec: BlockIncrSpec,
    codecs: Codecs,
    random: Arc<dyn Random>,
    prior: Vec<BlockMapItem>,
    items: Vec<BlockMapItem>,
    block: Vec<u8>,
    super_block: Option<SuperBlock>,
    has_stored: bool,
    plain: Observer,
    stored: Hasher,
    ended: bool,
}

/// The super block that is being filled.
struct SuperBlock {
    transforms: Transforms,
    /// The size of what was stored before it.
    stored_before_bytes: u64,
    size_super_bytes: u64,
    /// Its blocks, as indexes of items, whose sizes are not known before its end.
    items: Vec<usize>,
}

impl BlockIncr {
    /// For one file. `prior` is its map in the prior backup, whose references must mean the same in the new one.
    /// A prior map that is cut differently does not say what changed, so it is not used.
    #[must_use]
    pub fn new(spec: BlockIncrSpec, prior: Option<BlockMap>, codecs: &Codecs, random: Arc<dyn Random>) -> Self {
        let prior = prior.filter(|map| map.geometry() == spec.geometry).map(BlockMap::into_items).unwrap_or_default();
        Self {
            codecs: codecs.clone(),
            random,
            prior,
            items: Vec::new(),
            block: Vec::new(),
            super_block: None,
            has_stored: false,
            plain: Observer::new(spec.pages),
            stored: Hasher::default(),
            spec,
            ended: false,
        }
    }

    /// Takes all of `input` and hands what is ready to `sink`.
    ///
    /// # Errors
    /// [`BlockIncrError`]; the file must be stored anew then.
    pub fn write(&mut self, input: &[u8], sink: &mut Sink<'_>) -> Result<(), BlockIncrError> {
        self.run(|incr| input.chunks(PIECE_BYTES_MAX).try_for_each(|piece| incr.write_piece(piece, sink)))
    }

    /// As [`BlockIncr::write`], with the input hashed and checked on a thread of its own meanwhile, as in
    /// [`Chain::write_beside`](super::Chain::write_beside).
    ///
    /// # Errors
    /// As [`BlockIncr::write`].
    pub fn write_beside(&mut self, input: &[u8], sink: &mut Sink<'_>) -> Result<(), BlockIncrError> {
        self.run(|incr| {
            let mut observer = mem::take(&mut incr.plain);
            let written = observer
                .observe_beside(input, || input.chunks(PIECE_BYTES_MAX).try_for_each(|piece| incr.cut(piece, sink)));
            incr.plain = observer;
            written
        })
    }

    /// There is no more input: hands on the last super block and the map, and reports.
    ///
    /// # Errors
    /// [`BlockIncrError`]; the file must be stored anew then.
    pub fn finish(&mut self, sink: &mut Sink<'_>) -> Result<BlockIncrReport, BlockIncrError> {
        let mut map_stored_bytes = None;
        self.run(|incr| {
            if !incr.block.is_empty() {
                incr.end_block(sink)?;
            }
            incr.end_super_block(sink)?;
            // Without a map the prior one would go on to describe blocks that are gone. An empty one is never written:
            // 2.60 cannot read it.
            if (incr.has_stored || incr.items.len() < incr.prior.len()) && !incr.items.is_empty() {
                map_stored_bytes = Some(incr.write_map(sink)?);
            }
            Ok(())
        })?;
        self.ended = true;
        Ok(BlockIncrReport {
            plain: self.plain.digest(),
            stored: self.stored.digest(),
            map_stored_bytes,
            pages: self.plain.finish_pages(),
        })
    }

    /// Runs a step; an error ends the filter.
    fn run(&mut self, step: impl FnOnce(&mut Self) -> Result<(), BlockIncrError>) -> Result<(), BlockIncrError> {
        if self.ended {
            return Err(FilterError::Ended.into());
        }
        step(self).inspect_err(|_| self.ended = true)
    }

    fn write_piece(&mut self, piece: &[u8], sink: &mut Sink<'_>) -> Result<(), BlockIncrError> {
        self.plain.observe(piece);
        self.cut(piece, sink)
    }

    /// Fills blocks and ends those that are complete.
    fn cut(&mut self, piece: &[u8], sink: &mut Sink<'_>) -> Result<(), BlockIncrError> {
        let block_bytes = usize::try_from(self.spec.geometry.block_size_bytes()).unwrap_or(usize::MAX);
        let mut rest = piece;
        while !rest.is_empty() {
            let missing = block_bytes.saturating_sub(self.block.len());
            let (part, behind) = rest.split_at(missing.min(rest.len()));
            self.block.extend_from_slice(part);
            rest = behind;
            if self.block.len() == block_bytes {
                self.end_block(sink)?;
            }
        }
        Ok(())
    }

    /// The block is complete: it is the prior one, or goes into the super block.
    fn end_block(&mut self, sink: &mut Sink<'_>) -> Result<(), BlockIncrError> {
        let checksum = self.spec.geometry.checksum(&self.block);
        match self.prior.get(self.items.len()) {
            Some(prior) if prior.checksum == checksum => self.items.push(*prior),
            _ => {
                let mut super_block = match self.super_block.take() {
                    Some(open) => open,
                    None => self.begin_super_block()?,
                };
                self.items.push(BlockMapItem {
                    reference: self.spec.reference,
                    bundle: self.spec.bundle,
                    offset: self.spec.offset.saturating_add(super_block.stored_before_bytes),
                    size_stored_bytes: 0,
                    size_super_bytes: 0,
                    block: super_block.items.len() as u64,
                    checksum,
                });
                super_block.items.push(self.items.len() - 1);
                super_block.size_super_bytes += self.block.len() as u64;
                for piece in self.block.chunks(PIECE_BYTES_MAX) {
                    write_through(&mut super_block.transforms, piece, &mut sink_piece(&mut self.stored, sink))?;
                }
                let is_complete = super_block.size_super_bytes >= self.spec.size_super_bytes;
                self.super_block = Some(super_block);
                if is_complete {
                    self.end_super_block(sink)?;
                }
            }
        }
        self.block.clear();
        Ok(())
    }

    fn begin_super_block(&self) -> Result<SuperBlock, FilterError> {
        let BlockIncrSpec { compress, cipher, .. } = &self.spec;
        let random = &*self.random;
        Ok(SuperBlock {
            transforms: order::store_transforms(*compress, cipher.as_ref(), Form::Raw, &self.codecs, random)?,
            stored_before_bytes: self.stored.size_bytes(),
            size_super_bytes: 0,
            items: Vec::new(),
        })
    }

    fn end_super_block(&mut self, sink: &mut Sink<'_>) -> Result<(), BlockIncrError> {
        let Some(mut super_block) = self.super_block.take() else {
            return Ok(());
        };
        finish_through(&mut super_block.transforms, &mut sink_piece(&mut self.stored, sink))?;
        let size_stored_bytes = self.stored.size_bytes().saturating_sub(super_block.stored_before_bytes);
        for index in super_block.items {
            if let Some(item) = self.items.get_mut(index) {
                item.size_stored_bytes = size_stored_bytes;
                item.size_super_bytes = super_block.size_super_bytes;
            }
        }
        self.has_stored = true;
        Ok(())
    }

    /// Writes the map, never compressed, and tells its stored size.
    fn write_map(&mut self, sink: &mut Sink<'_>) -> Result<u64, BlockIncrError> {
        let stored_before_bytes = self.stored.size_bytes();
        let map = BlockMap::new(self.spec.geometry, mem::take(&mut self.items)).write()?;
        let cipher = self.spec.cipher.as_ref();
        let mut transforms =
            order::store_transforms(Compression::NONE, cipher, Form::Raw, &self.codecs, &*self.random)?;
        let mut out = sink_piece(&mut self.stored, sink);
        map.chunks(PIECE_BYTES_MAX).try_for_each(|piece| write_through(&mut transforms, piece, &mut out))?;
        finish_through(&mut transforms, &mut out)?;
        drop(out);
        Ok(self.stored.size_bytes().saturating_sub(stored_before_bytes))
    }
}

impl fmt::Debug for BlockIncr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockIncr").field("spec", &self.spec).field("ended", &self.ended).finish_non_exhaustive()
    }
}
