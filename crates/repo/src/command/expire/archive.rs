//! Removing WAL (repository-behaviour.md §6.6).

use std::collections::BTreeSet;

use super::options::ExpireRequest;
use super::remover::Remover;
use super::retention::BackupPlan;
use super::tally::Tally;
use super::wal_retention::{self, ArchiveAction, ArchivePlan, Kept, KeptRange};
use crate::error::{Error, ErrorKind, Result};
use crate::format::path::{self, WalDirectoryName};
use crate::format::{ArchiveId, BackupInfo};
use crate::postgres::{Timeline, WalFileName, WalSegmentName};
use crate::progress::Context;
use crate::repository::{Repository, WritableRepository};
use crate::storage::{EntryKind, ListOptions, StorageExt, StoragePath};

/// What becomes of the WAL of one repository.
#[derive(Debug)]
pub(super) enum WalPlan {
    /// The rules do not say for which backups WAL is kept: all of it stays.
    Unset,
    /// There are not as many backups as WAL is kept for: all of it stays.
    TooFewBackups,
    /// What becomes of each archive that is there.
    Archives(Vec<ArchiveWork>),
}

/// What is done with one archive.
#[derive(Debug)]
pub(super) enum ArchiveWork {
    /// All of it goes.
    Remove(ArchiveId),
    /// Some of it stays.
    Trim(Trim),
}

/// What goes of an archive of which some stays.
#[derive(Debug)]
pub(super) struct Trim {
    id: ArchiveId,
    ranges: Vec<KeptRange>,
    steps: Vec<Step>,
    /// History files.
    history: Vec<Timeline>,
}

/// A directory of WAL of which something goes, in the order of the archive.
#[derive(Debug)]
enum Step {
    Directory(WalDirectoryName),
    Files(Vec<Found>),
}

/// What was found in a directory of which some stays, in order.
#[derive(Debug)]
enum Found {
    Goes(WalSegmentName, StoragePath),
    /// One or more that stay, between those that go.
    Stays,
}

impl WalPlan {
    /// Counts what goes.
    pub(super) fn count(&self, tally: &mut Tally) {
        let Self::Archives(works) = self else { return };
        for work in works {
            match work {
                ArchiveWork::Remove(_) => tally.archives += 1,
                ArchiveWork::Trim(trim) => {
                    tally.history_files += trim.history.len();
                    for step in &trim.steps {
                        match step {
                            Step::Directory(_) => tally.wal_directories += 1,
                            Step::Files(found) => {
                                tally.wal_files += found.iter().filter(|it| matches!(it, Found::Goes(..))).count();
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Decides what becomes of the WAL, before anything is removed: when that is not clear, nothing is (faults.md EX08).
///
/// # Errors
/// Those of reading archive.info and listing the archives; [`ErrorKind::Format`] when the info files contradict each
/// other.
pub(super) async fn plan(
    repository: &Repository,
    backups: &BackupPlan,
    request: &ExpireRequest,
    context: &Context,
) -> Result<WalPlan> {
    let Some(count) = backups.wal.count else { return Ok(WalPlan::Unset) };
    let count = super::retention::as_usize(count);
    if request.archive_before.is_none() && !wal_retention::has_enough(&backups.remaining, count, backups.wal.kind) {
        return Ok(WalPlan::TooFewBackups);
    }
    let info = repository.archive_info(context).await?;
    let present = present(repository).await?;
    let plans = wal_retention::plan(&backups.remaining, info.history(), &present, backups.wal, request.archive_before)?;
    let mut works = Vec::with_capacity(plans.len());
    for ArchivePlan { id, action } in plans {
        works.push(match action {
            ArchiveAction::RemoveAll => ArchiveWork::Remove(id),
            ArchiveAction::Keep(kept) => ArchiveWork::Trim(surveyed(repository, id, kept, context).await?),
        });
    }
    Ok(WalPlan::Archives(works))
}

/// Looks up what goes of an archive, so that it can be counted before anything does.
async fn surveyed(repository: &Repository, id: ArchiveId, kept: Kept, context: &Context) -> Result<Trim> {
    let directory = path::archive_directory(repository.stanza(), id);
    let entries = repository.storage().list_all(&directory, &ListOptions::default()).await?;
    let mut steps = Vec::new();
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Directory) {
        let Some(name) = WalDirectoryName::parse(entry.name.trim_end_matches('/')) else { continue };
        context.check_cancelled()?;
        if !kept.touches(name) {
            steps.push(Step::Directory(name));
        } else if kept.is_scanned(name) {
            steps.push(Step::Files(surveyed_directory(repository, id, name, &kept).await?));
        }
    }
    let files = entries.iter().filter(|entry| entry.kind != EntryKind::Directory);
    let timelines = files.filter_map(|entry| match WalFileName::parse(&entry.name) {
        Ok(WalFileName::History(timeline)) => Some(timeline),
        _ => None,
    });
    let history = timelines.filter(|timeline| kept.history_from.is_some_and(|first| *timeline < first)).collect();
    Ok(Trim { id, ranges: kept.ranges, steps, history })
}

/// What of a directory belongs to no segment that stays.
async fn surveyed_directory(
    repository: &Repository,
    id: ArchiveId,
    directory: WalDirectoryName,
    kept: &Kept,
) -> Result<Vec<Found>> {
    let path = path::wal_directory_named(repository.stanza(), id, directory);
    let mut found = Vec::new();
    for entry in repository.storage().list_all(&path, &ListOptions::default()).await? {
        let Some(segment) = segment_of(&entry.name) else { continue };
        if !kept.holds(segment) {
            let path = path::wal_directory_entry(repository.stanza(), id, directory, &entry.name);
            let path = path.map_err(|error| Error::new(ErrorKind::PathOpen, error.to_string()))?;
            found.push(Found::Goes(segment, path));
        } else if !matches!(found.last(), Some(Found::Stays)) {
            found.push(Found::Stays);
        }
    }
    Ok(found)
}

async fn present(repository: &Repository) -> Result<BTreeSet<ArchiveId>> {
    let path = path::archive_stanza(repository.stanza());
    let entries = repository.storage().list_all(&path, &ListOptions::default()).await?;
    let directories = entries.iter().filter(|entry| entry.kind == EntryKind::Directory);
    Ok(directories.filter_map(|entry| ArchiveId::parse(entry.name.trim_end_matches('/')).ok()).collect())
}

/// Removes what the plan does not keep.
///
/// # Errors
/// The storage's, as long as it is not known what there is; [`ErrorKind::Term`].
pub(super) async fn remove(
    plan: &WalPlan,
    by_age: bool,
    repository_path: &str,
    remover: &mut Remover<'_>,
    context: &Context,
) -> Result<()> {
    let index = remover.repository().index();
    let works = match plan {
        WalPlan::Unset if by_age => {
            let text = "time-based archive retention not met - archive logs will not be expired";
            context.info(format!("{index}: {text}"));
            return Ok(());
        }
        WalPlan::Unset => {
            context.info(format!("option '{index}-retention-archive' is not set - archive logs will not be expired"));
            return Ok(());
        }
        WalPlan::TooFewBackups => return Ok(()),
        WalPlan::Archives(works) => works,
    };
    for work in works {
        match work {
            ArchiveWork::Remove(id) => {
                let directory = path::archive_directory(remover.repository().stanza(), *id);
                let root = repository_path.trim_end_matches('/');
                context.info(format!("{index}: remove archive path {root}/{directory}"));
                remover.tree(&directory).await?;
            }
            ArchiveWork::Trim(trim) => Archive { trim, context, run: Run::default() }.remove(remover).await?,
        }
    }
    Ok(())
}

/// An archive of which some stays.
struct Archive<'a> {
    trim: &'a Trim,
    context: &'a Context,
    run: Run,
}

/// Neighbours that go, for one message.
#[derive(Debug, Default)]
struct Run {
    total: u64,
    start: Option<String>,
    stop: String,
}

impl Run {
    fn extend(&mut self, name: &str) {
        self.total = self.total.saturating_add(1);
        self.start.get_or_insert_with(|| name.to_owned());
        name.clone_into(&mut self.stop);
    }
}

impl Archive<'_> {
    async fn remove(mut self, remover: &mut Remover<'_>) -> Result<()> {
        let repository = remover.repository();
        self.say_ranges(repository);
        let mut doomed = Vec::new();
        for step in &self.trim.steps {
            self.context.check_cancelled()?;
            match step {
                Step::Directory(name) => {
                    doomed.push(path::wal_directory_named(repository.stanza(), self.trim.id, *name));
                    self.context.detail(format!("{}: {} remove archive path {name}", repository.index(), self.trim.id));
                    self.run.extend(name.as_str());
                }
                Step::Files(found) => self.remove_files(found, remover).await?,
            }
        }
        remover.trees(doomed, self.context).await?;
        match self.run.total {
            0 => self.context.info(format!("{}: {} no archive to remove", repository.index(), self.trim.id)),
            _ => self.say_run(repository),
        }
        for timeline in &self.trim.history {
            let name = WalFileName::History(*timeline);
            remover.objects(&[path::timeline_history(repository.stanza(), self.trim.id, *timeline)]).await?;
            self.context.info(format!("{}: {} remove history file {name}", repository.index(), self.trim.id));
        }
        Ok(())
    }

    async fn remove_files(&mut self, found: &[Found], remover: &mut Remover<'_>) -> Result<()> {
        let mut doomed = Vec::new();
        for found in found {
            match found {
                Found::Stays => self.say_run(remover.repository()),
                Found::Goes(segment, path) => {
                    doomed.push(path.clone());
                    self.run.extend(&segment.to_string());
                }
            }
        }
        remover.objects(&doomed).await?;
        Ok(())
    }

    fn say_ranges(&self, repository: &WritableRepository) {
        for KeptRange { label, start, stop } in &self.trim.ranges {
            let Some(label) = label else { continue };
            let stop = stop.map(|stop| format!(", stop = {stop}")).unwrap_or_default();
            self.context.detail(format!(
                "{}: {} archive retention on backup {label}, start = {start}{stop}",
                repository.index(),
                self.trim.id
            ));
        }
    }

    fn say_run(&mut self, repository: &WritableRepository) {
        if let Some(start) = self.run.start.take() {
            self.context.info(format!(
                "{}: {} remove archive, start = {start}, stop = {}",
                repository.index(),
                self.trim.id,
                self.run.stop
            ));
        }
    }
}

/// The segment that a file of a directory of WAL belongs to: the segment itself, a part of it, a backup history file.
fn segment_of(name: &str) -> Option<WalSegmentName> {
    WalSegmentName::parse(name.get(..WalSegmentName::LEN)?).ok()
}

/// Warns when the oldest backup that stays is damaged.
pub(super) fn warn_of_page_errors(repository: &Repository, info: &BackupInfo, context: &Context) {
    if let Some(oldest) = info.backups().first().filter(|oldest| oldest.error == Some(true)) {
        context.warn(format!("{}: {}", repository.index(), super::retention::page_errors_text(&oldest.label)));
    }
}
