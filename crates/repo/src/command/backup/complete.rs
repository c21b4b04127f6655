//! The end of a backup in the repository, in the order that leaves a whole repository at every step: data, copy of the
//! manifest, manifest, history, backup.info with its copy, archive.info (repository-behaviour.md §4.1).

use std::sync::Arc;

use super::options::{BackupOptions, BackupOutcome};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::Passphrase;
use crate::format::{BackupEntry, Manifest, path};
use crate::progress::{Context, size_text};
use crate::repository::{Reconciled, WritableRepository};
use crate::storage::StorageExt;

/// Makes the backup complete and lists it.
///
/// # Errors
/// [`ErrorKind::Format`] when a file was not copied, [`ErrorKind::FileMissing`] when another backup removed what this
/// one stored, and the storage's. Before backup.info is written nothing is listed.
pub(super) async fn complete(
    repository: &WritableRepository,
    reconciled: &Reconciled,
    manifest: &Arc<Manifest>,
    passphrase: Option<&Passphrase>,
    options: &BackupOptions,
    context: &Context,
) -> Result<BackupOutcome> {
    let label = manifest.label();
    manifest.validate().map_err(|error| Error::new(ErrorKind::Format, error.to_string()))?;
    let entry = manifest.backup_entry().map_err(|error| Error::new(ErrorKind::Format, error.to_string()))?;
    check_ours(repository, manifest).await?;

    repository.storage().flush().await?;
    repository.save_manifest_copy(manifest, passphrase, context).await?;
    repository.save_manifest_main(&label, context).await?;
    repository.save_manifest_history(manifest, passphrase, context).await?;
    repository.link_latest(&label, options.symlinks, context).await;
    list(repository, reconciled, entry.clone(), context).await?;
    touch_archive_info(repository, context).await?;

    let file_total = manifest.files().len();
    context.info(format!(
        "{} backup size = {}, file total = {file_total}",
        manifest.backup_type(),
        size_text(entry.sizes.size_delta_bytes)
    ));
    Ok(BackupOutcome { label, sizes: entry.sizes, file_total, has_page_errors: entry.error == Some(true) })
}

/// A backup on another host takes an unfinished one for a left-over and removes it. What is written after that would be
/// half a backup (faults.md BK15): its copy of the manifest, there from the beginning, tells.
async fn check_ours(repository: &WritableRepository, manifest: &Manifest) -> Result<()> {
    let copy = path::manifest_copy(repository.stanza(), &manifest.label());
    if repository.storage().exists(&copy).await? {
        return Ok(());
    }
    let message = format!("'{copy}' was removed while the backup ran");
    Err(Error::new(ErrorKind::FileMissing, message).hint("is another backup of this stanza running on another host?"))
}

/// Adds the backup to backup.info as it is now: hours may have passed since it was read.
async fn list(
    repository: &WritableRepository,
    reconciled: &Reconciled,
    entry: BackupEntry,
    context: &Context,
) -> Result<()> {
    let mut info = repository.backup_info(context).await?;
    if info.history().current() != reconciled.info.history().current() {
        return Err(Error::new(ErrorKind::BackupMismatch, "the stanza was upgraded while the backup ran"));
    }
    reconciled.apply(&mut info);
    info.add(entry).map_err(|error| Error::new(ErrorKind::FileInvalid, error.to_string()))?;
    repository.save_backup_info(&info, context).await
}

/// Writes archive.info again, so that rules of the store about the age of objects spare it.
async fn touch_archive_info(repository: &WritableRepository, context: &Context) -> Result<()> {
    let info = repository.archive_info(context).await?;
    repository.save_archive_info(&info, context).await
}
