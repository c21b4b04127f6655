//! Major versions of PostgreSQL and what differs between them in the files that a backup program reads.

use std::fmt;

/// A major version: `9.6`, `15`. Minor releases do not matter to any format.
///
/// The type holds versions that this program does not know, since info files may list them; [`PgVersion::facts`] tells.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgVersion {
    major: u16,
    /// The second number of versions before 10, else zero.
    minor: u8,
}

/// A text that is no major version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid PostgreSQL version '{text}': expected a form like 9.6 or 15")]
pub struct PgVersionError {
    /// What was read.
    pub text: String,
}

/// What differs between versions. One row of [`VERSIONS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionFacts {
    /// The version that the row describes.
    pub version: PgVersion,
    /// `PG_CONTROL_VERSION` (PostgreSQL's `catalog/pg_control.h`).
    pub control_version: u32,
    /// `CATALOG_VERSION_NO` (PostgreSQL's `catalog/catversion.h`).
    pub catalog_version: u32,
    /// Not released when the row was written: later catalog versions of the same year belong to the version too.
    pub unreleased: bool,
    /// `XLOG_PAGE_MAGIC` (PostgreSQL's `access/xlog_internal.h`).
    pub wal_magic: u16,
    /// Where the fields of `pg_control` stand.
    pub control: ControlOffsets,
}

/// Byte offsets of the fields of `pg_control` that move between versions; a field is 32 bits wide unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlOffsets {
    /// Timeline of the last checkpoint.
    pub timeline: usize,
    /// Where recovery must get to at least: an LSN of 64 bits, then its timeline.
    pub minimum_recovery: usize,
    /// Page size of relations.
    pub page_size: usize,
    /// WAL segment size.
    pub wal_segment_size: usize,
    /// Version of the data page checksums, zero for none.
    pub data_checksum_version: usize,
    /// CRC-32C of all bytes before it.
    pub crc: usize,
}

const BEFORE_10: ControlOffsets = ControlOffsets {
    timeline: 56,
    minimum_recovery: 136,
    page_size: 216,
    wal_segment_size: 228,
    data_checksum_version: 252,
    crc: 256,
};
const SINCE_12: ControlOffsets = ControlOffsets { timeline: 48, crc: 288, ..BEFORE_10 };

const fn row(
    version: PgVersion,
    (control_version, catalog_version, wal_magic): (u32, u32, u16),
    control: ControlOffsets,
) -> VersionFacts {
    VersionFacts { version, control_version, catalog_version, unreleased: false, wal_magic, control }
}

/// Every version known, oldest first (pgBackRest's `postgres/interface/version.vendor.h`; the row of 9.5 as it was in
/// 2.57).
pub const VERSIONS: &[VersionFacts] = &[
    row(PgVersion::V9_5, (942, 201_510_051, 0xD087), BEFORE_10),
    row(PgVersion::V9_6, (960, 201_608_131, 0xD093), BEFORE_10),
    row(PgVersion::V10, (1002, 201_707_211, 0xD097), ControlOffsets { crc: 288, ..BEFORE_10 }),
    row(
        PgVersion::V11,
        (1100, 201_809_051, 0xD098),
        ControlOffsets {
            timeline: 48,
            minimum_recovery: 128,
            page_size: 208,
            wal_segment_size: 220,
            data_checksum_version: 244,
            crc: 280,
        },
    ),
    row(PgVersion::V12, (1201, 201_909_212, 0xD101), SINCE_12),
    row(PgVersion::V13, (1300, 202_007_201, 0xD106), SINCE_12),
    row(PgVersion::V14, (1300, 202_107_181, 0xD10D), SINCE_12),
    row(PgVersion::V15, (1300, 202_209_061, 0xD110), SINCE_12),
    row(PgVersion::V16, (1300, 202_307_071, 0xD113), SINCE_12),
    row(PgVersion::V17, (1700, 202_406_281, 0xD116), SINCE_12),
    row(PgVersion::V18, (1800, 202_506_291, 0xD118), ControlOffsets { crc: 292, ..SINCE_12 }),
    VersionFacts {
        version: PgVersion::V19,
        control_version: 1902,
        catalog_version: 202_605_131,
        unreleased: true,
        wal_magic: 0xD121,
        control: ControlOffsets {
            timeline: 48,
            minimum_recovery: 144,
            page_size: 224,
            wal_segment_size: 240,
            data_checksum_version: 264,
            crc: 304,
        },
    },
];

impl PgVersion {
    /// PostgreSQL 9.5.
    pub const V9_5: Self = Self { major: 9, minor: 5 };
    /// PostgreSQL 9.6.
    pub const V9_6: Self = Self { major: 9, minor: 6 };
    /// PostgreSQL 10, the first with a single number, and with "wal" in names that said "xlog" before.
    pub const V10: Self = Self::since_10(10);
    /// PostgreSQL 11.
    pub const V11: Self = Self::since_10(11);
    /// PostgreSQL 12, the first without `recovery.conf`.
    pub const V12: Self = Self::since_10(12);
    /// PostgreSQL 13.
    pub const V13: Self = Self::since_10(13);
    /// PostgreSQL 14.
    pub const V14: Self = Self::since_10(14);
    /// PostgreSQL 15, the first with `pg_backup_start()`.
    pub const V15: Self = Self::since_10(15);
    /// PostgreSQL 16.
    pub const V16: Self = Self::since_10(16);
    /// PostgreSQL 17.
    pub const V17: Self = Self::since_10(17);
    /// PostgreSQL 18.
    pub const V18: Self = Self::since_10(18);
    /// PostgreSQL 19.
    pub const V19: Self = Self::since_10(19);

    /// The largest number that [`PgVersion::parse`] takes for a major version.
    pub const MAJOR_MAX: u16 = 999;

    const fn since_10(major: u16) -> Self {
        Self { major, minor: 0 }
    }

    /// Reads `9.6` or `15`: the text in `PG_VERSION`, in info files and in archive ids.
    ///
    /// # Errors
    /// Everything else, `15.3`, `9` and `015` included: a version has one text.
    pub fn parse(text: &str) -> Result<Self, PgVersionError> {
        let version = match text.split_once('.') {
            Some((major, minor)) => parse_number(major, 9).zip(parse_number(minor, 99)),
            None => parse_number(text, Self::MAJOR_MAX).filter(|&major| major >= 10).map(|major| (major, 0)),
        };
        version
            .and_then(|(major, minor)| Some(Self { major, minor: u8::try_from(minor).ok()? }))
            .ok_or_else(|| PgVersionError { text: text.to_owned() })
    }

    /// The version behind a `server_version_num`, such as `150004` or `90624`; `None` when it is none.
    #[must_use]
    pub fn from_server_version_num(number: u32) -> Option<Self> {
        let major = u16::try_from(number / 10_000).ok().filter(|major| (1..=Self::MAJOR_MAX).contains(major))?;
        let minor = if major >= 10 { 0 } else { u8::try_from(number / 100 % 100).ok()? };
        Some(Self { major, minor })
    }

    /// The version whose `pg_control` carries these two numbers.
    ///
    /// Both must match, since versions 13 to 16 share a control version. A version that was not released when its row
    /// was written takes later catalog versions of the same year too (`PG_INTERFACE_CONTROL_MATCH_RANGE` of the
    /// original's `postgres/interface/version.intern.h`).
    #[must_use]
    pub fn from_control_and_catalog(control_version: u32, catalog_version: u32) -> Option<Self> {
        VERSIONS
            .iter()
            .find(|row| row.control_version == control_version && row.has_catalog(catalog_version))
            .map(|row| row.version)
    }

    /// The version whose WAL pages begin with this magic number.
    #[must_use]
    pub fn from_wal_magic(magic: u16) -> Option<Self> {
        VERSIONS.iter().find(|row| row.wal_magic == magic).map(|row| row.version)
    }

    /// The version's row, or `None` for a version that this program does not know.
    #[must_use]
    pub fn facts(self) -> Option<&'static VersionFacts> {
        VERSIONS.iter().find(|row| row.version == self)
    }

    /// `wal` or, before 10, `xlog`: part of directory and function names.
    #[must_use]
    pub fn wal_name(self) -> &'static str {
        if self >= Self::V10 { "wal" } else { "xlog" }
    }

    /// The directory of WAL segments in the data directory.
    #[must_use]
    pub fn wal_directory(self) -> &'static str {
        if self >= Self::V10 { "pg_wal" } else { "pg_xlog" }
    }

    /// The directory of transaction status files in the data directory.
    #[must_use]
    pub fn xact_directory(self) -> &'static str {
        if self >= Self::V10 { "pg_xact" } else { "pg_clog" }
    }

    /// `lsn` or, before 10, `location`: part of SQL function and column names.
    #[must_use]
    pub fn lsn_name(self) -> &'static str {
        if self >= Self::V10 { "lsn" } else { "location" }
    }

    /// The directory of this version within a tablespace, such as `PG_15_202209061`; `None` for an unknown version.
    ///
    /// A version that was unreleased may have another catalog version on disk: use
    /// [`PgVersion::tablespace_directory_of_catalog`] where `pg_control` or a manifest tells it.
    #[must_use]
    pub fn tablespace_directory(self) -> Option<String> {
        self.facts().map(|row| self.tablespace_directory_of_catalog(row.catalog_version))
    }

    /// The directory of this version within a tablespace, for a catalog version read from `pg_control` or a manifest.
    #[must_use]
    pub fn tablespace_directory_of_catalog(self, catalog_version: u32) -> String {
        format!("PG_{self}_{catalog_version}")
    }
}

impl VersionFacts {
    fn has_catalog(&self, catalog_version: u32) -> bool {
        // A catalog version is YYYYMMDDN: this is the first of the following year.
        const YEAR: u32 = 100_000;
        let next_year = (self.catalog_version / YEAR + 1) * YEAR;
        catalog_version == self.catalog_version
            || self.unreleased && (self.catalog_version..next_year).contains(&catalog_version)
    }
}

impl fmt::Display for PgVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.major >= 10 { self.major.fmt(formatter) } else { write!(formatter, "{}.{}", self.major, self.minor) }
    }
}

impl fmt::Debug for PgVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PgVersion({self})")
    }
}

impl std::str::FromStr for PgVersion {
    type Err = PgVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Digits without sign or leading zero, up to `max`.
fn parse_number(digits: &str, max: u16) -> Option<u16> {
    let canonical = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|&number| canonical && number <= max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_row_is_found_by_each_of_its_keys() {
        for row in VERSIONS {
            assert_eq!(row.version.facts(), Some(row));
            assert_eq!(
                PgVersion::from_control_and_catalog(row.control_version, row.catalog_version),
                Some(row.version)
            );
            assert_eq!(PgVersion::from_wal_magic(row.wal_magic), Some(row.version));
            assert_eq!(PgVersion::parse(&row.version.to_string()), Ok(row.version));
        }
        assert!(VERSIONS.is_sorted_by_key(|row| row.version));
    }

    #[test]
    fn control_and_catalog_must_both_match() {
        assert_eq!(PgVersion::from_control_and_catalog(1300, 202_307_071), Some(PgVersion::V16));
        assert_eq!(PgVersion::from_control_and_catalog(1300, 202_406_281), None);
        assert_eq!(PgVersion::from_control_and_catalog(1700, 202_307_071), None);
        assert_eq!(PgVersion::from_control_and_catalog(1300, 202_209_062), None);
    }

    #[test]
    fn an_unreleased_version_takes_later_catalogs_of_its_year() {
        let found = |catalog| PgVersion::from_control_and_catalog(1902, catalog);
        assert_eq!(found(202_605_130), None);
        assert_eq!(found(202_605_131), Some(PgVersion::V19));
        assert_eq!(found(202_699_999), Some(PgVersion::V19));
        assert_eq!(found(202_700_000), None);
    }

    #[test]
    fn versions_order_by_number() {
        let mut versions = ["10", "9.6", "15", "9.10", "8.4"].map(|text| PgVersion::parse(text).unwrap());
        versions.sort();
        assert_eq!(versions.map(|version| version.to_string()), ["8.4", "9.6", "9.10", "10", "15"]);
    }

    #[test]
    fn unknown_versions_are_values_without_facts() {
        assert_eq!(PgVersion::parse("9.4").unwrap().facts(), None);
        let future = PgVersion::parse("42").unwrap();
        assert_eq!(future.facts(), None);
        assert_eq!(future.tablespace_directory(), None);
        assert_eq!(future.wal_directory(), "pg_wal");
    }

    #[test]
    fn refuses_other_texts() {
        for text in [
            "", "9", "9.", ".6", "9.6.1", "15.3", "10.0", "015", "09.6", "9.06", "+15", "15 ", "15\n", "-1", "1000",
            "9.100", "0",
        ] {
            assert!(PgVersion::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_follow_the_version() {
        assert_eq!(PgVersion::V9_6.wal_directory(), "pg_xlog");
        assert_eq!(PgVersion::V10.wal_directory(), "pg_wal");
        assert_eq!(PgVersion::V9_6.tablespace_directory().unwrap(), "PG_9.6_201608131");
        assert_eq!(PgVersion::V15.tablespace_directory().unwrap(), "PG_15_202209061");
    }

    #[test]
    fn server_version_numbers_are_read() {
        assert_eq!(PgVersion::from_server_version_num(150_004), Some(PgVersion::V15));
        assert_eq!(PgVersion::from_server_version_num(90_624), Some(PgVersion::V9_6));
        assert_eq!(PgVersion::from_server_version_num(0), None);
        assert_eq!(PgVersion::from_server_version_num(u32::MAX), None);
    }

    proptest! {
        #[test]
        fn any_accepted_text_is_the_canonical_one(text in "[0-9.]{0,6}") {
            if let Ok(version) = PgVersion::parse(&text) {
                prop_assert_eq!(version.to_string(), text);
            }
        }

        #[test]
        fn any_text_is_answered(text: String) {
            let _answer = PgVersion::parse(&text);
        }

        #[test]
        fn any_numbers_are_answered(control: u32, catalog: u32, magic: u16, server: u32) {
            let _by_control = PgVersion::from_control_and_catalog(control, catalog);
            let _by_magic = PgVersion::from_wal_magic(magic);
            let _by_server = PgVersion::from_server_version_num(server);
        }
    }
}
