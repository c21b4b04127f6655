//! What `info` reports, before it is printed.

use std::borrow::Cow;

use crate::error::Error;
use crate::format::{ArchiveId, BackupEntry, HistoryId};
use crate::postgres::{PgVersion, SystemId, WalSegmentName};
use crate::progress::Progress;
use crate::repository::RepoIndex;

use super::details::BackupDetails;

/// What all repositories hold.
#[derive(Debug, Clone)]
pub struct InfoReport {
    /// In ascending order of the names.
    pub stanzas: Vec<StanzaReport>,
}

/// One stanza over all repositories.
#[derive(Debug, Clone)]
pub struct StanzaReport {
    /// Its name, or `[invalid]` when no repository could say which stanzas there are.
    pub name: String,
    /// How it is over all repositories.
    pub status: Status,
    /// The repositories where a backup or expire runs on this host.
    pub running_backups: Vec<RunningBackup>,
    /// A restore that runs on this host, and how far it is.
    pub running_restore: Option<Progress>,
    /// What it consists of; `None` when only the progress was asked for.
    pub content: Option<StanzaContent>,
}

/// A backup or expire that runs on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningBackup {
    /// The repository that it writes to.
    pub repository: RepoIndex,
    /// How far it is; a total of 0 bytes when it does not say.
    pub progress: Progress,
}

/// What a stanza consists of.
#[derive(Debug, Clone)]
pub struct StanzaContent {
    /// The repositories in the order of their numbers.
    pub repositories: Vec<RepositoryReport>,
    /// The generations of the cluster by repository, oldest first.
    pub generations: Vec<GenerationReport>,
    /// Their archives. One that is not current is here only when there is WAL in it.
    pub archives: Vec<ArchiveRange>,
    /// The backups of all repositories by the time at which they ended.
    pub backups: Vec<BackupReport>,
    /// The current cluster, as the first readable repository has it.
    pub current: Option<(PgVersion, SystemId)>,
}

impl StanzaContent {
    /// How the repositories are encrypted; `None` when one is and another is not.
    pub fn cipher(&self) -> Option<Cipher> {
        let mut ciphers = self.repositories.iter().map(|repository| repository.cipher);
        let first = ciphers.next()?;
        ciphers.all(|cipher| cipher == first).then_some(first)
    }
}

/// A repository's encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// It is not encrypted.
    None,
    /// AES in CBC mode with a key of 256 bits.
    Aes256Cbc,
}

impl Cipher {
    /// The value of `repo-cipher-type`.
    pub fn name(self) -> &'static str {
        match self {
            Cipher::None => "none",
            Cipher::Aes256Cbc => "aes-256-cbc",
        }
    }
}

/// How a stanza is in one repository.
#[derive(Debug, Clone)]
pub struct RepositoryReport {
    /// The repository.
    pub index: RepoIndex,
    /// Its encryption.
    pub cipher: Cipher,
    /// How the stanza is in it.
    pub status: RepositoryStatus,
}

/// How a stanza is in one repository.
#[derive(Debug, Clone)]
pub enum RepositoryStatus {
    /// It has backups.
    Ok,
    /// It is not in this repository.
    MissingStanzaPath,
    /// There is no backup yet.
    NoBackups,
    /// Its directory is there, backup.info is not.
    MissingStanzaData,
    /// The backup that was asked for is in no repository.
    BackupMissing,
    /// It cannot be read.
    Other(Error),
}

impl RepositoryStatus {
    /// The status without the error.
    pub fn status(&self) -> Status {
        match self {
            RepositoryStatus::Ok => Status::Ok,
            RepositoryStatus::MissingStanzaPath => Status::MissingStanzaPath,
            RepositoryStatus::NoBackups => Status::NoBackups,
            RepositoryStatus::MissingStanzaData => Status::MissingStanzaData,
            RepositoryStatus::BackupMissing => Status::BackupMissing,
            RepositoryStatus::Other(_) => Status::Other,
        }
    }

    /// What is printed for it: of an error its class in brackets and its text.
    pub fn message(&self) -> Cow<'static, str> {
        match self {
            RepositoryStatus::Other(error) => error.listed().into(),
            other => other.status().message().into(),
        }
    }
}

/// How a stanza is over all repositories (`INFO_STANZA_STATUS_CODE_*` in pgBackRest's `src/command/info/info.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Every repository has backups.
    Ok,
    /// No repository has it.
    MissingStanzaPath,
    /// There is no backup.
    NoBackups,
    /// Its directory is there, backup.info is not.
    MissingStanzaData,
    /// The repositories differ.
    Mixed,
    /// The repositories have different current clusters.
    DatabaseMismatch,
    /// The backup that was asked for is not there.
    BackupMissing,
    /// It cannot be read.
    Other,
}

impl Status {
    /// The number that other programs read.
    pub fn code(self) -> u64 {
        match self {
            Status::Ok => 0,
            Status::MissingStanzaPath => 1,
            Status::NoBackups => 2,
            Status::MissingStanzaData => 3,
            Status::Mixed => 4,
            Status::DatabaseMismatch => 5,
            Status::BackupMissing => 6,
            Status::Other => 99,
        }
    }

    /// The text for people.
    pub fn message(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::MissingStanzaPath => "missing stanza path",
            Status::NoBackups => "no valid backups",
            Status::MissingStanzaData => "missing stanza data",
            Status::Mixed => "different across repos",
            Status::DatabaseMismatch => "database mismatch across repos",
            Status::BackupMissing => "requested backup not found",
            Status::Other => "other",
        }
    }

    /// One status for several repositories.
    pub(super) fn over(repositories: impl IntoIterator<Item = Status>) -> Status {
        let mut all = repositories.into_iter();
        let first = all.next().unwrap_or(Status::MissingStanzaPath);
        if all.all(|status| status == first) { first } else { Status::Mixed }
    }
}

/// A generation of the cluster in one repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationReport {
    /// The repository.
    pub repository: RepoIndex,
    /// Its number in backup.info.
    pub id: HistoryId,
    /// PostgreSQL version.
    pub version: PgVersion,
    /// System identifier.
    pub system_id: SystemId,
}

/// The WAL of a generation in one repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveRange {
    /// The repository.
    pub repository: RepoIndex,
    /// The generation's number in backup.info.
    pub history_id: HistoryId,
    /// Its directory in the archive; the number in it is that of archive.info.
    pub archive_id: ArchiveId,
    /// The WAL that is there; `None` when there is none.
    pub wal: Option<WalRange>,
}

/// The first and the last archived segment by name; there may be holes between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalRange {
    /// The lowest name.
    pub min: WalSegmentName,
    /// The highest name.
    pub max: WalSegmentName,
}

/// A backup in one repository.
#[derive(Debug, Clone)]
pub struct BackupReport {
    /// The repository.
    pub repository: RepoIndex,
    /// What backup.info says of it.
    pub entry: BackupEntry,
    /// What its manifest says, when this backup was asked for.
    pub details: Option<BackupDetails>,
}

impl RunningBackup {
    /// The progress of all that tell theirs.
    pub(super) fn sum(running: &[RunningBackup]) -> Progress {
        running.iter().filter(|running| running.progress.total_bytes > 0).fold(Progress::default(), |sum, running| {
            Progress {
                done_bytes: sum.done_bytes.saturating_add(running.progress.done_bytes),
                total_bytes: sum.total_bytes.saturating_add(running.progress.total_bytes),
            }
        })
    }
}

impl BackupReport {
    /// Whether files have page checksum errors, as backup.info or else the manifest says; `None` when neither does.
    pub(super) fn error(&self) -> Option<bool> {
        match &self.details {
            Some(details) if !details.damaged_files.is_empty() => Some(true),
            _ => self.entry.error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_status_stands_for_all_or_they_are_mixed() {
        for (repositories, expected) in [
            (&[][..], Status::MissingStanzaPath),
            (&[Status::Other][..], Status::Other),
            (&[Status::NoBackups, Status::NoBackups], Status::NoBackups),
            (&[Status::Ok, Status::NoBackups, Status::NoBackups], Status::Mixed),
            (&[Status::Ok, Status::NoBackups, Status::Ok], Status::Mixed),
        ] {
            assert_eq!(Status::over(repositories.iter().copied()), expected, "{repositories:?}");
        }
    }
}
