//! Which backups go: a pure function of backup.info and the rules (repository-behaviour.md §6.2, §6.3, §6.5).
//!
//! On top of the original's rules a backup with the annotation [`HOLD`] stays, with all that it needs (faults.md EX13).

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use super::options::{ExpireRequest, ExpiredBackups, FullUnit, Retention, WalRetention};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BackupInfo, BackupLabel, BackupType};
use crate::progress::Level;
use crate::repository::RepoIndex;

/// The annotation that holds a backup back from `expire`, whatever its value.
pub const HOLD: &str = "pgbr-hold";

/// Seconds of a day, as retention counts them.
pub(super) const DAY_S: i64 = 24 * 60 * 60;

/// Clocks of one cluster differ by less.
const CLOCK_SKEW_MAX_S: i64 = 60 * 60;

/// A stanza that is in use has a newer backup than this.
const NEWEST_AGE_MAX_S: i64 = 366 * DAY_S;

/// What becomes of the backups of one repository.
#[derive(Debug)]
pub(super) struct BackupPlan {
    /// backup.info without the backups that go.
    pub(super) remaining: BackupInfo,
    /// The backups that go, in the order of removal: every one before those that it needs.
    pub(super) expired: Vec<BackupLabel>,
    /// What a person is told, in this order.
    pub(super) messages: Vec<(Level, String)>,
    /// For which backups WAL is kept.
    pub(super) wal: WalRetention,
    /// Whether full backups are kept by age in this run.
    pub(super) by_age: bool,
    /// Whether a backup is to go, or stays because it is held, for its age.
    pub(super) any_by_age: bool,
    /// Whether the backup that was asked for is in this repository.
    pub(super) found: bool,
    /// Whether the newest backup goes.
    pub(super) newest_goes: bool,
}

/// Decides which backups go.
///
/// # Errors
/// - as [`decided`],
/// - [`ErrorKind::Clock`] when the age of backups counts and the clock cannot be right.
pub(super) fn plan(
    index: RepoIndex,
    info: &BackupInfo,
    request: &ExpireRequest,
    retention: &Retention,
    now_s: i64,
) -> Result<BackupPlan> {
    let plan = decided(index, info, request, retention, now_s)?;
    if plan.any_by_age {
        check_clock(info, now_s)?;
    }
    Ok(plan)
}

/// The same for any moment, whether it is now or not.
///
/// # Errors
/// - [`ErrorKind::BackupSetInvalid`] when the only full backup of a cluster was to be removed,
/// - [`ErrorKind::Checksum`] when the oldest backup that stays has page checksum errors.
pub(super) fn decided(
    index: RepoIndex,
    info: &BackupInfo,
    request: &ExpireRequest,
    retention: &Retention,
    now_s: i64,
) -> Result<BackupPlan> {
    let mut plan = Planner {
        index,
        held: held(info),
        plan: BackupPlan {
            remaining: info.clone(),
            expired: Vec::new(),
            messages: Vec::new(),
            wal: retention.wal,
            by_age: retention.full_unit == FullUnit::Days,
            any_by_age: false,
            found: false,
            newest_goes: false,
        },
    };
    match &request.backups {
        ExpiredBackups::Set(label) => plan.ad_hoc(label)?,
        ExpiredBackups::Oldest => {
            let full = plan.oldest().or(retention.full);
            plan.by_retention(full, retention.diff, request, now_s)?;
        }
        ExpiredBackups::Retention => plan.by_retention(retention.full, retention.diff, request, now_s)?,
    }
    Ok(plan.plan)
}

struct Planner {
    index: RepoIndex,
    held: BTreeSet<BackupLabel>,
    plan: BackupPlan,
}

impl Planner {
    fn by_retention(
        &mut self,
        full: Option<NonZeroU32>,
        diff: Option<NonZeroU32>,
        request: &ExpireRequest,
        now_s: i64,
    ) -> Result<()> {
        match full {
            Some(days) if self.plan.by_age => self.full_by_age(days, request, now_s)?,
            Some(count) => self.full_by_count(count, request)?,
            None => {}
        }
        if let Some(count) = diff {
            self.diff(count)?;
        }
        Ok(())
    }

    /// Full backups beyond the newest `count`, with their dependents.
    fn full_by_count(&mut self, count: NonZeroU32, request: &ExpireRequest) -> Result<()> {
        let full = self.labels(is_full);
        let excess = full.len().saturating_sub(as_usize(count));
        let (expired, kept) = full.split_at(excess);
        if let (false, Some(oldest)) = (expired.is_empty(), kept.first()) {
            self.check_oldest(oldest, expired, request)?;
        }
        for label in expired {
            _ = self.expire("full", label)?;
        }
        Ok(())
    }

    /// Everything before the newest full backup that is older than `days`: one such backup always stays.
    fn full_by_age(&mut self, days: NonZeroU32, request: &ExpireRequest, now_s: i64) -> Result<()> {
        let limit_s = now_s.saturating_sub(i64::from(days.get()) * DAY_S);
        let full = self.labels(is_full);
        let is_old = |label: &BackupLabel| {
            self.plan.remaining.backup(label).is_some_and(|backup| backup.timestamp_stop_s < limit_s)
        };
        let Some(place) = full.iter().rposition(is_old) else { return Ok(()) };
        let (older, kept) = full.split_at(place);
        let Some(anchor) = kept.first().copied() else { return Ok(()) };
        self.check_oldest(&anchor, older, request)?;
        let mut groups = 0;
        for label in self.labels(|_| true).into_iter().take_while(|label| *label < anchor) {
            if self.plan.remaining.backup(&label).is_some() {
                self.plan.any_by_age = true;
                groups += usize::from(self.expire("time-based", &label)?);
            }
        }
        if self.plan.wal.kind == BackupType::Full && self.plan.wal.count.is_none() {
            let left = u32::try_from(full.len().saturating_sub(groups)).unwrap_or(u32::MAX);
            self.plan.wal.count = NonZeroU32::new(left);
        }
        Ok(())
    }

    /// Differential backups beyond the newest `count`, full ones counted too but never removed here.
    fn diff(&mut self, count: NonZeroU32) -> Result<()> {
        let counted = self.labels(|kind| kind != BackupType::Incremental);
        let excess = counted.len().saturating_sub(as_usize(count));
        for label in counted.iter().take(excess).filter(|label| !is_full(label.backup_type())) {
            _ = self.expire("diff", label)?;
        }
        Ok(())
    }

    /// The number of full backups to keep so that the oldest one goes; `None` when there is none to spare.
    fn oldest(&mut self) -> Option<NonZeroU32> {
        let index = self.index;
        let full = u32::try_from(self.labels(is_full).len()).unwrap_or(u32::MAX);
        let Some(keep) = full.checked_sub(1).and_then(NonZeroU32::new) else {
            self.say(Level::Warn, format!("{index}: expire oldest requested but no eligible full backup to expire"));
            return None;
        };
        if self.plan.by_age {
            let text = "expire oldest overrides configured time-based retention with count-based retention for this \
                        execution";
            self.say(Level::Info, format!("{index}: {text}"));
            self.plan.by_age = false;
        }
        self.plan.wal = WalRetention { kind: BackupType::Full, count: Some(keep) };
        self.say(
            Level::Detail,
            format!(
                "{index}: expire oldest enforcing {index}-retention-full-type=count, {index}-retention-full={keep}, \
                 {index}-retention-archive-type=full, and {index}-retention-archive={keep} for this execution"
            ),
        );
        Some(keep)
    }

    fn ad_hoc(&mut self, label: &BackupLabel) -> Result<()> {
        let Some(asked) = self.plan.remaining.backup(label) else { return Ok(()) };
        self.plan.found = true;
        if self.held.contains(label) {
            let message = format!("backup {label} is held, or a backup that needs it is");
            return Err(Error::new(ErrorKind::BackupSetInvalid, message)
                .hint(format!("annotate --set --annotation={HOLD}= lets it go.")));
        }
        let history_id = asked.history_id;
        let full = self.labels(is_full);
        let prior_cluster = full.iter().rev().nth(1).and_then(|prior| self.plan.remaining.backup(prior));
        if full.last() == Some(label) && prior_cluster.is_none_or(|prior| prior.history_id != history_id) {
            let message = format!(
                "full backup {label} cannot be expired until another full backup has been created on this repo"
            );
            return Err(Error::new(ErrorKind::BackupSetInvalid, message));
        }
        let newest = self.plan.remaining.backups().last().map(|backup| backup.label);
        let expired = self.take(label)?;
        if let Some(newest) = newest.filter(|newest| expired.contains(newest)) {
            self.plan.newest_goes = true;
            let index = self.index;
            self.say(
                Level::Warn,
                format!(
                    "{index}: expiring latest backup {newest} - the ability to perform point-in-time-recovery (PITR) \
                     may be affected\nHINT: non-default settings for '{index}-retention-archive'/\
                     '{index}-retention-archive-type' (even in prior expires) can cause gaps in the WAL."
                ),
            );
        }
        self.say_expired("adhoc", &expired);
        Ok(())
    }

    /// The oldest backup that stays must be sound when a clean one goes for it (faults.md EX10).
    fn check_oldest(&self, oldest: &BackupLabel, expired: &[BackupLabel], request: &ExpireRequest) -> Result<()> {
        let has_errors =
            |label: &BackupLabel| self.plan.remaining.backup(label).is_some_and(|backup| backup.error == Some(true));
        if !request.end_at_page_errors || !has_errors(oldest) {
            return Ok(());
        }
        let refused = Error::new(ErrorKind::Checksum, page_errors_text(oldest));
        Err(match expired.iter().rev().find(|label| !has_errors(label)) {
            Some(clean) => refused.hint(format!("backup {clean}, which has none, would have been expired.")),
            None => refused,
        })
    }

    /// The answer is whether the backup goes; one that is held does not.
    fn expire(&mut self, rule: &str, label: &BackupLabel) -> Result<bool> {
        if self.held.contains(label) {
            self.say(Level::Info, format!("{}: backup {label} is held and stays", self.index));
            return Ok(false);
        }
        let expired = self.take(label)?;
        self.say_expired(rule, &expired);
        Ok(true)
    }

    /// Removes a backup and its dependents; the answer is in ascending order.
    fn take(&mut self, label: &BackupLabel) -> Result<Vec<BackupLabel>> {
        let mut labels = self.plan.remaining.dependents(label);
        labels.push(*label);
        for label in &labels {
            let removed = self.plan.remaining.remove(label);
            removed.map_err(|error| Error::new(ErrorKind::Assert, error.to_string()))?;
        }
        self.plan.expired.extend(&labels);
        labels.sort_unstable();
        Ok(labels)
    }

    fn say_expired(&mut self, rule: &str, labels: &[BackupLabel]) {
        let set = if labels.len() > 1 { "set " } else { "" };
        let list: Vec<&str> = labels.iter().map(BackupLabel::as_str).collect();
        self.say(Level::Info, format!("{}: expire {rule} backup {set}{}", self.index, list.join(", ")));
    }

    fn say(&mut self, level: Level, text: String) {
        self.plan.messages.push((level, text));
    }

    fn labels(&self, counts: impl Fn(BackupType) -> bool) -> Vec<BackupLabel> {
        labels_of(&self.plan.remaining, counts)
    }
}

/// The backups that are held, and those that they need.
fn held(info: &BackupInfo) -> BTreeSet<BackupLabel> {
    let mut held = BTreeSet::new();
    // Ascending order puts every backup after what it needs.
    for backup in info.backups().iter().rev() {
        if backup.annotations.value(HOLD).is_some() || held.contains(&backup.label) {
            held.insert(backup.label);
            held.extend(backup.prior);
            held.extend(backup.references.iter().flatten());
        }
    }
    held
}

/// The backups of some types in ascending order.
pub(super) fn labels_of(info: &BackupInfo, counts: impl Fn(BackupType) -> bool) -> Vec<BackupLabel> {
    info.backups().iter().map(|backup| backup.label).filter(|label| counts(label.backup_type())).collect()
}

/// What is said of the oldest backup when its pages are damaged.
pub(super) fn page_errors_text(label: &BackupLabel) -> String {
    format!(
        "oldest retained backup {label} contains invalid page checksum(s)\nHINT: use info --set command to get details \
         about errors in the backup."
    )
}

/// Fails when the age of something decides over its removal, and the clock cannot be right (faults.md EX06).
///
/// # Errors
/// [`ErrorKind::Clock`] when the newest backup ended in the future, or is older than any that a stanza in use has.
pub(super) fn check_clock(info: &BackupInfo, now_s: i64) -> Result<()> {
    let Some(newest_s) = info.backups().iter().map(|backup| backup.timestamp_stop_s).max() else { return Ok(()) };
    let reason = if newest_s > now_s.saturating_add(CLOCK_SKEW_MAX_S) {
        "ended in the future"
    } else if now_s.saturating_sub(newest_s) > NEWEST_AGE_MAX_S {
        "is more than a year old"
    } else {
        return Ok(());
    };
    let message = format!("nothing is removed by its age: the newest backup {reason}");
    Err(Error::new(ErrorKind::Clock, message)
        .hint("is the clock right? retention by count and expire --set do not need it."))
}

fn is_full(kind: BackupType) -> bool {
    kind == BackupType::Full
}

pub(super) fn as_usize(count: NonZeroU32) -> usize {
    usize::try_from(count.get()).unwrap_or(usize::MAX)
}
