//! What a recovery is to reach: what the choice of the backup and of the timeline depends on.

use jiff::tz::TimeZone;

use super::target_time;
use crate::format::BackupLabel;
use crate::postgres::Lsn;

/// How far PostgreSQL is to recover (the option `type`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RecoveryType {
    /// To the end of the archived WAL.
    #[default]
    Default,
    /// Until the backup is consistent.
    Immediate,
    /// To a target, with the target as the user wrote it.
    Target(RecoveryTarget, String),
    /// As a standby, for ever.
    Standby,
    /// Leave the recovery files in PGDATA as they are.
    Preserve,
    /// No recovery settings at all.
    None,
}

/// The kind of a recovery target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryTarget {
    /// A position in WAL.
    Lsn,
    /// A named restore point.
    Name,
    /// A time.
    Time,
    /// A transaction.
    Xid,
}

impl RecoveryTarget {
    /// The part of the setting's name after `recovery_target_`.
    pub fn name(self) -> &'static str {
        match self {
            RecoveryTarget::Lsn => "lsn",
            RecoveryTarget::Name => "name",
            RecoveryTarget::Time => "time",
            RecoveryTarget::Xid => "xid",
        }
    }
}

/// Where a recovery begins and ends, as the user wrote it.
#[derive(Debug, Clone)]
pub struct RecoveryGoal {
    /// The backup; `None` chooses one by the target.
    pub set: Option<BackupLabel>,
    /// How far.
    pub recovery_type: RecoveryType,
    /// The timeline to follow.
    pub target_timeline: Option<String>,
    /// Without another target, take the newest backup from which the timeline is reached. The original takes the newest of
    /// all, and refuses it when the timeline cannot be reached from it.
    pub reaches_timeline: bool,
    /// The zone of times without one.
    pub time_zone: TimeZone,
}

impl RecoveryGoal {
    /// The text of a target.
    pub fn target_text(&self) -> Option<&str> {
        match &self.recovery_type {
            RecoveryType::Target(_, text) => Some(text),
            _ => None,
        }
    }

    /// The second of the Unix epoch that is the target, if one is and can be read.
    pub fn target_time_s(&self) -> Option<i64> {
        match &self.recovery_type {
            RecoveryType::Target(RecoveryTarget::Time, text) => target_time::parse(text, &self.time_zone),
            _ => None,
        }
    }

    /// The position that is the target, if one is and can be read.
    pub fn target_lsn(&self) -> Option<Lsn> {
        match &self.recovery_type {
            RecoveryType::Target(RecoveryTarget::Lsn, text) => text.parse().ok(),
            _ => None,
        }
    }
}
