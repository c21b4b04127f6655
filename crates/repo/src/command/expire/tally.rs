//! What a run is about to remove, in one line before it begins: who looks at the log sees a policy that takes too much
//! before the backups are gone, and can compare with what was said of each.

use std::fmt;

use super::options::{ExpireRequest, ExpiredBackups, FullUnit, RepositoryRules, Retention};
use crate::repository::RepoIndex;

/// How much goes, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    /// Directories of backups that are expired.
    pub(super) backups: usize,
    /// Directories of backups that nobody lists and that are none.
    pub(super) unfinished: usize,
    /// Archives of clusters without a backup, with all that is in them.
    pub(super) archives: usize,
    /// Directories of WAL, with all that is in them.
    pub(super) wal_directories: usize,
    /// Files of directories of which something stays.
    pub(super) wal_files: usize,
    /// History files of timelines.
    pub(super) history_files: usize,
    /// Years of the manifest history, with all that is in them.
    pub(super) history_years: usize,
    /// Manifests of the history of a year of which something stays.
    pub(super) history_manifests: usize,
}

impl Tally {
    /// Whether nothing goes.
    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for Tally {
    /// `2 backups, 12 WAL files`: what is not zero.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            (self.backups, "backup", "backups"),
            (self.unfinished, "unfinished backup", "unfinished backups"),
            (self.archives, "archive", "archives"),
            (self.wal_directories, "WAL directory", "WAL directories"),
            (self.wal_files, "WAL file", "WAL files"),
            (self.history_files, "timeline history file", "timeline history files"),
            (self.history_years, "year of backup history", "years of backup history"),
            (self.history_manifests, "backup history manifest", "backup history manifests"),
        ];
        let mut separator = "";
        for (count, one, many) in kinds.into_iter().filter(|(count, ..)| *count > 0) {
            write!(formatter, "{separator}{count} {}", if count == 1 { one } else { many })?;
            separator = ", ";
        }
        Ok(())
    }
}

/// The rules of a run, by the names of the options that set them: `by repo1-retention-full=2`.
pub(super) fn policy(index: RepoIndex, request: &ExpireRequest, rules: &RepositoryRules) -> String {
    let retention = &rules.retention;
    let mut parts = match &request.backups {
        ExpiredBackups::Set(label) => vec![format!("set={label}")],
        ExpiredBackups::Oldest => vec!["oldest".to_owned()],
        ExpiredBackups::Retention => of_backups(index, retention),
    };
    if let Some(count) = retention.wal.count {
        parts.push(format!("{index}-retention-archive-type={}", retention.wal.kind));
        parts.push(format!("{index}-retention-archive={count}"));
    }
    if let Some(days) = retention.history_days {
        parts.push(format!("{index}-retention-history={days}"));
    }
    if let Some(before) = request.archive_before {
        parts.push(format!("archive-expire-before={before}"));
    }
    if parts.is_empty() { "by no rule".to_owned() } else { format!("by {}", parts.join(", ")) }
}

fn of_backups(index: RepoIndex, retention: &Retention) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(full) = retention.full {
        let unit = match retention.full_unit {
            FullUnit::Count => "count",
            FullUnit::Days => "time",
        };
        parts.push(format!("{index}-retention-full-type={unit}"));
        parts.push(format!("{index}-retention-full={full}"));
    }
    if let Some(diff) = retention.diff {
        parts.push(format!("{index}-retention-diff={diff}"));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_not_said() {
        let tally = Tally { backups: 2, wal_directories: 1, wal_files: 1, ..Tally::default() };
        assert_eq!(tally.to_string(), "2 backups, 1 WAL directory, 1 WAL file");
        assert!(!tally.is_empty() && Tally::default().is_empty());
    }
}
