//! One backup: its manifest, and every file that it stores or refers to.

use std::sync::{Arc, Mutex, PoisonError};

use super::findings::Findings;
use super::jobs::Jobs;
use super::known::{Content, Identity, Known, Verdict};
use super::look::{Looked, Looker, is_fatal};
use super::report::{BackupReport, BackupStatus, Damage, Fault, FaultKind};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::{Digest, Passphrase};
use crate::format::manifest::{FileLocation, FileRow, Manifest, PageChecksums};
use crate::format::{ArchiveInfo, BackupLabel, HistoryId, path};
use crate::progress::{Context, Level};
use crate::repository::backup_file::stored_place;
use crate::repository::{ManifestFile, Repository};
use crate::storage::StoragePath;
use crate::transfer::run_jobs;

/// What the look at every backup needs.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// The generations of the cluster.
    pub archive_info: &'a ArchiveInfo,
    /// Passphrase of the manifests.
    pub passphrase: Option<Passphrase>,
    /// Transfers at once.
    pub workers: usize,
    /// Unwanted bytes between two files of a bundle up to which they are read in one request.
    pub read_over_bytes: u64,
    /// What the command was given.
    pub context: &'a Context,
}

/// Looks at a backup. Returns the manifest where it can be used. `may_run` says that the backup is the newest and not
/// listed.
///
/// # Errors
/// When the command was asked to stop, or too many objects cannot be read.
pub(super) async fn verify(
    surroundings: &Surroundings<'_>,
    report: &mut BackupReport,
    may_run: bool,
    known: &Arc<Mutex<Known>>,
    findings: &mut Findings,
) -> Result<Option<Arc<Looker>>> {
    let Some(manifest) = usable_manifest(surroundings, report, may_run, findings).await? else { return Ok(None) };
    let (repository, context) = (surroundings.repository, surroundings.context);
    report.files_total = manifest.files().len() as u64;
    let has_page_errors = |row: &&FileRow| matches!(row.page_checksums, PageChecksums::Errors(_));
    report.page_errors = manifest.files().iter().filter(has_page_errors).count() as u64;
    if manifest.files().is_empty() {
        context.info(format!("backup '{}' manifest does not contain any target files to verify", report.label));
        report.status = BackupStatus::Invalid;
        report.refuse("its manifest lists no files");
        findings.other_errors += 1;
        return Ok(None);
    }
    let passphrase = match repository.backup_passphrase(&manifest) {
        Ok(passphrase) => passphrase,
        Err(error) => {
            report.status = BackupStatus::Invalid;
            report.refuse(error.message());
            return Ok(None);
        }
    };
    let looker = Arc::new(Looker {
        repository: repository.clone(),
        manifest,
        passphrase,
        codecs: context.codecs.clone(),
        cancel: context.cancel.clone(),
        known: Arc::clone(known),
    });
    let mut tally = Tally::new(&looker, report, findings, context);
    let jobs = Jobs::of(&looker.manifest, tally.inherit()?);
    let workers = surroundings.workers.max(1);
    run_jobs(
        jobs.iter(),
        workers,
        |_, files| looker.look(files, surroundings.read_over_bytes, context),
        |place, looked: Vec<Looked>| {
            for (file, verdict) in looked {
                tally.fresh(file, verdict, place % workers + 1)?;
            }
            context.check_cancelled()
        },
    )
    .await?;
    tally.end();
    Ok(Some(looker))
}

/// Counts verdicts.
struct Tally<'a> {
    looker: &'a Looker,
    report: &'a mut BackupReport,
    findings: &'a mut Findings,
    context: &'a Context,
    broken: u64,
    unknown: u64,
    first_broken: Option<String>,
}

impl<'a> Tally<'a> {
    fn new(looker: &'a Looker, report: &'a mut BackupReport, findings: &'a mut Findings, context: &'a Context) -> Self {
        Self { looker, report, findings, context, broken: 0, unknown: 0, first_broken: None }
    }

    /// Counts the files of which everything is known, and returns the others.
    fn inherit(&mut self) -> Result<Vec<u32>> {
        let manifest = &self.looker.manifest;
        let mut unseen = Vec::new();
        for (place, row) in (0_u32..).zip(manifest.files()) {
            if row.checksum.is_none() {
                self.report.refuse(format!("its manifest has no checksum for '{}'", row.name()));
                self.report.status = BackupStatus::Invalid;
                continue;
            }
            if manifest.location(row) == FileLocation::Nowhere {
                self.report.files_valid += 1;
                continue;
            }
            let identity = Identity::of(&manifest.stored_in(row), row);
            match self.looker.known(|known| known.verdict(identity)) {
                // What an earlier backup is known for was told with it.
                Some(verdict) => self.count(row, &verdict),
                None => unseen.push(place),
            }
        }
        Ok(unseen)
    }

    /// Counts a file that was looked at, and tells what is wrong with it.
    fn fresh(&mut self, file: u32, mut verdict: Verdict, worker: usize) -> Result<()> {
        let row = self.looker.row(file)?;
        if row.size_bytes == 0 {
            // A restore makes it from nothing, whatever is stored.
            verdict.content = Content::Right;
        }
        let label = self.looker.manifest.stored_in(row);
        if let Some(fault) = &verdict.fault {
            self.tell(row, &verdict, fault, worker)?;
        } else if row.is_block_incremental() {
            self.looker.known(|known| known.record_region(&label, row));
        }
        self.count(row, &verdict);
        let identity = Identity::of(&label, row);
        self.looker.known(|known| known.record(identity, verdict));
        Ok(())
    }

    fn tell(&mut self, row: &FileRow, verdict: &Verdict, fault: &Fault, worker: usize) -> Result<()> {
        let repository = &self.looker.repository;
        let own = stored_place(repository, &self.looker.manifest, row).ok().flatten().map(|(object, _)| object);
        let Some(object) = verdict.elsewhere.clone().or(own) else { return Ok(()) };
        let is_new = self.findings.note(&object, fault)?;
        // Each damaged file of a bundle is told; damage that was told with an earlier backup is not told again.
        if is_new || verdict.elsewhere.is_none() {
            let line = fault.line(&shown(repository, &object));
            self.context.reporter.message(Level::Info, worker, &line);
        }
        Ok(())
    }

    fn count(&mut self, row: &FileRow, verdict: &Verdict) {
        match &verdict.fault {
            None => self.report.files_valid += 1,
            Some(fault) => self.report.faults.add(fault.kind),
        }
        match verdict.content {
            Content::Right => {}
            Content::Unknown => self.unknown += 1,
            Content::Wrong => {
                self.broken += 1;
                self.first_broken.get_or_insert_with(|| row.name().to_string());
            }
        }
    }

    fn end(self) {
        if self.report.faults.total() > 0 {
            self.report.status = BackupStatus::Invalid;
        }
        if let Some(first) = self.first_broken {
            let more = if self.broken > 1 { format!(" and {} more", self.broken - 1) } else { String::new() };
            self.report.refuse(format!("file '{first}'{more} cannot be made from what is stored"));
        }
        if self.unknown > 0 {
            self.report.doubt(format!("{} file(s) could not be read", self.unknown));
        }
    }
}

/// The path as the original shows it: below `backup/<stanza>`.
fn shown(repository: &Repository, object: &StoragePath) -> String {
    let root = path::backup_stanza(repository.stanza());
    object.as_str().strip_prefix(root.as_str()).unwrap_or(object.as_str()).trim_start_matches('/').to_owned()
}

/// The manifest, or its copy, if it is one of this backup and of a cluster that the stanza knows.
async fn usable_manifest(
    surroundings: &Surroundings<'_>,
    report: &mut BackupReport,
    may_run: bool,
    findings: &mut Findings,
) -> Result<Option<Manifest>> {
    let loaded = load_manifest(surroundings, report, may_run, findings).await?;
    let Some((manifest, object)) = loaded else { return Ok(None) };
    let label = report.label;
    if manifest.label() != label {
        let fault = Fault::new(FaultKind::Other, format!("it is the manifest of {}", manifest.label()));
        surroundings.context.info(fault.line(&shown(surroundings.repository, &object)));
        findings.note(&object, &fault)?;
        report.status = BackupStatus::Invalid;
        report.refuse(format!("its manifest is that of {}", manifest.label()));
        return Ok(None);
    }
    let cluster = manifest.cluster();
    let is_known = cluster.history_id.zip(cluster.system_id).is_some_and(|(id, system_id)| {
        let generation = surroundings.archive_info.history().generation(id);
        generation.is_some_and(|generation| generation.is_cluster(cluster.version, system_id))
    });
    if !is_known {
        let id = cluster.history_id.map_or(0, HistoryId::number);
        let system_id = cluster.system_id.map_or_else(|| "none".to_owned(), |id| id.to_string());
        surroundings.context.info(format!(
            "'{label}' may not be recoverable - PG data (id {id}, version {}, system-id {system_id}) is not in the \
             backup.info history, skipping",
            cluster.version
        ));
        report.status = BackupStatus::Invalid;
        report.refuse("its cluster is not in the history of the stanza");
        findings.other_errors += 1;
        return Ok(None);
    }
    Ok(Some(manifest))
}

/// Reads the manifest and its copy, one after the other, and tells what is wrong with either; with the one that is used
/// comes where it is stored.
async fn load_manifest(
    surroundings: &Surroundings<'_>,
    report: &mut BackupReport,
    may_run: bool,
    findings: &mut Findings,
) -> Result<Option<(Manifest, StoragePath)>> {
    let (repository, context, label) = (surroundings.repository, surroundings.context, report.label);
    let main_path = path::manifest(repository.stanza(), &label);
    let copy_path = path::manifest_copy(repository.stanza(), &label);
    let read = |file| repository.manifest_file_with_digest(&label, file, surroundings.passphrase.as_ref(), context);
    // The copy first, of which only the digest is kept: a manifest can be large.
    let copy: Result<(BackupLabel, Digest)> =
        read(ManifestFile::Copy).await.map(|(manifest, digest)| (manifest.label(), digest));
    let main = read(ManifestFile::Main).await;
    for error in [main.as_ref().err(), copy.as_ref().err()].into_iter().flatten() {
        if is_fatal(error) {
            return Err(error.clone());
        }
        context.detail(error.message());
    }
    let is_missing = |error: &Error| error.kind() == ErrorKind::FileMissing;
    match (main, copy) {
        (Ok((manifest, digest)), copy) => {
            match copy {
                Ok((other, _)) if other != label => {
                    let fault = Fault::new(FaultKind::Other, format!("it is the manifest of {other}"));
                    context.detail(fault.line(&shown(repository, &copy_path)));
                    findings.note(&copy_path, &fault).map(drop)?;
                }
                Ok((_, copy)) if copy != digest => {
                    context.detail(format!("backup '{label}' manifest.copy does not match manifest"));
                }
                Ok(_) => {}
                // Nobody promised the copy of a backup that is not listed.
                Err(error) if is_missing(&error) && !report.is_listed => {}
                Err(error) => findings.note(&copy_path, &Fault::of(&error)).map(drop)?,
            }
            Ok(Some((manifest, main_path)))
        }
        (Err(main), _) if is_missing(&main) && may_run => {
            context.info(format!("backup '{label}' appears to be in progress, skipping"));
            report.status = BackupStatus::InProgress;
            report.refuse("it is not complete");
            Ok(None)
        }
        // Left behind by a backup or an expire that was interrupted: the next one removes it.
        (Err(main), _) if is_missing(&main) && !report.is_listed => {
            report.status = BackupStatus::ManifestMissing;
            report.refuse("it has no manifest");
            Ok(None)
        }
        (Err(main), Ok(_)) => {
            context.detail(format!("{label}/backup.manifest is missing or unusable, using copy"));
            findings.note(&main_path, &Fault::of(&main))?;
            Ok(Some((read(ManifestFile::Copy).await?.0, copy_path)))
        }
        (Err(main), Err(copy)) => {
            if is_missing(&main) && is_missing(&copy) {
                context.detail(format!("manifest missing for '{label}' - backup may have expired"));
                report.status = BackupStatus::ManifestMissing;
            } else {
                report.status = BackupStatus::Invalid;
            }
            let faults = [(main_path, Fault::of(&main)), (copy_path, Fault::of(&copy))];
            let is_unknown = faults.iter().any(|(_, fault)| fault.kind == FaultKind::Unreadable);
            for (object, fault) in &faults {
                findings.note(object, fault)?;
            }
            if is_unknown {
                report.doubt("its manifest could not be read");
            } else {
                report.refuse("neither its manifest nor the copy can be used");
            }
            Ok(None)
        }
    }
}

/// Takes back what was found of a backup that expire removed in the meantime.
pub(super) fn forgive_expired(report: &mut BackupReport, damage: &mut Vec<Damage>, repository: &Repository) {
    let directory = format!("{}/", path::backup(repository.stanza(), &report.label));
    damage.retain(|damage| damage.fault.kind != FaultKind::Missing || !damage.object.as_str().starts_with(&directory));
    report.is_listed = false;
    report.status = BackupStatus::ManifestMissing;
    report.reasons = vec!["it was expired meanwhile".to_owned()];
}

/// A lock that nobody can have left in an unusable state: it guards plain data.
pub(super) fn fresh_known(known: &Arc<Mutex<Known>>) {
    *known.lock().unwrap_or_else(PoisonError::into_inner) = Known::default();
}
