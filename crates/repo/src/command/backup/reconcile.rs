//! backup.info brought in line with the backups that are really there (repository-behaviour.md §4.2).
//!
//! A manifest counts as missing only when the store says so of the manifest itself, whatever the listing said
//! (faults.md OS12). One such backup is taken out of backup.info, as the original does. More of them are rather a store
//! that hides objects (OS16): the backup stops, and nothing is written.

use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{BackupEntry, BackupInfo, BackupLabel, Manifest, path};
use crate::progress::Context;
use crate::repository::{ManifestFile, Repository};
use crate::storage::{EntryKind, ListOptions, StorageExt};

/// backup.info as it should be.
#[derive(Debug)]
pub(super) struct Reconciled {
    /// What is there.
    pub(super) info: BackupInfo,
    /// The directories that have the name of a backup, complete or not.
    pub(super) directories: BTreeSet<BackupLabel>,
    /// The unfinished backup whose directory was removed.
    pub(super) left_over: Option<BackupLabel>,
    changes: Changes,
}

/// How it differs from the file.
#[derive(Debug, Default)]
struct Changes {
    /// In the order of removal: dependents first.
    removed: Vec<BackupLabel>,
    added: Vec<BackupEntry>,
}

impl Reconciled {
    /// Whether backup.info listed this backup although its manifest is missing.
    pub(super) fn was_removed(&self, label: &BackupLabel) -> bool {
        self.changes.removed.contains(label)
    }

    /// Makes the same changes to backup.info as it is later.
    pub(super) fn apply(&self, info: &mut BackupInfo) {
        for label in &self.changes.removed {
            // Somebody else may have removed it meanwhile, or built on it.
            drop(info.remove(label));
        }
        for entry in &self.changes.added {
            drop(info.add(entry.clone()));
        }
    }
}

/// Loads backup.info and compares it with the directories of the stanza.
///
/// # Errors
/// [`ErrorKind::FileMissing`] when the manifests of several backups are missing; the errors of loading and listing.
pub(super) async fn load(repository: &Repository, context: &Context) -> Result<Reconciled> {
    let info = repository.backup_info(context).await?;
    let directories = directories(repository).await?;
    let mut reconciled = Reconciled { info, directories, left_over: None, changes: Changes::default() };
    remove_missing(repository, &mut reconciled, context).await?;
    add_unlisted(repository, &mut reconciled, context).await?;
    Ok(reconciled)
}

async fn directories(repository: &Repository) -> Result<BTreeSet<BackupLabel>> {
    let path = path::backup_stanza(repository.stanza());
    let entries = repository.storage().list_all(&path, &ListOptions::default()).await?;
    let directories = entries.iter().filter(|entry| entry.kind == EntryKind::Directory);
    Ok(directories.filter_map(|entry| BackupLabel::parse(entry.name.trim_end_matches('/')).ok()).collect())
}

async fn has_manifest(repository: &Repository, label: &BackupLabel) -> Result<bool> {
    Ok(repository.storage().exists(&path::manifest(repository.stanza(), label)).await?)
}

async fn remove_missing(repository: &Repository, reconciled: &mut Reconciled, context: &Context) -> Result<()> {
    let mut missing = Vec::new();
    for entry in reconciled.info.backups() {
        if !has_manifest(repository, &entry.label).await? {
            missing.push(entry.label);
        }
    }
    let [label] = missing[..] else {
        return if missing.is_empty() { Ok(()) } else { Err(many_missing(repository, &missing)) };
    };
    let mut doomed = reconciled.info.dependents(&label);
    doomed.push(label);
    for label in doomed {
        context.warn(format!("backup '{label}' missing manifest removed from backup.info"));
        reconciled.info.remove(&label).map_err(|error| Error::new(ErrorKind::Assert, error.to_string()))?;
        reconciled.changes.removed.push(label);
    }
    Ok(())
}

fn many_missing(repository: &Repository, missing: &[BackupLabel]) -> Error {
    const SHOWN_MAX: usize = 10;
    let mut labels: Vec<String> = missing.iter().take(SHOWN_MAX).map(BackupLabel::to_string).collect();
    if missing.len() > SHOWN_MAX {
        labels.push(format!("and {} more", missing.len() - SHOWN_MAX));
    }
    let message = format!(
        "backup.info of {} lists {} backups whose manifests are missing: {}",
        repository.index(),
        missing.len(),
        labels.join(", ")
    );
    Error::new(ErrorKind::FileMissing, message)
        .hint("is this the right bucket or directory, and does the store show all of its objects?")
}

async fn add_unlisted(repository: &Repository, reconciled: &mut Reconciled, context: &Context) -> Result<()> {
    for label in reconciled.directories.clone() {
        let info = &reconciled.info;
        // A backup whose set is not listed at all cannot be added, so its manifest need not be read.
        let in_listed_set =
            label.full_label() == label || info.backups().iter().any(|entry| entry.label.same_set(&label));
        if info.backup(&label).is_some() || !in_listed_set || !has_manifest(repository, &label).await? {
            continue;
        }
        let passphrase = repository.manifest_passphrase(info)?;
        let manifest = repository.manifest_file(&label, ManifestFile::Main, passphrase.as_ref(), context).await;
        let added = match manifest {
            Ok(manifest) => add(&mut reconciled.info, &label, &manifest),
            // A damaged one cannot be added; one that could not be read is another matter.
            Err(error) if error.storage_class().is_none() => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        match added {
            Ok(entry) => {
                context.warn(format!("backup '{label}' found in repository added to backup.info"));
                reconciled.changes.added.push(entry);
            }
            Err(reason) => {
                context.warn(format!("invalid backup '{label}' cannot be added to current backups: {reason}"));
            }
        }
    }
    Ok(())
}

fn add(info: &mut BackupInfo, label: &BackupLabel, manifest: &Manifest) -> Result<BackupEntry, String> {
    if manifest.label() != *label {
        return Err(format!("its manifest is that of backup {}", manifest.label()));
    }
    let cluster = manifest.cluster();
    let generation = cluster.history_id.and_then(|id| info.history().generation(id));
    let is_known = cluster
        .system_id
        .is_some_and(|id| generation.is_some_and(|generation| generation.is_cluster(cluster.version, id)));
    if !is_known {
        return Err("it is of a cluster that is not in the history".to_owned());
    }
    let entry = manifest.backup_entry().map_err(|error| error.to_string())?;
    info.add(entry.clone()).map_err(|error| error.to_string())?;
    Ok(entry)
}
