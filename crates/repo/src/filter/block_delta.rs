//! Rebuilds a block incremental file from its map (repository-format.md §7.5; pgBackRest
//! `src/command/restore/blockDelta.c`).
//!
//! First the blocks of the file that is already there are hashed ([`BlockHasher`]), if there is one. [`plan_reads`]
//! compares them with the map and lists what must be read from the repository. Then each read goes through a
//! [`SuperBlockReader`], which hands out the wanted blocks with their place in the file.
//!
//! What is handed out is checked against the map when a block is complete; the caller compares size and SHA-1 of the
//! finished file with the manifest, as for every other file.

use std::iter::Peekable;

use xxhash_rust::xxh3::Xxh3;

use super::codecs::Codecs;
use super::error::{FilterError, SinkClosed};
use super::form::Form;
use super::order::{self, LoadSpec};
use super::passphrase::Passphrase;
use super::transform::{Transforms, finish_through, write_through};
use crate::format::block_map::{BlockChecksum, BlockGeometry, BlockMap, BlockMapItem};
use crate::format::compress_type::CompressType;

/// Hashes the blocks of a file while it is read.
#[derive(Clone)]
pub struct BlockHasher {
    geometry: BlockGeometry,
    block: RunningChecksum,
    checksums: Vec<BlockChecksum>,
}

impl BlockHasher {
    /// For a file that is cut like this.
    #[must_use]
    pub fn new(geometry: BlockGeometry) -> Self {
        Self { geometry, block: RunningChecksum::default(), checksums: Vec::new() }
    }

    /// Takes the next bytes into account.
    pub fn observe(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let missing = self.geometry.block_size_bytes().saturating_sub(self.block.size_bytes);
            let (part, behind) = split_at_most(rest, missing);
            self.block.observe(part);
            rest = behind;
            if self.block.size_bytes == self.geometry.block_size_bytes() {
                self.checksums.push(self.block.take(self.geometry));
            }
        }
    }

    /// The checksums of all blocks, the short one at the end included.
    #[must_use]
    pub fn finish(mut self) -> Vec<BlockChecksum> {
        if self.block.size_bytes > 0 {
            self.checksums.push(self.block.take(self.geometry));
        }
        self.checksums
    }
}

/// The checksum of a block that is not complete yet.
#[derive(Clone, Default)]
struct RunningChecksum {
    hash: Xxh3,
    size_bytes: u64,
}

impl RunningChecksum {
    fn observe(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size_bytes = self.size_bytes.saturating_add(bytes.len() as u64);
    }

    fn take(&mut self, geometry: BlockGeometry) -> BlockChecksum {
        let checksum = geometry.truncate(self.hash.digest128().to_be_bytes());
        self.hash.reset();
        self.size_bytes = 0;
        checksum
    }
}

/// One run of bytes to read: super blocks that lie next to each other in a bundle or `.pgbi` of one backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaRead {
    /// The backup, as index in the manifest's list of references.
    pub reference: u32,
    /// The bundle; 0 is the file's own `.pgbi`.
    pub bundle: u64,
    /// Where the bytes begin in it.
    pub offset: u64,
    /// How many bytes. A map can name more than the object has: the read fails then.
    pub size_bytes: u64,
    geometry: BlockGeometry,
    super_blocks: Vec<SuperBlock>,
}

impl DeltaRead {
    /// How many bytes of the file come out.
    #[must_use]
    pub fn wanted_bytes(&self) -> u64 {
        self.super_blocks
            .iter()
            .flat_map(|super_block| {
                super_block
                    .wanted
                    .iter()
                    .map(|block| self.geometry.block_bytes(block.block, super_block.size_super_bytes))
            })
            .fold(0, u64::saturating_add)
    }
}

/// A super block with at least one wanted block.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SuperBlock {
    size_stored_bytes: u64,
    size_super_bytes: u64,
    wanted: Vec<WantedBlock>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WantedBlock {
    /// Index in the super block.
    block: u64,
    /// Where it belongs in the file.
    file_offset: u64,
    checksum: BlockChecksum,
}

/// Lists what must be read so that a file becomes what `map` describes. `existing` are the checksums of the blocks of
/// the file that is there, none for a new file; blocks behind them, and blocks that differ, are read.
///
/// Reads come newest reference first, each in the order of the stored bytes.
#[must_use]
pub fn plan_reads(map: &BlockMap, existing: &[BlockChecksum]) -> Vec<DeltaRead> {
    plan_reads_of(map, |index, item| existing.get(index) != Some(&item.checksum))
}

/// As [`plan_reads`], for the blocks that `is_wanted` takes by their index in the file.
#[must_use]
pub fn plan_reads_of(map: &BlockMap, is_wanted: impl Fn(usize, &BlockMapItem) -> bool) -> Vec<DeltaRead> {
    let geometry = map.geometry();
    let mut wanted: Vec<(usize, &BlockMapItem)> =
        map.items().iter().enumerate().filter(|(index, item)| is_wanted(*index, item)).collect();
    // Stable, so that the blocks of a super block stay in the order of the file, which is their order inside of it.
    wanted.sort_by_key(|(_, item)| (std::cmp::Reverse(item.reference), item.bundle, item.offset));
    let mut reads: Vec<DeltaRead> = Vec::new();
    for super_block in wanted.chunk_by(|(_, one), (_, other)| is_same_super_block(one, other)) {
        let Some((_, first)) = super_block.first() else {
            continue;
        };
        let stored = SuperBlock {
            size_stored_bytes: first.size_stored_bytes,
            size_super_bytes: first.size_super_bytes,
            wanted: super_block.iter().map(|(index, item)| wanted_block(geometry, *index, item)).collect(),
        };
        match reads.last_mut() {
            Some(read) if read.is_followed_by(first) => {
                read.size_bytes = read.size_bytes.saturating_add(first.size_stored_bytes);
                read.super_blocks.push(stored);
            }
            _ => reads.push(DeltaRead {
                reference: first.reference,
                bundle: first.bundle,
                offset: first.offset,
                size_bytes: first.size_stored_bytes,
                geometry,
                super_blocks: vec![stored],
            }),
        }
    }
    reads
}

fn is_same_super_block(one: &BlockMapItem, other: &BlockMapItem) -> bool {
    (one.reference, one.bundle, one.offset, one.size_stored_bytes, one.size_super_bytes)
        == (other.reference, other.bundle, other.offset, other.size_stored_bytes, other.size_super_bytes)
}

fn wanted_block(geometry: BlockGeometry, index: usize, item: &BlockMapItem) -> WantedBlock {
    let file_offset = (index as u64).saturating_mul(geometry.block_size_bytes());
    WantedBlock { block: item.block, file_offset, checksum: item.checksum }
}

impl DeltaRead {
    fn is_followed_by(&self, item: &BlockMapItem) -> bool {
        self.reference == item.reference
            && self.bundle == item.bundle
            && self.offset.checked_add(self.size_bytes) == Some(item.offset)
    }
}

/// Rebuilding failed; the file is not what the map says.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeltaError {
    /// The bytes of a super block do not decode.
    #[error("super block at offset {offset}: {source}")]
    Filter {
        /// Where the super block begins in the bundle or `.pgbi`.
        offset: u64,
        /// What the filters say.
        source: FilterError,
    },
    /// A super block decodes to another size than the map has.
    #[error("super block at offset {offset} has {size_bytes} bytes, the block map says {expected_bytes}")]
    SuperBlockSize {
        /// Where the super block begins in the bundle or `.pgbi`.
        offset: u64,
        /// What came out.
        size_bytes: u64,
        /// What should have.
        expected_bytes: u64,
    },
    /// A block is not the one that the map means.
    #[error("wrong checksum of the block for file offset {file_offset}, in the super block at offset {offset}")]
    BlockChecksum {
        /// Where the super block begins in the bundle or `.pgbi`.
        offset: u64,
        /// Where the block belongs in the file.
        file_offset: u64,
    },
    /// The bytes that were read are fewer or more than the read has.
    #[error("{size_bytes} bytes read for super blocks of {expected_bytes}")]
    ReadSize {
        /// What was fed.
        size_bytes: u64,
        /// What the read has.
        expected_bytes: u64,
    },
    /// The consumer of the blocks does not want more.
    #[error(transparent)]
    SinkClosed(#[from] SinkClosed),
}

/// Takes plain bytes of the file and where they belong. Pieces come in ascending order inside a block, have no fixed
/// size and are never larger than [`PIECE_BYTES_MAX`](super::PIECE_BYTES_MAX).
pub type BlockSink<'a> = dyn FnMut(u64, &[u8]) -> Result<(), SinkClosed> + 'a;

/// How super blocks are stored: as their backup says, always in the raw form.
#[derive(Debug, Clone)]
pub struct SuperBlockSpec {
    /// The compression of the set.
    pub compress: CompressType,
    /// The passphrase of the set, where it is encrypted.
    pub cipher: Option<Passphrase>,
}

/// Decodes the bytes of one [`DeltaRead`] and hands out the wanted blocks. Holds no super block and no block, only the
/// buffers of the filters.
pub struct SuperBlockReader {
    spec: SuperBlockSpec,
    codecs: Codecs,
    geometry: BlockGeometry,
    offset: u64,
    size_bytes: u64,
    consumed_bytes: u64,
    /// Those that have not begun.
    super_blocks: std::vec::IntoIter<SuperBlock>,
    current: Option<Current>,
}

/// The super block that is being decoded.
struct Current {
    transforms: Transforms,
    missing_bytes: u64,
    placer: Placer,
}

/// Knows where in the super block the decoded bytes are.
struct Placer {
    geometry: BlockGeometry,
    /// Where the super block begins in the bundle or `.pgbi`, for errors.
    offset: u64,
    size_super_bytes: u64,
    position: u64,
    wanted: Peekable<std::vec::IntoIter<WantedBlock>>,
    block: RunningChecksum,
}

impl SuperBlockReader {
    /// For the bytes of `read`.
    #[must_use]
    pub fn new(read: DeltaRead, spec: SuperBlockSpec, codecs: &Codecs) -> Self {
        Self {
            spec,
            codecs: codecs.clone(),
            geometry: read.geometry,
            offset: read.offset,
            size_bytes: read.size_bytes,
            consumed_bytes: 0,
            super_blocks: read.super_blocks.into_iter(),
            current: None,
        }
    }

    /// Takes the next stored bytes, in pieces of any size.
    ///
    /// # Errors
    /// [`DeltaError`]; nothing of the read can be trusted then.
    pub fn write(&mut self, input: &[u8], sink: &mut BlockSink<'_>) -> Result<(), DeltaError> {
        let mut rest = input;
        while !rest.is_empty() {
            if self.current.is_none() {
                self.current = self.begin()?;
            }
            let Some(current) = &mut self.current else {
                let size_bytes = self.consumed_bytes.saturating_add(rest.len() as u64);
                return Err(DeltaError::ReadSize { size_bytes, expected_bytes: self.size_bytes });
            };
            let (part, behind) = split_at_most(rest, current.missing_bytes);
            current.write(part, sink)?;
            rest = behind;
            self.consumed_bytes = self.consumed_bytes.saturating_add(part.len() as u64);
            if current.missing_bytes == 0 {
                current.finish(sink)?;
                self.current = None;
            }
        }
        Ok(())
    }

    /// There are no more bytes.
    ///
    /// # Errors
    /// [`DeltaError::ReadSize`] when super blocks are missing.
    pub fn finish(self) -> Result<(), DeltaError> {
        if self.current.is_none() && self.super_blocks.as_slice().is_empty() {
            return Ok(());
        }
        Err(DeltaError::ReadSize { size_bytes: self.consumed_bytes, expected_bytes: self.size_bytes })
    }

    fn begin(&mut self) -> Result<Option<Current>, DeltaError> {
        let Some(super_block) = self.super_blocks.next() else {
            return Ok(None);
        };
        let offset = self.offset.saturating_add(self.consumed_bytes);
        let spec = LoadSpec {
            compress: self.spec.compress,
            cipher: self.spec.cipher.as_ref(),
            form: Form::Raw,
            plain_size_max_bytes: None,
        };
        let transforms =
            order::load_transforms(&spec, &self.codecs).map_err(|source| DeltaError::Filter { offset, source })?;
        let placer = Placer {
            geometry: self.geometry,
            offset,
            size_super_bytes: super_block.size_super_bytes,
            position: 0,
            wanted: super_block.wanted.into_iter().peekable(),
            block: RunningChecksum::default(),
        };
        Ok(Some(Current { transforms, missing_bytes: super_block.size_stored_bytes, placer }))
    }
}

impl Current {
    fn write(&mut self, part: &[u8], sink: &mut BlockSink<'_>) -> Result<(), DeltaError> {
        self.missing_bytes = self.missing_bytes.saturating_sub(part.len() as u64);
        let Self { transforms, placer, .. } = self;
        let mut fault = None;
        // Without transforms the part goes straight to the placer, so it is cut here as a transform would.
        let result = part
            .chunks(super::PIECE_BYTES_MAX)
            .try_for_each(|piece| write_through(transforms, piece, &mut |plain| placer.place(plain, sink, &mut fault)));
        placer.outcome(result, fault)
    }

    fn finish(&mut self, sink: &mut BlockSink<'_>) -> Result<(), DeltaError> {
        let Self { transforms, placer, .. } = self;
        let mut fault = None;
        let result = finish_through(transforms, &mut |plain| placer.place(plain, sink, &mut fault));
        placer.outcome(result, fault)?;
        // All blocks that are wanted have come when all bytes have: their indexes ascend and lie inside.
        if placer.position != placer.size_super_bytes || placer.wanted.peek().is_some() {
            return Err(placer.size_fault());
        }
        Ok(())
    }
}

impl Placer {
    /// Hands out what is wanted of the next plain bytes. What is wrong goes to `fault`, since the filters between have
    /// errors of their own.
    fn place(
        &mut self,
        plain: &[u8],
        sink: &mut BlockSink<'_>,
        fault: &mut Option<DeltaError>,
    ) -> Result<(), FilterError> {
        self.place_checked(plain, sink).map_err(|error| {
            *fault = Some(error);
            FilterError::SinkClosed(SinkClosed)
        })
    }

    fn place_checked(&mut self, plain: &[u8], sink: &mut BlockSink<'_>) -> Result<(), DeltaError> {
        let end = self.position.saturating_add(plain.len() as u64);
        if end > self.size_super_bytes {
            self.position = end;
            return Err(self.size_fault());
        }
        let block_size_bytes = self.geometry.block_size_bytes();
        let mut rest = plain;
        while !rest.is_empty() {
            let index = self.position / block_size_bytes;
            let inside = self.position % block_size_bytes;
            let block_bytes = self.geometry.block_bytes(index, self.size_super_bytes);
            let (part, behind) = split_at_most(rest, block_bytes.saturating_sub(inside));
            rest = behind;
            self.position = self.position.saturating_add(part.len() as u64);
            let Some(&wanted) = self.wanted.peek().filter(|wanted| wanted.block == index) else {
                continue;
            };
            sink(wanted.file_offset.saturating_add(inside), part)?;
            self.block.observe(part);
            if self.block.size_bytes == block_bytes {
                self.wanted.next();
                if self.block.take(self.geometry) != wanted.checksum {
                    return Err(DeltaError::BlockChecksum { offset: self.offset, file_offset: wanted.file_offset });
                }
            }
        }
        Ok(())
    }

    fn outcome(&self, result: Result<(), FilterError>, fault: Option<DeltaError>) -> Result<(), DeltaError> {
        match (fault, result) {
            (Some(fault), _) => Err(fault),
            (None, result) => result.map_err(|source| DeltaError::Filter { offset: self.offset, source }),
        }
    }

    fn size_fault(&self) -> DeltaError {
        DeltaError::SuperBlockSize {
            offset: self.offset,
            size_bytes: self.position,
            expected_bytes: self.size_super_bytes,
        }
    }
}

/// Splits behind at most `count` bytes.
fn split_at_most(bytes: &[u8], count: u64) -> (&[u8], &[u8]) {
    bytes.split_at(usize::try_from(count).unwrap_or(usize::MAX).min(bytes.len()))
}

#[cfg(test)]
mod tests;
