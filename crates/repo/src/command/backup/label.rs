//! The name of a new backup (repository-behaviour.md §4.9): later than every other one, and nobody else's.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{BackupLabel, BackupType, LabelTime, path};
use crate::progress::Context;
use crate::repository::{Reconciled, WritableRepository};
use crate::storage::{Condition, Durability, EntryKind, ErrorClass, ListOptions, ObjectInfo, StorageExt};

/// Seconds that a label may be moved on because others have the same: two backups that start together.
const MOVED_MAX_S: i64 = 4;

/// Finds a label for a backup that started at `timestamp_start_s` and takes it: an empty copy of the manifest,
/// written on condition that there is none where the store can check it, stands for it in the repository (faults.md BK15).
///
/// # Errors
/// [`ErrorKind::Clock`] when the newest backup has a later label than this one can get, else the storage's.
pub(super) async fn claim(
    repository: &WritableRepository,
    reconciled: &Reconciled,
    naming: &Naming<'_>,
    timestamp_start_s: i64,
    context: &Context,
) -> Result<(BackupLabel, ObjectInfo)> {
    let newest = newest(repository, &reconciled.directories, naming).await?;
    let (mut label, mut moved_s) = naming.later_than(newest, timestamp_start_s)?;
    // What was removed as a left-over may belong to a backup that still runs on another host: never the same name.
    let taken = loop {
        let is_free = reconciled.left_over != Some(label);
        if is_free && let Some(taken) = take(repository, &label).await? {
            break taken;
        }
        moved_s += 1;
        if moved_s > MOVED_MAX_S {
            return Err(Error::new(
                ErrorKind::Clock,
                format!("other backups take the label '{label}' and those before it"),
            )
            .hint("is another backup of this stanza running on another host?"));
        }
        label = naming.label(timestamp_start_s.saturating_add(moved_s))?;
    };
    if moved_s > 0 {
        // The label must not be ahead of the time, or the next backup would meet it.
        let ahead_ms =
            timestamp_start_s.saturating_add(moved_s).saturating_mul(1000).saturating_sub(context.clock.now_ms());
        let wait = Duration::from_millis(ahead_ms.clamp(0, MOVED_MAX_S * 1000).unsigned_abs());
        super::unless_cancelled(context, async {
            tokio::time::sleep(wait).await;
            Ok(())
        })
        .await?;
    }
    Ok((label, taken))
}

/// How labels of a backup are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Naming<'a> {
    /// The zone whose time they have.
    pub(super) zone: &'a TimeZone,
    /// The type, and any backup of the set, for a differential or incremental backup; `None` for a full one.
    pub(super) base: Option<(BackupType, BackupLabel)>,
}

impl Naming<'_> {
    /// Whether a label has to be older. A dependent one begins with the name of its set, so it can only meet others of
    /// that set.
    fn competes(&self, label: &BackupLabel) -> bool {
        self.base.is_none_or(|(_, prior)| label.backup_type() != BackupType::Full && label.same_set(&prior))
    }

    /// The label of the time, or of the second after it when that is taken.
    fn later_than(&self, newest: Option<BackupLabel>, timestamp_s: i64) -> Result<(BackupLabel, i64)> {
        for moved_s in [0, 1] {
            let label = self.label(timestamp_s.saturating_add(moved_s))?;
            match newest {
                Some(newest) if label <= newest && moved_s == 1 => {
                    let message =
                        format!("new backup label '{label}' is not later than latest backup label '{newest}'");
                    return Err(Error::new(ErrorKind::Clock, message)
                        .hint("has the timezone changed?")
                        .hint("is there clock skew?"));
                }
                Some(newest) if label <= newest => {}
                _ => return Ok((label, moved_s)),
            }
        }
        Err(Error::new(ErrorKind::Assert, "a label is later or it is not"))
    }

    fn label(&self, timestamp_s: i64) -> Result<BackupLabel> {
        let failed = |error: String| {
            Error::new(ErrorKind::Clock, format!("no backup can be named after {timestamp_s}: {error}"))
        };
        let time = Timestamp::from_second(timestamp_s).map_err(|error| failed(error.to_string()))?;
        let time =
            LabelTime::new(time.to_zoned(self.zone.clone()).datetime()).map_err(|error| failed(error.to_string()))?;
        match self.base {
            None => Ok(BackupLabel::full(time)),
            Some((kind, prior)) => {
                BackupLabel::dependent(&prior, kind, time).map_err(|error| failed(error.to_string()))
            }
        }
    }
}

/// The newest label that competes: of a directory, or in the newest year of the manifest history.
async fn newest(
    repository: &WritableRepository,
    directories: &BTreeSet<BackupLabel>,
    naming: &Naming<'_>,
) -> Result<Option<BackupLabel>> {
    let history = path::history(repository.stanza());
    let storage = repository.storage();
    let years = storage.list_all(&history, &ListOptions::default()).await?;
    let is_year =
        |name: &str| name.len() == 4 && name.starts_with('2') && name.bytes().all(|byte| byte.is_ascii_digit());
    let year = years
        .iter()
        .filter(|entry| entry.kind == EntryKind::Directory)
        .map(|entry| entry.name.trim_end_matches('/'))
        .filter(|name| is_year(name))
        .max();
    let mut newest = directories.iter().copied().filter(|label| naming.competes(label)).max();
    if let Some(year) = year {
        let year = history.join(year).map_err(|error| Error::new(ErrorKind::Assert, error.to_string()))?;
        let kept = storage.list_all(&year, &ListOptions::default()).await?;
        let kept = kept.iter().filter_map(|entry| path::history_manifest_label(&entry.name));
        newest = newest.max(kept.filter(|label| naming.competes(label)).max());
    }
    Ok(newest)
}

/// Takes the label if it is free, and gives what stands for it.
async fn take(repository: &WritableRepository, label: &BackupLabel) -> Result<Option<ObjectInfo>> {
    let copy = path::manifest_copy(repository.stanza(), label);
    let storage = repository.storage();
    let arbitrates = storage.capabilities().conditional_put;
    if !arbitrates && storage.exists(&copy).await? {
        return Ok(None);
    }
    let condition = if arbitrates { Condition::Absent } else { Condition::None };
    match storage.put(&copy, Bytes::new(), condition, Durability::Now).await {
        Ok(taken) => Ok(Some(taken)),
        Err(error) if error.class() == ErrorClass::Conflict => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(text: &str) -> BackupLabel {
        BackupLabel::parse(text).unwrap()
    }

    #[test]
    fn bk28_a_label_is_later_than_every_other_or_refused() {
        let naming = Naming { zone: &TimeZone::UTC, base: None };
        let at = |newest: Option<&str>, time_s| naming.later_than(newest.map(label), time_s);
        let time_s = 1_795_328_297;
        let own = "20261122-061817F";
        assert_eq!(at(None, time_s).unwrap(), (label(own), 0));
        assert_eq!(at(Some("20261122-061816F_20261122-061816D"), time_s).unwrap(), (label(own), 0));
        assert_eq!(at(Some(own), time_s).unwrap(), (label("20261122-061818F"), 1));
        assert_eq!(at(Some("20261122-061817F_20261122-070000I"), time_s).unwrap(), (label("20261122-061818F"), 1));
        let error = at(Some("20261122-061818F"), time_s).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Clock);
        assert!(error.message().starts_with(
            "new backup label '20261122-061818F' is not later than latest backup label '20261122-061818F'"
        ));
    }

    #[test]
    fn labels_have_the_local_time() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let naming = Naming { zone: &zone, base: None };
        assert_eq!(naming.label(1_795_328_297).unwrap(), label("20261122-081817F"));
        assert_eq!(naming.label(i64::MAX).unwrap_err().kind(), ErrorKind::Clock);
    }

    #[test]
    fn bk28_a_dependent_label_competes_within_its_set_only() {
        let prior = label("20261122-061817F_20261122-070000D");
        let naming = Naming { zone: &TimeZone::UTC, base: Some((BackupType::Incremental, prior)) };
        for (other, competes) in [
            ("20261122-061817F", false),
            ("20261122-061817F_20261122-070000D", true),
            ("20261122-061817F_20261122-080000I", true),
            ("20261123-061817F_20261123-070000D", false),
            ("20261123-061817F", false),
        ] {
            assert_eq!(naming.competes(&label(other)), competes, "{other}");
        }
        let time_s = 1_795_328_297;
        let own = label("20261122-061817F_20261122-061817I");
        assert_eq!(naming.later_than(None, time_s).unwrap(), (own, 0));
        let moved = label("20261122-061817F_20261122-061818I");
        assert_eq!(naming.later_than(Some(own), time_s).unwrap(), (moved, 1));
        assert_eq!(naming.later_than(Some(prior), time_s).unwrap_err().kind(), ErrorKind::Clock);
    }
}
