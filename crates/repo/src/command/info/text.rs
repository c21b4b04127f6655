//! The report as text for people.

use std::fmt::{Display, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::format::{BackupLabel, BackupType, RawText};
use crate::progress::{Progress, size_text};

use super::details::BackupDetails;
use super::groups::{Group, groups};
use super::report::{BackupReport, InfoReport, RepositoryReport, RunningBackup, StanzaContent, StanzaReport, Status};

/// Prints a report as the original does; times in `zone`.
pub fn render_text(report: &InfoReport, zone: &TimeZone) -> String {
    if report.stanzas.is_empty() {
        return "No stanzas exist in the repository.\n".to_owned();
    }
    let mut out = Text { text: String::new(), zone };
    for (at, stanza) in report.stanzas.iter().enumerate() {
        if at > 0 {
            out.line("");
        }
        out.stanza(stanza);
    }
    out.text
}

struct Text<'a> {
    text: String,
    zone: &'a TimeZone,
}

impl Text<'_> {
    fn line(&mut self, line: impl Display) {
        // A String takes everything.
        _ = writeln!(self.text, "{line}");
    }

    fn stanza(&mut self, stanza: &StanzaReport) {
        self.line(format_args!("stanza: {}", visible(&stanza.name)));
        self.line(format_args!("    status: {}", stanza_status(stanza)));
        let telling = stanza.running_backups.iter().filter(|running| running.progress.total_bytes > 0);
        let telling: Vec<&RunningBackup> = telling.collect();
        if telling.len() > 1 {
            for running in telling {
                let percent = percent_text(running.progress);
                self.line(format_args!("        {} backup: {percent} complete", running.repository));
            }
        }
        let Some(content) = &stanza.content else { return };
        if matches!(stanza.status, Status::Mixed | Status::DatabaseMismatch | Status::Other) {
            self.repositories(&content.repositories);
        }
        if stanza.status != Status::MissingStanzaPath {
            self.cipher(content);
        }
        for group in groups(content) {
            self.group(&group);
        }
    }

    fn repositories(&mut self, repositories: &[RepositoryReport]) {
        let is_multiple = repositories.len() > 1;
        let indent = if is_multiple { "               " } else { "            " };
        for repository in repositories {
            if is_multiple {
                self.text.push_str(&format!("        {}: ", repository.index));
            }
            match repository.status.status() {
                Status::Ok => self.line("ok"),
                Status::Other => {
                    if is_multiple {
                        self.line("error (other)");
                    }
                    for line in repository.status.message().split('\n') {
                        self.line(format_args!("{indent}{}", visible(line)));
                    }
                }
                _ => self.line(format_args!("error ({})", repository.status.message())),
            }
        }
    }

    fn cipher(&mut self, content: &StanzaContent) {
        match content.cipher() {
            Some(cipher) => self.line(format_args!("    cipher: {}", cipher.name())),
            None => {
                self.line("    cipher: mixed");
                for repository in &content.repositories {
                    self.line(format_args!("        {}: {}", repository.index, repository.cipher.name()));
                }
            }
        }
    }

    fn group(&mut self, group: &Group<'_>) {
        let when = if group.is_current { "current" } else { "prior" };
        self.line(format_args!("\n    db ({when})"));
        match group.wal {
            Some(wal) => {
                self.line(format_args!("        wal archive min/max ({}): {}/{}", group.version, wal.min, wal.max));
            }
            None => self.line(format_args!("        wal archive min/max ({}): none present", group.version)),
        }
        for backup in &group.backups {
            self.backup(backup);
        }
    }

    fn backup(&mut self, backup: &BackupReport) {
        let entry = &backup.entry;
        self.line(format_args!("\n        {} backup: {}", entry.backup_type().name(), entry.label));
        let (start, stop) = (self.time(entry.timestamp_start_s), self.time(entry.timestamp_stop_s));
        self.line(format_args!("            timestamp start/stop: {start} / {stop}"));
        match (entry.archive_start, entry.archive_stop) {
            (Some(start), Some(stop)) => self.line(format_args!("            wal start/stop: {start} / {stop}")),
            _ => self.line("            wal start/stop: n/a"),
        }
        if let (Some(_), Some(start), Some(stop)) = (&backup.details, &entry.lsn_start, &entry.lsn_stop) {
            self.line(format_args!("            lsn start/stop: {start} / {stop}"));
        }
        let sizes = &entry.sizes;
        self.line(format_args!(
            "            database size: {}, database backup size: {}",
            size_text(sizes.size_bytes),
            size_text(sizes.size_delta_bytes)
        ));
        let set = match sizes.map {
            None => format!("backup set size: {}, ", size_text(sizes.size_repo_bytes)),
            Some(_) => String::new(),
        };
        self.line(format_args!(
            "            {}: {set}backup size: {}",
            backup.repository,
            size_text(sizes.size_repo_delta_bytes)
        ));
        if let Some(references) = &entry.references {
            self.references(references, backup.details.is_some());
        }
        if let Some(details) = &backup.details {
            self.details(details);
        }
        self.errors(backup);
        if backup.details.is_some() && !entry.annotations.is_empty() {
            self.line("            annotation(s)");
            for (key, value) in entry.annotations.iter() {
                self.line(format_args!("                {}: {}", raw(key), raw(value)));
            }
        }
    }

    fn references(&mut self, references: &[BackupLabel], is_list: bool) {
        if is_list {
            let labels: Vec<&str> = references.iter().map(BackupLabel::as_str).collect();
            self.line(format_args!("            backup reference list: {}", labels.join(", ")));
            return;
        }
        let count = |kind| references.iter().filter(|label| label.backup_type() == kind).count();
        let mut total = format!("{} full", count(BackupType::Full));
        for (kind, name) in [(BackupType::Differential, "diff"), (BackupType::Incremental, "incr")] {
            if count(kind) > 0 {
                total.push_str(&format!(", {} {name}", count(kind)));
            }
        }
        self.line(format_args!("            backup reference total: {total}"));
    }

    fn details(&mut self, details: &BackupDetails) {
        let databases: Vec<String> =
            details.databases.iter().map(|(name, oid)| format!("{} ({oid})", raw(name))).collect();
        let databases = if databases.is_empty() { "none".to_owned() } else { databases.join(", ") };
        self.line(format_args!("            database list: {databases}"));
        if !details.links.is_empty() {
            self.line("            symlinks:");
        }
        for link in &details.links {
            self.line(format_args!("                {} => {}", raw(&link.name), raw(&link.destination)));
        }
        if !details.tablespaces.is_empty() {
            self.line("            tablespaces:");
        }
        for tablespace in &details.tablespaces {
            let (name, destination) = (raw(&tablespace.name), raw(&tablespace.destination));
            self.line(format_args!("                {name} ({}) => {destination}", tablespace.oid));
        }
    }

    fn errors(&mut self, backup: &BackupReport) {
        match &backup.details {
            Some(details) if !details.damaged_files.is_empty() => {
                let names: Vec<String> = details.damaged_files.iter().map(raw).collect();
                self.line(format_args!("            error list: {}", names.join(", ")));
            }
            _ if backup.error() == Some(true) => self.line("            error(s) detected during backup"),
            _ => {}
        }
    }

    /// Local time with the zone's offset, minutes only where there are any.
    fn time(&self, seconds: i64) -> String {
        let Ok(time) = Timestamp::from_second(seconds) else { return format!("{seconds} seconds since 1970") };
        let offset_minutes = self.zone.to_offset(time).seconds() / 60;
        let sign = if offset_minutes < 0 { '-' } else { '+' };
        let (hours, minutes) = (offset_minutes.abs() / 60, offset_minutes.abs() % 60);
        let minutes = if minutes == 0 { String::new() } else { format!(":{minutes:02}") };
        let local = time.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
        format!("{local}{sign}{hours:02}{minutes}")
    }
}

fn stanza_status(stanza: &StanzaReport) -> String {
    let mut notes = Vec::new();
    let label = match stanza.status {
        Status::Ok => "ok",
        // The repositories follow one by one.
        Status::Mixed if stanza.content.is_some() => "mixed",
        status => {
            notes.push(status.message().to_owned());
            "error"
        }
    };
    if !stanza.running_backups.is_empty() {
        let progress = RunningBackup::sum(&stanza.running_backups);
        notes.push(format!("backup/expire running{}", complete(progress)));
    }
    if let Some(progress) = stanza.running_restore {
        notes.push(format!("restore running{}", complete(progress)));
    }
    if notes.is_empty() { label.to_owned() } else { format!("{label} ({})", notes.join(", ")) }
}

fn complete(progress: Progress) -> String {
    match progress.total_bytes {
        0 => String::new(),
        _ => format!(" - {} complete", percent_text(progress)),
    }
}

/// Rounded to hundredths of a per cent.
fn percent_text(progress: Progress) -> String {
    let done = u128::from(progress.done_bytes.min(progress.total_bytes));
    let thousandths = done * 100_000 / u128::from(progress.total_bytes.max(1));
    let hundredths = (thousandths + 5) / 10;
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

fn raw(text: &RawText) -> String {
    visible(&text.to_string())
}

/// Text of a repository cannot steer a terminal, nor begin a line of its own (faults.md HI19).
fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, character| {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_rounded_to_hundredths_of_a_per_cent() {
        for (done_bytes, total_bytes, expected) in [
            (0, 1, "0.00%"),
            (3913, 30_007, "13.04%"),
            (2, 3, "66.67%"),
            (1, 1, "100.00%"),
            (2, 1, "100.00%"),
            (u64::MAX - 1, u64::MAX, "100.00%"),
            (1, 0, "0.00%"),
        ] {
            assert_eq!(percent_text(Progress { done_bytes, total_bytes }), expected, "{done_bytes}/{total_bytes}");
        }
    }

    #[test]
    fn hi19_text_of_a_repository_is_one_visible_line() {
        assert_eq!(visible("a\u{1b}[2J\nb\u{85}é"), "a\\u{1b}[2J\\nb\\u{85}é");
    }

    #[test]
    fn times_beyond_the_calendar_are_told_as_numbers() {
        let text = Text { text: String::new(), zone: &TimeZone::UTC };
        assert_eq!(text.time(1_795_328_175), "2026-11-22 06:16:15+00");
        assert_eq!(text.time(i64::MAX), "9223372036854775807 seconds since 1970");
    }
}
