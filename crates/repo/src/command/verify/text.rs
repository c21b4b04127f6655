//! The report as text: the original's, with further lines for what the original does not look at.

use std::fmt::Write as _;

use super::report::{ArchiveReport, BackupReport, BackupStatus, FaultCounts, Restorable, VerifyReport};
use crate::format::path;

/// The text without a line feed at its end; `None` when there is nothing to say, which is so when nothing is wrong and
/// nothing in the way of a restore, unless it is to be said at length.
pub fn render_text(report: &VerifyReport, verbose: bool) -> Option<String> {
    let is_error = report.is_error();
    let has_page_errors = report.backups.iter().any(|backup| backup.page_errors > 0);
    if !verbose && !is_error && !has_page_errors {
        return None;
    }
    let mut text = format!("stanza: {}\nstatus: {}", report.stanza, if is_error { "error" } else { "ok" });
    for obstacle in &report.obstacles {
        let _ = write!(text, "\n{obstacle}");
    }
    info_files(&mut text, report);
    if !report.obstacles.is_empty() {
        return Some(text);
    }
    if verbose && report.archives.is_empty() {
        text.push_str("\n  archiveId: none found");
    }
    for archive in &report.archives {
        archive_lines(&mut text, archive, verbose);
    }
    if verbose && report.backups.is_empty() {
        text.push_str("\n  backup: none found");
    }
    for backup in &report.backups {
        backup_lines(&mut text, backup, verbose);
    }
    Some(text)
}

/// Damaged info files and manifests whose other half is used.
fn info_files(text: &mut String, report: &VerifyReport) {
    let archive = path::archive_info(&report.stanza);
    let backup = path::backup_info(&report.stanza);
    for damage in &report.damage {
        let name = damage.object.as_str();
        let is_info = name.starts_with(archive.as_str()) || name.starts_with(backup.as_str());
        let is_manifest = damage.object.file_name().starts_with(path::MANIFEST);
        if is_info || is_manifest {
            let _ = write!(text, "\n  damaged: {name} ({})", damage.fault.kind.name());
        }
    }
}

fn archive_lines(text: &mut String, archive: &ArchiveReport, verbose: bool) {
    let ArchiveReport { id, wal_total, wal_valid, .. } = archive;
    if verbose || wal_total != wal_valid || archive.other_faults > 0 {
        let _ = write!(text, "\n  archiveId: {id}, total WAL checked: {wal_total}, total valid WAL: {wal_valid}");
    }
    if *wal_total > 0 && (verbose || archive.faults.total() > 0) {
        counts(text, &archive.faults, verbose);
    }
    if archive.duplicates > 0 {
        let _ = write!(text, "\n    duplicate: {}", archive.duplicates);
    }
    if archive.other_faults > 0 {
        let _ = write!(text, "\n    history or partial invalid: {}", archive.other_faults);
    }
    unreadable(text, &archive.faults);
}

fn backup_lines(text: &mut String, backup: &BackupReport, verbose: bool) {
    let BackupReport { label, status, files_total, files_valid, .. } = backup;
    let is_quiet = matches!(status, BackupStatus::Valid | BackupStatus::InProgress);
    let is_fine = backup.restorable == Restorable::Yes && backup.page_errors == 0;
    if !verbose && is_quiet && (is_fine || *status == BackupStatus::InProgress) {
        return;
    }
    let status = status.name();
    let _ = write!(
        text,
        "\n  backup: {label}, status: {status}, total files checked: {files_total}, total valid files: {files_valid}"
    );
    if *files_total > 0 && (verbose || backup.faults.total() > 0) {
        counts(text, &backup.faults, verbose);
    }
    unreadable(text, &backup.faults);
    if backup.page_errors > 0 {
        let count = backup.page_errors;
        let _ = write!(
            text,
            "\n    page checksums were invalid when it was made: {count} file(s), restored only with --no-checksum-page-error"
        );
    }
    let reasons = backup.reasons.join("; ");
    match (backup.status, backup.restorable) {
        (BackupStatus::Invalid, Restorable::Yes) => {
            text.push_str("\n    can be restored: the damage does not reach the content of any file");
        }
        (BackupStatus::InProgress, _) | (_, Restorable::Yes) => {}
        (_, Restorable::No) => {
            let _ = write!(text, "\n    cannot be restored: {reasons}");
        }
        (_, Restorable::Unknown) => {
            let _ = write!(text, "\n    it is not known whether it can be restored: {reasons}");
        }
    }
}

/// All counters at length, or only those that are not zero.
fn counts(text: &mut String, counts: &FaultCounts, verbose: bool) {
    let shown: Vec<String> = [
        ("missing", counts.missing),
        ("checksum invalid", counts.checksum),
        ("size invalid", counts.size),
        ("other", counts.other),
    ]
    .into_iter()
    .filter(|(_, count)| verbose || *count > 0)
    .map(|(name, count)| format!("{name}: {count}"))
    .collect();
    let _ = write!(text, "\n    {}", shown.join(", "));
}

fn unreadable(text: &mut String, counts: &FaultCounts) {
    if counts.unreadable > 0 {
        let _ = write!(text, "\n    of these not readable: {}", counts.unreadable);
    }
}
