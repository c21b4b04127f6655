//! Reads what one repository has of a stanza.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{ArchiveInfo, BackupInfo, BackupLabel};
use crate::postgres::{PgVersion, SystemId};
use crate::progress::Context;
use crate::repository::{RepoIndex, Repository};

use super::details::{self, BackupDetails};
use super::report::BackupReport;

/// What was found of a stanza in one repository.
pub(super) enum Loaded {
    /// Nothing was read: the repository does not list the stanza, or only the progress was asked for.
    Unread,
    /// The stanza was asked for by name and the repository does not list it.
    Absent,
    /// The stanza has no backup.info.
    NoData,
    /// The backup that was asked for is not there.
    BackupMissing,
    /// It cannot be read.
    Failed(Error),
    /// Its info files were read.
    Present(Box<Present>),
}

impl Loaded {
    pub(super) fn present(&self) -> Option<&Present> {
        match self {
            Loaded::Present(present) => Some(present),
            _ => None,
        }
    }
}

/// The info files of a stanza in one repository.
pub(super) struct Present {
    pub(super) repository: Repository,
    pub(super) backup_info: BackupInfo,
    pub(super) archive_info: ArchiveInfo,
    /// What the manifest of the backup that was asked for says, if this repository has it.
    details: Option<BackupDetails>,
}

impl Present {
    pub(super) fn index(&self) -> RepoIndex {
        self.repository.index()
    }

    /// The current cluster.
    pub(super) fn current(&self) -> (PgVersion, SystemId) {
        let current = self.backup_info.history().current();
        (current.version, current.system_id)
    }

    /// The backups to report, in the order of their labels: all, or the one that was asked for.
    pub(super) fn into_backups(self, wanted: Option<&str>) -> Vec<BackupReport> {
        let repository = self.index();
        let mut details = self.details;
        let backups = self.backup_info.backups().iter();
        backups
            .filter(|entry| wanted.is_none_or(|wanted| entry.label.as_str() == wanted))
            .map(|entry| BackupReport { repository, entry: entry.clone(), details: details.take() })
            .collect()
    }
}

/// Reads the info files, and the manifest of `backup` which this repository has.
pub(super) async fn load(repository: Repository, backup: Option<BackupLabel>, context: &Context) -> Loaded {
    match read(repository, backup, context).await {
        Ok(Some(present)) => Loaded::Present(Box::new(present)),
        Ok(None) => Loaded::NoData,
        Err(error) => Loaded::Failed(error),
    }
}

async fn read(repository: Repository, backup: Option<BackupLabel>, context: &Context) -> Result<Option<Present>> {
    let backup_info = match repository.backup_info(context).await {
        Ok(info) => info,
        Err(error) if error.kind() == ErrorKind::FileMissing => return Ok(None),
        Err(error) if error.kind() == ErrorKind::Crypto => {
            return Err(error.hint(
                "use option --stanza if encryption settings are different for the stanza than the global settings.",
            ));
        }
        Err(error) => return Err(error),
    };
    let archive_info = repository.archive_info(context).await?;
    let details = match backup {
        Some(label) => Some(details::read(&repository, &backup_info, label, context).await?),
        None => None,
    };
    Ok(Some(Present { repository, backup_info, archive_info, details }))
}
