//! The plan as JSON: one object on one line without its end, keys in ascending order.

use super::report::{BackupPart, MissingRun, Plan, WalPart, WalRun, bytes_by_repository};
use crate::format::json::{ObjectWriter, printable, write_array, write_object, write_string};
use crate::postgres::WalSegmentName;

/// Prints a plan.
pub fn render_json(plan: &Plan) -> String {
    let mut out = Vec::new();
    write_object(&mut out, |members| {
        match &plan.backup {
            Some(part) => write_object(members.key("backup"), |members| backup(members, part)),
            None => members.key("backup").extend_from_slice(b"null"),
        }
        write_array(members.key("note"), &plan.notes, |out, text| write_string(out, text.as_bytes()));
        write_array(members.key("obstacle"), &plan.obstacles, |out, text| write_string(out, text.as_bytes()));
        members.bool("reachable", plan.is_reachable());
        write_array(members.key("repo"), &bytes_by_repository(plan), |out, (repository, size_bytes)| {
            write_object(out, |members| {
                members.u64("key", repository.number().into());
                members.u64("size", *size_bytes);
            });
        });
        members.string("target", plan.target.as_bytes());
        match &plan.wal {
            Some(part) => write_object(members.key("wal"), |members| wal(members, part)),
            None => members.key("wal").extend_from_slice(b"null"),
        }
    });
    printable(&out)
}

fn backup(members: &mut ObjectWriter<'_>, part: &BackupPart) {
    members.string("label", part.label.as_str().as_bytes());
    write_array(members.key("reference"), &part.references, |out, label| write_string(out, label.as_str().as_bytes()));
    members.u64("repo-key", part.repository.number().into());
    members.u64("size", part.size_bytes);
    members.u64("size-repo", part.size_repo_bytes);
    members.i64("stop", part.timestamp_stop_s);
}

fn wal(members: &mut ObjectWriter<'_>, part: &WalPart) {
    members.string("archive-id", part.archive_id.to_string().as_bytes());
    match part.last {
        Some(last) => segment(members, "last", last),
        None => members.key("last").extend_from_slice(b"null"),
    }
    match part.last_archived_s {
        Some(time_s) => members.i64("last-archived", time_s),
        None => members.key("last-archived").extend_from_slice(b"null"),
    }
    write_array(members.key("missing"), &part.missing, |out, MissingRun { first, last }| {
        write_object(out, |members| {
            segment(members, "start", *first);
            segment(members, "stop", *last);
        });
    });
    write_array(members.key("range"), &part.runs, |out, run: &WalRun| {
        write_object(out, |members| {
            members.u64("count", run.count);
            members.u64("repo-key", run.repository.number().into());
            members.u64("size-repo", run.size_repo_bytes);
            segment(members, "start", run.first);
            segment(members, "stop", run.last);
            members.u64("timeline", run.first.timeline().number().into());
        });
    });
}

fn segment(members: &mut ObjectWriter<'_>, key: &str, segment: WalSegmentName) {
    members.string(key, segment.to_string().as_bytes());
}
