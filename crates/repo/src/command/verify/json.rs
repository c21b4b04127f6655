//! The report as JSON, ours alone: one object on one line without its end, keys in ascending order.

use super::report::{ArchiveReport, BackupReport, Damage, FaultCounts, Restorable, VerifyReport};
use crate::format::json::{ObjectWriter, printable, write_array, write_object, write_string};
use crate::postgres::WalSegmentName;

/// Prints a report.
pub fn render_json(report: &VerifyReport) -> String {
    let mut out = Vec::new();
    write_object(&mut out, |members| {
        write_array(members.key("archive"), &report.archives, archive);
        write_array(members.key("backup"), &report.backups, backup);
        write_array(members.key("damage"), &report.damage, damage);
        write_array(members.key("obstacle"), &report.obstacles, |out, text| write_string(out, text.trim().as_bytes()));
        members.u64("repo-key", report.repository.number().into());
        members.string("stanza", report.stanza.as_str().as_bytes());
        members.string("status", if report.is_error() { b"error" } else { b"ok" });
    });
    printable(&out)
}

fn archive(out: &mut Vec<u8>, archive: &ArchiveReport) {
    write_object(out, |members| {
        members.u64("duplicate", archive.duplicates);
        faults(members, &archive.faults);
        members.string("id", archive.id.to_string().as_bytes());
        members.u64("other-file-fault", archive.other_faults);
        write_array(members.key("range"), &archive.ranges, |out, (start, stop)| {
            write_object(out, |members| {
                members.string("start", start.to_string().as_bytes());
                members.string("stop", stop.to_string().as_bytes());
            });
        });
        members.u64("total", archive.wal_total);
        members.u64("valid", archive.wal_valid);
    });
}

fn backup(out: &mut Vec<u8>, backup: &BackupReport) {
    write_object(out, |members| {
        faults(members, &backup.faults);
        members.string("label", backup.label.as_str().as_bytes());
        members.bool("listed", backup.is_listed);
        members.u64("page-error", backup.page_errors);
        write_array(members.key("reason"), &backup.reasons, |out, text| write_string(out, text.as_bytes()));
        match backup.restorable {
            Restorable::Yes => members.bool("restorable", true),
            Restorable::No => members.bool("restorable", false),
            Restorable::Unknown => members.key("restorable").extend_from_slice(b"null"),
        }
        members.string("status", backup.status.name().as_bytes());
        members.u64("total", backup.files_total);
        members.u64("valid", backup.files_valid);
        write_array(members.key("wal-missing"), &backup.wal_missing, segment);
    });
}

fn segment(out: &mut Vec<u8>, segment: &WalSegmentName) {
    write_string(out, segment.to_string().as_bytes());
}

fn faults(members: &mut ObjectWriter<'_>, counts: &FaultCounts) {
    write_object(members.key("fault"), |members| {
        members.u64("checksum", counts.checksum);
        members.u64("missing", counts.missing);
        members.u64("other", counts.other);
        members.u64("size", counts.size);
        members.u64("unreadable", counts.unreadable);
    });
}

fn damage(out: &mut Vec<u8>, damage: &Damage) {
    write_object(out, |members| {
        members.string("detail", damage.fault.detail.as_bytes());
        members.string("kind", damage.fault.kind.name().as_bytes());
        members.string("object", damage.object.as_str().as_bytes());
    });
}
