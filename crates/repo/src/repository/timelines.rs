//! Whether the timeline that recovery is to reach can be reached from a backup (repository-behaviour.md §5.3;
//! pgBackRest `src/command/restore/timeline.c`).

use std::collections::HashMap;

use super::open::Repository;
use super::recovery_goal::{RecoveryGoal, RecoveryType};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{ArchiveId, ArchiveInfo, BackupEntry, BackupInfo};
use crate::postgres::timeline::{Ancestry, Timeline, TimelineHistory};
use crate::postgres::{Lsn, PgVersion};
use crate::progress::Context;

/// The timeline that recovery follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetTimeline {
    /// That of the backup.
    Current,
    /// The highest one of the archive.
    Latest,
    /// This one.
    Number(Timeline),
}

impl TargetTimeline {
    /// What the options mean for a cluster of this version.
    ///
    /// # Errors
    /// [`ErrorKind::DbMismatch`] for a text that is no timeline, as the original.
    pub fn of(goal: &RecoveryGoal, version: PgVersion) -> Result<Self> {
        match goal.target_timeline.as_deref() {
            Some("current") => Ok(Self::Current),
            Some("latest") => Ok(Self::Latest),
            Some(text) => Timeline::from_option(text).map(Self::Number).map_err(|error| {
                Error::new(ErrorKind::DbMismatch, format!("invalid target timeline '{text}': {error}"))
            }),
            // Before 12 "current" was the default; for "immediate" no timeline needs to be changed, and PostgreSQL
            // would stumble over a problem with the latest one.
            None if version < PgVersion::V12 || goal.recovery_type == RecoveryType::Immediate => Ok(Self::Current),
            None => Ok(Self::Latest),
        }
    }
}

/// Where in the WAL a backup begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupStart {
    /// The archive of its cluster.
    pub archive_id: ArchiveId,
    /// Its timeline.
    pub timeline: Timeline,
    /// The position.
    pub lsn: Lsn,
}

impl BackupStart {
    /// What backup.info says of a backup; `None` when it does not say where the backup begins.
    pub fn of(entry: &BackupEntry, info: &BackupInfo) -> Option<Self> {
        let archive_id = info.history().generation(entry.history_id)?.archive_id();
        Some(Self { archive_id, timeline: entry.archive_start?.timeline(), lsn: entry.lsn_start.as_ref()?.lsn() })
    }
}

/// The timelines of one repository, read as they are asked for and each once.
#[derive(Debug)]
pub struct Timelines<'a> {
    repository: &'a Repository,
    info: Option<ArchiveInfo>,
    latest: HashMap<ArchiveId, Option<Timeline>>,
    histories: HashMap<(ArchiveId, Timeline), TimelineHistory>,
}

impl<'a> Timelines<'a> {
    /// Nothing is read yet.
    pub fn new(repository: &'a Repository) -> Self {
        Self { repository, info: None, latest: HashMap::new(), histories: HashMap::new() }
    }

    /// Checks that replay from `start` can reach `target`. archive.info must be readable in any case.
    ///
    /// # Errors
    /// [`ErrorKind::DbMismatch`] when it cannot, [`ErrorKind::FileMissing`] when the history of the target is not
    /// archived, [`ErrorKind::Format`] when it is no history, or those of reading.
    pub async fn verify(&mut self, target: TargetTimeline, start: BackupStart, context: &Context) -> Result<()> {
        self.path(target, start, context).await.map(drop)
    }

    /// As [`Timelines::verify`], with the history of the timeline that recovery follows; `None` for that of the backup.
    ///
    /// # Errors
    /// As for [`Timelines::verify`].
    pub async fn path(
        &mut self,
        target: TargetTimeline,
        start: BackupStart,
        context: &Context,
    ) -> Result<Option<TimelineHistory>> {
        let info = self.info(context).await?;
        let timeline = match target {
            TargetTimeline::Current => return Ok(None),
            TargetTimeline::Number(timeline) => timeline,
            TargetTimeline::Latest => {
                let highest = self.latest(&info, start.archive_id).await?;
                highest.map_or(start.timeline, |highest| highest.max(start.timeline))
            }
        };
        if timeline == start.timeline {
            return Ok(None);
        }
        let history = self.history(&info, start.archive_id, timeline, context).await?;
        check_path(history, start)?;
        Ok(Some(history.clone()))
    }

    async fn info(&mut self, context: &Context) -> Result<ArchiveInfo> {
        if self.info.is_none() {
            self.info = Some(self.repository.archive_info(context).await?);
        }
        self.info.clone().ok_or_else(|| Error::new(ErrorKind::Assert, "archive.info is not there"))
    }

    async fn latest(&mut self, info: &ArchiveInfo, id: ArchiveId) -> Result<Option<Timeline>> {
        if let Some(latest) = self.latest.get(&id) {
            return Ok(*latest);
        }
        let latest = self.repository.archive(info, id)?.latest_timeline().await?;
        self.latest.insert(id, latest);
        Ok(latest)
    }

    async fn history(
        &mut self,
        info: &ArchiveInfo,
        id: ArchiveId,
        timeline: Timeline,
        context: &Context,
    ) -> Result<&TimelineHistory> {
        if !self.histories.contains_key(&(id, timeline)) {
            let archive = self.repository.archive(info, id)?;
            let content = archive.timeline_history(timeline, context).await?.ok_or_else(|| {
                let name = timeline.history_file_name();
                Error::new(
                    ErrorKind::FileMissing,
                    format!(
                        "{}: the history file '{name}' of the target timeline is not in archive {id}",
                        self.repository.index()
                    ),
                )
            })?;
            let history = TimelineHistory::parse(timeline, &content).map_err(|error| {
                Error::new(
                    ErrorKind::Format,
                    format!("invalid history of timeline {timeline} in archive {id}: {error}"),
                )
            })?;
            self.histories.insert((id, timeline), history);
        }
        self.histories.get(&(id, timeline)).ok_or_else(|| Error::new(ErrorKind::Assert, "the history is not there"))
    }
}

/// Whether replay from `start` can reach the timeline of `history`.
pub(super) fn check_path(history: &TimelineHistory, start: BackupStart) -> Result<()> {
    let (target, BackupStart { timeline, lsn, .. }) = (history.timeline(), start);
    let refuse = |text: String| Error::new(ErrorKind::DbMismatch, text);
    match history.ancestry(timeline, lsn) {
        Ancestry::OnPath => Ok(()),
        Ancestry::ForkedBefore { switch_lsn } => Err(refuse(format!(
            "target timeline {target} forked from backup timeline {timeline} at {switch_lsn} which is before backup \
             lsn of {lsn}"
        ))
        .hint("was the target timeline created by accidentally promoting a standby?")
        .hint("was the target timeline created by testing a restore without --archive-mode=off?")
        .hint("was the backup made after the target timeline was created?")),
        Ancestry::NotAncestor => Err(refuse(format!(
            "backup timeline {timeline}, lsn {lsn} is not in the history of target timeline {target}"
        ))
        .hint("was the target timeline created by promoting from a timeline < latest?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::HistoryId;

    fn goal(target_timeline: Option<&str>, recovery_type: RecoveryType) -> RecoveryGoal {
        RecoveryGoal {
            set: None,
            recovery_type,
            target_timeline: target_timeline.map(str::to_owned),
            reaches_timeline: false,
            time_zone: jiff::tz::TimeZone::UTC,
        }
    }

    #[test]
    fn the_default_timeline_depends_on_version_and_type() {
        let of = |text: Option<&str>, kind, version| TargetTimeline::of(&goal(text, kind), version);
        assert_eq!(of(None, RecoveryType::Default, PgVersion::V12).unwrap(), TargetTimeline::Latest);
        assert_eq!(of(None, RecoveryType::None, PgVersion::V15).unwrap(), TargetTimeline::Latest);
        assert_eq!(of(None, RecoveryType::Default, PgVersion::V11).unwrap(), TargetTimeline::Current);
        assert_eq!(of(None, RecoveryType::Immediate, PgVersion::V15).unwrap(), TargetTimeline::Current);
        let seventeen = TargetTimeline::Number(Timeline::new(17).unwrap());
        assert_eq!(of(Some("17"), RecoveryType::Default, PgVersion::V15).unwrap(), seventeen);
        assert_eq!(of(Some("0x11"), RecoveryType::Default, PgVersion::V15).unwrap(), seventeen);
        for text in ["x", "0", "0x", "-1", "4294967296"] {
            let error = of(Some(text), RecoveryType::Default, PgVersion::V15).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DbMismatch, "{text}");
        }
    }

    #[test]
    fn rs11_a_backup_must_begin_before_its_timeline_was_left() {
        let history = TimelineHistory::parse(
            Timeline::new(7).unwrap(),
            b"1\t0/3000000\treason\n2\t0/5000000\treason\n4\t0/7000000\treason\n",
        )
        .unwrap();
        let check = |timeline, lsn| {
            let archive_id = ArchiveId { version: PgVersion::V15, history_id: HistoryId::FIRST };
            check_path(&history, BackupStart { archive_id, timeline: Timeline::new(timeline).unwrap(), lsn: Lsn(lsn) })
        };
        check(1, 0x2FF_FFFF).unwrap();
        check(2, 0x4FF_FFFF).unwrap();
        check(4, 0x5FF_FFFF).unwrap();
        let forked = check(2, 0x500_0000).unwrap_err();
        assert_eq!(forked.kind(), ErrorKind::DbMismatch);
        assert!(forked.message().contains("target timeline 7 forked from backup timeline 2 at 0/5000000"), "{forked}");
        let orphan = check(5, 0x100_0000).unwrap_err();
        assert!(orphan.message().contains("is not in the history of target timeline 7"), "{orphan}");
    }
}
