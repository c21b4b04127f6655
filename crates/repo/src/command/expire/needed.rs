//! Which WAL has to stay, by the rules by which WAL is removed.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use super::options::{Retention, WalRetention};
use super::retention::as_usize;
use super::wal_retention::{ArchiveAction, has_enough, plan};
use crate::error::Result;
use crate::format::{ArchiveInfo, BackupEntry, BackupInfo, BackupType, DbGeneration, StoredLsn};
use crate::repository::NeededWal;

/// The WAL that no run of `expire` by these rules removes: what makes each backup consistent, and from the oldest backup
/// for which all WAL is kept everything that followed. Backups that were made without WAL need none.
///
/// # Errors
/// [`ErrorKind::Format`](crate::error::ErrorKind::Format) when the two info files do not have the same history.
pub fn needed_wal(backups: &BackupInfo, archive: &ArchiveInfo, retention: &Retention) -> Result<Vec<NeededWal>> {
    let by_rules = |count: &NonZeroU32| has_enough(backups, as_usize(*count), retention.wal.kind);
    let rules = match retention.wal.count.filter(by_rules) {
        Some(count) => WalRetention { count: Some(count), ..retention.wal },
        // No WAL is removed: that of the oldest backup and all that followed is needed.
        None => {
            let count = u32::try_from(backups.backups().len()).unwrap_or(u32::MAX);
            WalRetention { kind: BackupType::Incremental, count: NonZeroU32::new(count) }
        }
    };
    let archives = archive.history().generations().iter().map(DbGeneration::archive_id).collect();
    let mut open = BTreeSet::new();
    for archive in plan(backups, archive.history(), &archives, rules, None)? {
        if let ArchiveAction::Keep(kept) = archive.action {
            open.extend(kept.ranges.iter().filter(|range| range.stop.is_none()).filter_map(|range| range.label));
        }
    }
    let needed = |backup: &BackupEntry| {
        let (start, stop) = backup.archive_start.zip(backup.archive_stop)?;
        let archive_id = backups.history().generation(backup.history_id)?.archive_id();
        let start_lsn = backup.lsn_start.as_ref().map(StoredLsn::lsn);
        Some(NeededWal { archive_id, start, start_lsn, stop, is_open: open.contains(&backup.label) })
    };
    Ok(backups.backups().iter().filter_map(needed).collect())
}

#[cfg(test)]
mod tests {
    use super::super::FullUnit;
    use super::*;
    use crate::format::BackupLabel;
    use crate::postgres::WalSegmentName;

    const BACKUPS: &[u8] =
        include_bytes!("../../../../../formats/samples/info/2.60-pg18-zst-aes-bundle-block/backup.info");
    const ARCHIVE: &[u8] =
        include_bytes!("../../../../../formats/samples/info/2.60-pg18-zst-aes-bundle-block/archive.info");

    #[test]
    fn kg25_what_no_rule_removes_is_needed() {
        let (mut backups, archive) = (BackupInfo::parse(BACKUPS).unwrap(), ArchiveInfo::parse(ARCHIVE).unwrap());
        let template = backups.backups()[0].clone();
        for label in backups.backups().iter().rev().map(|backup| backup.label).collect::<Vec<_>>() {
            backups.remove(&label).unwrap();
        }
        let segment = |number| WalSegmentName::new(template.archive_start.unwrap().timeline(), 0, number);
        for number in [1, 2, 3_u32] {
            let label = BackupLabel::parse(format!("2026110{number}-000000F")).unwrap();
            let range = (Some(segment(number * 10)), Some(segment(number * 10 + 1)));
            let (archive_start, archive_stop) = range;
            backups.add(BackupEntry { label, archive_start, archive_stop, ..template.clone() }).unwrap();
        }
        let open = |count| {
            let wal = WalRetention { kind: BackupType::Full, count: NonZeroU32::new(count) };
            let retention = Retention { full_unit: FullUnit::Count, full: None, diff: None, wal, history_days: None };
            let needed = needed_wal(&backups, &archive, &retention).unwrap();
            assert_eq!(needed.iter().map(|it| it.start.segment()).collect::<Vec<_>>(), [10, 20, 30]);
            assert!(needed.iter().all(|it| it.stop.segment() == it.start.segment() + 1));
            needed.iter().filter(|it| it.is_open).map(|it| it.start.segment()).collect::<Vec<_>>()
        };
        assert_eq!(open(1), [30]);
        assert_eq!(open(2), [20]);
        assert_eq!(open(3), [10]);
        assert_eq!(open(4), [10], "there are not as many: all WAL stays");
        assert_eq!(open(0), [10], "no rule");
    }
}
