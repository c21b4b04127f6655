//! Removing old manifests of backups that are gone (repository-behaviour.md §6.7).

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::remover::Remover;
use super::retention::{DAY_S, check_clock};
use super::tally::Tally;
use crate::error::{Error, ErrorKind, Result};
use crate::format::path::{self, HistoryYear};
use crate::format::{BackupInfo, BackupLabel, LabelTime};
use crate::progress::Context;
use crate::repository::Repository;
use crate::storage::{ListOptions, StorageExt};

/// What is too old.
#[derive(Debug, Clone, Copy)]
pub(super) struct HistoryLimit {
    now_s: i64,
    /// Manifests of backups below this label are too old.
    label: BackupLabel,
}

impl HistoryLimit {
    /// Manifests of backups that began more than `days` ago.
    ///
    /// # Errors
    /// [`ErrorKind::Clock`] when that is no time.
    pub(super) fn new(now_s: i64, days: u32, zone: &TimeZone) -> Result<Self> {
        let begin_s = now_s.saturating_sub(i64::from(days) * DAY_S);
        let no_time = |text: String| Error::new(ErrorKind::Clock, format!("{days} days ago is no time: {text}"));
        let begin = Timestamp::from_second(begin_s).map_err(|error| no_time(error.to_string()))?;
        let time =
            LabelTime::new(begin.to_zoned(zone.clone()).datetime()).map_err(|error| no_time(error.to_string()))?;
        Ok(Self { now_s, label: BackupLabel::full(time) })
    }
}

/// The manifests of the history that are too old, oldest first.
#[derive(Debug)]
pub(super) struct HistoryPlan {
    now_s: i64,
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Year(HistoryYear),
    /// Manifests of one year, with their file names.
    Manifests(Vec<(BackupLabel, String)>),
}

/// Looks up what is too old, apart from what is listed in `info`.
///
/// # Errors
/// The storage's, as long as it is not known what there is.
pub(super) async fn plan(
    repository: &Repository,
    limit: HistoryLimit,
    info: &BackupInfo,
    context: &Context,
) -> Result<HistoryPlan> {
    let stanza = repository.stanza();
    let mut steps = Vec::new();
    let entries = repository.storage().list_all(&path::history(stanza), &ListOptions::default()).await?;
    for year in entries.iter().filter_map(|entry| HistoryYear::parse(entry.name.trim_end_matches('/'))) {
        context.check_cancelled()?;
        if year.as_str() > limit.label.year() {
            break;
        }
        if year.as_str() < limit.label.year() {
            steps.push(Step::Year(year));
            continue;
        }
        let directory = path::history_year_named(stanza, year);
        let manifests = repository.storage().list_all(&directory, &ListOptions::default()).await?;
        let manifests = manifests.into_iter().rev().filter_map(|entry| {
            let label = path::history_manifest_label(&entry.name)?;
            (label < limit.label && info.backup(&label).is_none()).then_some((label, entry.name))
        });
        steps.push(Step::Manifests(manifests.collect()));
    }
    Ok(HistoryPlan { now_s: limit.now_s, steps })
}

impl HistoryPlan {
    /// Counts what goes.
    pub(super) fn count(&self, tally: &mut Tally) {
        for step in &self.steps {
            match step {
                Step::Year(_) => tally.history_years += 1,
                Step::Manifests(manifests) => tally.history_manifests += manifests.len(),
            }
        }
    }

    /// Removes it.
    ///
    /// # Errors
    /// [`ErrorKind::Clock`] when the clock cannot be right; [`ErrorKind::Term`].
    pub(super) async fn remove(&self, info: &BackupInfo, remover: &mut Remover<'_>, context: &Context) -> Result<()> {
        let repository = remover.repository();
        let (stanza, index) = (repository.stanza(), repository.index());
        for step in &self.steps {
            context.check_cancelled()?;
            match step {
                Step::Year(year) => {
                    check_clock(info, self.now_s)?;
                    context.info(format!("{index}: remove expired backup history path {year}"));
                    remover.tree(&path::history_year_named(stanza, *year)).await?;
                }
                Step::Manifests(manifests) if manifests.is_empty() => {}
                Step::Manifests(manifests) => {
                    check_clock(info, self.now_s)?;
                    for (_, name) in manifests {
                        context.info(format!("{index}: remove expired backup history manifest {name}"));
                    }
                    let doomed: Vec<_> =
                        manifests.iter().map(|(label, _)| path::history_manifest(stanza, label)).collect();
                    remover.objects(&doomed).await?;
                }
            }
        }
        Ok(())
    }
}
