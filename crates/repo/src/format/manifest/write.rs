//! Writes a manifest in pieces.

use super::file_row::{BLOCK_CHECKSUM_SIZE_MIN, BLOCK_SIZE_UNIT, FileRow, PageChecksums, PageRange};
use super::owner::{Owner, OwnerNames};
use super::rows::{Database, LinkRow, ManifestOptions, PathRow, Target, TargetKind};
use super::{Attributes, Manifest};
use crate::format::info::InfoWriter;
use crate::format::json::{ObjectWriter, UnknownAttributes, write_bool, write_i64, write_string, write_u64};
use crate::format::label::BackupLabel;

impl Manifest {
    /// Gives the file's bytes, not encrypted, to `sink` in pieces of some 64 KiB. A manifest that was read and not
    /// changed gives the bytes that were read.
    ///
    /// # Errors
    /// What `sink` returns.
    pub fn write<E>(&self, sink: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut writer = InfoWriter::new(&self.envelope, sink);
        self.write_backup(&mut writer)?;
        self.write_cluster(&mut writer)?;
        self.options.write(&mut writer)?;
        for target in &self.targets {
            writer.entry(b"backup:target", target.name().as_bytes(), |out| write_target(target, out))?;
        }
        for database in &self.databases {
            writer.entry(b"db", database.name.as_bytes(), |out| write_database(database, out))?;
        }
        if !self.annotations.is_empty() {
            writer.entry(b"metadata", b"annotation", |out| self.annotations.write(out))?;
        }
        for file in &self.files {
            writer.entry(b"target:file", file.name().as_bytes(), |out| self.write_file(file, out))?;
        }
        self.write_defaults(b"target:file:default", self.defaults.file, &mut writer)?;
        for link in &self.links {
            writer.entry(b"target:link", link.name().as_bytes(), |out| self.write_link(link, out))?;
        }
        if !self.links.is_empty() {
            let section = b"target:link:default";
            writer.entry(section, b"group", |out| write_owner(&self.owners, self.defaults.link_group, out))?;
            writer.entry(section, b"user", |out| write_owner(&self.owners, self.defaults.link_user, out))?;
        }
        for path in &self.paths {
            writer.entry(b"target:path", path.name().as_bytes(), |out| self.write_path(path, out))?;
        }
        self.write_defaults(b"target:path:default", self.defaults.path, &mut writer)?;
        writer.finish()
    }

    /// The whole file at once, for small manifests and tests.
    pub fn write_to_vec(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let Ok(()) = self.write(&mut |bytes: &[u8]| -> Result<(), std::convert::Infallible> {
            file.extend_from_slice(bytes);
            Ok(())
        });
        file
    }

    fn write_backup<E>(&self, writer: &mut InfoWriter<'_, E>) -> Result<(), E> {
        let header = &self.header;
        let mut text =
            |key: &str, value: &[u8]| writer.entry(b"backup", key.as_bytes(), |out| write_string(out, value));
        if let Some(segment) = header.archive_start {
            text("backup-archive-start", segment.to_string().as_bytes())?;
        }
        if let Some(segment) = header.archive_stop {
            text("backup-archive-stop", segment.to_string().as_bytes())?;
        }
        for (key, value) in [
            ("backup-block-incr", header.block_incr),
            ("backup-bundle", header.bundle),
            ("backup-bundle-raw", header.bundle_raw),
        ] {
            if value {
                writer.entry(b"backup", key.as_bytes(), |out| write_bool(out, true))?;
            }
        }
        let mut text =
            |key: &str, value: &[u8]| writer.entry(b"backup", key.as_bytes(), |out| write_string(out, value));
        text("backup-label", self.label.as_bytes())?;
        if let Some(lsn) = &header.lsn_start {
            text("backup-lsn-start", lsn.as_str().as_bytes())?;
        }
        if let Some(lsn) = &header.lsn_stop {
            text("backup-lsn-stop", lsn.as_str().as_bytes())?;
        }
        if let Some(prior) = self.prior {
            text("backup-prior", prior.as_bytes())?;
        }
        if self.references.stored {
            let labels: Vec<&[u8]> = self.references.labels().iter().map(BackupLabel::as_bytes).collect();
            text("backup-reference", &labels.join(&b","[..]))?;
        }
        for (key, time_s) in [
            ("backup-timestamp-copy-start", header.timestamp_copy_start_s),
            ("backup-timestamp-start", header.timestamp_start_s),
            ("backup-timestamp-stop", header.timestamp_stop_s),
        ] {
            writer.entry(b"backup", key.as_bytes(), |out| write_i64(out, time_s))?;
        }
        writer.entry(b"backup", b"backup-type", |out| write_string(out, self.backup_type().name().as_bytes()))
    }

    fn write_cluster<E>(&self, writer: &mut InfoWriter<'_, E>) -> Result<(), E> {
        let cluster = &self.cluster;
        for (key, number) in [
            ("db-catalog-version", cluster.catalog_version.into()),
            ("db-control-version", cluster.control_version.into()),
            ("db-id", cluster.history_id.map_or(0, |id| id.number().into())),
            ("db-system-id", cluster.system_id.map_or(0, |id| id.0)),
        ] {
            writer.entry(b"backup:db", key.as_bytes(), |out| write_u64(out, number))?;
        }
        writer.entry(b"backup:db", b"db-version", |out| write_string(out, cluster.version.to_string().as_bytes()))
    }

    fn write_file(&self, file: &FileRow, out: &mut Vec<u8>) {
        let defaults = self.defaults.file;
        let mut object = ObjectWriter::new(out, file.unknown.as_deref());
        if let Some(block_incr) = file.block_incr {
            object.u64("bi", (block_incr.block_size_bytes / BLOCK_SIZE_UNIT).into());
            if block_incr.checksum_size_bytes != BLOCK_CHECKSUM_SIZE_MIN {
                object.u64("bic", block_incr.checksum_size_bytes.into());
            }
            if block_incr.map_size_bytes != 0 {
                object.u64("bim", block_incr.map_size_bytes);
            }
        }
        if let Some(place) = file.bundle {
            object.u64("bni", place.id.number());
            if place.offset_bytes != 0 {
                object.u64("bno", place.offset_bytes);
            }
        }
        if let Some(checksum) = file.checksum.filter(|_| file.size_bytes != 0) {
            write_checksum(object.key("checksum"), |out| checksum.write(out));
        }
        match &file.page_checksums {
            PageChecksums::NotChecked => {}
            PageChecksums::Valid => object.bool("checksum-page", true),
            PageChecksums::Errors(pages) => {
                object.bool("checksum-page", false);
                if !pages.is_empty() {
                    write_pages(object.key("checksum-page-error"), pages);
                }
            }
        }
        if file.group != defaults.group {
            write_owner(&self.owners, file.group, object.key("group"));
        }
        if file.mode != defaults.mode {
            write_mode(object.key("mode"), file.mode);
        }
        if let Some(checksum) = file.checksum_repo {
            write_checksum(object.key("rck"), |out| checksum.write(out));
        }
        if let Some(label) = file.reference.and_then(|index| self.references.label(index)) {
            object.string("reference", label.as_bytes());
        }
        if file.size_repo_bytes != file.size_bytes {
            object.u64("repo-size", file.size_repo_bytes);
        }
        object.u64("size", file.size_bytes);
        if file.size_original_bytes != file.size_bytes {
            object.u64("szo", file.size_original_bytes);
        }
        object.i64("timestamp", file.timestamp_s);
        if file.user != defaults.user {
            write_owner(&self.owners, file.user, object.key("user"));
        }
        object.end();
    }

    fn write_link(&self, link: &LinkRow, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::new(out, Some(&link.unknown));
        object.string("destination", link.destination.as_bytes());
        if link.group != self.defaults.link_group {
            write_owner(&self.owners, link.group, object.key("group"));
        }
        if link.user != self.defaults.link_user {
            write_owner(&self.owners, link.user, object.key("user"));
        }
        object.end();
    }

    fn write_path(&self, path: &PathRow, out: &mut Vec<u8>) {
        let defaults = self.defaults.path;
        let mut object = ObjectWriter::new(out, Some(&path.unknown));
        if path.group != defaults.group {
            write_owner(&self.owners, path.group, object.key("group"));
        }
        if path.mode != defaults.mode {
            write_mode(object.key("mode"), path.mode);
        }
        if path.user != defaults.user {
            write_owner(&self.owners, path.user, object.key("user"));
        }
        object.end();
    }

    fn write_defaults<E>(&self, section: &[u8], defaults: Attributes, writer: &mut InfoWriter<'_, E>) -> Result<(), E> {
        writer.entry(section, b"group", |out| write_owner(&self.owners, defaults.group, out))?;
        writer.entry(section, b"mode", |out| write_mode(out, defaults.mode))?;
        writer.entry(section, b"user", |out| write_owner(&self.owners, defaults.user, out))
    }
}

impl ManifestOptions {
    fn write<E>(&self, writer: &mut InfoWriter<'_, E>) -> Result<(), E> {
        // A negative level is stored as the unsigned number with the same bits.
        let level = |level: Option<i32>| level.map(|level| Value::Number(level.cast_unsigned().into()));
        let flag = |flag: Option<bool>| flag.map(Value::Bool);
        for (key, value) in [
            ("option-archive-check", flag(Some(self.archive_check))),
            ("option-archive-copy", flag(Some(self.archive_copy))),
            ("option-backup-standby", flag(self.backup_standby)),
            ("option-buffer-size", self.buffer_size_bytes.map(Value::Number)),
            ("option-checksum-page", flag(self.checksum_page)),
            ("option-compress", flag(Some(self.compress_type != crate::format::CompressType::None))),
            ("option-compress-level", level(self.compress_level)),
            ("option-compress-level-network", level(self.compress_level_network)),
            ("option-compress-type", Some(Value::Text(self.compress_type.name()))),
            ("option-delta", flag(self.delta)),
            ("option-hardlink", flag(Some(self.hardlink))),
            ("option-online", flag(Some(self.online))),
            ("option-process-max", self.process_max.map(|number| Value::Number(number.into()))),
        ] {
            if let Some(value) = value {
                writer.entry(b"backup:option", key.as_bytes(), |out| match value {
                    Value::Bool(value) => write_bool(out, value),
                    Value::Number(value) => write_u64(out, value),
                    Value::Text(value) => write_string(out, value.as_bytes()),
                })?;
            }
        }
        Ok(())
    }
}

/// The value of an option.
enum Value {
    Bool(bool),
    Number(u64),
    Text(&'static str),
}

fn write_target(target: &Target, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out, Some(&target.unknown));
    if let TargetKind::FileLink { file, .. } = target.kind() {
        object.string("file", file.as_bytes());
    }
    object.string("path", target.kind().path().as_bytes());
    if let TargetKind::Tablespace { oid, tablespace_name, .. } = target.kind() {
        object.string("tablespace-id", oid.to_string().as_bytes());
        object.string("tablespace-name", tablespace_name.as_bytes());
    }
    let kind: &[u8] = if matches!(target.kind(), TargetKind::PgData { .. }) { b"path" } else { b"link" };
    object.string("type", kind);
    object.end();
}

fn write_database(database: &Database, out: &mut Vec<u8>) {
    let unknown: &UnknownAttributes = &database.unknown;
    let mut object = ObjectWriter::new(out, Some(unknown));
    object.u64("db-id", database.oid.into());
    object.u64("db-last-system-id", database.last_system_oid.into());
    object.end();
}

fn write_owner(owners: &OwnerNames, owner: Owner, out: &mut Vec<u8>) {
    match owners.name(owner) {
        Some(name) => write_string(out, name.as_bytes()),
        None => write_bool(out, false),
    }
}

/// Four octal digits at least, as `%04o` gives.
fn write_mode(out: &mut Vec<u8>, mode: u16) {
    write_string(out, format!("{mode:04o}").as_bytes());
}

fn write_checksum(out: &mut Vec<u8>, digits: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    digits(out);
    out.push(b'"');
}

fn write_pages(out: &mut Vec<u8>, pages: &[PageRange]) {
    out.push(b'[');
    for (at, range) in pages.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        if range.first == range.last {
            write_u64(out, range.first);
        } else {
            out.push(b'[');
            write_u64(out, range.first);
            out.push(b',');
            write_u64(out, range.last);
            out.push(b']');
        }
    }
    out.push(b']');
}
