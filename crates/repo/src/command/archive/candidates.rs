//! Which repositories can take or give WAL, and why the others cannot.

use futures_util::future;

use super::{ClusterIdentity, NO_VALID_REPOSITORY};
use crate::error::{Error, ErrorKind, Result};
use crate::format::ArchiveInfo;
use crate::progress::Context;
use crate::repository::{Archive, RepoIndex, Repository};

/// What is wrong with one repository.
#[derive(Debug)]
pub(super) struct RepositoryError {
    pub(super) index: RepoIndex,
    pub(super) error: Error,
}

impl RepositoryError {
    /// `repo1: [FileMissingError] message`
    pub(super) fn listed(&self) -> String {
        format!("{}: {}", self.index, self.error.listed())
    }
}

/// The repositories in a list, one a line.
pub(super) fn listed(errors: &[RepositoryError]) -> String {
    errors.iter().map(RepositoryError::listed).collect::<Vec<_>>().join("\n")
}

/// No repository is left.
pub(super) fn none_valid(errors: &[String]) -> Error {
    Error::new(ErrorKind::RepoInvalid, format!("{NO_VALID_REPOSITORY}:\n{}", errors.join("\n")))
}

fn none_of(errors: &[RepositoryError]) -> Error {
    none_valid(&errors.iter().map(RepositoryError::listed).collect::<Vec<_>>())
}

/// The archives that take WAL now: the current generation of each repository, all of the same cluster.
#[derive(Debug)]
pub struct PushTargets {
    pub(super) cluster: ClusterIdentity,
    pub(super) archives: Vec<Archive>,
    pub(super) errors: Vec<RepositoryError>,
}

impl PushTargets {
    /// Loads archive.info of every repository, all at once, and keeps those whose current generation is `cluster`, or
    /// without one, that of the first repository.
    ///
    /// # Errors
    /// [`ErrorKind::RepoInvalid`] when none is left.
    pub async fn load<R: AsRef<Repository>>(
        repositories: &[R],
        cluster: Option<ClusterIdentity>,
        context: &Context,
    ) -> Result<Self> {
        let infos = load_all(repositories, context).await;
        let mut expected = cluster.map(|cluster| (cluster, "PostgreSQL".to_owned()));
        let mut archives = Vec::new();
        let mut errors = Vec::new();
        for (repository, info) in repositories.iter().map(AsRef::as_ref).zip(infos) {
            let checked = info.and_then(|info| {
                let current = info.history().current();
                let found = ClusterIdentity { version: current.version, system_id: current.system_id };
                let (cluster, origin) =
                    expected.get_or_insert_with(|| (found, format!("{} stanza", repository.index()))).clone();
                if cluster != found {
                    return Err(mismatch(&origin, cluster, repository, found));
                }
                repository.archive(&info, info.current_archive_id())
            });
            match checked {
                Ok(archive) => archives.push(archive),
                Err(error) => errors.push(RepositoryError { index: repository.index(), error }),
            }
        }
        match expected {
            Some((cluster, _)) if !archives.is_empty() => Ok(Self { cluster, archives, errors }),
            _ => Err(none_of(&errors)),
        }
    }

    /// Every repository can be used.
    pub fn is_complete(&self) -> bool {
        self.errors.is_empty()
    }
}

/// The archives where WAL of `cluster` may be: for each repository the generations that are this cluster, newest
/// first, older ones only if they have a directory.
pub(super) async fn get_sources(
    repositories: &[Repository],
    cluster: ClusterIdentity,
    context: &Context,
) -> Result<(Vec<Archive>, Vec<RepositoryError>)> {
    let infos = load_all(repositories, context).await;
    let mut archives = Vec::new();
    let mut errors = Vec::new();
    for (repository, info) in repositories.iter().zip(infos) {
        let found = match info {
            Ok(info) => archives_of(repository, &info, cluster).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => archives.extend(found),
            Err(error) => errors.push(RepositoryError { index: repository.index(), error }),
        }
    }
    if archives.is_empty() { Err(none_of(&errors)) } else { Ok((archives, errors)) }
}

async fn archives_of(repository: &Repository, info: &ArchiveInfo, cluster: ClusterIdentity) -> Result<Vec<Archive>> {
    let current = info.current_archive_id();
    let mut archives = Vec::new();
    for id in info.history().archive_ids_of(cluster.version, cluster.system_id) {
        let archive = repository.archive(info, id)?;
        if id == current || archive.is_present().await? {
            archives.push(archive);
        }
    }
    if archives.is_empty() {
        let message = format!(
            "unable to retrieve the archive id for database version '{}' and system-id '{}'",
            cluster.version, cluster.system_id
        );
        return Err(Error::new(ErrorKind::ArchiveMismatch, message));
    }
    Ok(archives)
}

async fn load_all<R: AsRef<Repository>>(repositories: &[R], context: &Context) -> Vec<Result<ArchiveInfo>> {
    future::join_all(repositories.iter().map(|repository| repository.as_ref().archive_info(context))).await
}

fn mismatch(origin: &str, expected: ClusterIdentity, repository: &Repository, found: ClusterIdentity) -> Error {
    Error::new(
        ErrorKind::ArchiveMismatch,
        format!(
            "{origin} version {}, system-id {} do not match {} stanza version {}, system-id {}",
            expected.version,
            expected.system_id,
            repository.index(),
            found.version,
            found.system_id
        ),
    )
    .hint("are you archiving to the correct stanza?")
}
