//! The plan as text.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::report::{Plan, bytes_by_repository};
use crate::format::BackupLabel;
use crate::postgres::WalSegmentName;
use crate::progress::size_text;

/// Prints a plan, with times in `zone`.
pub fn render_text(plan: &Plan, zone: &TimeZone) -> String {
    let mut text = format!("target: {}\nreachable: {}\n", plan.target, if plan.is_reachable() { "yes" } else { "no" });
    for obstacle in &plan.obstacles {
        let _ = writeln!(text, "    {}", obstacle.replace('\n', "\n    "));
    }
    if let Some(backup) = &plan.backup {
        let stop = time_text(backup.timestamp_stop_s, zone);
        let _ = writeln!(text, "backup: {} of {}, ended {stop}", backup.label, backup.repository);
        if !backup.references.is_empty() {
            let labels: Vec<&str> = backup.references.iter().map(BackupLabel::as_str).collect();
            let _ = writeln!(text, "    takes files from: {}", labels.join(", "));
        }
        let (size, size_repo) = (size_text(backup.size_bytes), size_text(backup.size_repo_bytes));
        let _ = writeln!(text, "    restores {size} from {size_repo}");
    }
    if let Some(wal) = &plan.wal {
        let _ = writeln!(text, "wal: archive {}", wal.archive_id);
        for run in &wal.runs {
            let (segments, size) = (segments_text(run.first, run.last), size_text(run.size_repo_bytes));
            let _ = writeln!(
                text,
                "    timeline {}: {segments} ({} of {}, {size})",
                run.first.timeline(),
                run.count,
                run.repository
            );
        }
        for run in &wal.missing {
            let _ = writeln!(text, "    missing: {}", segments_text(run.first, run.last));
        }
        if let Some(last) = wal.last {
            let archived = wal
                .last_archived_s
                .map_or_else(String::new, |time_s| format!(", archived {}", time_text(time_s, zone)));
            let _ = writeln!(text, "    replay gets to the end of {last}{archived}");
        }
    }
    for (repository, size_bytes) in bytes_by_repository(plan) {
        let _ = writeln!(text, "fetches {} from {repository}", size_text(size_bytes));
    }
    for note in &plan.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

fn segments_text(first: WalSegmentName, last: WalSegmentName) -> String {
    if first == last { first.to_string() } else { format!("{first} to {last}") }
}

fn time_text(time_s: i64, zone: &TimeZone) -> String {
    match Timestamp::from_second(time_s) {
        Ok(time) => time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string(),
        Err(_) => format!("{time_s} s after 1970"),
    }
}
