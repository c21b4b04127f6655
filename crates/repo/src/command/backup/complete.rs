//! The end of a backup in the repository, in the order that leaves a whole repository at every step: data, copy of the
//! manifest, manifest, history, backup.info with its copy, archive.info (repository-behaviour.md §4.1).

use std::sync::Arc;

use super::options::{BackupOptions, BackupOutcome};
use super::ownership::Ownership;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::Passphrase;
use crate::format::backup_info::BackupInfoError;
use crate::format::{BackupEntry, BackupInfo, BackupLabel, Manifest, path};
use crate::progress::{Context, size_text};
use crate::repository::{Change, Reconciled, WritableRepository};
use crate::storage::StorageExt;

/// Makes the backup complete and lists it.
///
/// # Errors
/// [`ErrorKind::Format`] when a file was not copied, [`ErrorKind::FileMissing`] when another backup removed what this
/// one stored, [`ErrorKind::BackupSetInvalid`] when a backup that this one refers to was removed, and the storage's. Before backup.info is written nothing is listed.
pub(super) async fn complete(
    repository: &WritableRepository,
    (reconciled, ownership): (&Reconciled, &Ownership<'_>),
    manifest: &Arc<Manifest>,
    passphrase: Option<&Passphrase>,
    options: &BackupOptions,
    context: &Context,
) -> Result<BackupOutcome> {
    let label = manifest.label();
    manifest.validate().map_err(|error| Error::new(ErrorKind::Format, error.to_string()))?;
    let entry = manifest.backup_entry().map_err(|error| Error::new(ErrorKind::Format, error.to_string()))?;
    ownership.check().await?;
    check_references(repository, manifest).await?;

    repository.storage().flush().await?;
    // What is written after somebody else took the directory would be half a backup.
    ownership.save(manifest, passphrase, context).await?;
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

/// Somebody may have removed a backup that has files of this one: then this one could not be restored (faults.md BK16).
async fn check_references(repository: &WritableRepository, manifest: &Manifest) -> Result<()> {
    for label in manifest.references().iter().filter(|label| **label != manifest.label()) {
        if !repository.storage().exists(&path::manifest(repository.stanza(), label)).await? {
            return Err(needed(label));
        }
    }
    Ok(())
}

fn needed(label: &BackupLabel) -> Error {
    let message = format!("backup {label}, which has files of this backup, was removed while it ran");
    Error::new(ErrorKind::BackupSetInvalid, message).hint("was expire run on another host? Make another backup.")
}

/// Adds the backup to backup.info as it is now: hours may have passed since it was read.
async fn list(
    repository: &WritableRepository,
    reconciled: &Reconciled,
    entry: BackupEntry,
    context: &Context,
) -> Result<()> {
    let change = |info: &mut BackupInfo| {
        if info.history().current() != reconciled.info.history().current() {
            return Err(Error::new(ErrorKind::BackupMismatch, "the stanza was upgraded while the backup ran"));
        }
        // Written by us before another writer came.
        if info.backup(&entry.label) == Some(&entry) {
            return Ok(Change::Nothing);
        }
        reconciled.apply(info);
        info.add(entry.clone()).map_err(|error| match error {
            BackupInfoError::Needs { needed: label, .. } => needed(&label),
            error => Error::new(ErrorKind::FileInvalid, error.to_string()),
        })?;
        Ok(Change::Write)
    };
    repository.update_backup_info(context, change).await.map(drop)
}

/// Writes archive.info again, so that rules of the store about the age of objects spare it.
async fn touch_archive_info(repository: &WritableRepository, context: &Context) -> Result<()> {
    repository.update_archive_info(context, |_| Ok(Change::Write)).await.map(drop)
}
