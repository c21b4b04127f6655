//! Removing backups (repository-behaviour.md §6.1, §6.4).
//!
//! backup.info is written first, then the manifests go, dependents before what they need, then the directories. A crash
//! in between leaves a backup that is whole and not listed, which the next run lists and removes again, or a directory
//! without a manifest, which it removes (faults.md EX02, EX03).

use std::collections::BTreeSet;

use super::remover::Remover;
use super::tally::Tally;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BackupInfo, BackupLabel, path};
use crate::progress::Context;
use crate::repository::{ManifestFile, Repository};
use crate::storage::StorageExt;

/// The backups of one repository before and after.
#[derive(Debug)]
pub(super) struct Change<'a> {
    /// The directories when backup.info was read.
    pub(super) known: &'a BTreeSet<BackupLabel>,
    /// Those of them that are complete and cannot be listed.
    pub(super) refused: &'a BTreeSet<BackupLabel>,
    /// What was listed.
    pub(super) before: &'a BackupInfo,
    /// What is listed now.
    pub(super) remaining: &'a BackupInfo,
    /// What is not listed any more, in the order of removal.
    pub(super) expired: &'a [BackupLabel],
    /// What a person wants removed.
    pub(super) asked: Option<&'a BackupLabel>,
}

/// Removes the manifests of the expired backups; the answer is the backups that are none any more.
///
/// # Errors
/// [`ErrorKind::Term`].
pub(super) async fn remove_manifests(
    change: &Change<'_>,
    remover: &mut Remover<'_>,
    context: &Context,
) -> Result<BTreeSet<BackupLabel>> {
    let mut gone = BTreeSet::new();
    for label in change.expired {
        context.check_cancelled()?;
        // A backup stays whole as long as something that needs it does.
        let needs = |other: &BackupLabel| change.before.backup(other).is_some_and(|backup| backup.depends_on(label));
        let is_needed = change.expired.iter().any(|other| !gone.contains(other) && needs(other));
        if !is_needed && remover.manifest(label).await? {
            gone.insert(*label);
        }
    }
    Ok(gone)
}

/// Counts the directories that are to go.
///
/// # Errors
/// The storage's, as long as it is not known what there is.
pub(super) async fn count(
    repository: &Repository,
    change: &Change<'_>,
    tally: &mut Tally,
    context: &Context,
) -> Result<()> {
    let unfinished = unfinished(repository, change.known, change, context).await?;
    for label in change.known {
        if change.expired.contains(label) {
            tally.backups += 1;
        } else if change.remaining.backup(label).is_none()
            && unfinished != Some(*label)
            && !repository.has_manifest(label).await?
        {
            tally.unfinished += 1;
        }
    }
    Ok(())
}

/// Removes the directories that belong to no backup, newest first. `gone` are those whose manifest was just removed.
///
/// The directories are listed again: one that is new belongs to somebody else (faults.md EX01). One with a manifest is a
/// backup, whatever backup.info says, and is not removed (EX07).
///
/// # Errors
/// The storage's, as long as it is not known what there is; [`ErrorKind::Term`].
pub(super) async fn remove_directories(
    change: &Change<'_>,
    gone: &BTreeSet<BackupLabel>,
    remover: &mut Remover<'_>,
    context: &Context,
) -> Result<()> {
    let repository = remover.repository();
    let directories = match remover.is_dry_run() {
        true => change.known.clone(),
        false => repository.backup_directories().await?,
    };
    let unfinished = unfinished(repository, &directories, change, context).await?;
    let mut doomed = Vec::new();
    for label in directories.iter().rev() {
        let is_listed = change.remaining.backup(label).is_some();
        if is_listed || !change.known.contains(label) || unfinished == Some(*label) {
            continue;
        }
        context.check_cancelled()?;
        if !gone.contains(label) {
            if change.expired.contains(label) {
                // Its manifest could not be removed, which is counted.
                continue;
            }
            if repository.has_manifest(label).await? {
                // The newest may have become complete since backup.info was read.
                if directories.last() != Some(label) || change.refused.contains(label) {
                    remover.refuse(unlisted(repository, label));
                }
                continue;
            }
        }
        context.info(format!("{}: remove expired backup {label}", repository.index()));
        doomed.push(path::backup(repository.stanza(), label));
    }
    remover.trees(doomed, context).await
}

/// The newest directory, when its backup was begun and not finished: it runs somewhere else or can be resumed.
async fn unfinished(
    repository: &Repository,
    directories: &BTreeSet<BackupLabel>,
    change: &Change<'_>,
    context: &Context,
) -> Result<Option<BackupLabel>> {
    let Some(newest) = directories.last() else { return Ok(None) };
    if change.remaining.backup(newest).is_some() || change.expired.contains(newest) {
        return Ok(None);
    }
    let copy = path::manifest_copy(repository.stanza(), newest);
    if repository.has_manifest(newest).await? || !repository.storage().exists(&copy).await? {
        return Ok(None);
    }
    if change.asked.is_some_and(|asked| asked.same_set(newest)) {
        // It was to build on something that has just been removed.
        let passphrase = repository.manifest_passphrase(change.remaining)?;
        let manifest = repository.manifest_file(newest, ManifestFile::Copy, passphrase.as_ref(), context).await?;
        if manifest.prior().is_some_and(|prior| change.remaining.backup(&prior).is_none()) {
            return Ok(None);
        }
    }
    Ok(Some(*newest))
}

fn unlisted(repository: &Repository, label: &BackupLabel) -> Error {
    let directory = path::backup(repository.stanza(), label);
    let message = format!("'{directory}' is a backup that backup.info does not list: it is not removed");
    Error::new(ErrorKind::BackupSetInvalid, message)
        .hint("a warning above says why it cannot be listed; remove it by hand if it is not wanted.")
}
