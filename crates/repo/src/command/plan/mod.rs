//! What a recovery to a target would take: which backup, which WAL on which timelines, and what of it is missing. Nothing
//! but info files, history files and listings is read, so the answer comes before hours of restoring. Ours alone; the
//! original has no such command.
//!
//! The backup and the timeline are chosen by the code that a restore uses.

mod json;
mod report;
mod text;
mod wal;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{BackupEntry, BackupInfo, StoredLsn};
use crate::postgres::timeline::TimelineHistory;
use crate::postgres::{PgVersion, SystemId, WalSegmentName, WalSegmentSize};
use crate::progress::Context;
use crate::repository::Repository;
use crate::repository::backup_choice::{Chosen, choose_backup};
use crate::repository::recovery_goal::{RecoveryGoal, RecoveryTarget, RecoveryType};
use crate::repository::timelines::{BackupStart, TargetTimeline, Timelines};
use crate::repository::wal_path::{self, Span, position};

use wal::Listing;

pub use json::render_json;
pub use report::{BackupPart, MissingRun, Plan, WalPart, WalRun};
pub use text::render_text;

/// Plans a recovery out of `repositories`, which are searched in order.
///
/// # Errors
/// Those of reading and listing. That the target cannot be reached is no error but the answer; what could not be read is
/// not taken for missing.
pub async fn plan(repositories: &[Repository], goal: &RecoveryGoal, context: &Context) -> Result<Plan> {
    let mut plan = Plan::new(goal);
    let chosen = match choose_backup(repositories, goal, context).await {
        Ok(chosen) => chosen,
        Err(error) if error.kind() == ErrorKind::BackupSetInvalid => {
            refuse_unless_all_answered(repositories, context).await?;
            plan.refuse(error.message());
            return Ok(plan);
        }
        Err(error) => return Err(error),
    };
    let entry = chosen.entry()?;
    plan.backup = Some(BackupPart::of(&chosen, entry));
    check_references(&chosen.info, entry, &mut plan);
    let (Some((start, cluster)), Some(needed)) =
        (start_of(entry, &chosen.info), entry.archive_start.zip(entry.archive_stop))
    else {
        if entry.options.online {
            plan.refuse(format!("backup.info does not say which WAL {} needs", entry.label));
        }
        return Ok(plan);
    };
    check_backup_against_goal(goal, entry, &mut plan);
    let target = TargetTimeline::of(goal, start.archive_id.version)?;
    let target = match Timelines::new(chosen.repository).path(target, start, context).await {
        Ok(target) => target,
        // The store's own word, or that of a history file: the target timeline is not one that this backup leads to.
        Err(error) if matches!(error.kind(), ErrorKind::DbMismatch | ErrorKind::FileMissing) => {
            plan.refuse(error.message());
            return Ok(plan);
        }
        Err(error) => return Err(error),
    };
    let wal = Wal { repositories, chosen: &chosen, cluster, start, needed, goal };
    plan.wal = Some(wal.plan(target.as_ref(), &mut plan.notes, context).await?);
    judge(&mut plan, goal);
    Ok(plan)
}

/// "No backup" is an answer only when every repository could be asked.
async fn refuse_unless_all_answered(repositories: &[Repository], context: &Context) -> Result<()> {
    for repository in repositories {
        if let Err(error) = repository.backup_info(context).await
            && error.kind() != ErrorKind::FileMissing
        {
            let text = format!("{} could not be asked for its backups: {}", repository.index(), error.message());
            return Err(Error::new(ErrorKind::RepoInvalid, text));
        }
    }
    Ok(())
}

/// A backup cannot be restored without those that it refers to.
fn check_references(info: &BackupInfo, entry: &BackupEntry, plan: &mut Plan) {
    for label in entry.references.iter().flatten().filter(|label| info.backup(label).is_none()) {
        plan.refuse(format!("backup {label}, which {} refers to, is not listed", entry.label));
    }
}

/// A backup that was named with `--set` may end after the target.
fn check_backup_against_goal(goal: &RecoveryGoal, entry: &BackupEntry, plan: &mut Plan) {
    let is_after_time = goal.target_time_s().is_some_and(|target_s| entry.timestamp_stop_s >= target_s);
    let stop = entry.lsn_stop.as_ref().map(StoredLsn::lsn);
    let is_after_lsn = goal.target_lsn().zip(stop).is_some_and(|(target, stop)| stop > target);
    if is_after_time || is_after_lsn {
        plan.refuse(format!("backup {} ended after the target", entry.label));
    }
}

/// Where the WAL of a backup begins, and of which cluster it is.
fn start_of(entry: &BackupEntry, info: &BackupInfo) -> Option<(BackupStart, (PgVersion, SystemId))> {
    let generation = info.history().generation(entry.history_id)?;
    Some((BackupStart::of(entry, info)?, (generation.version, generation.system_id)))
}

/// What planning the WAL needs.
struct Wal<'a> {
    repositories: &'a [Repository],
    chosen: &'a Chosen<'a>,
    cluster: (PgVersion, SystemId),
    start: BackupStart,
    /// First and last segment that the backup needs.
    needed: (WalSegmentName, WalSegmentName),
    goal: &'a RecoveryGoal,
}

impl Wal<'_> {
    async fn plan(
        &self,
        target: Option<&TimelineHistory>,
        notes: &mut Vec<String>,
        context: &Context,
    ) -> Result<WalPart> {
        let (id, repository) = (self.start.archive_id, self.chosen.repository);
        let (first, stop) = self.needed;
        let timelines = wal_path::timelines(target, self.start.timeline);
        let mut listing = Listing::default();
        listing.add(repository, self.cluster, &timelines, position(first), context).await?;
        let mut size = listing.segment_size(context).await?.unwrap_or(WalSegmentSize::DEFAULT);
        let mut part = listing.part(id, &self.way(target, &listing, size), stop, size);
        // archive-get asks all of them: what one lacks another may have, and two contents are refused whoever has them.
        let others = self.repositories.iter().filter(|other| other.index() != repository.index());
        if self.repositories.len() > 1 {
            for other in others {
                match listing.add(other, self.cluster, &timelines, position(first), context).await {
                    Ok(()) => {}
                    // As archive-get, which takes what it can get.
                    Err(error) if part.missing.is_empty() && error.kind() != ErrorKind::Term => {
                        notes.push(format!("{} could not be asked for WAL: {}", other.index(), error.message()));
                    }
                    Err(error) => return Err(error),
                }
            }
            size = listing.segment_size(context).await?.unwrap_or(size);
            part = listing.part(id, &self.way(target, &listing, size), stop, size);
        }
        notes.extend(self.note());
        Ok(part)
    }

    /// The segments on the way to the target.
    fn way(&self, target: Option<&TimelineHistory>, listing: &Listing, size: WalSegmentSize) -> Vec<Span> {
        let (first, stop) = self.needed;
        let all = wal_path::spans(self.start, target, size);
        match &self.goal.recovery_type {
            RecoveryType::Immediate | RecoveryType::None | RecoveryType::Preserve => {
                vec![Span { first, last: Some(stop) }]
            }
            RecoveryType::Target(RecoveryTarget::Lsn, _) => match self.goal.target_lsn() {
                Some(lsn) => {
                    let end = position(lsn.segment(self.start.timeline, size));
                    wal_path::until(all, end.max(position(stop)))
                }
                None => all,
            },
            RecoveryType::Target(RecoveryTarget::Time, _) => {
                let target_s = self.goal.target_time_s().unwrap_or(i64::MAX);
                match listing.first_archived_after(&all, target_s, size) {
                    Some(end) => wal_path::until(all, end.max(position(stop))),
                    None => all,
                }
            }
            RecoveryType::Target(RecoveryTarget::Name | RecoveryTarget::Xid, _)
            | RecoveryType::Default
            | RecoveryType::Standby => all,
        }
    }

    fn note(&self) -> Option<String> {
        let text = match &self.goal.recovery_type {
            RecoveryType::Target(RecoveryTarget::Time, _) => {
                "how far WAL reaches is told by when it was archived; a copy of a repository that lost these times \
                 misleads"
            }
            RecoveryType::Target(RecoveryTarget::Name | RecoveryTarget::Xid, _) => {
                "whether the target is in this WAL is known only when it is replayed"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// Says whether the WAL that there is reaches the target.
fn judge(plan: &mut Plan, goal: &RecoveryGoal) {
    let Some(wal) = &plan.wal else { return };
    if !wal.missing.is_empty() {
        plan.refuse("WAL on the way to the target is missing");
    } else if let RecoveryType::Target(RecoveryTarget::Time, _) = &goal.recovery_type
        && let Some(target_s) = goal.target_time_s()
        && wal.last_archived_s.is_none_or(|archived_s| archived_s <= target_s)
    {
        plan.refuse("the archive ends before the target");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_that_refers_to_one_that_is_not_listed_is_refused() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../formats/samples/info/2.45-pg15-none/backup.info");
        let mut info = BackupInfo::parse(&std::fs::read(path).unwrap()).unwrap();
        let referring = info.backups().iter().find(|entry| entry.references.is_some()).cloned().unwrap();
        let goal = RecoveryGoal {
            set: None,
            recovery_type: RecoveryType::Default,
            target_timeline: None,
            reaches_timeline: false,
            time_zone: jiff::tz::TimeZone::UTC,
        };
        let mut plan = Plan::new(&goal);
        check_references(&info, &referring, &mut plan);
        assert!(plan.is_reachable());
        let gone = referring.references.as_ref().unwrap()[0];
        // Whatever depends on it goes first.
        let dependents: Vec<_> = info.backups().iter().rev().map(|entry| entry.label).collect();
        for label in dependents.into_iter().take_while(|label| *label != gone) {
            info.remove(&label).unwrap();
        }
        info.remove(&gone).unwrap();
        check_references(&info, &referring, &mut plan);
        assert_eq!(plan.obstacles, [format!("backup {gone}, which {} refers to, is not listed", referring.label)]);
    }
}
