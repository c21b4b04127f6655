//! What a restore is asked for, and what became of it.

use std::path::PathBuf;

use jiff::tz::TimeZone;

use super::databases::DatabaseChoice;
use super::recovery::RecoveryOptions;
use crate::format::BackupLabel;
use crate::pgdata::{LinkPolicy, MapOptions};
use crate::postgres::PgVersion;
use crate::repository::RepoIndex;
use crate::repository::recovery_goal::RecoveryGoal;

/// Settings of a restore.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The data directory, and where tablespaces and links go.
    pub map: MapOptions,
    /// The backup; `None` chooses one by the recovery target.
    pub set: Option<BackupLabel>,
    /// Keep files that are as they should be, by size and checksum.
    pub delta: bool,
    /// Overwrite what is there; together with `delta`, trust size and time instead of checksums.
    pub force: bool,
    /// Recovery settings to write.
    pub recovery: RecoveryOptions,
    /// Nobody asked for a recovery type: a backup of a stopped cluster is then restored without recovery.
    pub recovery_by_default: bool,
    /// Databases to restore; the others come empty.
    pub databases: DatabaseChoice,
    /// What happens to files that had invalid page checksums when they were backed up.
    pub page_errors: PageErrors,
    /// Transfers at once.
    pub workers: usize,
    /// Unwanted bytes between two files of a bundle up to which they are fetched in one request.
    pub read_over_bytes: u64,
    /// Where links may lead.
    pub links: LinkPolicy,
    /// The version to read `pg_control` as, when it cannot be told from the file.
    pub version_force: Option<PgVersion>,
    /// Directory of the stanza's WAL spool, which describes the cluster that is replaced and is removed.
    pub spool: Option<PathBuf>,
    /// The zone of times without one, and of times in messages.
    pub time_zone: TimeZone,
}

impl RestoreOptions {
    /// What the choice of the backup and of the timeline depends on.
    pub(super) fn goal(&self) -> RecoveryGoal {
        RecoveryGoal {
            set: self.set,
            recovery_type: self.recovery.recovery_type.clone(),
            target_timeline: self.recovery.target_timeline.clone(),
            reaches_timeline: false,
            time_zone: self.time_zone.clone(),
        }
    }
}

/// What happens to files that their backup lists with invalid page checksums (`checksum-page-error`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PageErrors {
    /// The restore is refused.
    #[default]
    Refuse,
    /// They are restored, with a warning for each.
    Warn,
}

/// A finished restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreOutcome {
    /// The repository that it came from.
    pub repository: RepoIndex,
    /// The backup.
    pub label: BackupLabel,
    /// Bytes of all files, those that were kept included.
    pub size_bytes: u64,
    /// Files.
    pub file_count: u64,
}
