//! The header that the first page of every WAL segment begins with.

use super::little_endian::{u16_at, u32_at, u64_at};
use super::lsn::Lsn;
use super::system_id::SystemId;
use super::timeline::Timeline;
use super::version::PgVersion;
use super::wal_segment::{WalSegmentName, WalSegmentSize, WalSegmentSizeError};

/// The long page header (`XLogLongPageHeaderData` of PostgreSQL's `access/xlog_internal.h`), the same in all versions:
///
/// | offset | bytes | field |
/// | --- | --- | --- |
/// | 0 | 2 | magic number, one for each version |
/// | 2 | 2 | flags; 0x0002 says that the header is a long one |
/// | 4 | 4 | timeline |
/// | 8 | 8 | LSN of the page |
/// | 16 | 4 | bytes left of a record that began before the page |
/// | 20 | 4 | padding |
/// | 24 | 8 | system identifier |
/// | 32 | 4 | segment size in bytes |
/// | 36 | 4 | WAL block size in bytes |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalHeader {
    /// The version that wrote the page, by its magic number, or the version that the caller forced.
    pub version: PgVersion,
    /// The magic number as found.
    pub magic: u16,
    /// The timeline that the page was written on.
    ///
    /// It can be lower than the one in the segment's name: the first segment of a timeline begins with a copy of the
    /// old timeline's pages.
    pub timeline: Timeline,
    /// The position of the page, and so of the segment.
    pub page_address: Lsn,
    /// The cluster that wrote the page.
    pub system_id: SystemId,
    /// The size of the whole segment.
    pub segment_size: WalSegmentSize,
    /// The size of a WAL page in bytes.
    pub block_size_bytes: u32,
}

/// Bytes that are no first page of a WAL segment, or of none that this program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WalHeaderError {
    /// Fewer bytes than the header has.
    #[error("wal header has {size_bytes} bytes: expected at least {}", WalHeader::SIZE_BYTES)]
    TooShort {
        /// Bytes given.
        size_bytes: usize,
    },
    /// The page has no long header; pages of zeros end here too.
    #[error("first page header in wal file is not in long format: magic {magic:#06x}, flags {flags:#06x}")]
    NotLong {
        /// The magic number found.
        magic: u16,
        /// The flags found.
        flags: u16,
    },
    /// No known version writes this magic number.
    #[error("unexpected wal magic {magic:#06x}: is this version of PostgreSQL supported?")]
    UnknownMagic {
        /// The magic number found.
        magic: u16,
    },
    /// The segment size is none.
    #[error("in the wal header: {0}")]
    SegmentSize(#[from] WalSegmentSizeError),
    /// The block size is none.
    #[error("wal block size is {size_bytes} bytes: expected a power of two from 1024 to 65536")]
    BlockSize {
        /// The number found.
        size_bytes: u32,
    },
    /// The timeline is zero.
    #[error("wal header has timeline 0")]
    NoTimeline,
}

const LONG_HEADER_FLAG: u16 = 0x0002;

impl WalHeader {
    /// Bytes of the header; reading more does no harm.
    pub const SIZE_BYTES: usize = 40;

    /// Reads the header at the beginning of `bytes`; the version is told by the magic number.
    ///
    /// Only the header is looked at. That the file is as long as the segment is for the caller to check.
    ///
    /// # Errors
    /// [`WalHeaderError`] names the first thing that is wrong, in the order of its variants.
    pub fn parse(bytes: &[u8]) -> Result<Self, WalHeaderError> {
        Self::read(None, bytes)
    }

    /// Reads the header as `version`, whatever the magic number says: for forks of PostgreSQL with numbers of their own
    /// (the original's `pg-version-force`).
    ///
    /// # Errors
    /// As [`WalHeader::parse`], without [`WalHeaderError::UnknownMagic`].
    pub fn parse_forced(version: PgVersion, bytes: &[u8]) -> Result<Self, WalHeaderError> {
        Self::read(Some(version), bytes)
    }

    fn read(forced: Option<PgVersion>, bytes: &[u8]) -> Result<Self, WalHeaderError> {
        let Some(header) = bytes.first_chunk::<{ Self::SIZE_BYTES }>() else {
            return Err(WalHeaderError::TooShort { size_bytes: bytes.len() });
        };
        // Every offset lies within the header.
        let word = |offset| u32_at(header, offset).unwrap_or_default();
        let long = |offset| u64_at(header, offset).unwrap_or_default();
        let magic = u16_at(header, 0).unwrap_or_default();
        let flags = u16_at(header, 2).unwrap_or_default();

        if flags & LONG_HEADER_FLAG == 0 {
            return Err(WalHeaderError::NotLong { magic, flags });
        }
        let version =
            forced.or_else(|| PgVersion::from_wal_magic(magic)).ok_or(WalHeaderError::UnknownMagic { magic })?;
        let segment_size = WalSegmentSize::new(word(32))?;
        let block_size_bytes = word(36);
        // PostgreSQL's configure takes --with-wal-blocksize from 1 to 64 KiB.
        if !block_size_bytes.is_power_of_two() || !(1024..=65_536).contains(&block_size_bytes) {
            return Err(WalHeaderError::BlockSize { size_bytes: block_size_bytes });
        }
        Ok(Self {
            version,
            magic,
            timeline: Timeline::new(word(4)).ok_or(WalHeaderError::NoTimeline)?,
            page_address: Lsn(long(8)),
            system_id: SystemId(long(24)),
            segment_size,
            block_size_bytes,
        })
    }

    /// Whether the page stands where a segment of this name begins.
    ///
    /// Timelines are not compared: see [`WalHeader::timeline`]. A recycled segment that was not written to yet fails
    /// here.
    #[must_use]
    pub fn begins(&self, name: WalSegmentName) -> bool {
        name.start_lsn(self.segment_size) == Some(self.page_address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::sample::sample;
    use proptest::prelude::*;

    fn with(bytes: &[u8], offset: usize, field: &[u8]) -> Vec<u8> {
        let mut changed = bytes.to_vec();
        changed[offset..offset + field.len()].copy_from_slice(field);
        changed
    }

    #[test]
    fn reads_the_headers_of_real_segments() {
        for (file, version, timeline, lsn, system_id, mib) in [
            ("pg13-1mib-00000001000000000000000A.wal", PgVersion::V13, 1, "0/A00000", 7710876412814281306, 1),
            ("pg15-1mib-00000001000000000000000A.wal", PgVersion::V15, 1, "0/A00000", 7710876112923268514, 1),
            ("pg15-16mib-000000010000000000000001.wal", PgVersion::V15, 1, "0/1000000", 7711209986667302023, 16),
            ("pg15-1024mib-000000010000000000000001.wal", PgVersion::V15, 1, "0/40000000", 7711208350901470046, 1024),
            ("pg18-1mib-00000002000000000000000C.wal", PgVersion::V18, 2, "0/C00000", 7710875809069731181, 1),
        ] {
            let header = WalHeader::parse(&sample(file)).unwrap();
            assert_eq!(header.version, version, "{file}");
            assert_eq!(header.timeline, Timeline::new(timeline).unwrap(), "{file}");
            assert_eq!(header.page_address.to_string(), lsn, "{file}");
            assert_eq!(header.system_id, SystemId(system_id), "{file}");
            assert_eq!(header.segment_size.bytes(), mib * 1024 * 1024, "{file}");
            assert_eq!(header.block_size_bytes, 8192, "{file}");
            let name = file.rsplit_once('-').unwrap().1.strip_suffix(".wal").unwrap();
            assert!(header.begins(WalSegmentName::parse(name).unwrap()), "{file}");
        }
    }

    #[test]
    fn the_first_segment_of_a_timeline_begins_with_the_old_one() {
        let header = WalHeader::parse(&sample("pg18-1mib-00000002000000000000000B.wal")).unwrap();
        assert_eq!(header.timeline, Timeline::FIRST);
        assert!(header.begins(WalSegmentName::parse("00000002000000000000000B").unwrap()));
    }

    #[test]
    fn a_page_of_another_segment_does_not_begin_the_name() {
        let header = WalHeader::parse(&sample("pg15-16mib-000000010000000000000001.wal")).unwrap();
        for name in ["000000010000000000000002", "000000010000000100000001", "000000010000000000000101"] {
            assert!(!header.begins(WalSegmentName::parse(name).unwrap()), "{name}");
        }
    }

    #[test]
    fn pu19_empty_zero_and_torn_segments_are_refused() {
        assert_eq!(WalHeader::parse(&[]), Err(WalHeaderError::TooShort { size_bytes: 0 }));
        assert_eq!(WalHeader::parse(&[0; 8192]), Err(WalHeaderError::NotLong { magic: 0, flags: 0 }));

        let page = sample("pg15-16mib-000000010000000000000001.wal");
        for size_bytes in 0..WalHeader::SIZE_BYTES {
            assert_eq!(WalHeader::parse(&page[..size_bytes]), Err(WalHeaderError::TooShort { size_bytes }));
        }
        let header_only = WalHeader::parse(&page[..WalHeader::SIZE_BYTES]);
        assert_eq!(header_only, WalHeader::parse(&page));
        assert!(header_only.is_ok());
        for torn_at in 0..32 {
            let mut torn = page.clone();
            torn[torn_at..].fill(0);
            assert!(WalHeader::parse(&torn).is_err(), "zeros from byte {torn_at}");
        }
    }

    #[test]
    fn hi15_hostile_wal_headers_are_refused() {
        let page = sample("pg15-16mib-000000010000000000000001.wal");
        let segment_size = |size: u32| WalHeader::parse(&with(&page, 32, &size.to_le_bytes()));
        for size in [0, 3, 512 * 1024, (1 << 24) + 1, 1 << 31] {
            let error = WalSegmentSizeError { size_bytes: size.into() };
            assert_eq!(segment_size(size), Err(WalHeaderError::SegmentSize(error)));
        }
        for size in [0, 3, 512, 131_072, u32::MAX] {
            let block_size = WalHeader::parse(&with(&page, 36, &size.to_le_bytes()));
            assert_eq!(block_size, Err(WalHeaderError::BlockSize { size_bytes: size }));
        }
        assert_eq!(
            WalHeader::parse(&with(&page, 0, &[0x77, 0xD7])),
            Err(WalHeaderError::UnknownMagic { magic: 0xD777 })
        );
        assert_eq!(WalHeader::parse(&with(&page, 4, &[0; 4])), Err(WalHeaderError::NoTimeline));
        assert!(matches!(WalHeader::parse(&with(&page, 2, &[0x05, 0])), Err(WalHeaderError::NotLong { flags: 5, .. })));
    }

    #[test]
    fn a_forced_version_overrides_the_magic_only() {
        let page = sample("pg15-16mib-000000010000000000000001.wal");
        let fork = with(&page, 0, &[0x77, 0xD7]);
        let header = WalHeader::parse_forced(PgVersion::V15, &fork).unwrap();
        assert_eq!((header.version, header.magic), (PgVersion::V15, 0xD777));
        assert!(WalHeader::parse_forced(PgVersion::V15, &with(&fork, 2, &[0, 0])).is_err());
        assert!(WalHeader::parse_forced(PgVersion::V15, &with(&fork, 32, &[0; 4])).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..80), mut long: [u8; 40]) {
            let _answer = WalHeader::parse(&bytes);
            long[2] |= 2;
            if let Ok(header) = WalHeader::parse_forced(PgVersion::V15, &long) {
                prop_assert!(header.segment_size.bytes().is_power_of_two());
            }
        }

        #[test]
        fn a_written_header_is_read_back(
            row in 0..super::super::version::VERSIONS.len(),
            timeline in 1_u32..,
            (page_address, system_id) in any::<(u64, u64)>(),
            (segment_shift, block_shift) in (20_u32..=30, 10_u32..=16),
        ) {
            let facts = &super::super::version::VERSIONS[row];
            let mut bytes = facts.wal_magic.to_le_bytes().to_vec();
            bytes.extend_from_slice(&[0x02, 0]);
            bytes.extend_from_slice(&timeline.to_le_bytes());
            bytes.extend_from_slice(&page_address.to_le_bytes());
            bytes.extend_from_slice(&[0; 8]);
            bytes.extend_from_slice(&system_id.to_le_bytes());
            bytes.extend_from_slice(&(1_u32 << segment_shift).to_le_bytes());
            bytes.extend_from_slice(&(1_u32 << block_shift).to_le_bytes());
            prop_assert_eq!(WalHeader::parse(&bytes), Ok(WalHeader {
                version: facts.version,
                magic: facts.wal_magic,
                timeline: Timeline::new(timeline).unwrap(),
                page_address: Lsn(page_address),
                system_id: SystemId(system_id),
                segment_size: WalSegmentSize::new(1 << segment_shift).unwrap(),
                block_size_bytes: 1 << block_shift,
            }));
        }
    }
}
