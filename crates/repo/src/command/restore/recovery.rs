//! Recovery settings: what a restore writes so that PostgreSQL recovers to the asked target (repository-behaviour.md
//! §5.8). Pure: from options to the text of `postgresql.auto.conf` or `recovery.conf`.

use crate::error::{Error, ErrorKind, Result};
use crate::postgres::PgVersion;

pub use crate::repository::recovery_goal::{RecoveryTarget, RecoveryType};

/// What PostgreSQL does when it has reached the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetAction {
    /// Wait for somebody to decide; PostgreSQL's default, so it is not written.
    #[default]
    Pause,
    /// End recovery.
    Promote,
    /// Stop the server.
    Shutdown,
}

/// Everything that recovery settings are made of.
#[derive(Debug, Clone, Default)]
pub struct RecoveryOptions {
    /// How far.
    pub recovery_type: RecoveryType,
    /// Stop before the target instead of after it.
    pub target_exclusive: bool,
    /// What to do there.
    pub target_action: TargetAction,
    /// The timeline to follow, as the user wrote it.
    pub target_timeline: Option<String>,
    /// Write `archive_mode = off`, so that a copy of a cluster does not archive into the source's stanza.
    pub archive_mode_off: bool,
    /// Further settings by the user; `-` in a name stands for `_`.
    pub settings: Vec<(String, String)>,
    /// The command that fetches WAL, complete with `%f` and `"%p"`.
    pub restore_command: String,
}

/// The first version that keeps recovery settings in `postgresql.auto.conf` and marks recovery by a signal file.
const SIGNAL_FILES_FROM: PgVersion = PgVersion::V12;

/// The settings that a new restore replaces, whatever they were.
const REPLACED: [&str; 8] = [
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
];

/// Whether recovery settings of this version stand in `postgresql.auto.conf`.
pub fn uses_signal_files(version: PgVersion) -> bool {
    version >= SIGNAL_FILES_FROM
}

/// The signal file that starts the recovery, for versions that have them.
pub fn signal_file(recovery_type: &RecoveryType) -> Option<&'static str> {
    match recovery_type {
        RecoveryType::None | RecoveryType::Preserve => None,
        RecoveryType::Standby => Some("standby.signal"),
        RecoveryType::Default | RecoveryType::Immediate | RecoveryType::Target(..) => Some("recovery.signal"),
    }
}

/// The text of `recovery.conf` (PostgreSQL before 12); `None` for a restore without recovery.
///
/// # Errors
/// [`ErrorKind::OptionInvalid`] for what the version does not have, or a value that cannot stand in one line.
pub fn recovery_conf(options: &RecoveryOptions, version: PgVersion, now: &str) -> Result<Option<String>> {
    match options.recovery_type {
        RecoveryType::None | RecoveryType::Preserve => Ok(None),
        _ => settings_text(options, version, now).map(Some),
    }
}

/// The new text of `postgresql.auto.conf`: the old lines, targets of an earlier recovery commented out, then the new
/// settings. `now` is local time, `YYYY-MM-DD HH:MM:SS`.
///
/// # Errors
/// As for [`recovery_conf`].
pub fn auto_conf(existing: Option<&[u8]>, options: &RecoveryOptions, version: PgVersion, now: &str) -> Result<Vec<u8>> {
    let with_settings = !matches!(options.recovery_type, RecoveryType::None | RecoveryType::Preserve);
    let mut content = existing.map_or_else(Vec::new, |existing| without_old_targets(existing, now));
    if !with_settings {
        return Ok(content);
    }
    if options.settings.iter().any(|(name, _)| setting_name(name) == "standby_mode") {
        return Err(Error::new(
            ErrorKind::OptionInvalid,
            format!("'standby_mode' setting is not valid for PostgreSQL >= {SIGNAL_FILES_FROM}"),
        )
        .hint("use --type=standby instead of --recovery-option=standby_mode=on."));
    }
    if existing.is_some() {
        content = content.trim_ascii().to_vec();
        content.extend_from_slice(b"\n\n");
    }
    content.extend_from_slice(settings_text(options, version, now)?.as_bytes());
    Ok(content)
}

fn without_old_targets(existing: &[u8], now: &str) -> Vec<u8> {
    let mut content = Vec::with_capacity(existing.len());
    for (number, line) in existing.split(|byte| *byte == b'\n').enumerate() {
        if number > 0 {
            content.push(b'\n');
        }
        if sets_old_target(line) {
            content.extend_from_slice(format!("# Removed by pgBackRest restore on {now} # ").as_bytes());
        }
        content.extend_from_slice(line);
    }
    content
}

fn sets_old_target(line: &[u8]) -> bool {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = line.iter().take_while(|byte| is_blank(byte)).count();
    let line = &line[start..];
    let end = line.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let (name, rest) = line.split_at(end);
    let assigned = rest.iter().find(|byte| !is_blank(byte)) == Some(&b'=');
    assigned && REPLACED.iter().any(|replaced| replaced.as_bytes() == name)
}

fn settings_text(options: &RecoveryOptions, version: PgVersion, now: &str) -> Result<String> {
    let mut text = format!("# Recovery settings generated by pgBackRest restore on {now}\n");
    for (name, value) in settings(options, version)? {
        let value = quoted(&value).ok_or_else(|| {
            Error::new(
                ErrorKind::OptionInvalidValue,
                format!("the value of recovery setting '{name}' has a line break or a NUL byte"),
            )
        })?;
        text.push_str(&format!("{name} = '{value}'\n"));
    }
    Ok(text)
}

/// The settings in the order in which the original writes them.
fn settings(options: &RecoveryOptions, version: PgVersion) -> Result<Vec<(String, String)>> {
    let mut user: Vec<(String, String)> =
        options.settings.iter().map(|(name, value)| (setting_name(name), value.clone())).collect();
    user.sort();
    if let Some((name, _)) = user.iter().find(|(name, _)| !is_setting_name(name)) {
        return Err(Error::new(
            ErrorKind::OptionInvalidValue,
            format!("'{}' is not the name of a setting", name.escape_debug()),
        ));
    }
    let mut settings = Settings(user);
    if options.archive_mode_off {
        if version < PgVersion::V12 {
            return Err(Error::new(
                ErrorKind::OptionInvalid,
                "option 'archive-mode' is not supported on PostgreSQL < 12",
            )
            .hint("'archive_mode' should be manually set to 'off' in postgresql.conf."));
        }
        settings.put("archive_mode", "off");
    }
    if !settings.has("restore_command") {
        settings.put("restore_command", &options.restore_command);
    }
    put_target(&mut settings, options, version);
    Ok(settings.0)
}

fn put_target(settings: &mut Settings, options: &RecoveryOptions, version: PgVersion) {
    let mut immediate = false;
    match &options.recovery_type {
        RecoveryType::Immediate => {
            settings.put("recovery_target", "immediate");
            immediate = true;
        }
        RecoveryType::Standby if version < SIGNAL_FILES_FROM => settings.put("standby_mode", "on"),
        RecoveryType::Target(kind, target) => {
            settings.put(&format!("recovery_target_{}", kind.name()), target);
            if options.target_exclusive {
                settings.put("recovery_target_inclusive", "false");
            }
        }
        RecoveryType::Default | RecoveryType::Standby | RecoveryType::Preserve | RecoveryType::None => {}
    }
    match options.target_action {
        TargetAction::Pause => {}
        TargetAction::Promote => settings.put("recovery_target_action", "promote"),
        TargetAction::Shutdown => settings.put("recovery_target_action", "shutdown"),
    }
    match &options.target_timeline {
        // Before 12 "current" is the default and cannot be written: the server takes the word for "latest".
        Some(timeline) if version >= PgVersion::V12 || timeline != "current" => {
            settings.put("recovery_target_timeline", timeline);
        }
        // No timeline is changed on the way to consistency, but the default "latest" makes the server look for a path
        // to a timeline that this backup may not reach.
        None if immediate && version >= PgVersion::V12 => settings.put("recovery_target_timeline", "current"),
        _ => {}
    }
}

/// Settings in order; a name that is there already keeps its place and takes the new value.
struct Settings(Vec<(String, String)>);

impl Settings {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    fn put(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }
}

fn setting_name(name: &str) -> String {
    name.replace('-', "_")
}

/// Names of settings, extensions' included; anything else could begin another line (faults.md HI12).
fn is_setting_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
}

/// The value as it stands between single quotes. The original writes it unchanged, so users of it have learnt to
/// double their quotes: a value that is well quoted already stays as it is, any other is quoted here.
fn quoted(value: &str) -> Option<String> {
    if value.contains(['\n', '\r', '\0']) {
        return None;
    }
    Some(if is_quoted(value) { value.to_owned() } else { value.replace('\'', "''") })
}

fn is_quoted(value: &str) -> bool {
    let mut bytes = value.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if bytes.next().is_none() => return false,
            b'\'' if bytes.next() != Some(b'\'') => return false,
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-22 10:00:00";

    fn options(recovery_type: RecoveryType) -> RecoveryOptions {
        RecoveryOptions {
            recovery_type,
            restore_command: "pgbr --stanza=demo archive-get %f \"%p\"".to_owned(),
            ..RecoveryOptions::default()
        }
    }

    fn text(options: &RecoveryOptions, version: PgVersion) -> String {
        settings_text(options, version, NOW).unwrap()
    }

    #[test]
    fn settings_stand_in_the_order_of_the_original() {
        let mut options = options(RecoveryType::Target(RecoveryTarget::Time, "2026-11-22 09:00:00+00".to_owned()));
        options.target_exclusive = true;
        options.target_action = TargetAction::Promote;
        options.target_timeline = Some("3".to_owned());
        options.archive_mode_off = true;
        options.settings =
            vec![("recovery-end-command".to_owned(), "x".to_owned()), ("primary-conninfo".to_owned(), "y".to_owned())];
        assert_eq!(
            text(&options, PgVersion::V15),
            "# Recovery settings generated by pgBackRest restore on 2026-11-22 10:00:00\n\
             primary_conninfo = 'y'\n\
             recovery_end_command = 'x'\n\
             archive_mode = 'off'\n\
             restore_command = 'pgbr --stanza=demo archive-get %f \"%p\"'\n\
             recovery_target_time = '2026-11-22 09:00:00+00'\n\
             recovery_target_inclusive = 'false'\n\
             recovery_target_action = 'promote'\n\
             recovery_target_timeline = '3'\n"
        );
    }

    #[test]
    fn immediate_stays_on_its_timeline_from_12_on() {
        let options = options(RecoveryType::Immediate);
        assert!(
            text(&options, PgVersion::V12)
                .ends_with("recovery_target = 'immediate'\nrecovery_target_timeline = 'current'\n")
        );
        assert!(text(&options, PgVersion::V11).ends_with("recovery_target = 'immediate'\n"));
    }

    #[test]
    fn current_is_never_written_before_12() {
        let mut options = options(RecoveryType::Default);
        options.target_timeline = Some("current".to_owned());
        assert!(!text(&options, PgVersion::V11).contains("timeline"));
        assert!(text(&options, PgVersion::V12).contains("recovery_target_timeline = 'current'\n"));
    }

    #[test]
    fn a_standby_before_12_has_its_own_setting() {
        let options = options(RecoveryType::Standby);
        assert!(text(&options, PgVersion::V11).ends_with("standby_mode = 'on'\n"));
        assert!(!text(&options, PgVersion::V12).contains("standby_mode"));
        assert_eq!(signal_file(&options.recovery_type), Some("standby.signal"));
    }

    #[test]
    fn rs18_targets_of_an_earlier_recovery_are_commented_out() {
        let existing = b"# comment\nwork_mem = '1MB'\n\trecovery_target_time = 'x'\nrecovery_target='y'\nrecovery_targets = 'z'\n\n";
        let content = auto_conf(Some(existing), &options(RecoveryType::Default), PgVersion::V15, NOW).unwrap();
        let removed = format!("# Removed by pgBackRest restore on {NOW} # ");
        assert_eq!(
            String::from_utf8(content).unwrap(),
            format!(
                "# comment\nwork_mem = '1MB'\n{removed}\trecovery_target_time = 'x'\n{removed}recovery_target='y'\n\
                 recovery_targets = 'z'\n\n{}",
                text(&options(RecoveryType::Default), PgVersion::V15)
            )
        );
        let none = auto_conf(Some(existing), &options(RecoveryType::None), PgVersion::V15, NOW).unwrap();
        assert!(none.ends_with(b"recovery_targets = 'z'\n\n"), "other lines are kept to the byte");
        assert_eq!(signal_file(&RecoveryType::None), None);
    }

    #[test]
    fn hi12_no_value_begins_another_line_or_ends_its_quotes() {
        let mut options = options(RecoveryType::Target(RecoveryTarget::Name, "it's".to_owned()));
        assert!(text(&options, PgVersion::V15).contains("recovery_target_name = 'it''s'\n"));
        options.recovery_type = RecoveryType::Target(RecoveryTarget::Name, "it''s".to_owned());
        assert!(text(&options, PgVersion::V15).contains("recovery_target_name = 'it''s'\n"));
        options.recovery_type = RecoveryType::Target(RecoveryTarget::Name, "a\narchive_command = 'x".to_owned());
        assert_eq!(settings_text(&options, PgVersion::V15, NOW).unwrap_err().kind(), ErrorKind::OptionInvalidValue);
        options.recovery_type = RecoveryType::Default;
        options.settings = vec![("a = 'b'\nc".to_owned(), "d".to_owned())];
        assert_eq!(settings_text(&options, PgVersion::V15, NOW).unwrap_err().kind(), ErrorKind::OptionInvalidValue);
    }

    #[test]
    fn what_a_version_does_not_have_is_refused() {
        let mut options = options(RecoveryType::Default);
        options.archive_mode_off = true;
        assert_eq!(settings_text(&options, PgVersion::V11, NOW).unwrap_err().kind(), ErrorKind::OptionInvalid);
        options.archive_mode_off = false;
        options.settings = vec![("standby-mode".to_owned(), "on".to_owned())];
        let error = auto_conf(Some(b""), &options, PgVersion::V15, NOW).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OptionInvalid);
    }
}
