//! `stanza-create`: the info files of a new stanza in every repository, or a check of those that are there.
//!
//! Files are written in the order archive.info, its copy, backup.info, its copy. A crash between them leaves some of
//! them, and running it again completes them: a missing copy comes back from its other half, and a backup.info that was
//! not reached yet is made when nothing but the archive.info of this very cluster is there (the original refuses that,
//! 55). A stanza is never created over anything else that exists.

use futures_util::future;

use crate::error::{Error, ErrorKind, Result};
use crate::filter::Passphrase;
use crate::format::{ArchiveInfo, BackupInfo, CipherPass, HistoryId, path};
use crate::progress::Context;
use crate::repository::{INFO_BYTES_MAX, WritableRepository, check_agreement, check_cluster};
use crate::storage::{ListOptions, StorageExt, StoragePath};

use super::StanzaCluster;

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
        match create_in(repository, cluster, context).await {
            // Another host was faster: what it made is now completed or checked.
            Err(error) if error.kind() == ErrorKind::FileExists => create_in(repository, cluster, context).await?,
            outcome => outcome?,
        }
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
        (true, false) if is_half_made(repository, cluster, context).await? => {
            copy_missing(repository, &archive, present.archive, present.archive_copy).await?;
            create_backup_info(repository, cluster, context).await
        }
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
    let archive_info = ArchiveInfo::new(new_pass(repository, context)?, cluster.version, cluster.system_id);
    // Refused before anything is written.
    cluster.catalog()?;
    repository.create_archive_info(&archive_info, context).await?;
    create_backup_info(repository, cluster, context).await
}

async fn create_backup_info(repository: &WritableRepository, cluster: StanzaCluster, context: &Context) -> Result<()> {
    let catalog = cluster.catalog()?;
    let info = BackupInfo::new(new_pass(repository, context)?, cluster.version, cluster.system_id, catalog);
    repository.create_backup_info(&info, context).await
}

/// Whether an earlier stanza-create was interrupted before backup.info: nothing is there but an archive.info that it
/// would write again.
async fn is_half_made(repository: &WritableRepository, cluster: StanzaCluster, context: &Context) -> Result<bool> {
    let stanza = repository.stanza();
    let info = path::archive_info(stanza);
    let own = [info.file_name().to_owned(), path::copy_of(&info).file_name().to_owned()];
    let storage = repository.storage();
    let archive = storage.list_all(&path::archive_stanza(stanza), &ListOptions::default()).await?;
    if !archive.iter().all(|entry| own.contains(&entry.name))
        || !is_empty(repository, &path::backup_stanza(stanza)).await?
    {
        return Ok(false);
    }
    let info = repository.archive_info(context).await?;
    check_cluster(info.history().current(), cluster.version, cluster.system_id)?;
    Ok(info.history().generations().len() == 1 && info.history().current().id == HistoryId::FIRST)
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
    check_agreement(archive_info.history().current(), backup_info.history().current())?;
    check_cluster(archive_info.history().current(), cluster.version, cluster.system_id)?;
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
