//! Writing a map: the same bytes as the original writes for the same items.

use std::collections::HashMap;

use super::super::varint;
use super::{BlockGeometry, BlockMap, BlockMapItem};

/// Items that are no map: a mistake of the caller, or a prior map that only looked valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockMapWriteError {
    /// An empty map cannot be read by 2.60 (pgbackrest#2829), so it is never written.
    #[error("a block map without blocks is not written")]
    Empty,
    /// The items of a reference go back to an earlier super block, change its bundle or repeat it with other sizes.
    #[error("block {index} of the map does not follow the ones before it of the same reference")]
    Order {
        /// The item, which is the block of the file.
        index: usize,
    },
}

/// What is remembered of a reference: its last super block.
#[derive(Debug, Clone, Copy)]
struct Known {
    bundle: u64,
    offset: u64,
    size_stored_bytes: u64,
    size_super_bytes: u64,
    block: u64,
}

impl BlockMap {
    /// Makes a map of one item for each block of a file, in order.
    #[must_use]
    pub fn new(geometry: BlockGeometry, items: Vec<BlockMapItem>) -> Self {
        Self { geometry, items }
    }

    /// The plain bytes of the map.
    ///
    /// # Errors
    /// [`BlockMapWriteError`]
    pub fn write(&self) -> Result<Vec<u8>, BlockMapWriteError> {
        if self.items.is_empty() {
            return Err(BlockMapWriteError::Empty);
        }
        let mut writer = Writer {
            geometry: self.geometry,
            output: Vec::with_capacity(self.items.len() * (self.geometry.checksum_bytes() + 1) + 16),
            last_size: 0,
            references: HashMap::new(),
            index: 0,
        };
        // The version.
        varint::write(0, &mut writer.output);
        let mut runs = self.items.chunk_by(|one, other| one.reference == other.reference).peekable();
        while let Some(run) = runs.next() {
            writer.run(run, runs.peek().is_none())?;
        }
        Ok(writer.output)
    }
}

struct Writer {
    geometry: BlockGeometry,
    output: Vec<u8>,
    last_size: u64,
    references: HashMap<u32, Known>,
    /// The item that comes next.
    index: usize,
}

impl Writer {
    fn run(&mut self, run: &[BlockMapItem], is_last: bool) -> Result<(), BlockMapWriteError> {
        let Some(first) = run.first() else {
            return Ok(());
        };
        let mut super_blocks = run.chunk_by(|one, other| one.offset == other.offset).peekable();
        let reference = u64::from(first.reference) << 3 | u64::from(is_last);
        let mut known = match self.references.get(&first.reference).copied() {
            None => self.begin_new(reference, first),
            Some(known) if known.offset == first.offset => {
                let continued = super_blocks.next().unwrap_or_default();
                self.check(&known, first)?;
                let is_last = super_blocks.peek().is_none();
                varint::write(reference | 2 | if is_last { 4 } else { 0 }, &mut self.output);
                let mut known = known;
                self.last_size = known.size_stored_bytes;
                self.blocks(continued, &mut known, true)?;
                known
            }
            Some(known) => self.begin_again(reference, &known, first)?,
        };
        while let Some(super_block) = super_blocks.next() {
            self.super_block(super_block, &mut known, super_blocks.peek().is_none())?;
        }
        self.references.insert(first.reference, known);
        Ok(())
    }

    /// A reference that is seen for the first time.
    fn begin_new(&mut self, reference: u64, first: &BlockMapItem) -> Known {
        let flags = if first.bundle > 0 { 2 } else { 0 } | if first.offset > 0 { 4 } else { 0 };
        varint::write(reference | flags, &mut self.output);
        if first.bundle > 0 {
            varint::write(first.bundle, &mut self.output);
        }
        if first.offset > 0 {
            varint::write(first.offset, &mut self.output);
        }
        Known {
            bundle: first.bundle,
            offset: first.offset,
            size_stored_bytes: 0,
            size_super_bytes: self.geometry.block_size_bytes(),
            block: 0,
        }
    }

    /// A known reference with a later super block.
    fn begin_again(
        &mut self,
        reference: u64,
        known: &Known,
        first: &BlockMapItem,
    ) -> Result<Known, BlockMapWriteError> {
        let gap = known
            .offset
            .checked_add(known.size_stored_bytes)
            .and_then(|end| first.offset.checked_sub(end))
            .filter(|_| first.bundle == known.bundle)
            .ok_or(BlockMapWriteError::Order { index: self.index })?;
        varint::write(reference | if gap > 0 { 4 } else { 0 }, &mut self.output);
        if gap > 0 {
            varint::write(gap, &mut self.output);
        }
        Ok(Known { offset: first.offset, size_stored_bytes: 0, ..*known })
    }

    fn super_block(
        &mut self,
        items: &[BlockMapItem],
        known: &mut Known,
        is_last: bool,
    ) -> Result<(), BlockMapWriteError> {
        let Some(first) = items.first() else {
            return Ok(());
        };
        // Inside a run super blocks follow each other without a gap; the format cannot say anything else.
        let expected_offset = known.offset.checked_add(known.size_stored_bytes);
        if expected_offset != Some(first.offset) || first.bundle != known.bundle {
            return Err(BlockMapWriteError::Order { index: self.index });
        }
        let is_whole = first.block == 0 && items.len() as u64 == self.geometry.block_count(first.size_super_bytes);
        let is_resized = first.size_super_bytes != known.size_super_bytes;
        let size = match self.last_size {
            0 => first.size_stored_bytes,
            last => varint::zigzag(first.size_stored_bytes.wrapping_sub(last).cast_signed()),
        };
        let flags = u64::from(is_last) | if is_resized { 2 } else { 0 } | if is_whole { 0 } else { 4 };
        varint::write(size << 3 | flags, &mut self.output);
        if is_resized {
            self.super_size(first.size_super_bytes);
        }
        known.offset = first.offset;
        known.size_stored_bytes = first.size_stored_bytes;
        known.size_super_bytes = first.size_super_bytes;
        known.block = 0;
        self.last_size = first.size_stored_bytes;
        self.blocks(items, known, !is_whole)
    }

    fn super_size(&mut self, size_super_bytes: u64) {
        let block_size_bytes = self.geometry.block_size_bytes();
        let remainder = size_super_bytes % block_size_bytes;
        varint::write((size_super_bytes / block_size_bytes) << 1 | u64::from(remainder > 0), &mut self.output);
        if remainder > 0 {
            varint::write(remainder, &mut self.output);
        }
    }

    fn blocks(
        &mut self,
        items: &[BlockMapItem],
        known: &mut Known,
        is_count_given: bool,
    ) -> Result<(), BlockMapWriteError> {
        let Some(first) = items.first() else {
            return Ok(());
        };
        let skipped = first.block.checked_sub(known.block).ok_or(BlockMapWriteError::Order { index: self.index })?;
        if is_count_given {
            varint::write((items.len() as u64 - 1) << 1 | u64::from(skipped > 0), &mut self.output);
            if skipped > 0 {
                varint::write(skipped, &mut self.output);
            }
        }
        known.block = first.block;
        for item in items {
            self.check(known, item)?;
            if item.block != known.block {
                return Err(BlockMapWriteError::Order { index: self.index });
            }
            let checksum = item.checksum.0;
            self.output.extend(checksum.iter().take(self.geometry.checksum_bytes()));
            known.block = known.block.saturating_add(1);
            self.index += 1;
        }
        Ok(())
    }

    /// Items of one super block agree about it.
    fn check(&self, known: &Known, item: &BlockMapItem) -> Result<(), BlockMapWriteError> {
        let is_same = item.bundle == known.bundle
            && item.offset == known.offset
            && item.size_stored_bytes == known.size_stored_bytes
            && item.size_super_bytes == known.size_super_bytes;
        if is_same { Ok(()) } else { Err(BlockMapWriteError::Order { index: self.index }) }
    }
}
