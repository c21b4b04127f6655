//! What an earlier backup left behind when it was killed (repository-behaviour.md §4.8, §4.13).

use super::options::BackupOptions;
use super::resume;
use crate::error::Result;
use crate::format::{BackupLabel, BackupType, Manifest, path};
use crate::postgres::PgVersion;
use crate::progress::{Context, Level};
use crate::repository::{ManifestFile, Reconciled, WritableRepository};
use crate::storage::{ErrorClass, ObjectInfo, StorageError, StorageExt, StoragePath};

/// Looks at the newest directory when its backup was never finished: gives its manifest, and what the file of it was,
/// when the new backup can go on with it, and removes it otherwise, if it may. Older ones are left to `expire`.
///
/// A backup that backup.info listed was finished, whatever the store shows of it now: its directory stays.
///
/// # Errors
/// The storage's; a manifest counts as missing only when the store says so.
pub(super) async fn settle(
    repository: &WritableRepository,
    reconciled: &mut Reconciled,
    options: &BackupOptions,
    version: PgVersion,
    context: &Context,
) -> Result<Option<(Manifest, ObjectInfo)>> {
    let Some(label) = reconciled.directories.last().copied() else { return Ok(None) };
    let (stanza, storage) = (repository.stanza(), repository.storage());
    if reconciled.was_removed(&label) || storage.exists(&path::manifest(stanza, &label)).await? {
        return Ok(None);
    }
    let resumes = options.resume && options.backup_type == BackupType::Full;
    let copy = storage.info_optional(&path::manifest_copy(stanza, &label)).await?;
    let reason = match copy {
        _ if options.backup_type != BackupType::Full => "resume only valid for full backup".to_owned(),
        None => "partially deleted by prior resume or invalid".to_owned(),
        Some(_) if !options.resume => "resume is disabled".to_owned(),
        Some(copy) => match read_copy(repository, reconciled, &label, context).await? {
            None => format!("unable to read {}", path::manifest_copy(stanza, &label)),
            Some(left) => match resume::obstacle(&left, options, version, repository.is_encrypted()) {
                Some(reason) => reason,
                None => return Ok(Some((left, copy))),
            },
        },
    };
    let level = if resumes { Level::Warn } else { Level::Info };
    context.reporter.message(level, 0, &format!("backup '{label}' cannot be resumed: {reason}"));
    let directory = path::backup(stanza, &label);
    if tolerated(storage.remove_tree(&directory).await, &directory, context)? {
        reconciled.directories.remove(&label);
    }
    reconciled.left_over = Some(label);
    Ok(None)
}

/// Removes an object that nothing refers to.
///
/// # Errors
/// The storage's, but for a refusal.
pub(super) async fn discard(repository: &WritableRepository, path: &StoragePath, context: &Context) -> Result<()> {
    tolerated(repository.storage().remove(path).await, path, context).map(drop)
}

/// Whether it was removed: who backs up may have no right to delete (faults.md SEC-19), and what nothing refers to is in
/// nobody's way until `expire` removes it.
pub(super) fn tolerated(
    removed: std::result::Result<(), StorageError>,
    path: &StoragePath,
    context: &Context,
) -> Result<bool> {
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.class() == ErrorClass::Denied => {
            context.warn(format!("'{path}' stays, because it may not be removed here: {error}"));
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// The manifest of an unfinished backup; `None` when it is there and cannot be read. The store's own failure is none of
/// its.
async fn read_copy(
    repository: &WritableRepository,
    reconciled: &Reconciled,
    label: &BackupLabel,
    context: &Context,
) -> Result<Option<Manifest>> {
    let passphrase = repository.manifest_passphrase(&reconciled.info)?;
    match repository.manifest_file(label, ManifestFile::Copy, passphrase.as_ref(), context).await {
        Ok(left) if left.label() == *label => Ok(Some(left)),
        Ok(_) => Ok(None),
        Err(error) if error.storage_class().is_none_or(|class| class == ErrorClass::Missing) => Ok(None),
        Err(error) => Err(error),
    }
}
