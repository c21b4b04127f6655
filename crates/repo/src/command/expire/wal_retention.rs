//! Which WAL stays: a pure function of the two info files, the archives that are there and the rules
//! (repository-behaviour.md §6.6).

use std::collections::BTreeSet;

use super::options::WalRetention;
use super::retention::{as_usize, labels_of};
use crate::error::{Error, ErrorKind, Result};
use crate::format::path::WalDirectoryName;
use crate::format::{ArchiveId, BackupEntry, BackupInfo, BackupLabel, BackupType, DbHistory};
use crate::postgres::{Timeline, WalSegmentName};

/// What becomes of one archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ArchivePlan {
    pub(super) id: ArchiveId,
    pub(super) action: ArchiveAction,
}

/// What is done with an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ArchiveAction {
    /// No backup needs it and no WAL comes to it any more.
    RemoveAll,
    /// Some of it stays.
    Keep(Kept),
}

/// What stays of an archive. What is in no range goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) ranges: Vec<KeptRange>,
    /// Files of a directory that stays are looked at one by one up to this segment's directory; `None` is everywhere.
    pub(super) scan_to: Option<WalSegmentName>,
    /// History files of timelines below this one go; `None` keeps all.
    pub(super) history_from: Option<Timeline>,
}

/// A range of WAL that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeptRange {
    /// The backup that needs it; `None` for the range that a person asked for.
    pub(super) label: Option<BackupLabel>,
    pub(super) start: WalSegmentName,
    /// `None` is everything from `start` on.
    pub(super) stop: Option<WalSegmentName>,
}

impl Kept {
    /// Whether something in the directory may stay.
    pub(super) fn touches(&self, directory: WalDirectoryName) -> bool {
        self.ranges.iter().any(|range| {
            directory >= WalDirectoryName::of(range.start)
                && range.stop.is_none_or(|stop| directory <= WalDirectoryName::of(stop))
        })
    }

    /// Whether the files of a directory that stays have to be looked at.
    pub(super) fn is_scanned(&self, directory: WalDirectoryName) -> bool {
        self.scan_to.is_none_or(|last| directory <= WalDirectoryName::of(last))
    }

    /// Whether a segment stays, with all that belongs to it.
    pub(super) fn holds(&self, segment: WalSegmentName) -> bool {
        self.ranges.iter().any(|range| segment >= range.start && range.stop.is_none_or(|stop| segment <= stop))
    }
}

/// Whether there are enough backups for WAL to be removed at all.
pub(super) fn has_enough(info: &BackupInfo, count: usize, kind: BackupType) -> bool {
    let counted = counted(info, kind).len();
    counted > 0 && count <= counted
}

/// Decides what becomes of each archive of the history that is there, oldest first.
///
/// # Errors
/// [`ErrorKind::Format`] when the two info files do not have the same history: then nobody knows which backup needs
/// which archive.
pub(super) fn plan(
    info: &BackupInfo,
    archive_history: &DbHistory,
    present: &BTreeSet<ArchiveId>,
    retention: WalRetention,
    before: Option<WalSegmentName>,
) -> Result<Vec<ArchivePlan>> {
    check_histories(archive_history, info.history())?;
    let counted = counted(info, retention.kind);
    let newest = counted.len().saturating_sub(retention.count.map_or(0, as_usize));
    let newest: BTreeSet<BackupLabel> = counted.iter().skip(newest).copied().collect();
    let current = archive_history.current().id;
    let mut plans = Vec::new();
    for generation in archive_history.generations() {
        let id = generation.archive_id();
        if !present.contains(&id) {
            continue;
        }
        let of_archive: Vec<&BackupEntry> =
            info.backups().iter().filter(|backup| backup.history_id == generation.id).collect();
        let local: Vec<&BackupEntry> =
            of_archive.iter().filter(|backup| counted.contains(&backup.label)).copied().collect();
        let anchor = local.iter().find(|backup| newest.contains(&backup.label)).or(local.last());
        let action = match anchor {
            Some(anchor) => keep(anchor, &of_archive, before).map(ArchiveAction::Keep),
            None if generation.id != current => Some(ArchiveAction::RemoveAll),
            None => before.map(|before| ArchiveAction::Keep(keep_from(before))),
        };
        plans.extend(action.map(|action| ArchivePlan { id, action }));
    }
    Ok(plans)
}

/// What stays for the backups of an archive: everything from the start of `anchor` on, and what makes the others
/// consistent. `None` when the anchor was made without WAL.
fn keep(anchor: &BackupEntry, backups: &[&BackupEntry], before: Option<WalSegmentName>) -> Option<Kept> {
    let from = anchor.archive_start?;
    let mut ranges = Vec::new();
    for backup in backups {
        let Some(start) = backup.archive_start else { continue };
        let stop = match backup.label.cmp(&anchor.label) {
            std::cmp::Ordering::Less => backup.archive_stop,
            std::cmp::Ordering::Equal => None,
            // A newer backup on an older timeline: its WAL sorts before the anchor's (faults.md EX04, EX05).
            std::cmp::Ordering::Greater if start < from => None,
            std::cmp::Ordering::Greater => continue,
        };
        ranges.push(KeptRange { label: Some(backup.label), start, stop });
    }
    if let Some(before) = before.filter(|before| *before < from) {
        ranges.push(KeptRange { label: None, start: before, stop: Some(from) });
    }
    // The history of a timeline costs next to nothing: it stays as long as a backup began on that timeline (EX05).
    let history_from = ranges.iter().filter(|range| range.label.is_some()).map(|range| range.start.timeline()).min();
    Some(Kept { ranges, scan_to: Some(from), history_from })
}

fn keep_from(before: WalSegmentName) -> Kept {
    Kept { ranges: vec![KeptRange { label: None, start: before, stop: None }], scan_to: None, history_from: None }
}

/// The backups that count for the retention of WAL, in ascending order.
fn counted(info: &BackupInfo, kind: BackupType) -> BTreeSet<BackupLabel> {
    labels_of(info, |other| other <= kind).into_iter().collect()
}

/// Compares from the newest on: an archive.info that was made anew may lack the oldest ones.
fn check_histories(archive: &DbHistory, backup: &DbHistory) -> Result<()> {
    let mut ours = backup.generations().iter().rev();
    let same = archive.generations().iter().rev().all(|theirs| {
        ours.next().is_some_and(|ours| ours.id == theirs.id && ours.is_cluster(theirs.version, theirs.system_id))
    });
    if same {
        return Ok(());
    }
    let message = "archive expiration cannot continue - archive and backup history lists do not match";
    Err(Error::new(ErrorKind::Format, message))
}
