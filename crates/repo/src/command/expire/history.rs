//! Removing old manifests of backups that are gone (repository-behaviour.md §6.7).

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::remover::Remover;
use super::retention::{DAY_S, check_clock};
use crate::error::{Error, ErrorKind, Result};
use crate::format::path::{self, HistoryYear};
use crate::format::{BackupInfo, BackupLabel, LabelTime};
use crate::progress::Context;
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

/// Removes manifests of the history that are too old, oldest first.
///
/// # Errors
/// The storage's, as long as it is not known what there is; [`ErrorKind::Clock`] when the clock cannot be right.
pub(super) async fn remove(
    limit: HistoryLimit,
    info: &BackupInfo,
    remover: &mut Remover<'_>,
    context: &Context,
) -> Result<()> {
    let repository = remover.repository();
    let (stanza, index) = (repository.stanza(), repository.index());
    let entries = repository.storage().list_all(&path::history(stanza), &ListOptions::default()).await?;
    for year in entries.iter().filter_map(|entry| HistoryYear::parse(entry.name.trim_end_matches('/'))) {
        context.check_cancelled()?;
        if year.as_str() > limit.label.year() {
            break;
        }
        let directory = path::history_year_named(stanza, year);
        if year.as_str() < limit.label.year() {
            check_clock(info, limit.now_s)?;
            context.info(format!("{index}: remove expired backup history path {year}"));
            remover.tree(&directory).await?;
            continue;
        }
        let mut doomed = Vec::new();
        for entry in repository.storage().list_all(&directory, &ListOptions::default()).await?.iter().rev() {
            let Some(label) = path::history_manifest_label(&entry.name) else { continue };
            if label < limit.label && info.backup(&label).is_none() {
                check_clock(info, limit.now_s)?;
                context.info(format!("{index}: remove expired backup history manifest {}", entry.name));
                doomed.push(path::history_manifest(stanza, &label));
            }
        }
        remover.objects(&doomed).await?;
    }
    Ok(())
}
