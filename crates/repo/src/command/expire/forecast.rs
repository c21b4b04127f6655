//! What retention will remove next, and when: the plan that a run would make, asked for other moments and other backups.

use super::options::{ExpireRequest, ExpiredBackups, Retention};
use super::retention::{DAY_S, decided};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Annotations, BackupEntry, BackupInfo, BackupLabel, BackupType, LabelTime};
use crate::repository::RepoIndex;

/// The last second that a label can name: a backup of then is newer than any other.
const LAST_SECOND: &[u8] = b"99991231-235959";

/// What goes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextExpiry {
    /// When.
    pub time: ExpiryTime,
    /// Which backups, in ascending order.
    pub labels: Vec<BackupLabel>,
}

/// When something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryTime {
    /// With the first run from this moment on, in seconds since the Unix epoch.
    At(i64),
    /// With the next full backup.
    NextFull,
    /// With the next differential backup.
    NextDifferential,
}

/// What goes next if nothing is backed up until then, else with the next full or differential backup; `None` when nothing
/// of what there is goes by either.
///
/// # Errors
/// Those of the plan: a run would fail as well.
pub fn next_expiry(
    index: RepoIndex,
    info: &BackupInfo,
    request: &ExpireRequest,
    retention: &Retention,
    now_s: i64,
) -> Result<Option<NextExpiry>> {
    let request = ExpireRequest { backups: ExpiredBackups::Retention, ..request.clone() };
    let going = |info: &BackupInfo, at_s| -> Result<Vec<BackupLabel>> {
        let mut labels = decided(index, info, &request, retention, at_s)?.expired;
        labels.sort_unstable();
        Ok(labels)
    };
    let mut moments: Vec<i64> = match retention.full.filter(|_| retention.full_unit == super::FullUnit::Days) {
        // A backup is too old in the second after its last day.
        Some(days) => info.backups().iter().map(|it| age_ends_s(it, days.get())).filter(|at_s| *at_s > now_s).collect(),
        None => Vec::new(),
    };
    moments.sort_unstable();
    for at_s in std::iter::once(now_s).chain(moments) {
        let labels = going(info, at_s)?;
        if !labels.is_empty() {
            return Ok(Some(NextExpiry { time: ExpiryTime::At(at_s), labels }));
        }
    }
    for (kind, time) in
        [(BackupType::Full, ExpiryTime::NextFull), (BackupType::Differential, ExpiryTime::NextDifferential)]
    {
        let Some(next) = with_another(info, kind, now_s)? else { continue };
        let labels = going(&next, now_s)?;
        if !labels.is_empty() {
            return Ok(Some(NextExpiry { time, labels }));
        }
    }
    Ok(None)
}

fn age_ends_s(backup: &BackupEntry, days: u32) -> i64 {
    backup.timestamp_stop_s.saturating_add(i64::from(days) * DAY_S).saturating_add(1)
}

/// The list with one more backup; `None` where there is nothing to base it on.
fn with_another(info: &BackupInfo, kind: BackupType, now_s: i64) -> Result<Option<BackupInfo>> {
    let assert = |text: String| Error::new(ErrorKind::Assert, text);
    let Some(full) = info.backups().iter().rev().find(|backup| backup.backup_type() == BackupType::Full) else {
        return Ok(None);
    };
    let last = LabelTime::parse(LAST_SECOND).ok_or_else(|| assert("the last second is no time".to_owned()))?;
    let (label, prior) = match kind {
        BackupType::Full => (BackupLabel::full(last), None),
        _ => {
            let label = BackupLabel::dependent(&full.label, kind, last);
            (label.map_err(|error| assert(error.to_string()))?, Some(full.label))
        }
    };
    let next = BackupEntry {
        label,
        prior,
        references: prior.map(|prior| vec![prior]),
        annotations: Annotations::default(),
        error: Some(false),
        timestamp_start_s: now_s,
        timestamp_stop_s: now_s,
        history_id: info.history().current().id,
        ..full.clone()
    };
    let mut info = info.clone();
    info.add(next).map_err(|error| assert(error.to_string()))?;
    Ok(Some(info))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::super::{FullUnit, HOLD, TimeZone, WalRetention};
    use super::*;

    const SAMPLE: &[u8] =
        include_bytes!("../../../../../formats/samples/info/2.60-pg18-zst-aes-bundle-block/backup.info");

    /// Backups of these labels, all in November 2026; each ended at the midnight that begins its day.
    fn info(labels: &[&str]) -> BackupInfo {
        let sample = BackupInfo::parse(SAMPLE).unwrap();
        let template = sample.backups()[0].clone();
        let mut info = sample;
        for label in info.backups().iter().rev().map(|backup| backup.label).collect::<Vec<_>>() {
            info.remove(&label).unwrap();
        }
        for text in labels {
            let label = BackupLabel::parse(text).unwrap();
            let day: i64 = label.time().as_str()[6..8].parse().unwrap();
            let prior = (label.backup_type() != BackupType::Full).then(|| label.full_label());
            let references = prior.map(|prior| vec![prior]);
            info.add(BackupEntry { label, prior, references, timestamp_stop_s: day * DAY_S, ..template.clone() })
                .unwrap();
        }
        info
    }

    fn rules(full_unit: FullUnit, full: u32, diff: u32) -> Retention {
        Retention {
            full_unit,
            full: NonZeroU32::new(full),
            diff: NonZeroU32::new(diff),
            wal: WalRetention { kind: BackupType::Full, count: None },
            history_days: None,
        }
    }

    fn next(info: &BackupInfo, rules: &Retention, now_s: i64) -> Option<(ExpiryTime, Vec<String>)> {
        let request = ExpireRequest {
            backups: ExpiredBackups::Retention,
            archive_before: None,
            end_at_page_errors: false,
            dry_run: true,
            time_zone: TimeZone::UTC,
            permit: None,
        };
        let next = next_expiry(RepoIndex::new(1).unwrap(), info, &request, rules, now_s).unwrap()?;
        Some((next.time, next.labels.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn kg25_what_is_counted_goes_with_the_next_backup_of_its_kind() {
        let (one, two) = ("20261101-000000F", "20261105-000000F");
        let (diff, incr) = ("20261101-000000F_20261102-000000D", "20261101-000000F_20261103-000000I");
        let all = info(&[one, diff, incr, two]);
        let set = vec![one.to_owned(), diff.to_owned(), incr.to_owned()];
        let of = |rules: &Retention| next(&all, rules, 6 * DAY_S);
        assert_eq!(of(&rules(FullUnit::Count, 2, 0)), Some((ExpiryTime::NextFull, set.clone())));
        assert_eq!(of(&rules(FullUnit::Count, 1, 0)), Some((ExpiryTime::At(6 * DAY_S), set.clone())), "it is due");
        assert_eq!(of(&rules(FullUnit::Count, 3, 0)), None);
        assert_eq!(of(&rules(FullUnit::Count, 0, 0)), None);
        // Full ones are counted as differential ones too: three of them, the fourth makes the first go.
        assert_eq!(of(&rules(FullUnit::Count, 0, 2)), Some((ExpiryTime::NextFull, vec![diff.to_owned()])));
        let young = info(&[two, "20261105-000000F_20261106-000000D"]);
        let youngest = vec!["20261105-000000F_20261106-000000D".to_owned()];
        assert_eq!(
            next(&young, &rules(FullUnit::Count, 5, 1), 7 * DAY_S),
            Some((ExpiryTime::NextFull, youngest)),
            "a full backup counts"
        );
        let mut held = all.clone();
        held.annotate(&BackupLabel::parse(incr).unwrap(), [(HOLD, "y")]).unwrap();
        assert_eq!(next(&held, &rules(FullUnit::Count, 2, 0), 6 * DAY_S), None);
        assert_eq!(next(&info(&[]), &rules(FullUnit::Count, 1, 1), 0), None);
    }

    #[test]
    fn kg25_what_is_kept_for_days_goes_when_the_next_full_backup_is_old_enough() {
        let (one, two, three) = ("20261101-000000F", "20261105-000000F", "20261109-000000F");
        let all = info(&[one, two, three]);
        let kept_10 = rules(FullUnit::Days, 10, 0);
        let due = Some((ExpiryTime::At(15 * DAY_S + 1), vec![one.to_owned()]));
        assert_eq!(next(&all, &kept_10, 10 * DAY_S), due);
        assert_eq!(next(&all, &kept_10, 15 * DAY_S), due, "not in the second before");
        assert_eq!(next(&all, &kept_10, 15 * DAY_S + 1), due, "from then on it is due");
        let both = Some((ExpiryTime::At(30 * DAY_S), vec![one.to_owned(), two.to_owned()]));
        assert_eq!(next(&all, &kept_10, 30 * DAY_S), both);
        assert_eq!(next(&info(&[one]), &kept_10, 100 * DAY_S), None, "one that is old enough always stays");
        // Years ahead, when the newest would be too old for a stanza in use: the plan is asked all the same.
        let years = rules(FullUnit::Days, 3 * 366, 0);
        assert_eq!(next(&all, &years, 10 * DAY_S).unwrap().0, ExpiryTime::At((5 + 3 * 366) * DAY_S + 1));
    }
}
