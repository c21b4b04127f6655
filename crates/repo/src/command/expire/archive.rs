//! Removing WAL (repository-behaviour.md §6.6).

use std::collections::BTreeSet;

use super::options::ExpireRequest;
use super::remover::Remover;
use super::retention::BackupPlan;
use super::wal_retention::{self, ArchiveAction, ArchivePlan, Kept, KeptRange};
use crate::error::{Error, ErrorKind, Result};
use crate::format::path::{self, WalDirectoryName};
use crate::format::{ArchiveId, BackupInfo};
use crate::postgres::{WalFileName, WalSegmentName};
use crate::progress::Context;
use crate::repository::{Repository, WritableRepository};
use crate::storage::{EntryKind, ListOptions, StorageExt};

/// What becomes of the WAL of one repository.
#[derive(Debug)]
pub(super) enum WalPlan {
    /// The rules do not say for which backups WAL is kept: all of it stays.
    Unset,
    /// There are not as many backups as WAL is kept for: all of it stays.
    TooFewBackups,
    /// What becomes of each archive that is there.
    Archives(Vec<ArchivePlan>),
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
    Ok(WalPlan::Archives(plans))
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
    let plans = match plan {
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
        WalPlan::Archives(plans) => plans,
    };
    for ArchivePlan { id, action } in plans {
        match action {
            ArchiveAction::RemoveAll => {
                let directory = path::archive_directory(remover.repository().stanza(), *id);
                let root = repository_path.trim_end_matches('/');
                context.info(format!("{index}: remove archive path {root}/{directory}"));
                remover.tree(&directory).await?;
            }
            ArchiveAction::Keep(kept) => Archive { id: *id, kept, context, run: Run::default() }.trim(remover).await?,
        }
    }
    Ok(())
}

/// An archive of which some stays.
struct Archive<'a> {
    id: ArchiveId,
    kept: &'a Kept,
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
    async fn trim(mut self, remover: &mut Remover<'_>) -> Result<()> {
        let repository = remover.repository();
        self.say_ranges(repository);
        let directory = path::archive_directory(repository.stanza(), self.id);
        let entries = repository.storage().list_all(&directory, &ListOptions::default()).await?;
        let directories = entries.iter().filter(|entry| entry.kind == EntryKind::Directory);
        let mut doomed = Vec::new();
        for name in directories.filter_map(|entry| WalDirectoryName::parse(entry.name.trim_end_matches('/'))) {
            self.context.check_cancelled()?;
            if !self.kept.touches(name) {
                doomed.push(path::wal_directory_named(repository.stanza(), self.id, name));
                self.context.detail(format!("{}: {} remove archive path {name}", repository.index(), self.id));
                self.run.extend(name.as_str());
            } else if self.kept.is_scanned(name) {
                self.trim_directory(name, remover).await?;
            }
        }
        remover.trees(doomed, self.context).await?;
        match self.run.total {
            0 => self.context.info(format!("{}: {} no archive to remove", repository.index(), self.id)),
            _ => self.say_run(repository),
        }
        let files = entries.iter().filter(|entry| entry.kind != EntryKind::Directory);
        self.remove_history(files.map(|entry| entry.name.as_str()), remover).await
    }

    /// Removes from a directory what belongs to no segment that stays.
    async fn trim_directory(&mut self, directory: WalDirectoryName, remover: &mut Remover<'_>) -> Result<()> {
        let repository = remover.repository();
        let path = path::wal_directory_named(repository.stanza(), self.id, directory);
        let mut doomed = Vec::new();
        for entry in repository.storage().list_all(&path, &ListOptions::default()).await? {
            let Some(segment) = segment_of(&entry.name) else { continue };
            if self.kept.holds(segment) {
                self.say_run(repository);
                continue;
            }
            let entry = path::wal_directory_entry(repository.stanza(), self.id, directory, &entry.name);
            doomed.push(entry.map_err(|error| Error::new(ErrorKind::PathOpen, error.to_string()))?);
            self.run.extend(&segment.to_string());
        }
        remover.objects(&doomed).await?;
        Ok(())
    }

    async fn remove_history(&self, names: impl Iterator<Item = &str>, remover: &mut Remover<'_>) -> Result<()> {
        let Some(first) = self.kept.history_from else { return Ok(()) };
        let repository = remover.repository();
        for name in names {
            if let Ok(WalFileName::History(timeline)) = WalFileName::parse(name)
                && timeline < first
            {
                remover.objects(&[path::timeline_history(repository.stanza(), self.id, timeline)]).await?;
                self.context.info(format!("{}: {} remove history file {name}", repository.index(), self.id));
            }
        }
        Ok(())
    }

    fn say_ranges(&self, repository: &WritableRepository) {
        for KeptRange { label, start, stop } in &self.kept.ranges {
            let Some(label) = label else { continue };
            let stop = stop.map(|stop| format!(", stop = {stop}")).unwrap_or_default();
            self.context.detail(format!(
                "{}: {} archive retention on backup {label}, start = {start}{stop}",
                repository.index(),
                self.id
            ));
        }
    }

    fn say_run(&mut self, repository: &WritableRepository) {
        if let Some(start) = self.run.start.take() {
            self.context.info(format!(
                "{}: {} remove archive, start = {start}, stop = {}",
                repository.index(),
                self.id,
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
