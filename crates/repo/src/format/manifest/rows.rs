//! The other rows of a manifest: targets, paths, links, databases; and its header and options.

use super::owner::Owner;
use crate::format::archive_id::HistoryId;
use crate::format::compress_type::CompressType;
use crate::format::json::UnknownAttributes;
use crate::format::manifest_name::ManifestName;
use crate::format::stored_lsn::StoredLsn;
use crate::format::text::RawText;
use crate::postgres::{PgVersion, SystemId, WalSegmentName};

/// Section `[backup]`, but for the labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ManifestHeader {
    /// When files began to be copied, seconds since the Unix epoch; an online backup waits for the next second, so
    /// that no file can change within the second that its row states.
    pub timestamp_copy_start_s: i64,
    /// When the backup started.
    pub timestamp_start_s: i64,
    /// When it ended; 0 while it runs.
    pub timestamp_stop_s: i64,
    /// First WAL segment that it needs; `None` offline and while it runs.
    pub archive_start: Option<WalSegmentName>,
    /// Last WAL segment that it needs.
    pub archive_stop: Option<WalSegmentName>,
    /// Where it started in the WAL.
    pub lsn_start: Option<StoredLsn>,
    /// Where it ended in the WAL.
    pub lsn_stop: Option<StoredLsn>,
    /// Small files are stored in bundles.
    pub bundle: bool,
    /// Whole files in bundles are stored in raw form; inherited from the prior manifest.
    pub bundle_raw: bool,
    /// Files may be stored as blocks.
    pub block_incr: bool,
}

/// Section `[backup:db]`: the cluster that was backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManifestCluster {
    /// PostgreSQL version.
    pub version: PgVersion,
    /// Catalog version of `pg_control`.
    pub catalog_version: u32,
    /// Control version, of the table of versions.
    pub control_version: u32,
    /// Its generation in backup.info; `None` while the backup runs.
    pub history_id: Option<HistoryId>,
    /// Its system identifier; `None` while the backup runs.
    pub system_id: Option<SystemId>,
}

/// Section `[backup:option]`. `None` is an option that the file does not have: it is set at the end of a backup, or the
/// version that made the backup did not know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestOptions {
    /// The WAL is checked to be archived; false while the backup runs.
    pub archive_check: bool,
    /// The WAL is copied into the backup; false while the backup runs.
    pub archive_copy: bool,
    /// Files are read from a standby.
    pub backup_standby: Option<bool>,
    /// Size of the buffers, in bytes.
    pub buffer_size_bytes: Option<u64>,
    /// Page checksums are checked.
    pub checksum_page: Option<bool>,
    /// How files are compressed: the same for all backups of a set.
    pub compress_type: CompressType,
    /// Level of compression; 0 for none. A negative one is stored as the 32-bit number with the same bits.
    pub compress_level: Option<i32>,
    /// Level of compression between hosts.
    pub compress_level_network: Option<i32>,
    /// Files are compared by checksum, not by time and size.
    pub delta: Option<bool>,
    /// Referenced files are hard links.
    pub hardlink: bool,
    /// The cluster is running.
    pub online: bool,
    /// How many transfers go at once.
    pub process_max: Option<u32>,
}

/// A root of the backup, a line of `[backup:target]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    name: ManifestName,
    kind: TargetKind,
    pub(super) unknown: UnknownAttributes,
}

/// What a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetKind {
    /// The cluster's own directory, `pg_data`.
    PgData {
        /// Where it is.
        path: RawText,
    },
    /// A link in PGDATA to a directory.
    DirectoryLink {
        /// The text of the link.
        path: RawText,
    },
    /// A link in PGDATA to a file.
    FileLink {
        /// The directory part of the link's text.
        path: RawText,
        /// The file's base name.
        file: RawText,
    },
    /// A tablespace, `pg_tblspc/<oid>`.
    Tablespace {
        /// Where it is.
        path: RawText,
        /// Its oid.
        oid: u32,
        /// Its name, `ts<oid>` when it is not known.
        tablespace_name: RawText,
    },
}

/// Why a target cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The kind does not go with the name.
    #[error("the name of the target does not go with its kind")]
    Name,
    /// The path is empty or has a NUL byte.
    #[error("the path of the target is empty or has a NUL byte")]
    Path,
    /// The file is not one name.
    #[error("the file of the target is not a single file name")]
    File,
}

impl Target {
    /// A target.
    ///
    /// # Errors
    /// [`TargetError`] when name and kind do not go together, or the path or file cannot be one.
    pub fn new(name: ManifestName, kind: TargetKind) -> Result<Self, TargetError> {
        let bytes = name.as_bytes();
        let fits = match &kind {
            TargetKind::PgData { .. } => bytes == b"pg_data",
            TargetKind::DirectoryLink { .. } | TargetKind::FileLink { .. } => name.below_pg_data().is_some(),
            TargetKind::Tablespace { oid, .. } => *oid != 0 && bytes == format!("pg_tblspc/{oid}").as_bytes(),
        };
        if !fits {
            return Err(TargetError::Name);
        }
        if kind.path().is_empty() || kind.path().as_bytes().contains(&0) {
            return Err(TargetError::Path);
        }
        if let TargetKind::FileLink { file, .. } = &kind {
            let file = file.as_bytes();
            if matches!(file, b"" | b"." | b"..") || file.iter().any(|byte| matches!(byte, 0 | b'/')) {
                return Err(TargetError::File);
            }
        }
        Ok(Self { name, kind, unknown: UnknownAttributes::default() })
    }

    /// The name.
    pub fn name(&self) -> &ManifestName {
        &self.name
    }

    /// What it is.
    pub fn kind(&self) -> &TargetKind {
        &self.kind
    }
}

impl TargetKind {
    /// The path: of a link its text (without the file), which may be relative to the directory of the link.
    pub fn path(&self) -> &RawText {
        match self {
            Self::PgData { path } | Self::DirectoryLink { path } | Self::FileLink { path, .. } => path,
            Self::Tablespace { path, .. } => path,
        }
    }
}

/// A directory, a line of `[target:path]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRow {
    pub(super) name: ManifestName,
    /// Owner.
    pub user: Owner,
    /// Group.
    pub group: Owner,
    /// Permission bits, at most 0o7777.
    pub mode: u16,
    pub(super) unknown: UnknownAttributes,
}

impl PathRow {
    /// A directory.
    pub fn new(name: ManifestName, user: Owner, group: Owner, mode: u16) -> Self {
        Self { name, user, group, mode, unknown: UnknownAttributes::default() }
    }

    /// The name.
    pub fn name(&self) -> &ManifestName {
        &self.name
    }
}

/// A symbolic link, a line of `[target:link]`. A tablespace is `pg_data/pg_tblspc/<oid>` here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRow {
    pub(super) name: ManifestName,
    pub(super) destination: RawText,
    /// Owner.
    pub user: Owner,
    /// Group.
    pub group: Owner,
    pub(super) unknown: UnknownAttributes,
}

impl LinkRow {
    /// A link with the text `destination`; `None` when the text cannot be that of a link.
    pub fn new(name: ManifestName, destination: RawText, user: Owner, group: Owner) -> Option<Self> {
        let possible = !destination.is_empty() && !destination.as_bytes().contains(&0);
        possible.then(|| Self { name, destination, user, group, unknown: UnknownAttributes::default() })
    }

    /// The name.
    pub fn name(&self) -> &ManifestName {
        &self.name
    }

    /// The text of the link.
    pub fn destination(&self) -> &RawText {
        &self.destination
    }
}

/// A database, a line of `[db]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its name.
    pub name: RawText,
    /// Its oid.
    pub oid: u32,
    /// Deprecated; current versions store the oid of `template0` for every database.
    pub last_system_oid: u32,
    pub(super) unknown: UnknownAttributes,
}

impl Database {
    /// A database.
    pub fn new(name: RawText, oid: u32, last_system_oid: u32) -> Self {
        Self { name, oid, last_system_oid, unknown: UnknownAttributes::default() }
    }
}
