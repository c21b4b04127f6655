//! Which backup a recovery begins with, and in which repository (repository-behaviour.md §5.2; pgBackRest
//! `src/command/restore/select.c.inc`).

use super::open::Repository;
use super::recovery_goal::{RecoveryGoal, RecoveryTarget, RecoveryType};
use super::target_time;
use super::timelines::{BackupStart, TargetTimeline, Timelines};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BackupEntry, BackupInfo, BackupLabel};
use crate::postgres::Lsn;
use crate::progress::Context;

/// What the backup has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// This one.
    Label(BackupLabel),
    /// The newest of the first repository that can be used.
    Newest,
    /// The newest from which the target timeline is reached.
    NewestReaching,
    /// The newest that ended before this second of the Unix epoch.
    Before(i64),
    /// The newest that ended at this position of the WAL or before.
    UpTo(Lsn),
}

/// The backup that a recovery begins with.
#[derive(Debug)]
pub struct Chosen<'a> {
    /// Where it is.
    pub repository: &'a Repository,
    /// Its name.
    pub label: BackupLabel,
    /// backup.info of that repository.
    pub info: BackupInfo,
}

impl Chosen<'_> {
    /// What backup.info says of the backup.
    ///
    /// # Errors
    /// Never: a backup is chosen out of backup.info.
    pub fn entry(&self) -> Result<&BackupEntry> {
        self.info.backup(&self.label).ok_or_else(|| Error::new(ErrorKind::Assert, "the chosen backup is not listed"))
    }
}

impl Wanted {
    /// What the options ask for.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for a target that cannot be compared with backups.
    fn of(goal: &RecoveryGoal) -> Result<Self> {
        if let Some(label) = goal.set {
            return Ok(Self::Label(label));
        }
        match &goal.recovery_type {
            RecoveryType::Target(RecoveryTarget::Time, text) => {
                target_time::parse(text, &goal.time_zone).map(Self::Before).ok_or_else(|| {
                    Error::new(
                        ErrorKind::Format,
                        format!("automatic backup set selection cannot be performed with provided time '{text}'"),
                    )
                    .hint(
                        "time format must be YYYY-MM-DD HH:MM:SS with optional msec and optional timezone (+/- HH or \
                         HHMM or HH:MM) - if timezone is omitted, local time is assumed (for UTC use +00)",
                    )
                })
            }
            RecoveryType::Target(RecoveryTarget::Lsn, text) => text
                .parse()
                .map(Self::UpTo)
                .map_err(|error| Error::new(ErrorKind::Format, format!("invalid target lsn '{text}': {error}"))),
            _ if goal.reaches_timeline && goal.target_timeline.is_some() => Ok(Self::NewestReaching),
            _ => Ok(Self::Newest),
        }
    }

    fn not_found(self, goal: &RecoveryGoal) -> Error {
        let target = match &goal.recovery_type {
            RecoveryType::Target(_, text) => text.as_str(),
            _ => "",
        };
        let text = match self {
            Self::Label(label) => format!("backup set {label} is not valid"),
            Self::Newest | Self::NewestReaching => "no backup set found to restore".to_owned(),
            Self::Before(_) => format!("unable to find backup set with stop time less than '{target}'"),
            Self::UpTo(_) => format!("unable to find backup set with lsn less than or equal to '{target}'"),
        };
        Error::new(ErrorKind::BackupSetInvalid, text)
    }
}

/// Searches the repositories in their order. One that cannot be read, or has no backup, is passed over with a warning.
///
/// # Errors
/// [`ErrorKind::BackupSetInvalid`] when no backup is what is wanted.
pub async fn choose_backup<'a>(
    repositories: &'a [Repository],
    goal: &RecoveryGoal,
    context: &Context,
) -> Result<Chosen<'a>> {
    let wanted = Wanted::of(goal)?;
    note_zone(goal, context);
    for repository in repositories {
        let info = match repository.backup_info(context).await {
            Ok(info) => info,
            Err(error) => {
                context.warn(format!("{}: {}", repository.index(), error.listed()));
                continue;
            }
        };
        if info.backups().is_empty() {
            let class = ErrorKind::BackupSetInvalid.class_name();
            context.warn(format!("{}: [{class}] no backup sets to restore", repository.index()));
            continue;
        }
        let candidates = candidates(&info, wanted)?;
        if candidates.ended_at_old_version {
            context.warn(format!(
                "{} reached backup from prior version missing required LSN info before finding a match -- backup \
                 auto-select has been disabled for this repo\n\
                 HINT: you may specify a backup to restore using the --set option.",
                repository.index()
            ));
        }
        let label = match candidates.newest_first.as_slice() {
            [] => continue,
            [only] => only.label,
            several => first_on_path(several, repository, &info, goal, context).await?,
        };
        return Ok(Chosen { repository, label, info });
    }
    Err(wanted.not_found(goal))
}

fn note_zone(goal: &RecoveryGoal, context: &Context) {
    if let RecoveryType::Target(RecoveryTarget::Time, text) = &goal.recovery_type
        && goal.set.is_none()
        && !target_time::has_zone(text)
    {
        let zone = goal.time_zone.iana_name().unwrap_or("local time");
        context.detail(format!("target time '{text}' has no zone: the backup is chosen for {zone}"));
    }
}

/// Backups that are what is wanted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Candidates<'a> {
    newest_first: Vec<&'a BackupEntry>,
    /// The search ended at a backup by a version that did not record where it ended.
    ended_at_old_version: bool,
}

/// Pure: what backup.info alone can tell.
fn candidates(info: &BackupInfo, wanted: Wanted) -> Result<Candidates<'_>> {
    let mut found = Candidates::default();
    match wanted {
        Wanted::Label(label) => found.newest_first.extend(info.backup(&label)),
        Wanted::Newest | Wanted::NewestReaching => {
            let Some(latest) = info.backups().last() else { return Ok(found) };
            if latest.history_id < info.history().current().id {
                return Err(Error::new(
                    ErrorKind::BackupSetInvalid,
                    format!("the latest backup set found '{}' is from a prior version of PostgreSQL", latest.label),
                )
                .hint("was a backup created after the stanza-upgrade?")
                .hint("specify --set or --type=time/lsn to restore from a prior version of PostgreSQL."));
            }
            match wanted {
                Wanted::NewestReaching => {
                    let of_the_cluster = |backup: &&BackupEntry| backup.history_id == latest.history_id;
                    found.newest_first.extend(info.backups().iter().rev().filter(of_the_cluster));
                }
                _ => found.newest_first.push(latest),
            }
        }
        Wanted::Before(time_s) => {
            found.newest_first.extend(info.backups().iter().rev().filter(|backup| backup.timestamp_stop_s < time_s));
        }
        Wanted::UpTo(lsn) => {
            for backup in info.backups().iter().rev() {
                let Some(stop) = &backup.lsn_stop else {
                    found.ended_at_old_version = found.newest_first.is_empty();
                    break;
                };
                if stop.lsn() <= lsn {
                    found.newest_first.push(backup);
                }
            }
        }
    }
    Ok(found)
}

/// The newest backup from which the target timeline can be reached. When there is none it is the newest of all: the check
/// of its timeline then says why it cannot be.
async fn first_on_path(
    newest_first: &[&BackupEntry],
    repository: &Repository,
    info: &BackupInfo,
    goal: &RecoveryGoal,
    context: &Context,
) -> Result<BackupLabel> {
    let mut timelines = Timelines::new(repository);
    let mut passed_over = Vec::new();
    for backup in newest_first {
        let reached = match BackupStart::of(backup, info) {
            // Nothing to compare: the manifest may tell more.
            None => Ok(()),
            Some(start) => {
                match TargetTimeline::of(goal, start.archive_id.version)? {
                    // Timelines are numbered as they come: no history has to be read, and the first one has none.
                    TargetTimeline::Number(target) if target < start.timeline => Err(Error::new(
                        ErrorKind::DbMismatch,
                        format!("it is on timeline {}, later than target timeline {target}", start.timeline),
                    )),
                    target => timelines.verify(target, start, context).await,
                }
            }
        };
        match reached {
            Ok(()) => {
                for text in passed_over {
                    context.warn(text);
                }
                return Ok(backup.label);
            }
            Err(error) if error.kind() == ErrorKind::DbMismatch => {
                passed_over.push(format!(
                    "{}: backup set {} is passed over: {error}",
                    repository.index(),
                    backup.label
                ));
            }
            // What is wrong with the archive is told by the check that follows.
            Err(_) => break,
        }
    }
    newest_first.first().map(|backup| backup.label).ok_or_else(|| Error::new(ErrorKind::Assert, "no backup is left"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three backups by the original, which end at 0/A00100, 0/C00100 and 0/E00100.
    fn info() -> BackupInfo {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../formats/samples/info/2.45-pg15-none/backup.info");
        BackupInfo::parse(&std::fs::read(path).unwrap()).unwrap()
    }

    fn labels(info: &BackupInfo, wanted: Wanted) -> Vec<BackupLabel> {
        candidates(info, wanted).unwrap().newest_first.iter().map(|backup| backup.label).collect()
    }

    #[test]
    fn rs12_the_newest_that_ended_before_the_target_comes_first() {
        let info = info();
        let all: Vec<BackupLabel> = info.backups().iter().rev().map(|backup| backup.label).collect();
        let stop_s = info.backup(&all[1]).unwrap().timestamp_stop_s;
        assert_eq!(labels(&info, Wanted::Newest), all[..1]);
        assert_eq!(labels(&info, Wanted::NewestReaching), all);
        assert_eq!(labels(&info, Wanted::Before(i64::MAX)), all);
        assert_eq!(labels(&info, Wanted::Before(stop_s + 1)), all[1..]);
        assert_eq!(labels(&info, Wanted::Before(stop_s)), all[2..]);
        assert_eq!(labels(&info, Wanted::Before(0)), []);
        assert_eq!(labels(&info, Wanted::UpTo(Lsn(0xC0_0100))), all[1..]);
        assert_eq!(labels(&info, Wanted::UpTo(Lsn(0xC0_00FF))), all[2..]);
        assert_eq!(labels(&info, Wanted::UpTo(Lsn(1))), []);
        assert_eq!(labels(&info, Wanted::Label(all[2])), all[2..]);
        assert_eq!(labels(&info, Wanted::Label(BackupLabel::parse("20200101-000000F").unwrap())), []);
    }

    #[test]
    fn a_backup_without_lsn_ends_the_search_for_one() {
        let info = info();
        let old = |label: BackupLabel| {
            let mut old = info.clone();
            let all: Vec<BackupEntry> = info.backups().to_vec();
            for backup in all.iter().rev() {
                old.remove(&backup.label).unwrap();
            }
            for mut backup in all {
                if backup.label == label {
                    backup.lsn_stop = None;
                }
                old.add(backup).unwrap();
            }
            old
        };
        let all: Vec<BackupLabel> = info.backups().iter().map(|backup| backup.label).collect();
        let newest = old(all[2]);
        assert!(candidates(&newest, Wanted::UpTo(Lsn(u64::MAX))).unwrap().ended_at_old_version);
        let middle = old(all[1]);
        let found = candidates(&middle, Wanted::UpTo(Lsn(u64::MAX))).unwrap();
        assert!(!found.ended_at_old_version && found.newest_first.len() == 1, "{found:?}");
    }

    #[test]
    fn the_newest_of_a_cluster_that_was_upgraded_is_refused() {
        let mut info = info();
        let current = info.history().current().clone();
        let catalog = current.catalog().unwrap();
        info.upgrade(current.version, current.system_id, catalog).unwrap();
        let error = candidates(&info, Wanted::Newest).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BackupSetInvalid);
        assert!(candidates(&info, Wanted::NewestReaching).is_err());
        assert!(error.message().contains("is from a prior version of PostgreSQL"), "{error}");
        assert_eq!(labels(&info, Wanted::Before(i64::MAX)).len(), 3);
    }
}
