//! Block maps: where each block of a block incremental file is stored (repository-format.md §7.3, §7.4; pgBackRest
//! `src/command/backup/blockMap.c`).
//!
//! A map lists the blocks of a file in order. Blocks are stored packed into super blocks; a super block is one
//! compressed and encrypted run of bytes in a bundle, or in the file's own `.pgbi`, of the backup that first had the
//! blocks. That backup is named by its index in the manifest's list of references.
//!
//! ```text
//! 00                                    version
//! run*                                  items in a row with the same reference
//!   ref<<3 | flags                      1: last run
//!     reference is new:                 2: bundle id follows   4: offset follows
//!     reference is known:               2: its last super block goes on, 4: and is the last of this run
//!                                       else 4: gap to the end of its last super block follows
//!   super block*
//!     size<<3 | flags                   1: last of the run  2: plain size follows  4: block count follows
//!       the first size of the map as it is, then the zigzag difference from the super block before
//!     plain size: blocks<<1 | 1 when a remainder in bytes follows
//!     block count: (count-1)<<1 | 1 when a number of skipped blocks follows
//!     checksum of each block
//! ```
//!
//! All numbers are [varints](super::varint). Nothing in a map can be trusted (faults.md HI09): the manifest's size of
//! the file says how many items there must be and how long each is, offsets are added with care, and a reference must
//! be in the manifest's list.

mod read;
mod write;

use std::fmt;

use super::varint::VarintError;
pub use write::BlockMapWriteError;

/// Block sizes are multiples of this; manifests give them in this unit.
pub const BLOCK_SIZE_UNIT_BYTES: u64 = 8 * 1024;

/// No option makes blocks as large: files have at most 1 GiB, as PostgreSQL's segments, with few exceptions.
const BLOCK_SIZE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// The option for the size of a super block ends at 16 MiB, rounded up to whole blocks. The ceiling leaves room for
/// other versions and for the largest block; nothing of that size is ever held in memory.
const SUPER_SIZE_BYTES_MAX: u64 = BLOCK_SIZE_BYTES_MAX;

/// Size of the whole checksum, of which a map keeps the first bytes.
pub const CHECKSUM_BYTES_MAX: usize = 16;

/// The smallest checksum in a map.
const CHECKSUM_BYTES_MIN: usize = 6;

/// How a file is cut into blocks: what its manifest line says besides the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockGeometry {
    block_size_bytes: u64,
    checksum_bytes: usize,
}

/// Values of a manifest line that no writer makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockGeometryError {
    /// Zero, too large or no multiple of 8 KiB.
    #[error("block size {0} is not a multiple of 8192 bytes up to 1 GiB")]
    BlockSize(u64),
    /// Not 6 to 16.
    #[error("block checksum size {0} is not 6 to 16 bytes")]
    ChecksumSize(u64),
}

impl BlockGeometry {
    /// From the block size in bytes and the bytes of each checksum.
    ///
    /// # Errors
    /// [`BlockGeometryError`]
    pub fn new(block_size_bytes: u64, checksum_bytes: u64) -> Result<Self, BlockGeometryError> {
        let is_size = (1..=BLOCK_SIZE_BYTES_MAX).contains(&block_size_bytes);
        if !is_size || !block_size_bytes.is_multiple_of(BLOCK_SIZE_UNIT_BYTES) {
            return Err(BlockGeometryError::BlockSize(block_size_bytes));
        }
        match usize::try_from(checksum_bytes) {
            Ok(bytes @ CHECKSUM_BYTES_MIN..=CHECKSUM_BYTES_MAX) => Ok(Self { block_size_bytes, checksum_bytes: bytes }),
            _ => Err(BlockGeometryError::ChecksumSize(checksum_bytes)),
        }
    }

    /// The size of each block but the last.
    #[must_use]
    pub fn block_size_bytes(self) -> u64 {
        self.block_size_bytes
    }

    /// The bytes of each checksum.
    #[must_use]
    pub fn checksum_bytes(self) -> usize {
        self.checksum_bytes
    }

    /// How many blocks `size_bytes` have, the last one may be short.
    #[must_use]
    pub fn block_count(self, size_bytes: u64) -> u64 {
        size_bytes.div_ceil(self.block_size_bytes)
    }

    /// The size of block `index` of something with `size_bytes`; zero beyond its end.
    #[must_use]
    pub fn block_bytes(self, index: u64, size_bytes: u64) -> u64 {
        let before = index.saturating_mul(self.block_size_bytes);
        size_bytes.saturating_sub(before).min(self.block_size_bytes)
    }

    /// The checksum of a block: the first bytes of XXH3-128 in canonical order.
    #[must_use]
    pub fn checksum(self, block: &[u8]) -> BlockChecksum {
        self.truncate(xxhash_rust::xxh3::xxh3_128(block).to_be_bytes())
    }

    /// The first bytes of a whole XXH3-128 checksum in canonical order, as the map has them.
    #[must_use]
    pub fn truncate(self, whole: [u8; CHECKSUM_BYTES_MAX]) -> BlockChecksum {
        let mut bytes = [0; CHECKSUM_BYTES_MAX];
        for (kept, byte) in bytes.iter_mut().zip(whole).take(self.checksum_bytes) {
            *kept = byte;
        }
        BlockChecksum(bytes)
    }
}

/// The checksum of a block, cut to the size that its map uses; the rest is zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockChecksum([u8; CHECKSUM_BYTES_MAX]);

impl fmt::Debug for BlockChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Where one block of a file is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockMapItem {
    /// Index in the manifest's list of references: the backup that stored the block.
    pub reference: u32,
    /// The bundle of that backup; 0 is the file's own `.pgbi`.
    pub bundle: u64,
    /// Where the super block begins in the bundle or `.pgbi`.
    pub offset: u64,
    /// The stored bytes of the super block.
    pub size_stored_bytes: u64,
    /// The plain bytes of the super block.
    pub size_super_bytes: u64,
    /// The index of the block inside the super block.
    pub block: u64,
    /// The checksum of the block.
    pub checksum: BlockChecksum,
}

/// The map of a whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMap {
    geometry: BlockGeometry,
    items: Vec<BlockMapItem>,
}

impl BlockMap {
    /// How the file is cut.
    #[must_use]
    pub fn geometry(&self) -> BlockGeometry {
        self.geometry
    }

    /// One item for each block of the file, in order. None at all is possible for a file that was truncated to zero
    /// while the original copied it; such a map is no base for the next backup.
    #[must_use]
    pub fn items(&self) -> &[BlockMapItem] {
        &self.items
    }
}

/// What the manifest says of the file whose map is read.
#[derive(Debug, Clone, Copy)]
pub struct BlockMapFacts {
    /// How the file is cut.
    pub geometry: BlockGeometry,
    /// The size of the file in that backup.
    pub file_size_bytes: u64,
    /// How many references the manifest lists.
    pub reference_count: usize,
}

/// A map that cannot be what a writer made. `offset` is where in the plain bytes of the map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid block map at byte {offset}: {fault}")]
pub struct BlockMapError {
    /// Where reading stopped.
    pub offset: usize,
    /// What is wrong there.
    pub fault: BlockMapFault,
}

/// What is wrong in a map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockMapFault {
    /// A map of a version to come.
    #[error("unsupported version, flags are {0}")]
    Version(u64),
    /// A number cannot be read.
    #[error(transparent)]
    Number(#[from] VarintError),
    /// The bytes end inside a checksum.
    #[error("the bytes end inside a checksum")]
    Truncated,
    /// Bytes follow the last run.
    #[error("{0} bytes follow the end of the map")]
    TrailingBytes(usize),
    /// A reference is not in the manifest.
    #[error("reference {reference} is not one of the {count} of the manifest")]
    Reference {
        /// The index in the map.
        reference: u64,
        /// How many there are.
        count: usize,
    },
    /// There are fewer or more blocks than the file has.
    #[error("{found} blocks, but a file of {file_size_bytes} bytes has {expected}")]
    BlockCount {
        /// Blocks in the map, counted up to where it became impossible.
        found: u64,
        /// Blocks in the file.
        expected: u64,
        /// The file's size in the manifest.
        file_size_bytes: u64,
    },
    /// A sum is larger than 64 bits or smaller than zero.
    #[error("the {0} is out of range")]
    OutOfRange(&'static str),
    /// A super block has no bytes or too many.
    #[error("a super block of {0} bytes")]
    SuperSize(u64),
    /// A block is not inside its super block, or not as long there as it is in the file.
    #[error("block {block} of a super block of {size_super_bytes} bytes cannot be block {index} of the file")]
    Block {
        /// The index in the super block.
        block: u64,
        /// The plain size of the super block.
        size_super_bytes: u64,
        /// The index in the file.
        index: u64,
    },
}

#[cfg(test)]
mod tests;
