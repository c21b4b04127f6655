//! Reading a map, with nothing taken on trust.

use std::collections::HashMap;

use super::super::varint;
use super::{
    BlockChecksum, BlockGeometry, BlockMap, BlockMapError, BlockMapFacts, BlockMapFault, BlockMapItem,
    CHECKSUM_BYTES_MAX, SUPER_SIZE_BYTES_MAX,
};

/// Only this bit of the flags is looked at; set, it means another version.
const VERSION_BIT: u64 = 1;

const LAST: u64 = 1;
const BUNDLE_FOLLOWS: u64 = 2;
const CONTINUES: u64 = 2;
const OFFSET_FOLLOWS: u64 = 4;
const CONTINUED_IS_LAST: u64 = 4;
const SUPER_SIZE_FOLLOWS: u64 = 2;
const BLOCK_COUNT_FOLLOWS: u64 = 4;
const FLAG_BITS: u32 = 3;

impl BlockMap {
    /// Reads the plain bytes of a map, all of them.
    ///
    /// # Errors
    /// [`BlockMapError`] for anything that the original would not have written for this file.
    pub fn read(bytes: &[u8], facts: BlockMapFacts) -> Result<Self, BlockMapError> {
        let mut reader =
            Reader { bytes, offset: 0, facts, last_size: 0, references: HashMap::new(), items: Vec::new() };
        match reader.map() {
            Ok(()) => Ok(Self { geometry: facts.geometry, items: reader.items }),
            Err(fault) => Err(BlockMapError { offset: reader.offset, fault }),
        }
    }
}

/// What is remembered of a reference: its last super block.
#[derive(Debug, Clone, Copy)]
struct Known {
    bundle: u64,
    offset: u64,
    size_stored_bytes: u64,
    size_super_bytes: u64,
    /// The block that comes next in the super block.
    block: u64,
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
    facts: BlockMapFacts,
    /// Stored size of the super block before, of whatever reference; sizes are written as differences from it.
    last_size: u64,
    references: HashMap<u32, Known>,
    items: Vec<BlockMapItem>,
}

impl Reader<'_> {
    fn map(&mut self) -> Result<(), BlockMapFault> {
        let flags = self.number()?;
        if flags & VERSION_BIT != 0 {
            return Err(BlockMapFault::Version(flags));
        }
        let expected = self.facts.geometry.block_count(self.facts.file_size_bytes);
        // 2.60 writes the flags and nothing else for a file that was truncated to zero during the copy.
        if expected == 0 && self.offset == self.bytes.len() {
            return Ok(());
        }
        // Each block has its checksum in the map, which bounds what can be there before memory is taken.
        let possible = (self.bytes.len() / self.facts.geometry.checksum_bytes()) as u64;
        if expected > possible {
            return Err(self.block_count(possible));
        }
        self.items.reserve_exact(usize::try_from(expected).unwrap_or_default());
        while !self.run()? {}
        if self.items.len() as u64 != expected {
            return Err(self.block_count(self.items.len() as u64));
        }
        match self.bytes.len().saturating_sub(self.offset) {
            0 => Ok(()),
            trailing => Err(BlockMapFault::TrailingBytes(trailing)),
        }
    }

    /// Reads one run; tells whether it was the last one.
    fn run(&mut self) -> Result<bool, BlockMapFault> {
        let encoded = self.number()?;
        let reference = self.reference(encoded >> FLAG_BITS)?;
        let is_continued = self.references.contains_key(&reference) && encoded & CONTINUES != 0;
        let mut known = match self.references.get(&reference) {
            None => self.first_seen(encoded)?,
            Some(known) if is_continued => *known,
            Some(known) => {
                let known = *known;
                let gap = if encoded & OFFSET_FOLLOWS != 0 { self.number()? } else { 0 };
                Known { offset: offset_after(&known)?.checked_add(gap).ok_or(OFFSET_RANGE)?, ..known }
            }
        };
        let mut is_last = false;
        if is_continued {
            self.last_size = known.size_stored_bytes;
            self.blocks(reference, &mut known, true)?;
            is_last = encoded & CONTINUED_IS_LAST != 0;
            if !is_last {
                known.offset = offset_after(&known)?;
            }
        }
        while !is_last {
            let encoded = self.super_block(&mut known)?;
            self.blocks(reference, &mut known, encoded & BLOCK_COUNT_FOLLOWS != 0)?;
            is_last = encoded & LAST != 0;
            if !is_last {
                known.offset = offset_after(&known)?;
            }
        }
        self.references.insert(reference, known);
        Ok(encoded & LAST != 0)
    }

    fn reference(&self, reference: u64) -> Result<u32, BlockMapFault> {
        let count = self.facts.reference_count;
        match u32::try_from(reference) {
            Ok(index) if usize::try_from(index).is_ok_and(|index| index < count) => Ok(index),
            _ => Err(BlockMapFault::Reference { reference, count }),
        }
    }

    fn first_seen(&mut self, encoded: u64) -> Result<Known, BlockMapFault> {
        let bundle = if encoded & BUNDLE_FOLLOWS != 0 { self.number()? } else { 0 };
        let offset = if encoded & OFFSET_FOLLOWS != 0 { self.number()? } else { 0 };
        let size_super_bytes = self.facts.geometry.block_size_bytes();
        Ok(Known { bundle, offset, size_stored_bytes: 0, size_super_bytes, block: 0 })
    }

    /// Reads the sizes of a new super block, which begins at `known.offset`; returns its flags.
    fn super_block(&mut self, known: &mut Known) -> Result<u64, BlockMapFault> {
        let encoded = self.number()?;
        let size = encoded >> FLAG_BITS;
        known.size_stored_bytes = match self.last_size {
            0 => size,
            last => last.checked_add_signed(varint::unzigzag(size)).ok_or(SIZE_RANGE)?,
        };
        if known.size_stored_bytes == 0 {
            return Err(BlockMapFault::SuperSize(0));
        }
        // Proves that the end of the super block is a number too.
        offset_after(known)?;
        if encoded & SUPER_SIZE_FOLLOWS != 0 {
            known.size_super_bytes = self.super_size()?;
        }
        known.block = 0;
        self.last_size = known.size_stored_bytes;
        Ok(encoded)
    }

    fn super_size(&mut self) -> Result<u64, BlockMapFault> {
        let encoded = self.number()?;
        let whole = (encoded >> 1).checked_mul(self.facts.geometry.block_size_bytes());
        let remainder = if encoded & 1 != 0 { self.number()? } else { 0 };
        let size = whole.and_then(|whole| whole.checked_add(remainder)).unwrap_or(u64::MAX);
        if size == 0 || size > SUPER_SIZE_BYTES_MAX { Err(BlockMapFault::SuperSize(size)) } else { Ok(size) }
    }

    /// Reads the blocks of the file that are in the super block.
    fn blocks(&mut self, reference: u32, known: &mut Known, is_count_given: bool) -> Result<(), BlockMapFault> {
        let geometry = self.facts.geometry;
        let mut count = geometry.block_count(known.size_super_bytes);
        if is_count_given {
            let encoded = self.number()?;
            count = (encoded >> 1) + 1;
            if encoded & 1 != 0 {
                known.block = known.block.checked_add(self.number()?).ok_or(BlockMapFault::OutOfRange("block"))?;
            }
        }
        for _ in 0..count {
            self.block(reference, known, geometry)?;
        }
        Ok(())
    }

    fn block(&mut self, reference: u32, known: &mut Known, geometry: BlockGeometry) -> Result<(), BlockMapFault> {
        let index = self.items.len() as u64;
        let bytes_in_file = geometry.block_bytes(index, self.facts.file_size_bytes);
        if bytes_in_file == 0 {
            return Err(self.block_count(index + 1));
        }
        if geometry.block_bytes(known.block, known.size_super_bytes) != bytes_in_file {
            let Known { block, size_super_bytes, .. } = *known;
            return Err(BlockMapFault::Block { block, size_super_bytes, index });
        }
        let checksum = self.checksum()?;
        self.items.push(BlockMapItem {
            reference,
            bundle: known.bundle,
            offset: known.offset,
            size_stored_bytes: known.size_stored_bytes,
            size_super_bytes: known.size_super_bytes,
            block: known.block,
            checksum,
        });
        // Smaller than the block count of a super block, as just checked.
        known.block += 1;
        Ok(())
    }

    fn checksum(&mut self) -> Result<BlockChecksum, BlockMapFault> {
        let end = self.offset.saturating_add(self.facts.geometry.checksum_bytes());
        let stored = self.bytes.get(self.offset..end).ok_or(BlockMapFault::Truncated)?;
        let mut bytes = [0; CHECKSUM_BYTES_MAX];
        for (byte, stored) in bytes.iter_mut().zip(stored) {
            *byte = *stored;
        }
        self.offset = end;
        Ok(BlockChecksum(bytes))
    }

    fn number(&mut self) -> Result<u64, BlockMapFault> {
        let (value, size) = varint::read(self.bytes.get(self.offset..).unwrap_or_default())?;
        self.offset += size;
        Ok(value)
    }

    fn block_count(&self, found: u64) -> BlockMapFault {
        let BlockMapFacts { geometry, file_size_bytes, .. } = self.facts;
        BlockMapFault::BlockCount { found, expected: geometry.block_count(file_size_bytes), file_size_bytes }
    }
}

const OFFSET_RANGE: BlockMapFault = BlockMapFault::OutOfRange("offset of a super block");
const SIZE_RANGE: BlockMapFault = BlockMapFault::OutOfRange("size of a super block");

fn offset_after(known: &Known) -> Result<u64, BlockMapFault> {
    known.offset.checked_add(known.size_stored_bytes).ok_or(OFFSET_RANGE)
}
