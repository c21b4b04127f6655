//! What a backup is asked for, and what became of it.

use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::block_size::BlockRules;
use crate::filter::Compression;
use crate::format::backup_entry::BackupSizes;
use crate::format::{Annotations, BackupLabel, BackupType};
use crate::pgdata::LinkPolicy;
use crate::postgres::PgVersion;
use crate::postgres::page::PageHeaderCheck;

/// Settings of a backup. Names in parentheses are pgBackRest's options.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// What to make (`type`).
    pub backup_type: BackupType,
    /// The data directory (`pg-path`), as the server itself names it.
    pub pg_path: PathBuf,
    /// The version to assume for `pg_control` (`pg-version-force`).
    pub version_force: Option<PgVersion>,
    /// Go on although a server seems to run on the data directory of an offline backup (`force`).
    pub force: bool,
    /// Ask for an immediate checkpoint (`start-fast`).
    pub start_fast: bool,
    /// The limit of a statement (`db-timeout`), for the warning that a checkpoint may take longer.
    pub db_timeout: Duration,
    /// Demand that the WAL of an online backup is archived (`archive-check`); `None` does not look.
    pub archive_check: Option<ArchiveCheck>,
    /// How long to wait for each segment, and for a standby to replay the begin of the backup (`archive-timeout`).
    pub archive_timeout: Duration,
    /// Which pages are checked, and what an invalid one means.
    pub pages: PageOptions,
    /// What is left out (`exclude`): paths relative to the data directory; with a `/` at the end only the contents.
    pub exclude: Vec<Vec<u8>>,
    /// Which links are followed.
    pub links: LinkPolicy,
    /// How files are compressed (`compress-type`, `compress-level`).
    pub compress: Compression,
    /// Small files go into bundles (`repo-bundle`); `None` stores each file in an object of its own.
    pub bundle: Option<BundleOptions>,
    /// Only changed blocks of files are stored (`repo-block`); `None` stores files whole. Needs bundles.
    pub block: Option<BlockOptions>,
    /// Compare contents where times and sizes are the same as in the prior backup (`delta`).
    pub delta: bool,
    /// Keep what a later backup can go on with, and go on with what an earlier one left (`resume`).
    pub resume: bool,
    /// Bytes copied between two saves of the unfinished manifest (`manifest-save-threshold`).
    pub manifest_save_threshold_bytes: u64,
    /// Keep the link `latest` and the links of tablespaces, where the repository is a directory (`repo-symlink`).
    pub symlinks: bool,
    /// What to note about the backup (`annotation`).
    pub annotations: Annotations,
    /// The zone whose time stands in labels: that of the process.
    pub time_zone: TimeZone,
    /// Transfers at once (`process-max`).
    pub process_max: u32,
    /// What is only recorded.
    pub recorded: RecordedOptions,
}

/// How the WAL is checked.
#[derive(Debug, Clone, Copy)]
pub struct ArchiveCheck {
    /// Refuse `archive_mode=always` (`archive-mode-check`).
    pub refuse_always: bool,
    /// Store the WAL within the backup as well (`archive-copy`).
    pub copy: bool,
}

/// The check of pages.
#[derive(Debug, Clone, Copy)]
pub struct PageOptions {
    /// Check them (`checksum-page`); `None` does so when the cluster is online and has checksums.
    pub check: Option<bool>,
    /// What tells a new page (`page-header-check`).
    pub header_check: PageHeaderCheck,
    /// End the backup at the first invalid page instead of recording it (`checksum-page-error`).
    pub end_at_error: bool,
}

/// Which files go into bundles.
#[derive(Debug, Clone, Copy)]
pub struct BundleOptions {
    /// Plain bytes at which a bundle is closed (`repo-bundle-size`).
    pub size_bytes: u64,
    /// The largest file that goes into one (`repo-bundle-limit`).
    pub limit_bytes: u64,
}

/// How files are cut into blocks.
#[derive(Debug, Clone)]
pub struct BlockOptions {
    /// Which files, and into which blocks.
    pub rules: BlockRules,
    /// The plain size of a super block in a full backup (`repo-block-size-super-full`).
    pub size_super_full_bytes: u64,
    /// The same in a differential or incremental one (`repo-block-size-super`).
    pub size_super_bytes: u64,
}

/// Options that have no effect here but stand in the manifest.
#[derive(Debug, Clone, Copy)]
pub struct RecordedOptions {
    /// `buffer-size`
    pub buffer_size_bytes: u64,
    /// `compress-level-network`
    pub compress_level_network: i32,
    /// `repo-hardlink`
    pub hardlink: bool,
}

/// A backup that is complete and listed.
#[derive(Debug, Clone)]
pub struct BackupOutcome {
    /// Its name.
    pub label: BackupLabel,
    /// Sums over its files.
    pub sizes: BackupSizes,
    /// Files in it.
    pub file_total: usize,
    /// Whether a file has invalid page checksums.
    pub has_page_errors: bool,
}
