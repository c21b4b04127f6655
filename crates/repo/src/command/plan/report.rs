//! What a plan says. Pure.

use std::collections::BTreeMap;

use crate::format::{ArchiveId, BackupEntry, BackupLabel};
use crate::postgres::WalSegmentName;
use crate::repository::RepoIndex;
use crate::repository::backup_choice::Chosen;
use crate::repository::recovery_goal::{RecoveryGoal, RecoveryType};

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The target in words.
    pub target: String,
    /// Why it cannot be reached; nothing when it can.
    pub obstacles: Vec<String>,
    /// What to know about the answer.
    pub notes: Vec<String>,
    /// The backup; `None` when there is none.
    pub backup: Option<BackupPart>,
    /// The WAL; `None` when none is needed, or without a backup.
    pub wal: Option<WalPart>,
}

/// The backup of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupPart {
    /// Where it is.
    pub repository: RepoIndex,
    /// Its name.
    pub label: BackupLabel,
    /// When it ended, seconds since the Unix epoch.
    pub timestamp_stop_s: i64,
    /// The other backups that it takes files from.
    pub references: Vec<BackupLabel>,
    /// Bytes that are restored.
    pub size_bytes: u64,
    /// Bytes that are fetched for that.
    pub size_repo_bytes: u64,
}

/// The WAL of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalPart {
    /// The generation of the cluster.
    pub archive_id: ArchiveId,
    /// What is archived of it, in the order of replay.
    pub runs: Vec<WalRun>,
    /// What is missing.
    pub missing: Vec<MissingRun>,
    /// The last segment before the first that is missing: replay gets there.
    pub last: Option<WalSegmentName>,
    /// When that was archived, seconds since the Unix epoch.
    pub last_archived_s: Option<i64>,
}

/// Consecutive segments from one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalRun {
    /// The repository.
    pub repository: RepoIndex,
    /// First segment.
    pub first: WalSegmentName,
    /// Last segment.
    pub last: WalSegmentName,
    /// How many.
    pub count: u64,
    /// Stored bytes.
    pub size_repo_bytes: u64,
}

/// Consecutive segments that are missing, or that are stored with several contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRun {
    /// First segment.
    pub first: WalSegmentName,
    /// Last segment.
    pub last: WalSegmentName,
}

impl Plan {
    pub(super) fn new(goal: &RecoveryGoal) -> Self {
        let mut target = match &goal.recovery_type {
            RecoveryType::Default => "end of the archive".to_owned(),
            RecoveryType::Immediate => "consistency of the backup".to_owned(),
            RecoveryType::Standby => "end of the archive, as a standby".to_owned(),
            RecoveryType::Preserve | RecoveryType::None => "the backup without recovery settings".to_owned(),
            RecoveryType::Target(kind, text) => format!("{} '{text}'", kind.name()),
        };
        if let Some(timeline) = &goal.target_timeline {
            target.push_str(&format!(" on timeline {timeline}"));
        }
        Self { target, obstacles: Vec::new(), notes: Vec::new(), backup: None, wal: None }
    }

    /// Whether the target can be reached, as far as can be told without replaying.
    pub fn is_reachable(&self) -> bool {
        self.obstacles.is_empty()
    }

    pub(super) fn refuse(&mut self, reason: impl Into<String>) {
        self.obstacles.push(reason.into());
    }
}

impl BackupPart {
    pub(super) fn of(chosen: &Chosen<'_>, entry: &BackupEntry) -> Self {
        Self {
            repository: chosen.repository.index(),
            label: entry.label,
            timestamp_stop_s: entry.timestamp_stop_s,
            references: entry.references.clone().unwrap_or_default(),
            size_bytes: entry.sizes.size_bytes,
            size_repo_bytes: entry.sizes.size_repo_bytes,
        }
    }
}

impl WalPart {
    pub(super) fn new(archive_id: ArchiveId) -> Self {
        Self { archive_id, runs: Vec::new(), missing: Vec::new(), last: None, last_archived_s: None }
    }
}

/// Bytes that come from each repository, for the backup and for WAL.
pub(super) fn bytes_by_repository(plan: &Plan) -> Vec<(RepoIndex, u64)> {
    let mut bytes = BTreeMap::<RepoIndex, u64>::new();
    let backup = plan.backup.iter().map(|backup| (backup.repository, backup.size_repo_bytes));
    let wal = plan.wal.iter().flat_map(|wal| &wal.runs).map(|run| (run.repository, run.size_repo_bytes));
    for (repository, size_bytes) in backup.chain(wal) {
        let sum = bytes.entry(repository).or_default();
        *sum = sum.saturating_add(size_bytes);
    }
    bytes.into_iter().collect()
}
