//! `global/pg_control`: who a cluster is, how it was built, and where its last checkpoint is.

use crc_fast::crc32_iscsi;

use super::little_endian::{u32_at, u64_at};
use super::lsn::Lsn;
use super::page::{PageSize, PageSizeError};
use super::system_id::SystemId;
use super::timeline::Timeline;
use super::version::{ControlOffsets, PgVersion, VersionFacts};
use super::wal_segment::{WalSegmentSize, WalSegmentSizeError};

/// A `pg_control` whose CRC and values were checked.
///
/// The file has [`ControlFile::FILE_SIZE_BYTES`], of which PostgreSQL uses the first [`ControlFile::SIZE_BYTES`] (one
/// disk sector, so that a crash cannot tear it) and fills the rest with zeros. Some fields stand at the same place in
/// every version (`ControlFileData` of PostgreSQL's `catalog/pg_control.h`):
///
/// | offset | bytes | field |
/// | --- | --- | --- |
/// | 0 | 8 | system identifier |
/// | 8 | 4 | version of this layout |
/// | 12 | 4 | catalog version |
/// | 16 | 4 | what the server was doing, see [`ControlFile::is_in_archive_recovery`] |
/// | 32 | 8 | LSN of the last checkpoint |
///
/// The others move; see [`ControlOffsets`]. The last field is the CRC-32C of all bytes before it.
///
/// A server that runs may write the file while it is read, and a reader can then see half of each: the CRC tells, and
/// who reads the file tries again.
#[derive(Clone, PartialEq, Eq)]
pub struct ControlFile {
    bytes: [u8; ControlFile::SIZE_BYTES],
    crc_offset: usize,
    version: PgVersion,
    catalog_version: u32,
    system_id: SystemId,
    checkpoint: Lsn,
    timeline: Timeline,
    page_size: PageSize,
    wal_segment_size: WalSegmentSize,
    data_checksum_version: u32,
    state: u32,
    minimum_recovery: MinimumRecovery,
}

/// Where a standby, or what was copied of one, is consistent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinimumRecovery {
    /// Everything on disk is from WAL before this (`minRecoveryPoint`); zero on a primary.
    pub lsn: Lsn,
    /// Its timeline; `None` on a primary.
    pub timeline: Option<Timeline>,
}

/// Bytes that are no intact `pg_control` of a known version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ControlFileError {
    /// Fewer bytes than PostgreSQL uses.
    #[error("pg_control has {size_bytes} bytes: expected at least {}", ControlFile::SIZE_BYTES)]
    TooShort {
        /// Bytes given.
        size_bytes: usize,
    },
    /// No known version has this pair of numbers.
    #[error(
        "unexpected control version = {control_version} and catalog version = {catalog_version} in pg_control: \
         is this version of PostgreSQL supported?"
    )]
    UnknownVersion {
        /// The version of the layout, as found.
        control_version: u32,
        /// The catalog version, as found.
        catalog_version: u32,
    },
    /// The version that the caller forced is not a known one.
    #[error("cannot read pg_control as PostgreSQL {version}: is this version of PostgreSQL supported?")]
    UnsupportedForcedVersion {
        /// The version asked for.
        version: PgVersion,
    },
    /// The file is damaged, was caught while being written, or has another layout.
    #[error("calculated pg_control checksum {calculated:#010x} does not match expected value {expected:#010x}")]
    Crc {
        /// The CRC of the bytes.
        calculated: u32,
        /// The CRC that the file has, at the place where the version keeps it.
        expected: u32,
    },
    /// The WAL segment size is none.
    #[error("in pg_control: {0}")]
    WalSegmentSize(#[from] WalSegmentSizeError),
    /// The page size is none.
    #[error("in pg_control: {0}")]
    PageSize(#[from] PageSizeError),
    /// The data checksums are of an unknown kind.
    #[error("page checksum version is {found} in pg_control: expected at most {max}")]
    DataChecksumVersion {
        /// The number found.
        found: u32,
        /// The largest number of the version.
        max: u32,
    },
    /// The last checkpoint is on timeline zero.
    #[error("pg_control has timeline 0")]
    NoTimeline,
}

const CONTROL_VERSION_OFFSET: usize = 8;
const CATALOG_VERSION_OFFSET: usize = 12;
const STATE_OFFSET: usize = 16;
const CHECKPOINT_OFFSET: usize = 32;

/// `DB_SHUTDOWNED_IN_RECOVERY` and `DB_IN_ARCHIVE_RECOVERY` of PostgreSQL's `catalog/pg_control.h`, which have these
/// numbers in every version known.
const STATES_OF_ARCHIVE_RECOVERY: [u32; 2] = [2, 5];

/// `PG_DATA_CHECKSUM_VERSION`: pages have checksums.
const DATA_CHECKSUMS_ON: u32 = 1;
/// `PG_DATA_CHECKSUM_INPROGRESS_ON` of PostgreSQL 19; being switched off is 2.
const DATA_CHECKSUMS_SWITCHING_ON: u32 = 3;

impl ControlFile {
    /// Bytes that count; a reader needs no more.
    pub const SIZE_BYTES: usize = 512;

    /// Size of the file.
    pub const FILE_SIZE_BYTES: usize = 8192;

    /// The checkpoint of a restored cluster: no record is there, so the server refuses to start without `backup_label`
    /// (the original's `PG_CONTROL_CHECKPOINT_INVALID`).
    pub const INVALID_CHECKPOINT: Lsn = Lsn(0xDEAD);

    /// Reads the first [`ControlFile::SIZE_BYTES`] of `bytes`; the version is told by control and catalog version.
    ///
    /// # Errors
    /// [`ControlFileError`]: the length, then the version, then the CRC, and only then the values.
    pub fn parse(bytes: &[u8]) -> Result<Self, ControlFileError> {
        let bytes = counting_bytes(bytes)?;
        let control_version = word(bytes, CONTROL_VERSION_OFFSET);
        let catalog_version = word(bytes, CATALOG_VERSION_OFFSET);
        let facts = PgVersion::from_control_and_catalog(control_version, catalog_version)
            .and_then(PgVersion::facts)
            .ok_or(ControlFileError::UnknownVersion { control_version, catalog_version })?;
        check_crc(bytes, facts.control.crc)?;
        Self::from_checked(bytes, facts, facts.control.crc)
    }

    /// Reads the file as one of `version`, whatever its own numbers say: for forks of PostgreSQL (the original's
    /// `pg-version-force`).
    ///
    /// A fork may have fields of its own before the CRC, so the CRC is searched for every four bytes from its usual
    /// place on, to the end of the bytes that count.
    ///
    /// # Errors
    /// As [`ControlFile::parse`], but an unknown `version` instead of unknown numbers in the file.
    pub fn parse_forced(version: PgVersion, bytes: &[u8]) -> Result<Self, ControlFileError> {
        let facts = version.facts().ok_or(ControlFileError::UnsupportedForcedVersion { version })?;
        let bytes = counting_bytes(bytes)?;
        let usual = facts.control.crc;
        let crc_offset = match check_crc(bytes, usual) {
            Ok(()) => usual,
            // The values of the usual place say more than those of the last place tried.
            Err(error) => (usual..=Self::SIZE_BYTES - size_of::<u32>())
                .step_by(size_of::<u32>())
                .find(|&offset| check_crc(bytes, offset).is_ok())
                .ok_or(error)?,
        };
        Self::from_checked(bytes, facts, crc_offset)
    }

    fn from_checked(
        bytes: &[u8; Self::SIZE_BYTES],
        facts: &VersionFacts,
        crc_offset: usize,
    ) -> Result<Self, ControlFileError> {
        let ControlOffsets { timeline, minimum_recovery, page_size, wal_segment_size, data_checksum_version, crc: _ } =
            facts.control;
        Ok(Self {
            bytes: *bytes,
            crc_offset,
            version: facts.version,
            catalog_version: word(bytes, CATALOG_VERSION_OFFSET),
            system_id: SystemId(u64_at(bytes, 0).unwrap_or_default()),
            checkpoint: Lsn(u64_at(bytes, CHECKPOINT_OFFSET).unwrap_or_default()),
            wal_segment_size: WalSegmentSize::new(word(bytes, wal_segment_size))?,
            page_size: PageSize::new(word(bytes, page_size).into())?,
            data_checksum_version: data_checksums(facts.version, word(bytes, data_checksum_version))?,
            timeline: Timeline::new(word(bytes, timeline)).ok_or(ControlFileError::NoTimeline)?,
            state: word(bytes, STATE_OFFSET),
            minimum_recovery: MinimumRecovery {
                lsn: Lsn(u64_at(bytes, minimum_recovery).unwrap_or_default()),
                timeline: Timeline::new(word(bytes, minimum_recovery + size_of::<u64>())),
            },
        })
    }

    /// The version, by the numbers in the file or as forced.
    #[must_use]
    pub fn version(&self) -> PgVersion {
        self.version
    }

    /// The catalog version as found: it names the tablespace directory and stands in `backup.info` and manifests.
    #[must_use]
    pub fn catalog_version(&self) -> u32 {
        self.catalog_version
    }

    /// The version of the file's layout as found; stands in `backup.info` and manifests.
    #[must_use]
    pub fn control_version(&self) -> u32 {
        word(&self.bytes, CONTROL_VERSION_OFFSET)
    }

    /// The cluster's identity.
    #[must_use]
    pub fn system_id(&self) -> SystemId {
        self.system_id
    }

    /// The position of the last checkpoint record.
    #[must_use]
    pub fn checkpoint(&self) -> Lsn {
        self.checkpoint
    }

    /// The timeline of the last checkpoint.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// Whether the cluster replays WAL of another one, or did so when it was shut down. PostgreSQL demands it of the
    /// `pg_control` in a backup that was taken from a standby.
    #[must_use]
    pub fn is_in_archive_recovery(&self) -> bool {
        STATES_OF_ARCHIVE_RECOVERY.contains(&self.state)
    }

    /// Where replay must get to before the cluster is consistent. A backup that was taken from a standby ends here.
    #[must_use]
    pub fn minimum_recovery(&self) -> MinimumRecovery {
        self.minimum_recovery
    }

    /// The page size of relations.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// The cluster's WAL segment size.
    #[must_use]
    pub fn wal_segment_size(&self) -> WalSegmentSize {
        self.wal_segment_size
    }

    /// One when all pages have checksums, else zero: also while PostgreSQL 19 switches them on or off, when pages
    /// without a valid checksum are no error.
    #[must_use]
    pub fn data_checksum_version(&self) -> u32 {
        self.data_checksum_version
    }

    /// Whether all pages have checksums.
    #[must_use]
    pub fn has_data_checksums(&self) -> bool {
        self.data_checksum_version == DATA_CHECKSUMS_ON
    }

    /// The whole file as a backup stores it: what counts, then zeros to [`ControlFile::FILE_SIZE_BYTES`].
    #[must_use]
    pub fn to_file(&self) -> Vec<u8> {
        let mut file = self.bytes.to_vec();
        file.resize(Self::FILE_SIZE_BYTES, 0);
        file
    }

    /// The whole file as a restore of an online backup writes it: with [`ControlFile::INVALID_CHECKPOINT`] and a CRC
    /// that is right again, where it was found.
    #[must_use]
    pub fn invalidated(&self) -> Vec<u8> {
        let mut file = self.to_file();
        let checkpoint = Self::INVALID_CHECKPOINT.0.to_le_bytes();
        write_at(&mut file, CHECKPOINT_OFFSET, &checkpoint);
        let crc = file.get(..self.crc_offset).map_or(0, crc32c);
        write_at(&mut file, self.crc_offset, &crc.to_le_bytes());
        file
    }
}

impl std::fmt::Debug for ControlFile {
    /// Without the raw bytes: they hold the nonce of the server's authentication.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ControlFile")
            .field("version", &self.version)
            .field("catalog_version", &self.catalog_version)
            .field("system_id", &self.system_id)
            .field("checkpoint", &self.checkpoint)
            .field("timeline", &self.timeline)
            .field("page_size", &self.page_size)
            .field("wal_segment_size", &self.wal_segment_size)
            .field("data_checksum_version", &self.data_checksum_version)
            .field("state", &self.state)
            .field("minimum_recovery", &self.minimum_recovery)
            .finish_non_exhaustive()
    }
}

fn counting_bytes(bytes: &[u8]) -> Result<&[u8; ControlFile::SIZE_BYTES], ControlFileError> {
    bytes.first_chunk().ok_or(ControlFileError::TooShort { size_bytes: bytes.len() })
}

/// A field of 32 bits; every offset of the table lies within the bytes.
fn word(bytes: &[u8; ControlFile::SIZE_BYTES], offset: usize) -> u32 {
    u32_at(bytes, offset).unwrap_or_default()
}

fn check_crc(bytes: &[u8; ControlFile::SIZE_BYTES], crc_offset: usize) -> Result<(), ControlFileError> {
    let calculated = bytes.get(..crc_offset).map_or(0, crc32c);
    let expected = word(bytes, crc_offset);
    if calculated == expected { Ok(()) } else { Err(ControlFileError::Crc { calculated, expected }) }
}

/// The CRC-32C (Castagnoli, as in iSCSI) that PostgreSQL uses.
fn crc32c(bytes: &[u8]) -> u32 {
    crc32_iscsi(bytes)
}

fn write_at(file: &mut [u8], offset: usize, field: &[u8]) {
    for (target, byte) in file.iter_mut().skip(offset).zip(field) {
        *target = *byte;
    }
}

/// The stored number, with the states in between of PostgreSQL 19 counting as "no checksums".
fn data_checksums(version: PgVersion, found: u32) -> Result<u32, ControlFileError> {
    let max = if version > PgVersion::V18 { DATA_CHECKSUMS_SWITCHING_ON } else { DATA_CHECKSUMS_ON };
    if found > max {
        Err(ControlFileError::DataChecksumVersion { found, max })
    } else {
        Ok(if found == DATA_CHECKSUMS_ON { found } else { 0 })
    }
}

#[cfg(test)]
#[path = "control_file_test.rs"]
mod tests;
