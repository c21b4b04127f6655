//! The archive: every file is decoded and compared with the checksum in its name.

use std::collections::{BTreeMap, HashMap};

use super::findings::Findings;
use super::look::is_fatal;
use super::report::{ArchiveReport, Fault, FaultCounts, FaultKind};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::order::{self, LoadSpec};
use crate::filter::{Digest, Form};
use crate::format::{ArchiveId, ArchiveInfo, WalObjectName, path};
use crate::postgres::{TimelineHistory, WalFileName, WalHeader, WalSegmentName, WalSegmentSize};
use crate::progress::{Context, Level};
use crate::repository::backup_file::undecodable;
use crate::repository::{Archive, ArchivedFile, Repository};
use crate::storage::{EntryKind, ListOptions, StorageExt, StoragePath};
use crate::transfer::run_jobs;

/// Which segments are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All.
    All,
    /// Those that one backup needs, both ends included; `None` for a backup that needs none.
    Range(Option<(WalSegmentName, WalSegmentName)>),
}

impl Wanted {
    fn takes(self, segment: WalSegmentName) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Range(None) => false,
            // By name, as the original: of every timeline and archive id.
            Wanted::Range(Some((start, stop))) => start <= segment && segment <= stop,
        }
    }
}

/// The segments of one archive that `archive-get` would deliver, by name.
#[derive(Debug, Default)]
pub(super) struct WholeWal {
    /// The size of segments, if one could be read.
    pub segment_size: Option<WalSegmentSize>,
    segments: HashMap<WalSegmentName, SegmentState>,
}

/// What is known of a segment; the best of several objects with the same content is what counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SegmentState {
    /// It is not there, or is damaged.
    Lost,
    /// It could not be read.
    Unknown,
    /// It is there and whole.
    Whole,
}

impl WholeWal {
    fn add(&mut self, segment: WalSegmentName, fault: Option<&Fault>) {
        let state = match fault.map(|fault| fault.kind) {
            None => SegmentState::Whole,
            Some(FaultKind::Unreadable) => SegmentState::Unknown,
            Some(_) => SegmentState::Lost,
        };
        let known = self.segments.entry(segment).or_insert(state);
        *known = state.max(*known);
    }

    /// What is known of a segment.
    pub(super) fn state(&self, segment: WalSegmentName) -> SegmentState {
        self.segments.get(&segment).copied().unwrap_or(SegmentState::Lost)
    }
}

/// All archives.
#[derive(Debug, Default)]
pub(super) struct Archives {
    /// What is reported, oldest generation first.
    pub reports: Vec<ArchiveReport>,
    /// What is there.
    pub whole: BTreeMap<ArchiveId, WholeWal>,
}

/// The archive ids that have a directory, oldest generation first; one that is not in the history is an error.
///
/// # Errors
/// Those of listing.
pub(super) async fn archive_ids(repository: &Repository) -> Result<Vec<ArchiveId>> {
    let directory = path::archive_stanza(repository.stanza());
    let entries = repository.storage().list_all(&directory, &ListOptions::default()).await?;
    let mut ids: Vec<ArchiveId> = entries
        .iter()
        .filter(|entry| entry.kind == EntryKind::Directory)
        .filter_map(|entry| ArchiveId::parse(&entry.name).ok())
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Looks at all files of the archives `ids`.
///
/// # Errors
/// Those of listing, or when too many files cannot be read.
pub(super) async fn verify(
    repository: &Repository,
    info: &ArchiveInfo,
    ids: &[ArchiveId],
    wanted: Wanted,
    workers: usize,
    findings: &mut Findings,
    context: &Context,
) -> Result<Archives> {
    let mut archives = Archives::default();
    for id in ids {
        let archive = repository.archive(info, *id)?;
        let mut walk = Walk {
            archive,
            wanted,
            workers,
            findings,
            context,
            looked: Vec::new(),
            duplicates: Vec::new(),
            conflicts: Vec::new(),
        };
        let mut report = ArchiveReport {
            id: *id,
            wal_total: 0,
            wal_valid: 0,
            faults: FaultCounts::default(),
            duplicates: 0,
            other_faults: 0,
            ranges: Vec::new(),
        };
        walk.directory(&mut report).await?;
        let whole = walk.settle(&mut report)?;
        archives.reports.push(report);
        archives.whole.insert(*id, whole);
    }
    Ok(archives)
}

/// A segment that was read.
#[derive(Debug, Clone)]
struct LookedAt {
    object: WalObjectName,
    /// Whether another object has the same segment.
    is_duplicate: bool,
    worker: usize,
    outcome: Outcome,
}

#[derive(Debug, Clone)]
enum Outcome {
    /// Its content has the checksum of its name.
    Right { size_bytes: u64, segment_size: Option<WalSegmentSize> },
    /// It has not, or was not there.
    Wrong(Fault),
}

/// The walk through one archive.
struct Walk<'a> {
    archive: Archive,
    wanted: Wanted,
    workers: usize,
    findings: &'a mut Findings,
    context: &'a Context,
    looked: Vec<LookedAt>,
    /// Segments that are stored more than once.
    duplicates: Vec<WalSegmentName>,
    /// Of these, the ones that are stored with different contents.
    conflicts: Vec<WalSegmentName>,
}

impl Walk<'_> {
    /// Everything below the directory of an archive id, one 4 GiB of WAL after the other.
    async fn directory(&mut self, report: &mut ArchiveReport) -> Result<()> {
        let repository = self.archive.repository().clone();
        let directory = path::archive_directory(repository.stanza(), self.archive.id());
        let entries = repository.storage().list_all(&directory, &ListOptions::default()).await?;
        let mut logs = Vec::new();
        for entry in &entries {
            match entry.kind {
                EntryKind::Directory => logs.extend(WalSegmentName::parse(&format!("{}00000000", entry.name)).ok()),
                EntryKind::Object => {
                    if let Ok(name @ WalFileName::History(_)) = WalFileName::parse(&entry.name) {
                        self.small_file(name, report).await?;
                    }
                }
                _ => {}
            }
        }
        if logs.is_empty() {
            self.context.detail(format!("archive path '{}' is empty", self.archive.id()));
        }
        logs.sort_unstable();
        for log in logs {
            self.context.check_cancelled()?;
            self.log_directory(log, report).await?;
        }
        Ok(())
    }

    async fn log_directory(&mut self, first: WalSegmentName, report: &mut ArchiveReport) -> Result<()> {
        let repository = self.archive.repository().clone();
        let directory = path::wal_directory(repository.stanza(), self.archive.id(), first);
        let entries = repository.storage().list_all(&directory, &ListOptions::default()).await?;
        let mut objects = Vec::new();
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Object) {
            if let Some(object) = WalObjectName::parse(&entry.name) {
                if self.wanted.takes(object.segment) {
                    objects.push(object);
                }
            } else if let Ok(name @ WalFileName::BackupHistory { segment, .. }) = WalFileName::parse(&entry.name)
                && self.wanted.takes(segment)
            {
                self.small_file(name, report).await?;
            }
        }
        objects.sort_unstable();
        let total = objects.iter().filter(|object| !object.partial).count();
        report.wal_total = report.wal_total.saturating_add(total as u64);
        let duplicates_before = self.duplicates.len();
        let objects = self.mark_duplicates(&objects, report);
        if total == 0 || objects.iter().all(|(object, is_duplicate)| object.partial || *is_duplicate) {
            let (id, log) = (self.archive.id(), first.first16());
            self.context.detail(format!("path '{id}/{log}' does not contain any valid WAL to be processed"));
        }
        self.findings.other_errors += (self.duplicates.len() - duplicates_before) as u64;
        self.look_at_all(&objects).await
    }

    /// Which objects share their segment with another one.
    fn mark_duplicates(&mut self, objects: &[WalObjectName], report: &mut ArchiveReport) -> Vec<(WalObjectName, bool)> {
        let mut marked = Vec::with_capacity(objects.len());
        for group in objects.chunk_by(|one, other| (one.segment, one.partial) == (other.segment, other.partial)) {
            // A primary and its standby may have left different parts of one segment.
            let is_duplicate = group.len() > 1 && group.iter().all(|object| !object.partial);
            if let (true, Some(first)) = (is_duplicate, group.first()) {
                let (segment, id) = (first.segment, self.archive.id());
                self.context.info(format!("duplicate WAL '{segment}' for '{id}' exists, skipping"));
                report.duplicates = report.duplicates.saturating_add(group.len() as u64);
                self.duplicates.push(segment);
                if group.iter().any(|object| object.checksum != first.checksum) {
                    self.conflicts.push(segment);
                }
            }
            marked.extend(group.iter().map(|object| (*object, is_duplicate)));
        }
        marked
    }

    async fn look_at_all(&mut self, objects: &[(WalObjectName, bool)]) -> Result<()> {
        let (archive, context, workers) = (&self.archive, self.context, self.workers.max(1));
        let looked = &mut self.looked;
        run_jobs(
            objects,
            workers,
            |_, (object, _)| look_at(archive, *object, context),
            |place, outcome| {
                if let Some((object, is_duplicate)) = objects.get(place) {
                    let worker = place % workers + 1;
                    looked.push(LookedAt { object: *object, is_duplicate: *is_duplicate, worker, outcome });
                }
                context.check_cancelled()
            },
        )
        .await
    }

    /// A timeline history or a backup history file: nothing has its checksum, so it is read as what it should be.
    async fn small_file(&mut self, name: WalFileName, report: &mut ArchiveReport) -> Result<()> {
        let path = self.archive.path_of(name, None)?;
        let read = self.archive.read_small(&path, self.context).await;
        let checked = read.and_then(|content| match name {
            WalFileName::History(timeline) => TimelineHistory::parse(timeline, &content)
                .map(drop)
                .map_err(|error| Error::new(ErrorKind::Format, error.to_string())),
            WalFileName::BackupHistory { segment, .. } => check_backup_history(segment, &content),
            _ => Ok(()),
        });
        match checked {
            Ok(()) => Ok(()),
            // It was listed: expire has taken it away.
            Err(error) if error.kind() == ErrorKind::FileMissing => Ok(()),
            Err(error) if is_fatal(&error) => Err(error),
            Err(error) => {
                let fault = Fault::of(&error);
                report.other_faults = report.other_faults.saturating_add(1);
                self.context.info(fault.line(&self.shown(&path)));
                self.findings.note(&path, &fault).map(drop)
            }
        }
    }

    /// The path as the original shows it: below `archive/<stanza>`.
    fn shown(&self, path: &StoragePath) -> String {
        let root = path::archive_stanza(self.archive.repository().stanza());
        let shown = path.as_str().strip_prefix(root.as_str()).unwrap_or(path.as_str());
        shown.trim_start_matches('/').to_owned()
    }

    /// Counts what was looked at, now that the size of segments is known.
    fn settle(mut self, report: &mut ArchiveReport) -> Result<WholeWal> {
        self.looked.sort_by_key(|looked| looked.object);
        let segment_size = self.looked.iter().find_map(|looked| match looked.outcome {
            Outcome::Right { segment_size, .. } => segment_size,
            Outcome::Wrong(_) => None,
        });
        let mut whole = WholeWal { segment_size, segments: HashMap::new() };
        for looked in std::mem::take(&mut self.looked) {
            let fault = match looked.outcome {
                Outcome::Wrong(fault) => Some(fault),
                Outcome::Right { size_bytes, .. } => {
                    let is_sized = segment_size.is_none_or(|size| u64::from(size.bytes()) == size_bytes);
                    let detail = || format!("a segment of {size_bytes} bytes");
                    (!is_sized && !looked.object.partial).then(|| Fault::new(FaultKind::Size, detail()))
                }
            };
            if !looked.object.partial {
                whole.add(looked.object.segment, fault.as_ref());
            }
            if let Some(fault) = &fault {
                self.tell(&looked.object, looked.worker, fault)?;
            }
            match fault {
                Some(_) if looked.object.partial => report.other_faults = report.other_faults.saturating_add(1),
                // Duplicates are neither valid nor one of the named faults.
                _ if looked.is_duplicate || looked.object.partial => {}
                Some(fault) => report.faults.add(fault.kind),
                None => report.wal_valid = report.wal_valid.saturating_add(1),
            }
            if !looked.is_duplicate && !looked.object.partial {
                extend_ranges(&mut report.ranges, looked.object.segment, segment_size);
            }
        }
        // Two contents under one name: nobody knows which is right, and none is delivered.
        for segment in &self.conflicts {
            whole.segments.insert(*segment, SegmentState::Lost);
        }
        for (start, stop) in &report.ranges {
            let id = report.id;
            self.context.detail(format!("archiveId: {id}, wal start: {start}, wal stop: {stop}"));
        }
        Ok(whole)
    }

    /// A segment that was listed and is gone may have been expired since: the original warns and does not count it as
    /// an error. Whether a backup needs it is checked later.
    fn tell(&mut self, object: &WalObjectName, worker: usize, fault: &Fault) -> Result<()> {
        let path = path::wal_object(self.archive.repository().stanza(), self.archive.id(), object);
        let line = fault.line(&self.shown(&path));
        if fault.kind == FaultKind::Missing {
            self.context.reporter.message(Level::Warn, worker, &line);
            return Ok(());
        }
        self.context.reporter.message(Level::Info, worker, &line);
        self.findings.note(&path, fault).map(drop)
    }
}

async fn look_at(archive: &Archive, object: WalObjectName, context: &Context) -> Result<Outcome> {
    let path = path::wal_object(archive.repository().stanza(), archive.id(), &object);
    let file = ArchivedFile { path, segment: Some(object) };
    let (passphrase, codecs, cancel) = (archive.passphrase().cloned(), context.codecs.clone(), context.cancel.clone());
    let decoded = archive.load(&file, context, move |source| {
        let spec = LoadSpec {
            compress: object.compress,
            cipher: passphrase.as_ref(),
            form: Form::Standard,
            plain_size_max_bytes: Some(WalSegmentSize::MAX.bytes().into()),
        };
        let mut chain = order::load(&spec, &codecs).map_err(|error| undecodable(&error))?;
        let mut header = Vec::new();
        let mut sink = |plain: &[u8]| {
            let missing = WalHeader::SIZE_BYTES.saturating_sub(header.len());
            header.extend_from_slice(plain.get(..missing.min(plain.len())).unwrap_or_default());
            Ok(())
        };
        source.all(|stored| {
            if cancel.is_cancelled() {
                return Err(crate::progress::cancelled());
            }
            chain.write(stored, &mut sink).map_err(|error| undecodable(&error))
        })?;
        let report = chain.finish(&mut sink).map_err(|error| undecodable(&error))?;
        Ok((report.plain, WalHeader::parse(&header).ok().map(|header| header.segment_size)))
    });
    match decoded.await {
        Ok((Digest { sha1, .. }, _)) if sha1 != object.checksum => {
            let detail = format!("its content has the checksum {sha1}");
            Ok(Outcome::Wrong(Fault::new(FaultKind::Checksum, detail)))
        }
        Ok((Digest { size_bytes, .. }, segment_size)) => Ok(Outcome::Right { size_bytes, segment_size }),
        Err(error) if is_fatal(&error) => Err(error),
        Err(error) => Ok(Outcome::Wrong(Fault::of(&error))),
    }
}

/// PostgreSQL begins such a file with the WAL location and the segment, which is also its name.
fn check_backup_history(segment: WalSegmentName, content: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(content);
    let first = text.lines().next().unwrap_or_default();
    if first.starts_with("START WAL LOCATION: ") && first.contains(&segment.to_string()) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Format, format!("it is no backup history file of {segment}")))
}

/// Segments come in ascending order.
fn extend_ranges(
    ranges: &mut Vec<(WalSegmentName, WalSegmentName)>,
    segment: WalSegmentName,
    size: Option<WalSegmentSize>,
) {
    match ranges.last_mut() {
        Some((_, stop)) if size.is_some_and(|size| stop.next(size) == Some(segment)) => *stop = segment,
        _ => ranges.push((segment, segment)),
    }
}
