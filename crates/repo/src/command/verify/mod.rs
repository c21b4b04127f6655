//! Everything in a repository against its checksums (repository-behaviour.md §7.1).
//!
//! What is reported is the truth about the repository: each damaged object, and each backup that cannot be restored and
//! made consistent. Bytes go through the code that a restore uses, so the two cannot disagree. A backup that is `invalid`
//! may still be one that can be restored: damage that does not reach the content, or an unneeded object.
//!
//! Phases: info files; the archive, one 4 GiB of WAL after the other; the backups, oldest first, each stored file once;
//! then, of each backup, whether the WAL is there that it needs. An object is read once. What cannot be read is an error
//! of its own: nothing is known about it.

mod backup;
mod blocks;
mod findings;
mod info_files;
mod jobs;
mod json;
mod known;
mod look;
mod report;
mod required;
mod text;
mod wal;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crate::error::{ErrorKind, Result};
use crate::format::{ArchiveId, ArchiveInfo, BackupInfo, BackupLabel, path};
use crate::progress::{Context, Scope};
use crate::repository::Repository;
use crate::storage::{ListOptions, StorageExt};

use backup::Surroundings;
use findings::Findings;
use known::Known;
use wal::Wanted;

pub use json::render_json;
pub use report::{
    ArchiveReport, BackupReport, BackupStatus, Damage, Fault, FaultCounts, FaultKind, Restorable, VerifyReport,
};
pub use text::render_text;

/// What to verify.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Only this backup with what it refers to and the WAL that it needs, as the user wrote it.
    pub set: Option<String>,
    /// Transfers at once.
    pub workers: usize,
    /// Unwanted bytes between two files of a bundle up to which they are read in one request.
    pub read_over_bytes: u64,
}

/// Verifies a repository.
///
/// # Errors
/// Those of listing, [`ErrorKind::Command`] when too many objects cannot be read, [`ErrorKind::Term`]. Damage is no
/// error of the command: it is in the report.
pub async fn verify(repository: &Repository, options: &VerifyOptions, context: &Context) -> Result<VerifyReport> {
    let scope = Scope::new(context);
    scope.run(verify_all(repository, options, scope.context())).await
}

async fn verify_all(repository: &Repository, options: &VerifyOptions, context: &Context) -> Result<VerifyReport> {
    let mut findings = Findings::default();
    let mut report = VerifyReport {
        stanza: repository.stanza().clone(),
        repository: repository.index(),
        obstacles: Vec::new(),
        archives: Vec::new(),
        backups: Vec::new(),
        damage: Vec::new(),
        other_errors: 0,
    };
    let backup_info = info_files::backup_info(repository, &mut findings, context).await?;
    let archive_info = info_files::archive_info(repository, &mut findings, context).await?;
    if backup_info.is_none() {
        report.obstacles.push("  No usable backup.info file".to_owned());
    }
    if archive_info.is_none() {
        report.obstacles.push("  No usable archive.info file".to_owned());
    }
    if let (Some(backup_info), Some(archive_info)) = (backup_info, archive_info) {
        match info_files::check_histories(&archive_info, &backup_info) {
            Err(error) => report.obstacles.push(error.message().to_owned()),
            Ok(()) => {
                let run = Run { repository, options, context, backup_info, archive_info };
                run.verify(&mut report, &mut findings).await?;
            }
        }
    }
    report.damage = findings.damage;
    report.other_errors = findings.other_errors;
    Ok(report)
}

/// A verification whose info files can be used.
struct Run<'a> {
    repository: &'a Repository,
    options: &'a VerifyOptions,
    context: &'a Context,
    backup_info: BackupInfo,
    archive_info: ArchiveInfo,
}

impl Run<'_> {
    async fn verify(&self, report: &mut VerifyReport, findings: &mut Findings) -> Result<()> {
        let passphrase = self.repository.manifest_passphrase(&self.backup_info)?;
        let on_disk = self.labels_on_disk().await?;
        let (labels, wanted) = match &self.options.set {
            None => (self.all_labels(&on_disk), Wanted::All),
            Some(text) => {
                let chosen = BackupLabel::parse(text).map(|label| on_disk.contains(&label).then_some(label));
                match chosen {
                    Err(_) => {
                        report.obstacles.push(format!("  '{text}' is not a valid backup label format"));
                        return Ok(());
                    }
                    Ok(None) => {
                        report.obstacles.push(format!("  backup set {text} is not valid"));
                        return Ok(());
                    }
                    Ok(Some(label)) => self.set_of(label, passphrase.as_ref()).await,
                }
            }
        };
        let ids = wal::archive_ids(self.repository).await?;
        if ids.is_empty() && labels.is_empty() {
            report.obstacles.push("    no archives or backups exist in the repo".to_owned());
            return Ok(());
        }
        if ids.is_empty() || labels.is_empty() {
            let what = if ids.is_empty() { "archives" } else { "backups" };
            self.context.detail(format!("no {what} exist in the repo"));
        }
        self.check_ids(&ids, findings);
        let workers = self.options.workers.max(1);
        let archives =
            wal::verify(self.repository, &self.archive_info, &ids, wanted, workers, findings, self.context).await?;
        let surroundings = Surroundings {
            repository: self.repository,
            archive_info: &self.archive_info,
            passphrase,
            workers,
            read_over_bytes: self.options.read_over_bytes,
            context: self.context,
        };
        self.verify_backups(&surroundings, &labels, &archives, report, findings).await?;
        report.archives = archives.reports;
        self.forgive_expired(report, findings).await
    }

    async fn labels_on_disk(&self) -> Result<BTreeSet<BackupLabel>> {
        let directory = path::backup_stanza(self.repository.stanza());
        let entries = self.repository.storage().list_all(&directory, &ListOptions::default()).await?;
        Ok(entries.iter().filter_map(|entry| BackupLabel::parse(&entry.name).ok()).collect())
    }

    /// The backups that are there or listed, with a warning for each that is only one of the two.
    fn all_labels(&self, on_disk: &BTreeSet<BackupLabel>) -> BTreeSet<BackupLabel> {
        let mut labels = on_disk.clone();
        for label in on_disk.iter().filter(|label| self.backup_info.backup(label).is_none()) {
            self.context.warn(format!("backup '{label}' found in the repository but not in backup.info"));
        }
        for entry in self.backup_info.backups().iter().filter(|entry| !on_disk.contains(&entry.label)) {
            let label = entry.label;
            self.context.warn(format!("backup '{label}' found in backup.info but not in the repository"));
            labels.insert(label);
        }
        labels
    }

    /// One backup; with blocks also those that it refers to, since any block may be in any of them. Its WAL.
    async fn set_of(
        &self,
        label: BackupLabel,
        passphrase: Option<&crate::filter::Passphrase>,
    ) -> (BTreeSet<BackupLabel>, Wanted) {
        let mut labels = BTreeSet::from([label]);
        if self.backup_info.backup(&label).is_none() {
            self.context.warn(format!("backup '{label}' found in the repository but not in backup.info"));
        }
        // What is wrong with the manifest is told when the backup is looked at.
        let Ok(manifest) = self.repository.manifest(&label, passphrase, &quiet(self.context)).await else {
            return (labels, Wanted::Range(None));
        };
        if manifest.files().iter().any(crate::format::manifest::FileRow::is_block_incremental) {
            labels.extend(manifest.references().iter().copied());
        }
        let header = manifest.header();
        (labels, Wanted::Range(header.archive_start.zip(header.archive_stop)))
    }

    fn check_ids(&self, ids: &[ArchiveId], findings: &mut Findings) {
        let generations = self.archive_info.history().generations();
        let unknown: Vec<String> = ids
            .iter()
            .filter(|id| !generations.iter().any(|generation| generation.archive_id() == **id))
            .map(ToString::to_string)
            .collect();
        if !unknown.is_empty() {
            let unknown = unknown.join(", ");
            self.context.info(format!("archiveIds '{unknown}' are not in the archive.info history list"));
            findings.other_errors += 1;
        }
    }

    async fn verify_backups(
        &self,
        surroundings: &Surroundings<'_>,
        labels: &BTreeSet<BackupLabel>,
        archives: &wal::Archives,
        report: &mut VerifyReport,
        findings: &mut Findings,
    ) -> Result<()> {
        let known = Arc::new(Mutex::new(Known::default()));
        let mut set: Option<BackupLabel> = None;
        let newest = labels.last().copied();
        for label in labels {
            self.context.check_cancelled()?;
            // Backups refer only to others of the same set.
            if set.replace(label.full_label()) != Some(label.full_label()) {
                backup::fresh_known(&known);
            }
            let is_listed = self.backup_info.backup(label).is_some();
            let mut backup = BackupReport::new(*label, is_listed);
            let may_run = !is_listed && newest == Some(*label);
            let looked = backup::verify(surroundings, &mut backup, may_run, &known, findings).await?;
            if let Some(looker) = looked {
                // Without `--set` of another backup, all WAL was looked at.
                let is_looked_at = self.options.set.as_deref().is_none_or(|set| set == label.as_str());
                if is_looked_at {
                    check_wal(&mut backup, required::lacking(&looker.manifest, &self.archive_info, archives));
                }
            }
            report.backups.push(backup);
        }
        Ok(())
    }

    /// A backup that expire removed while this ran is no damage.
    async fn forgive_expired(&self, report: &mut VerifyReport, findings: &mut Findings) -> Result<()> {
        let is_suspect = |backup: &BackupReport| backup.is_listed && backup.restorable == Restorable::No;
        if !report.backups.iter().any(is_suspect) {
            return Ok(());
        }
        let now = match self.repository.backup_info(&quiet(self.context)).await {
            Ok(now) => now,
            // It could be read a moment ago: whatever this is, it is no reason to take anything back.
            Err(error) if error.kind() != ErrorKind::Term => return Ok(()),
            Err(error) => return Err(error),
        };
        for backup in report.backups.iter_mut().filter(|backup| is_suspect(backup)) {
            if now.backup(&backup.label).is_none() {
                backup::forgive_expired(backup, &mut findings.damage, self.repository);
            }
        }
        Ok(())
    }
}

fn check_wal(backup: &mut BackupReport, lacking: required::Lacking) {
    if let Some(first) = lacking.lost.first() {
        let more = lacking.lost.len() - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        backup.refuse(format!("WAL segment {first}{more} is missing or damaged"));
    }
    if let Some(first) = lacking.unknown.first() {
        backup.doubt(format!("WAL segment {first} could not be read"));
    }
    if backup.status == BackupStatus::Valid && !lacking.lost.is_empty() {
        backup.status = BackupStatus::Invalid;
    }
    backup.wal_missing = lacking.lost;
}

/// A context that says nothing: what is wrong is told elsewhere.
fn quiet(context: &Context) -> Context {
    Context { reporter: Arc::new(crate::progress::Silent), ..context.clone() }
}
