//! What the repositories of a stanza say now, each for itself: one that does not answer is never an empty one.

use std::collections::BTreeSet;

use pgbr_repo::error::{Error, ErrorKind};
use pgbr_repo::format::BackupEntry;
use pgbr_repo::postgres::{PgVersion, SystemId};
use pgbr_repo::progress::Context;
use pgbr_repo::repository::{Archive, Repository};

use super::outlook::{Depth, Outlook};

/// What every repository said, in their order.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// One for each repository.
    pub repositories: Vec<RepositoryReading>,
}

/// What one repository said.
#[derive(Debug, Clone)]
pub struct RepositoryReading {
    /// Its number; the first is 1.
    pub number: u32,
    /// Whether it is encrypted.
    pub is_encrypted: bool,
    /// Its contents, or why they could not be read.
    pub outcome: Result<Contents, Error>,
}

/// What is in one repository.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// The backups that are listed, oldest first; `None` without a list (`backup.info`).
    pub backups: Option<Vec<BackupEntry>>,
    /// Whose archive it is; `None` without one (`archive.info`).
    pub system_id: Option<SystemId>,
    /// The version of PostgreSQL of that cluster.
    pub version: Option<PgVersion>,
    /// The newest WAL segment, and when it was stored, in seconds since the Unix epoch.
    pub last_wal: Option<(String, i64)>,
    /// What is expected of it, where that was asked for.
    pub outlook: Outlook,
}

impl Contents {
    /// The backups that are listed; none without a list.
    pub fn backups(&self) -> &[BackupEntry] {
        self.backups.as_deref().unwrap_or_default()
    }
}

impl Reading {
    /// Reads the repositories, one after the other.
    pub async fn of(repositories: &[Repository], context: &Context) -> Self {
        Self::deep(repositories, None, context).await
    }

    /// The same, with the outlook of each where a depth is given.
    pub(super) async fn deep(repositories: &[Repository], mut depth: Option<Depth<'_>>, context: &Context) -> Self {
        let mut reading = Self::default();
        for repository in repositories {
            let outcome = contents(repository, depth.as_mut(), context).await;
            let (number, is_encrypted) = (repository.index().number(), repository.is_encrypted());
            reading.repositories.push(RepositoryReading { number, is_encrypted, outcome });
        }
        reading
    }

    /// What those say that answered.
    pub fn answers(&self) -> impl Iterator<Item = &Contents> {
        self.repositories.iter().filter_map(|repository| repository.outcome.as_ref().ok())
    }

    /// Every backup of every repository that answered.
    pub fn backups(&self) -> impl Iterator<Item = &BackupEntry> {
        self.answers().flat_map(Contents::backups)
    }

    /// The labels of all backups, if every repository answered with a list: only then is what is not among them nowhere.
    pub fn complete_labels(&self) -> Option<BTreeSet<String>> {
        let mut labels = BTreeSet::new();
        for repository in &self.repositories {
            let backups = repository.outcome.as_ref().ok()?.backups.as_ref()?;
            labels.extend(backups.iter().map(|backup| backup.label.to_string()));
        }
        (!self.repositories.is_empty()).then_some(labels)
    }

    /// The system identifier of another cluster whose archive one of the repositories holds.
    pub fn foreign_system(&self, own: SystemId) -> Option<SystemId> {
        self.answers().filter_map(|contents| contents.system_id).find(|system| *system != own)
    }
}

/// The labels of the backups that these repositories list, if every one of them told its list.
pub async fn listed_labels(
    repositories: impl Iterator<Item = &Repository>,
    context: &Context,
) -> Option<BTreeSet<String>> {
    let mut labels = BTreeSet::new();
    for repository in repositories {
        let info = repository.backup_info(context).await.ok()?;
        labels.extend(info.backups().iter().map(|backup| backup.label.to_string()));
    }
    Some(labels)
}

async fn contents(
    repository: &Repository,
    depth: Option<&mut Depth<'_>>,
    context: &Context,
) -> Result<Contents, Error> {
    let mut contents = Contents::default();
    let backups = unless_missing(repository.backup_info(context).await)?;
    contents.backups = backups.as_ref().map(|info| info.backups().to_vec());
    let Some(info) = unless_missing(repository.archive_info(context).await)? else { return Ok(contents) };
    contents.system_id = Some(info.history().current().system_id);
    contents.version = Some(info.history().current().version);
    match depth {
        Some(depth) => {
            (contents.last_wal, contents.outlook) = depth.look(repository, backups.as_ref(), &info, context).await?;
        }
        None => contents.last_wal = last_wal(&repository.archive(&info, info.current_archive_id())?).await?,
    }
    Ok(contents)
}

async fn last_wal(archive: &Archive) -> Result<Option<(String, i64)>, Error> {
    let newest = archive.newest_segment().await?;
    Ok(newest.map(|newest| (newest.name.segment.to_string(), newest.modified_s)))
}

fn unless_missing<T>(read: Result<T, Error>) -> Result<Option<T>, Error> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::FileMissing => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kg19_labels_are_complete_only_when_every_repository_has_told_its_list() {
        let listed = || Ok(Contents { backups: Some(Vec::new()), ..Contents::default() });
        let complete = |outcomes: Vec<Result<Contents, Error>>| {
            let repositories = outcomes
                .into_iter()
                .zip(1..)
                .map(|(outcome, number)| RepositoryReading { number, is_encrypted: false, outcome })
                .collect();
            Reading { repositories }.complete_labels().is_some()
        };
        assert!(complete(vec![listed()]) && complete(vec![listed(), listed()]));
        assert!(!complete(vec![]));
        assert!(!complete(vec![listed(), Ok(Contents::default())]), "without a list");
        assert!(!complete(vec![listed(), Err(Error::new(ErrorKind::Service, "no answer"))]));
    }

    #[test]
    fn kg20_the_archive_of_another_cluster_is_recognised() {
        let of = |system| Contents { system_id: system, ..Contents::default() };
        let reading = |systems: &[Option<SystemId>]| Reading {
            repositories: systems
                .iter()
                .zip(1..)
                .map(|(system, number)| RepositoryReading { number, is_encrypted: false, outcome: Ok(of(*system)) })
                .collect(),
        };
        let (own, other) = (SystemId(7), SystemId(8));
        assert_eq!(reading(&[Some(own), None]).foreign_system(own), None);
        assert_eq!(reading(&[Some(own), Some(other)]).foreign_system(own), Some(other));
    }
}
