//! The report as JSON: an array of stanzas on one line without its end, keys in ascending order.

use crate::format::json::{ObjectWriter, printable, write_array, write_object, write_string, write_u64};
use crate::format::{BackupLabel, RawText};
use crate::postgres::WalSegmentName;
use crate::progress::Progress;

use super::details::BackupDetails;
use super::report::{
    ArchiveRange, BackupReport, GenerationReport, InfoReport, RepositoryReport, RunningBackup, StanzaContent,
    StanzaReport, Status,
};

/// Prints a report as the original does with `--output=json`.
pub fn render_json(report: &InfoReport) -> String {
    let mut out = Vec::new();
    write_array(&mut out, &report.stanzas, stanza);
    printable(&out)
}

fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(b"null");
}

fn stanza(out: &mut Vec<u8>, stanza: &StanzaReport) {
    write_object(out, |members| {
        if let Some(content) = &stanza.content {
            write_array(members.key("archive"), &content.archives, archive);
            write_array(members.key("backup"), &content.backups, backup);
            members.string("cipher", content.cipher().map_or("mixed", |cipher| cipher.name()).as_bytes());
            write_array(members.key("db"), &content.generations, generation);
        }
        members.string("name", stanza.name.as_bytes());
        if let Some(StanzaContent { repositories, .. }) = &stanza.content {
            write_array(members.key("repo"), repositories, repository);
        }
        write_object(members.key("status"), |members| status(members, stanza));
    });
}

fn status(members: &mut ObjectWriter<'_>, stanza: &StanzaReport) {
    code(members, stanza.status);
    write_object(members.key("lock"), |locks| {
        write_object(locks.key("backup"), |lock| running_backups(lock, &stanza.running_backups));
        write_object(locks.key("restore"), |lock| {
            lock.bool("held", stanza.running_restore.is_some());
            if let Some(progress) = stanza.running_restore.filter(|progress| progress.total_bytes > 0) {
                sizes(lock, progress);
            }
        });
    });
    members.string("message", stanza.status.message().as_bytes());
}

fn code(members: &mut ObjectWriter<'_>, status: Status) {
    members.u64("code", status.code());
}

fn running_backups(lock: &mut ObjectWriter<'_>, running: &[RunningBackup]) {
    lock.bool("held", !running.is_empty());
    let telling: Vec<&RunningBackup> = running.iter().filter(|running| running.progress.total_bytes > 0).collect();
    if telling.is_empty() {
        return;
    }
    write_array(lock.key("repo"), &telling, |out, running| {
        write_object(out, |members| {
            members.u64("key", running.repository.number().into());
            sizes(members, running.progress);
        });
    });
    sizes(lock, RunningBackup::sum(running));
}

fn sizes(members: &mut ObjectWriter<'_>, progress: Progress) {
    members.u64("size", progress.total_bytes);
    members.u64("size-cplt", progress.done_bytes);
}

fn archive(out: &mut Vec<u8>, archive: &ArchiveRange) {
    write_object(out, |members| {
        write_object(members.key("database"), |members| {
            members.u64("id", archive.history_id.number().into());
            members.u64("repo-key", archive.repository.number().into());
        });
        members.string("id", archive.archive_id.to_string().as_bytes());
        segment(members.key("max"), archive.wal.map(|wal| wal.max));
        segment(members.key("min"), archive.wal.map(|wal| wal.min));
    });
}

fn segment(out: &mut Vec<u8>, segment: Option<WalSegmentName>) {
    match segment {
        Some(segment) => write_string(out, segment.to_string().as_bytes()),
        None => null(out),
    }
}

fn generation(out: &mut Vec<u8>, generation: &GenerationReport) {
    write_object(out, |members| {
        members.u64("id", generation.id.number().into());
        members.u64("repo-key", generation.repository.number().into());
        members.u64("system-id", generation.system_id.0);
        members.string("version", generation.version.to_string().as_bytes());
    });
}

fn repository(out: &mut Vec<u8>, repository: &RepositoryReport) {
    write_object(out, |members| {
        members.string("cipher", repository.cipher.name().as_bytes());
        members.u64("key", repository.index.number().into());
        write_object(members.key("status"), |members| {
            code(members, repository.status.status());
            members.string("message", repository.status.message().as_bytes());
        });
    });
}

fn backup(out: &mut Vec<u8>, backup: &BackupReport) {
    let entry = &backup.entry;
    write_object(out, |members| {
        if !entry.annotations.is_empty() {
            annotations(members.key("annotation"), backup);
        }
        write_object(members.key("archive"), |members| {
            segment(members.key("start"), entry.archive_start);
            segment(members.key("stop"), entry.archive_stop);
        });
        write_object(members.key("backrest"), |members| {
            members.u64("format", entry.format);
            members.string("version", entry.version.as_bytes());
        });
        write_object(members.key("database"), |members| {
            members.u64("id", entry.history_id.number().into());
            members.u64("repo-key", backup.repository.number().into());
        });
        if let Some(details) = &backup.details {
            databases(members.key("database-ref"), details);
        }
        if let Some(error) = backup.error() {
            members.bool("error", error);
        }
        if let Some(BackupDetails { damaged_files, .. }) = &backup.details
            && !damaged_files.is_empty()
        {
            write_array(members.key("error-list"), damaged_files, |out, name| write_string(out, name.as_bytes()));
        }
        write_object(members.key("info"), |members| info(members, backup));
        members.string("label", entry.label.as_bytes());
        if let Some(details) = &backup.details {
            links(members.key("link"), details);
        }
        if let (Some(start), Some(stop)) = (&entry.lsn_start, &entry.lsn_stop) {
            write_object(members.key("lsn"), |members| {
                members.string("start", start.as_str().as_bytes());
                members.string("stop", stop.as_str().as_bytes());
            });
        }
        match &entry.prior {
            Some(prior) => members.string("prior", prior.as_bytes()),
            None => null(members.key("prior")),
        }
        match &entry.references {
            Some(references) => write_array(members.key("reference"), references, label),
            None => null(members.key("reference")),
        }
        if let Some(details) = &backup.details {
            tablespaces(members.key("tablespace"), details);
        }
        write_object(members.key("timestamp"), |members| {
            members.i64("start", entry.timestamp_start_s);
            members.i64("stop", entry.timestamp_stop_s);
        });
        members.string("type", entry.backup_type().name().as_bytes());
    });
}

fn label(out: &mut Vec<u8>, label: &BackupLabel) {
    write_string(out, label.as_bytes());
}

fn annotations(out: &mut Vec<u8>, backup: &BackupReport) {
    let pairs: Vec<(&RawText, &RawText)> = backup.entry.annotations.iter().collect();
    out.push(b'{');
    for (at, (key, value)) in pairs.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(out, key.as_bytes());
        out.push(b':');
        write_string(out, value.as_bytes());
    }
    out.push(b'}');
}

/// Sizes; with block incremental the stored size of the whole set is not known, and the sizes of the maps are told.
fn info(members: &mut ObjectWriter<'_>, backup: &BackupReport) {
    let sizes = &backup.entry.sizes;
    members.u64("delta", sizes.size_delta_bytes);
    write_object(members.key("repository"), |members| {
        members.u64("delta", sizes.size_repo_delta_bytes);
        match sizes.map {
            None => members.u64("size", sizes.size_repo_bytes),
            Some(map) => {
                members.u64("delta-map", map.size_repo_delta_bytes);
                members.u64("size-map", map.size_repo_bytes);
            }
        }
    });
    members.u64("size", sizes.size_bytes);
}

fn databases(out: &mut Vec<u8>, details: &BackupDetails) {
    write_array(out, &details.databases, |out, (name, oid)| {
        write_object(out, |members| {
            members.string("name", name.as_bytes());
            write_u64(members.key("oid"), (*oid).into());
        });
    });
}

fn links(out: &mut Vec<u8>, details: &BackupDetails) {
    if details.links.is_empty() {
        return null(out);
    }
    write_array(out, &details.links, |out, link| {
        write_object(out, |members| {
            members.string("destination", link.destination.as_bytes());
            members.string("name", link.name.as_bytes());
        });
    });
}

fn tablespaces(out: &mut Vec<u8>, details: &BackupDetails) {
    if details.tablespaces.is_empty() {
        return null(out);
    }
    write_array(out, &details.tablespaces, |out, tablespace| {
        write_object(out, |members| {
            members.string("destination", tablespace.destination.as_bytes());
            members.string("name", tablespace.name.as_bytes());
            members.u64("oid", tablespace.oid.into());
        });
    });
}
