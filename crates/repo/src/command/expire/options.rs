//! What is to be removed.

use std::num::NonZeroU32;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::permit::Permit;
use crate::error::Result;
use crate::format::{BackupLabel, BackupType};
use crate::postgres::WalSegmentName;

/// What one run of `expire` is to do, the same in every repository.
#[derive(Debug, Clone)]
pub struct ExpireRequest {
    /// Which backups go.
    pub backups: ExpiredBackups,
    /// Only WAL below this segment may go (`archive-expire-before`).
    pub archive_before: Option<WalSegmentName>,
    /// Refuse to keep a backup with page checksum errors as the oldest one (`checksum-page-error`).
    pub end_at_page_errors: bool,
    /// Change nothing; only say what would be removed.
    pub dry_run: bool,
    /// The zone of backup labels, in which the age of a manifest of the history is counted.
    pub time_zone: TimeZone,
    /// Who says whether this process may still remove; without one it may.
    pub permit: Option<Arc<dyn Permit>>,
}

impl ExpireRequest {
    /// Asks the permit.
    ///
    /// # Errors
    /// Its own.
    pub(super) async fn confirm(&self) -> Result<()> {
        match &self.permit {
            Some(permit) if !self.dry_run => permit.confirm().await,
            _ => Ok(()),
        }
    }
}

/// Which backups go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpiredBackups {
    /// Those beyond each repository's retention.
    Retention,
    /// The oldest full backup with its dependents (`oldest`).
    Oldest,
    /// This backup with its dependents, whatever the retention (`set`).
    Set(BackupLabel),
}

/// What holds for one repository.
#[derive(Debug, Clone)]
pub struct RepositoryRules {
    /// What is kept in it.
    pub retention: Retention,
    /// Whether the link `latest` is wanted (`repo-symlink`).
    pub symlinks: bool,
    /// Where the repository is (`repo-path`), for messages.
    pub path: String,
}

/// What is kept. A number cannot be zero: there is no way to ask for keeping nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// What `full` counts.
    pub full_unit: FullUnit,
    /// Full backups, or days; `None` keeps all.
    pub full: Option<NonZeroU32>,
    /// Differential backups, full ones counted among them; `None` keeps all.
    pub diff: Option<NonZeroU32>,
    /// For which backups all WAL is kept.
    pub wal: WalRetention,
    /// Days for which manifests of removed backups are kept; `None` keeps them for ever.
    pub history_days: Option<u32>,
}

/// What the number of full backups to keep counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullUnit {
    /// Backups.
    Count,
    /// Days.
    Days,
}

/// For which backups all WAL is kept; older ones keep what makes them consistent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalRetention {
    /// Which backups count: full ones, full and differential ones, or all.
    pub kind: BackupType,
    /// How many of them; `None` keeps all WAL.
    pub count: Option<NonZeroU32>,
}
