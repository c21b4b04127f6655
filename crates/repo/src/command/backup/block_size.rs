//! Into blocks of which size a file is cut, if at all (repository-format.md §7.1; pgBackRest
//! `src/command/backup/option.c.inc`). Pure.

use crate::format::block_map::BlockGeometry;
use crate::format::manifest::{BLOCK_CHECKSUM_SIZE_MIN, BlockIncr};

/// A day, in seconds.
const DAY_S: i64 = 24 * 60 * 60;

const KIB: u32 = 1024;
const MIB: u64 = 1024 * 1024;

/// The block size from which on it is better to cut a file into larger blocks than to have a larger map.
const SIZES: [(u64, u32); 11] = [
    (914 * MIB, 88 * KIB),
    (740 * MIB, 80 * KIB),
    (585 * MIB, 72 * KIB),
    (448 * MIB, 64 * KIB),
    (329 * MIB, 56 * KIB),
    (228 * MIB, 48 * KIB),
    (146 * MIB, 40 * KIB),
    (96 * MIB, 32 * KIB),
    (43 * MIB, 24 * KIB),
    (11 * MIB, 16 * KIB),
    (16 * 1024, 8 * KIB),
];

/// A file that has not changed for long is not expected to change soon, so that its blocks may be larger. At last it is
/// stored whole.
const FACTORS: [(u32, u32); 3] = [(28, 0), (14, 4), (7, 2)];

/// More content behind one checksum asks for more of the checksum.
const CHECKSUMS: [(u32, u8); 6] =
    [(4096 * KIB, 12), (2048 * KIB, 11), (1024 * KIB, 10), (512 * KIB, 9), (128 * KIB, 8), (32 * KIB, 7)];

/// Three lists; the entry with the largest first number that is not above what is looked up counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRules {
    sizes: Vec<(u64, u32)>,
    factors: Vec<(u32, u32)>,
    checksums: Vec<(u32, u8)>,
}

/// A rule that no backup can be made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockRuleError {
    /// Manifests give block sizes in units of 8 KiB.
    #[error("block size {0} is not a multiple of 8192 bytes up to 1 GiB")]
    Block(u32),
    /// Checksums have 16 bytes, of which at least 6 are kept.
    #[error("block checksum size {0} is not 6 to 16 bytes")]
    Checksum(u8),
}

impl Default for BlockRules {
    fn default() -> Self {
        Self { sizes: SIZES.to_vec(), factors: FACTORS.to_vec(), checksums: CHECKSUMS.to_vec() }
    }
}

impl BlockRules {
    /// Replaces the sizes: from which size of a file on it is cut into blocks of which size (`repo-block-size-map`).
    ///
    /// # Errors
    /// [`BlockRuleError::Block`]
    pub fn with_sizes(mut self, mut sizes: Vec<(u64, u32)>) -> Result<Self, BlockRuleError> {
        let is_possible = |size: u32| BlockGeometry::new(size.into(), BLOCK_CHECKSUM_SIZE_MIN.into()).is_ok();
        if let Some((_, size)) = sizes.iter().find(|(_, size)| !is_possible(*size)) {
            return Err(BlockRuleError::Block(*size));
        }
        descending(&mut sizes);
        self.sizes = sizes;
        Ok(self)
    }

    /// Replaces the factors: from which age of a file in days on its blocks are how many times as large; 0 stores it
    /// whole (`repo-block-age-map`).
    #[must_use]
    pub fn with_factors(mut self, mut factors: Vec<(u32, u32)>) -> Self {
        descending(&mut factors);
        self.factors = factors;
        self
    }

    /// Replaces the checksum sizes: from which block size on how many bytes of a checksum are kept
    /// (`repo-block-checksum-size-map`).
    ///
    /// # Errors
    /// [`BlockRuleError::Checksum`]
    pub fn with_checksums(mut self, mut checksums: Vec<(u32, u8)>) -> Result<Self, BlockRuleError> {
        let is_possible = |size: u8| BlockGeometry::new(8192, size.into()).is_ok();
        if let Some((_, size)) = checksums.iter().find(|(_, size)| !is_possible(*size)) {
            return Err(BlockRuleError::Checksum(*size));
        }
        descending(&mut checksums);
        self.checksums = checksums;
        Ok(self)
    }

    /// How a file that no prior backup has in blocks is cut; `None` stores it whole. Its age is that when the backup
    /// starts, negative for a time in the future.
    pub(super) fn blocks(&self, size_bytes: u64, age_s: i64) -> Option<BlockIncr> {
        let size = found(&self.sizes, |from| size_bytes >= from)?;
        let factor = found(&self.factors, |days| age_s >= i64::from(days).saturating_mul(DAY_S)).unwrap_or(1);
        let block_size_bytes = size.checked_mul(factor).filter(|size| *size > 0)?;
        let checksum_size_bytes = found(&self.checksums, |from| block_size_bytes >= from);
        let checksum_size_bytes = checksum_size_bytes.unwrap_or(BLOCK_CHECKSUM_SIZE_MIN);
        // Factors may be such that no manifest can hold the product.
        BlockGeometry::new(block_size_bytes.into(), checksum_size_bytes.into()).ok()?;
        Some(BlockIncr { block_size_bytes, checksum_size_bytes, map_size_bytes: 0 })
    }
}

fn descending<T: Ord, V>(rules: &mut [(T, V)]) {
    rules.sort_by(|(one, _), (other, _)| other.cmp(one));
}

fn found<T: Copy, V: Copy>(rules: &[(T, V)], reaches: impl Fn(T) -> bool) -> Option<V> {
    rules.iter().find(|(from, _)| reaches(*from)).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Block size in KiB and checksum size for a file of this size in bytes and age in days.
    fn cut(rules: &BlockRules, size_bytes: u64, age_days: i64) -> Option<(u32, u8)> {
        let blocks = rules.blocks(size_bytes, age_days * DAY_S)?;
        Some((blocks.block_size_bytes / KIB, blocks.checksum_size_bytes))
    }

    #[test]
    fn bk20_blocks_grow_with_the_file_and_with_its_age() {
        let rules = BlockRules::default();
        for (size_bytes, age_days, expected) in [
            (0, 0, None),
            (16 * 1024 - 1, 0, None),
            (16 * 1024, 0, Some((8, 6))),
            (11 * MIB - 1, 0, Some((8, 6))),
            (11 * MIB, 0, Some((16, 6))),
            (96 * MIB, 6, Some((32, 7))),
            (1024 * MIB, -3, Some((88, 7))),
            (1024 * MIB, 7, Some((176, 8))),
            (1024 * MIB, 14, Some((352, 8))),
            (1024 * MIB, 27, Some((352, 8))),
            (1024 * MIB, 28, None),
            (16 * 1024, 14, Some((32, 7))),
        ] {
            assert_eq!(cut(&rules, size_bytes, age_days), expected, "{size_bytes} {age_days}");
        }
    }

    #[test]
    fn rules_may_come_in_any_order_and_must_be_possible() {
        let rules = BlockRules::default().with_sizes(vec![(8192, 8192), (32_768, 16_384)]).unwrap();
        let rules = rules.with_factors(vec![(1, 2), (3, u32::MAX), (2, 0)]);
        let rules = rules.with_checksums(vec![(8192, 16), (32_768, 9)]).unwrap();
        assert_eq!(cut(&rules, 8192, 0), Some((8, 16)));
        assert_eq!(cut(&rules, 40_000, 1), Some((32, 9)));
        assert_eq!(cut(&rules, 40_000, 2), None);
        assert_eq!(cut(&rules, 40_000, 3), None, "the product is too large");
        let refused = BlockRules::default().with_sizes(vec![(1, 8191)]);
        assert_eq!(refused, Err(BlockRuleError::Block(8191)));
        assert_eq!(BlockRules::default().with_checksums(vec![(1, 5)]), Err(BlockRuleError::Checksum(5)));
        assert_eq!(BlockRules::default().with_checksums(vec![(1, 17)]), Err(BlockRuleError::Checksum(17)));
    }
}
