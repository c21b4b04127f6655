//! From options to what a recovery is to reach.

use jiff::tz::TimeZone;
use pgbr_repo::error::{Error, ErrorKind, Result};
use pgbr_repo::format::BackupLabel;
use pgbr_repo::repository::recovery_goal::{RecoveryGoal, RecoveryTarget, RecoveryType};

use crate::{OptionSet, opt};

/// What the options ask for, with times in this host's zone.
pub fn recovery_goal(options: &OptionSet) -> Result<RecoveryGoal> {
    Ok(RecoveryGoal {
        set: set(options)?,
        recovery_type: recovery_type(options)?,
        target_timeline: options.text(opt::TARGET_TIMELINE).map(str::to_owned),
        reaches_timeline: false,
        time_zone: TimeZone::system(),
    })
}

/// The backup that `--set` names. A text that is no label names no backup.
pub fn set(options: &OptionSet) -> Result<Option<BackupLabel>> {
    let label = |text: &str| {
        BackupLabel::parse(text).map_err(|_| {
            Error::new(ErrorKind::BackupSetInvalid, format!("backup set {} is not valid", text.escape_debug()))
        })
    };
    // "latest" is the default, and means that nobody named one.
    options.text(opt::SET).filter(|_| options.is_given(opt::SET)).map(label).transpose()
}

/// How far PostgreSQL is to recover.
pub fn recovery_type(options: &OptionSet) -> Result<RecoveryType> {
    let target =
        |kind| -> Result<RecoveryType> { Ok(RecoveryType::Target(kind, options.require(opt::TARGET)?.to_owned())) };
    Ok(match options.string_id(opt::TYPE) {
        Some("immediate") => RecoveryType::Immediate,
        Some("standby") => RecoveryType::Standby,
        Some("preserve") => RecoveryType::Preserve,
        Some("none") => RecoveryType::None,
        Some("lsn") => target(RecoveryTarget::Lsn)?,
        Some("name") => target(RecoveryTarget::Name)?,
        Some("time") => target(RecoveryTarget::Time)?,
        Some("xid") => target(RecoveryTarget::Xid)?,
        _ => RecoveryType::Default,
    })
}
