//! backup.info brought in line with the backups that are really there (repository-behaviour.md §4.2).
//!
//! A manifest counts as missing only when the store says so of the manifest itself and does not list it either
//! (faults.md OS12). One such backup is taken out of backup.info, as the original does. More of them are rather a store
//! that hides objects (OS16): the command stops, and nothing is written.

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::{ManifestFile, Repository};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BackupEntry, BackupInfo, BackupLabel, Manifest, path};
use crate::progress::Context;
use crate::storage::{EntryKind, ListOptions, StorageExt};

/// Manifests that are asked for at once.
const QUESTIONS_AT_ONCE: usize = 8;

/// What backup.info is compared for: how much may be gone before the store is not believed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose<'a> {
    /// A backup is added. One backup may be gone.
    Backup,
    /// Backups and WAL are removed for good. One backup may be gone, but neither the newest nor one that others need:
    /// no interrupted `expire` leaves that. A backup that a person wants removed, and its dependents, may be gone.
    Expire {
        /// What the person named.
        asked: Option<&'a BackupLabel>,
    },
}

/// backup.info as it should be.
#[derive(Debug)]
pub(crate) struct Reconciled {
    /// What is there.
    pub(crate) info: BackupInfo,
    /// The directories that have the name of a backup, complete or not.
    pub(crate) directories: BTreeSet<BackupLabel>,
    /// The unfinished backup whose directory was removed.
    pub(crate) left_over: Option<BackupLabel>,
    /// Complete backups that cannot be listed; a warning said why.
    pub(crate) refused: BTreeSet<BackupLabel>,
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
    /// Whether backup.info has to be written again.
    pub(crate) fn is_changed(&self) -> bool {
        !self.changes.removed.is_empty() || !self.changes.added.is_empty()
    }

    /// Whether backup.info listed this backup although its manifest is missing.
    pub(crate) fn was_removed(&self, label: &BackupLabel) -> bool {
        self.changes.removed.contains(label)
    }

    /// Makes the same changes to backup.info as it is later.
    pub(crate) fn apply(&self, info: &mut BackupInfo) {
        for label in &self.changes.removed {
            // Somebody else may have removed it meanwhile, or built on it.
            drop(info.remove(label));
        }
        for entry in &self.changes.added {
            drop(info.add(entry.clone()));
        }
    }
}

impl Repository {
    /// Loads backup.info and compares it with the directories of the stanza.
    ///
    /// # Errors
    /// [`ErrorKind::FileMissing`] when more manifests are missing than `purpose` allows; the errors of loading and
    /// listing.
    pub(crate) async fn reconciled(&self, purpose: Purpose<'_>, context: &Context) -> Result<Reconciled> {
        let info = self.backup_info(context).await?;
        let directories = self.backup_directories().await?;
        let mut reconciled =
            Reconciled { info, directories, left_over: None, refused: BTreeSet::new(), changes: Changes::default() };
        remove_missing(self, &mut reconciled, purpose, context).await?;
        add_unlisted(self, &mut reconciled, context).await?;
        Ok(reconciled)
    }

    /// The directories of the stanza that have the name of a backup.
    ///
    /// # Errors
    /// The storage's.
    pub(crate) async fn backup_directories(&self) -> Result<BTreeSet<BackupLabel>> {
        let path = path::backup_stanza(self.stanza());
        let entries = self.storage().list_all(&path, &ListOptions::default()).await?;
        let directories = entries.iter().filter(|entry| entry.kind == EntryKind::Directory);
        Ok(directories.filter_map(|entry| BackupLabel::parse(entry.name.trim_end_matches('/')).ok()).collect())
    }

    /// Whether a backup is complete.
    ///
    /// # Errors
    /// The storage's: only its positive answer is a no.
    pub(crate) async fn has_manifest(&self, label: &BackupLabel) -> Result<bool> {
        Ok(self.storage().exists(&path::manifest(self.stanza(), label)).await?)
    }
}

async fn remove_missing(
    repository: &Repository,
    reconciled: &mut Reconciled,
    purpose: Purpose<'_>,
    context: &Context,
) -> Result<()> {
    let labels: Vec<BackupLabel> = reconciled.info.backups().iter().map(|entry| entry.label).collect();
    let mut answers = stream::iter(labels)
        .map(|label| async move { Ok::<_, Error>((label, repository.has_manifest(&label).await?)) })
        .buffered(QUESTIONS_AT_ONCE);
    let mut missing = Vec::new();
    while let Some((label, is_there)) = answers.try_next().await? {
        if !is_there {
            missing.push(label);
        }
    }
    drop(answers);
    for label in &missing {
        refuse_contradiction(repository, label).await?;
    }
    refuse_disappearance(repository, &reconciled.info, &missing, purpose)?;
    for label in missing {
        if reconciled.info.backup(&label).is_none() {
            continue;
        }
        let mut doomed = reconciled.info.dependents(&label);
        doomed.push(label);
        for label in doomed {
            context.warn(format!("backup '{label}' missing manifest removed from backup.info"));
            reconciled.info.remove(&label).map_err(|error| Error::new(ErrorKind::Assert, error.to_string()))?;
            reconciled.changes.removed.push(label);
        }
    }
    Ok(())
}

/// Fails when the store lists a manifest that it says is not there.
async fn refuse_contradiction(repository: &Repository, label: &BackupLabel) -> Result<()> {
    let manifest = path::manifest(repository.stanza(), label);
    let options = ListOptions { recurse: false, name_prefix: Some(manifest.file_name().to_owned()) };
    let listed = repository.storage().list_all(&path::backup(repository.stanza(), label), &options).await?;
    if listed.iter().all(|entry| entry.name != manifest.file_name()) {
        return Ok(());
    }
    let message = format!("{} lists '{manifest}' and says that it does not exist", repository.index());
    Err(Error::new(ErrorKind::Service, message).hint("try again when the store has settled"))
}

/// Fails when more is missing than an interrupted command can have left.
fn refuse_disappearance(
    repository: &Repository,
    info: &BackupInfo,
    missing: &[BackupLabel],
    purpose: Purpose<'_>,
) -> Result<()> {
    let asked = match purpose {
        Purpose::Expire { asked } => asked,
        Purpose::Backup => None,
    };
    let wanted = asked.map(|asked| [vec![*asked], info.dependents(asked)].concat()).unwrap_or_default();
    let unwanted: Vec<BackupLabel> = missing.iter().filter(|label| !wanted.contains(label)).copied().collect();
    let label = match unwanted[..] {
        [] => return Ok(()),
        [label] => label,
        _ => return Err(many_missing(repository, &unwanted)),
    };
    if matches!(purpose, Purpose::Backup) {
        return Ok(());
    }
    let dependent = info.dependents(&label).into_iter().find(|dependent| !missing.contains(dependent));
    let reason = match dependent {
        Some(dependent) => format!("backup {dependent} needs it"),
        None if info.backups().last().is_some_and(|newest| newest.label == label) => "it is the newest".to_owned(),
        None => return Ok(()),
    };
    let message =
        format!("backup.info of {} lists backup {label} whose manifest is missing: {reason}", repository.index());
    Err(asks_for_a_look(Error::new(ErrorKind::FileMissing, message)))
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
    asks_for_a_look(Error::new(ErrorKind::FileMissing, message))
}

fn asks_for_a_look(error: Error) -> Error {
    error
        .hint("is this the right bucket or directory, and does the store show all of its objects?")
        .hint("if they are gone for good, expire --set removes one with all that depends on it.")
}

async fn add_unlisted(repository: &Repository, reconciled: &mut Reconciled, context: &Context) -> Result<()> {
    for label in reconciled.directories.clone() {
        let info = &reconciled.info;
        // A backup whose set is not listed at all cannot be added, so its manifest need not be read.
        let in_listed_set =
            label.full_label() == label || info.backups().iter().any(|entry| entry.label.same_set(&label));
        if info.backup(&label).is_some() || !in_listed_set || !repository.has_manifest(&label).await? {
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
                reconciled.refused.insert(label);
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
