//! `stanza-create`: the info files of a new stanza in every repository, or a check of those that are there.
//!
//! Files are written in the order archive.info, its copy, backup.info, its copy. A crash between them leaves some of
//! them; running it again completes them when both kinds are there, and names the missing kind when not. A stanza is
//! never created over anything that exists.

use futures_util::future;

use crate::error::{Error, ErrorKind, Result};
use crate::filter::Passphrase;
use crate::format::db_history::CatalogNumbers;
use crate::format::{ArchiveInfo, BackupInfo, CipherPass, DbGeneration, path};
use crate::postgres::{PgVersion, SystemId};
use crate::progress::Context;
use crate::repository::WritableRepository;
use crate::storage::{ListOptions, StorageExt, StoragePath};

use crate::repository::INFO_BYTES_MAX;

/// The cluster that a stanza is for, as its pg_control says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StanzaCluster {
    /// PostgreSQL version.
    pub version: PgVersion,
    /// System identifier.
    pub system_id: SystemId,
    /// Catalog version.
    pub catalog_version: u32,
}

/// Creates the stanza in each repository, one after the other. An error leaves the repositories before it created;
/// running it again is safe.
///
/// # Errors
/// - [`ErrorKind::PathNotEmpty`] when something else is in the stanza's directories,
/// - [`ErrorKind::FileInvalid`] when the stanza is there for another cluster,
/// - [`ErrorKind::FileMissing`] when one of the two info files is missing with its copy.
pub async fn create(repositories: &[WritableRepository], cluster: StanzaCluster, context: &Context) -> Result<()> {
    for repository in repositories {
        context.info(format!("stanza-create for stanza '{}' on {}", repository.stanza(), repository.index()));
        create_in(repository, cluster, context).await?;
    }
    Ok(())
}

/// Which of the info files exist.
struct Present {
    archive: bool,
    archive_copy: bool,
    backup: bool,
    backup_copy: bool,
}

async fn create_in(repository: &WritableRepository, cluster: StanzaCluster, context: &Context) -> Result<()> {
    let stanza = repository.stanza();
    let storage = repository.storage();
    let (archive, backup) = (path::archive_info(stanza), path::backup_info(stanza));
    let (archive_copy, backup_copy) = (path::copy_of(&archive), path::copy_of(&backup));
    let found = future::try_join_all([
        storage.exists(&archive),
        storage.exists(&archive_copy),
        storage.exists(&backup),
        storage.exists(&backup_copy),
    ]);
    let found = found.await?;
    let [has_archive, has_archive_copy, has_backup, has_backup_copy] = found[..] else {
        return Err(Error::new(ErrorKind::Assert, "four answers were expected"));
    };
    let present = Present {
        archive: has_archive,
        archive_copy: has_archive_copy,
        backup: has_backup,
        backup_copy: has_backup_copy,
    };
    match (present.archive || present.archive_copy, present.backup || present.backup_copy) {
        (false, false) => create_new(repository, cluster, context).await,
        (true, true) => complete(repository, &present, cluster, context).await,
        (has_archive, _) => Err(Error::new(
            ErrorKind::FileMissing,
            format!(
                "{} on {}",
                if has_archive {
                    "archive.info exists but backup.info is missing"
                } else {
                    "backup.info exists but archive.info is missing"
                },
                repository.index()
            ),
        )
        .hint("this may be a symptom of repository corruption!")),
    }
}

async fn create_new(repository: &WritableRepository, cluster: StanzaCluster, context: &Context) -> Result<()> {
    let stanza = repository.stanza();
    let archive_empty = is_empty(repository, &path::archive_stanza(stanza)).await?;
    let backup_empty = is_empty(repository, &path::backup_stanza(stanza)).await?;
    if !(archive_empty && backup_empty) {
        let backup = if backup_empty { "" } else { "backup directory " };
        let archive = if archive_empty { "" } else { "archive directory " };
        let and = if backup_empty || archive_empty { "" } else { "and/or " };
        return Err(Error::new(ErrorKind::PathNotEmpty, format!("{backup}{and}{archive}not empty")));
    }
    let facts = cluster.version.facts().ok_or_else(|| {
        Error::new(ErrorKind::VersionNotSupported, format!("PostgreSQL {} is not supported", cluster.version))
    })?;
    let archive_info = ArchiveInfo::new(new_pass(repository, context)?, cluster.version, cluster.system_id);
    repository.save_archive_info(&archive_info, context).await?;
    // The control version is that of the table, not of the file (repository-format.md §3.2).
    let catalog = CatalogNumbers { catalog_version: cluster.catalog_version, control_version: facts.control_version };
    let backup_info = BackupInfo::new(new_pass(repository, context)?, cluster.version, cluster.system_id, catalog);
    repository.save_backup_info(&backup_info, context).await
}

fn new_pass(repository: &WritableRepository, context: &Context) -> Result<Option<CipherPass>> {
    if !repository.is_encrypted() {
        return Ok(None);
    }
    let pass = Passphrase::generate(context.random.as_ref())
        .map_err(|error| Error::new(ErrorKind::Crypto, format!("unable to make a passphrase: {error}")))?;
    Ok(Some(CipherPass::new(pass.expose().to_vec())))
}

async fn is_empty(repository: &WritableRepository, directory: &StoragePath) -> Result<bool> {
    Ok(repository.storage().list_all(directory, &ListOptions::default()).await?.is_empty())
}

async fn complete(
    repository: &WritableRepository,
    present: &Present,
    cluster: StanzaCluster,
    context: &Context,
) -> Result<()> {
    let archive_info = repository.archive_info(context).await?;
    let backup_info = repository.backup_info(context).await?;
    check_same(archive_info.history().current(), backup_info.history().current())?;
    check_cluster(archive_info.history().current(), cluster)?;
    let stanza = repository.stanza();
    let archive = copy_missing(repository, &path::archive_info(stanza), present.archive, present.archive_copy).await?;
    let backup = copy_missing(repository, &path::backup_info(stanza), present.backup, present.backup_copy).await?;
    if !(archive || backup) {
        context.info(format!("stanza '{stanza}' already exists on {} and is valid", repository.index()));
    }
    Ok(())
}

/// Gives a file or its copy back from the other one, byte for byte.
async fn copy_missing(
    repository: &WritableRepository,
    main: &StoragePath,
    has_main: bool,
    has_copy: bool,
) -> Result<bool> {
    let copy = path::copy_of(main);
    let (from, to) = match (has_main, has_copy) {
        (true, false) => (main, &copy),
        (false, true) => (&copy, main),
        _ => return Ok(false),
    };
    let content = repository.storage().read_all(from, INFO_BYTES_MAX).await?;
    repository.storage().write_all(to, content).await?;
    Ok(true)
}

fn check_same(archive: &DbGeneration, backup: &DbGeneration) -> Result<()> {
    if archive.id == backup.id && backup.is_cluster(archive.version, archive.system_id) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::FileInvalid,
        format!(
            "backup info file and archive info file do not match\n\
             archive: id = {}, version = {}, system-id = {}\n\
             backup : id = {}, version = {}, system-id = {}",
            archive.id, archive.version, archive.system_id, backup.id, backup.version, backup.system_id
        ),
    )
    .hint("this may be a symptom of repository corruption!"))
}

fn check_cluster(current: &DbGeneration, cluster: StanzaCluster) -> Result<()> {
    if current.is_cluster(cluster.version, cluster.system_id) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::FileInvalid,
        format!(
            "backup and archive info files exist but do not match the database: version {}, system-id {} there, \
             version {}, system-id {} here",
            current.version, current.system_id, cluster.version, cluster.system_id
        ),
    )
    .hint("is this the correct stanza?")
    .hint("did an error occur during stanza-upgrade?"))
}
