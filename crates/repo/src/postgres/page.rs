//! Pages of relations: their header, their checksum, and whether a page read from disk can be trusted.

use super::little_endian::u16_at;

/// The size of a cluster's pages: a power of two from 1 KiB to 32 KiB, fixed when the server was compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u16);

/// A number that no page can have as its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("page size is {size_bytes} bytes: expected a power of two from 1024 to 32768")]
pub struct PageSizeError {
    /// The number.
    pub size_bytes: u64,
}

impl PageSize {
    /// 8 KiB, unless the server was built otherwise; also what old backups without a recorded size have.
    pub const DEFAULT: Self = Self(8192);

    const MIN_BYTES: u16 = 1024;

    /// A size in bytes.
    ///
    /// # Errors
    /// [`PageSizeError`] for anything but a power of two from 1 KiB to 32 KiB.
    pub fn new(size_bytes: u64) -> Result<Self, PageSizeError> {
        u16::try_from(size_bytes)
            .ok()
            .filter(|size| size.is_power_of_two() && *size >= Self::MIN_BYTES)
            .map(Self)
            .ok_or(PageSizeError { size_bytes })
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0 as u32
    }

    /// The size in bytes, as a length in memory.
    #[must_use]
    pub const fn length(self) -> usize {
        self.0 as usize
    }

    /// Pages in one segment of a relation, which has 1 GiB as in every build that the original supports
    /// (`PG_SEGMENT_SIZE_DEFAULT`).
    #[must_use]
    pub const fn pages_per_segment(self) -> u32 {
        (1024 * 1024 * 1024) / self.bytes()
    }
}

/// A whole page, borrowed. Its length is a page size.
///
/// The header (`PageHeaderData` of PostgreSQL's `storage/bufpage.h`):
///
/// | offset | bytes | field |
/// | --- | --- | --- |
/// | 0 | 8 | LSN of the last change, upper half first |
/// | 8 | 2 | checksum |
/// | 10 | 2 | flags |
/// | 12 | 2 | offset to the start of free space |
/// | 14 | 2 | offset to the end of free space; zero only on a new page |
/// | 16 | 2 | offset to special space |
/// | 18 | 2 | page size and layout version |
/// | 20 | 4 | oldest transaction to prune for |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<'a>(&'a [u8]);

/// What a look at one page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageState {
    /// The stored checksum is the page's own.
    Valid,
    /// All bytes are zero: added to the relation and not written to yet.
    New,
    /// The stored checksum is another one, or the header says "new" and there are bytes.
    ///
    /// Not an error yet when the server runs: it may be writing the page. Whoever read it reads it again and accepts it
    /// if it changed, since replay of the WAL will then repair it.
    Invalid {
        /// The checksum on the page.
        stored: u16,
    },
}

impl PageState {
    /// Whether the page needs no second look.
    #[must_use]
    pub fn is_valid(self) -> bool {
        !matches!(self, Self::Invalid { .. })
    }
}

/// What tells a new page, before all of its bytes are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageHeaderCheck {
    /// The end of free space is zero (the option `page-header-check`, on by default).
    Upper,
    /// The checksum is zero, which no checksum is: for forks that encrypt the header (`no-page-header-check`).
    ChecksumOnly,
}

const CHECKSUM_OFFSET: usize = 8;
const UPPER_OFFSET: usize = 14;

impl<'a> Page<'a> {
    /// A page of any size that pages can have.
    ///
    /// # Errors
    /// [`PageSizeError`] when the length is no page size.
    pub fn new(bytes: &'a [u8]) -> Result<Self, PageSizeError> {
        let size_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        PageSize::new(size_bytes).map(|_| Self(bytes))
    }

    /// The checksum that is stored on the page.
    #[must_use]
    pub fn stored_checksum(self) -> u16 {
        self.field(CHECKSUM_OFFSET)
    }

    /// The stored offset to the end of free space.
    #[must_use]
    pub fn upper(self) -> u16 {
        self.field(UPPER_OFFSET)
    }

    /// Whether every byte is zero.
    #[must_use]
    pub fn is_zero(self) -> bool {
        // Whole rows at once, so that the compiler can use wide instructions; the length is a multiple of a row.
        let (rows, _) = self.0.as_chunks::<ROW_BYTES>();
        rows.iter().all(|row| row.iter().fold(0, |seen, byte| seen | byte) == 0)
    }

    /// The checksum that belongs on the page when it is block `block_number` of its relation, counted over all
    /// segments.
    #[must_use]
    pub fn checksum(self, block_number: u32) -> u16 {
        let mut sums = BASE_OFFSETS;
        let (rows, _) = self.0.as_chunks::<ROW_BYTES>();
        if let Some((first, rest)) = rows.split_first() {
            // The checksum is calculated as if its own field were zero.
            let mut header = *first;
            header[CHECKSUM_OFFSET] = 0;
            header[CHECKSUM_OFFSET + 1] = 0;
            mix_row(&mut sums, &header);
            for row in rest {
                mix_row(&mut sums, row);
            }
        }
        // Two rounds of zeros spread the last row over the result.
        mix(&mut sums, &[0; LANES]);
        mix(&mut sums, &[0; LANES]);
        let folded = sums.iter().fold(0, |folded, sum| folded ^ sum) ^ block_number;
        // One to 65535 and zero never. The remainder is below 65535, so the sum fits.
        u16::try_from(folded % 65_535 + 1).unwrap_or(u16::MAX)
    }

    /// Whether the page can be trusted, by the rules of the original's page checksum filter.
    #[must_use]
    pub fn check(self, block_number: u32, header_check: PageHeaderCheck) -> PageState {
        let stored = self.stored_checksum();
        let looks_new = match header_check {
            PageHeaderCheck::Upper => self.upper() == 0,
            PageHeaderCheck::ChecksumOnly => stored == 0,
        };
        if looks_new {
            if self.is_zero() { PageState::New } else { PageState::Invalid { stored } }
        } else if self.checksum(block_number) == stored {
            PageState::Valid
        } else {
            PageState::Invalid { stored }
        }
    }

    fn field(self, offset: usize) -> u16 {
        // Both fields lie within the smallest page.
        u16_at(self.0, offset).unwrap_or_default()
    }
}

/// Sums that are calculated side by side, so that the compiler can keep them in vector registers.
const LANES: usize = 32;
const ROW_BYTES: usize = LANES * size_of::<u32>();

/// The prime of the FNV-1a hash.
const FNV_PRIME: u32 = 16_777_619;

/// Where the sums begin (`checksumBaseOffsets` of PostgreSQL's `storage/checksum_impl.h`).
const BASE_OFFSETS: [u32; LANES] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

#[inline]
fn mix_row(sums: &mut [u32; LANES], row: &[u8; ROW_BYTES]) {
    let (words, _) = row.as_chunks::<4>();
    let mut values = [0; LANES];
    for (value, word) in values.iter_mut().zip(words) {
        *value = u32::from_le_bytes(*word);
    }
    mix(sums, &values);
}

#[inline]
fn mix(sums: &mut [u32; LANES], values: &[u32; LANES]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        let mixed = *sum ^ value;
        *sum = mixed.wrapping_mul(FNV_PRIME) ^ (mixed >> 17);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::sample::sample;
    use proptest::prelude::*;

    /// The page that `pg_checksum_page()` of PostgreSQL 15 was run over for the vectors below.
    fn counting_page(size: usize) -> Vec<u8> {
        (0..size).map(|index| (index * 31 + 7 + (index >> 8) * 13).to_le_bytes()[0]).collect()
    }

    #[test]
    fn checksums_equal_those_of_postgresql_for_every_page_size() {
        const BLOCKS: [u32; 5] = [0, 1, 131_071, 131_072, u32::MAX];
        for (size, checksums) in [
            (1024, [45292, 45293, 3328, 45294, 20245]),
            (2048, [16230, 16229, 746, 16228, 49307]),
            (4096, [36861, 36862, 54234, 36859, 28676]),
            (8192, [9210, 9209, 14889, 9212, 56327]),
            (16384, [14981, 14980, 23999, 14983, 50556]),
            (32768, [13065, 13066, 2306, 13067, 52472]),
        ] {
            let bytes = counting_page(size);
            let page = Page::new(&bytes).unwrap();
            assert_eq!(BLOCKS.map(|block| page.checksum(block)), checksums, "{size}");
        }
    }

    #[test]
    fn pages_of_a_real_cluster_are_valid_in_their_place_only() {
        for file in ["pg15-relation.pages", "pg15-free-space-map.pages"] {
            for (block, bytes) in (0..).zip(sample(file).chunks(8192)) {
                let page = Page::new(bytes).unwrap();
                for check in [PageHeaderCheck::Upper, PageHeaderCheck::ChecksumOnly] {
                    assert_eq!(page.check(block, check), PageState::Valid, "{file} {block}");
                    let stored = page.stored_checksum();
                    assert_eq!(page.check(block + 1, check), PageState::Invalid { stored }, "{file} {block}");
                }
            }
        }
    }

    #[test]
    fn a_page_of_zeros_is_new() {
        for size in [1024, 2048, 4096, 8192, 16384, 32768] {
            let mut bytes = vec![0; size];
            for check in [PageHeaderCheck::Upper, PageHeaderCheck::ChecksumOnly] {
                assert_eq!(Page::new(&bytes).unwrap().check(7, check), PageState::New);
                assert!(PageState::New.is_valid());
            }
            bytes[size - 1] = 1;
            for check in [PageHeaderCheck::Upper, PageHeaderCheck::ChecksumOnly] {
                assert_eq!(Page::new(&bytes).unwrap().check(7, check), PageState::Invalid { stored: 0 });
            }
        }
    }

    #[test]
    fn a_header_that_says_new_over_bytes_is_invalid_even_with_the_right_checksum() {
        let mut bytes = counting_page(8192);
        bytes[UPPER_OFFSET..UPPER_OFFSET + 2].fill(0);
        let stored = Page::new(&bytes).unwrap().checksum(3);
        bytes[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&stored.to_le_bytes());
        let page = Page::new(&bytes).unwrap();
        assert_eq!(page.check(3, PageHeaderCheck::Upper), PageState::Invalid { stored });
        assert_eq!(page.check(3, PageHeaderCheck::ChecksumOnly), PageState::Valid);
    }

    #[test]
    fn hi15_impossible_page_sizes_are_refused() {
        for size_bytes in [0, 1, 3, 512, 1023, 8193, 12_288, 65_536, u64::MAX, (1 << 32) + 8192] {
            assert_eq!(PageSize::new(size_bytes), Err(PageSizeError { size_bytes }));
        }
        assert!(Page::new(&[0; 8191]).is_err());
        assert_eq!(PageSize::DEFAULT.pages_per_segment(), 131_072);
    }

    #[test]
    fn a_flipped_bit_in_any_byte_is_seen() {
        let mut bytes = sample("pg15-relation.pages");
        let unseen = (0..bytes.len()).filter(|&index| {
            bytes[index] ^= 1 << (index % 8);
            let valid = Page::new(&bytes).unwrap().check(0, PageHeaderCheck::Upper).is_valid();
            bytes[index] ^= 1 << (index % 8);
            valid
        });
        // Sixteen bits cannot tell all pages apart: of 65,535 changes one slips through, so of these 8,192 none should.
        assert_eq!(unseen.count(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..3000), block: u32) {
            if let Ok(page) = Page::new(&bytes) {
                let _state = page.check(block, PageHeaderCheck::ChecksumOnly);
            }
        }
    }
}
