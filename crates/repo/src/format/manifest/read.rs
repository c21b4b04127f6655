//! Reads a manifest from pieces.

use super::file_row::FileRow;
use super::owner::{Owner, OwnerNames};
use super::read_file::{MODE_DEFAULT, read_file_row, read_mode, read_owner};
use super::read_rows::{read_database, read_link, read_path, read_target};
use super::reference::References;
use super::rows::{Database, LinkRow, ManifestCluster, ManifestHeader, ManifestOptions, PathRow, Target, TargetKind};
use super::{Attributes, Defaults, Manifest};
use crate::format::annotation::Annotations;
use crate::format::archive_id::HistoryId;
use crate::format::backup_entry::{read_label, read_lsn, read_segment, read_time, read_type};
use crate::format::compress_type::CompressType;
use crate::format::db_history::read_version;
use crate::format::error::{FormatError, ValueProblem};
use crate::format::info::{Envelope, InfoReader, UnknownEntries, require_ascending};
use crate::format::ini::{IniEntry, IniLimits};
use crate::format::json::JsonReader;
use crate::format::label::{BackupLabel, BackupType};
use crate::format::manifest_name::{ManifestName, ManifestNameError};
use crate::postgres::{PgVersion, SystemId};

/// Takes the decrypted bytes of a manifest in pieces of any size. Of the text it keeps no more than a line.
#[derive(Debug)]
pub struct ManifestReader {
    info: InfoReader,
    found: Found,
}

/// What has been read.
#[derive(Debug, Default)]
struct Found {
    label: Option<BackupLabel>,
    backup_type: Option<BackupType>,
    prior: Option<BackupLabel>,
    references: References,
    header: ManifestHeader,
    times_found: [bool; 3],
    cluster: FoundCluster,
    options: ManifestOptions,
    annotations: Annotations,
    targets: Vec<Target>,
    databases: Vec<Database>,
    files: Vec<FileRow>,
    links: Vec<LinkRow>,
    paths: Vec<PathRow>,
    owners: OwnerNames,
    file_default: FoundDefault,
    link_default: FoundDefault,
    path_default: FoundDefault,
    unknown: UnknownEntries,
}

#[derive(Debug, Default)]
struct FoundCluster {
    version: Option<PgVersion>,
    catalog_version: Option<u32>,
    control_version: Option<u32>,
    history_id: Option<u32>,
    system_id: Option<u64>,
}

#[derive(Debug, Default)]
struct FoundDefault {
    user: Option<Owner>,
    group: Option<Owner>,
    mode: Option<u16>,
}

impl Default for ManifestReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ManifestReader {
    /// A reader at the begin of a file.
    pub fn new() -> Self {
        Self { info: InfoReader::new(IniLimits::MANIFEST), found: Found::default() }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`FormatError`]; the reader must not be used afterwards.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let found = &mut self.found;
        self.info.feed(bytes, &mut |entry| found.take(entry))
    }

    /// Ends the file: checks the checksum, completes the rows, and refuses what cannot be.
    ///
    /// # Errors
    /// [`FormatError`] naming section and key.
    pub fn finish(mut self) -> Result<Manifest, FormatError> {
        let found = &mut self.found;
        let envelope = self.info.finish(&mut |entry| found.take(entry))?;
        self.found.finish(envelope)
    }
}

impl Manifest {
    /// Reads a decrypted file that is in memory.
    ///
    /// # Errors
    /// As [`ManifestReader::finish`].
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = ManifestReader::new();
        reader.feed(bytes)?;
        reader.finish()
    }
}

/// Reads the name and the value of a line of `[target:file]` alone, as a fuzz target does.
///
/// # Errors
/// [`ValueProblem`].
pub fn parse_file_row(name: &[u8], value: &[u8]) -> Result<FileRow, ValueProblem> {
    let name = ManifestName::parse(name).map_err(name_problem)?;
    read_file_row(name, value, &mut OwnerNames::default(), &mut References::default())
}

fn name_problem(error: ManifestNameError) -> ValueProblem {
    ValueProblem::Refused(match error {
        ManifestNameError::Root => "the name is not below pg_data or pg_tblspc",
        ManifestNameError::EmptyPart => "the name has an empty part",
        ManifestNameError::RelativePart => "the name has a relative part",
        ManifestNameError::Unwritable => "the name has a NUL byte or a newline",
    })
}

impl Found {
    fn take(&mut self, entry: &IniEntry<'_>) -> Result<(), FormatError> {
        self.take_value(entry).map_err(|problem| entry.error(problem))?.unwrap_or_else(|| {
            require_ascending(entry)?;
            self.unknown.keep(entry)
        })
    }

    /// Reads an entry that is known; `None` leaves one that is not to the caller.
    fn take_value(&mut self, entry: &IniEntry<'_>) -> Result<Option<Result<(), FormatError>>, ValueProblem> {
        let name = || ManifestName::parse(entry.key).map_err(name_problem);
        match entry.section {
            b"target:file" => {
                let name = name()?;
                if name.parent().is_none() {
                    return Err(ValueProblem::Refused("the name is that of a directory"));
                }
                self.files.push(read_file_row(name, entry.value, &mut self.owners, &mut self.references)?);
            }
            b"target:path" => self.paths.push(read_path(name()?, entry.value, &mut self.owners)?),
            b"target:link" => self.links.push(read_link(name()?, entry.value, &mut self.owners)?),
            b"backup:target" => self.targets.push(read_target(name()?, entry.value)?),
            b"db" => self.databases.push(read_database(entry.key, entry.value)?),
            section => {
                if let Err(error) = require_ascending(entry) {
                    return Ok(Some(Err(error)));
                }
                let reader = &mut JsonReader::new(entry.value);
                let known = match section {
                    b"backup" => self.take_backup(entry.key, reader)?,
                    b"backup:db" => self.cluster.take(entry.key, reader)?,
                    b"backup:option" => self.options.take(entry.key, reader)?,
                    b"target:file:default" => self.file_default.take(entry.key, reader, &mut self.owners)?,
                    b"target:link:default" => self.link_default.take(entry.key, reader, &mut self.owners)?,
                    b"target:path:default" => self.path_default.take(entry.key, reader, &mut self.owners)?,
                    b"metadata" if entry.key == b"annotation" => {
                        self.annotations = Annotations::read(reader)?;
                        true
                    }
                    _ => false,
                };
                if !known {
                    return Ok(None);
                }
                reader.end()?;
            }
        }
        Ok(Some(Ok(())))
    }

    fn take_backup(&mut self, key: &[u8], reader: &mut JsonReader<'_>) -> Result<bool, ValueProblem> {
        let header = &mut self.header;
        match key {
            b"backup-archive-start" => header.archive_start = read_segment(reader, "backup-archive-start")?,
            b"backup-archive-stop" => header.archive_stop = read_segment(reader, "backup-archive-stop")?,
            b"backup-block-incr" => header.block_incr = reader.bool()?,
            b"backup-bundle" => header.bundle = reader.bool()?,
            b"backup-bundle-raw" => header.bundle_raw = reader.bool()?,
            b"backup-label" => self.label = Some(read_label(reader, "backup-label")?),
            b"backup-lsn-start" => header.lsn_start = read_lsn(reader, "backup-lsn-start")?,
            b"backup-lsn-stop" => header.lsn_stop = read_lsn(reader, "backup-lsn-stop")?,
            b"backup-prior" => self.prior = Some(read_label(reader, "backup-prior")?),
            b"backup-reference" => self.references = read_references(reader)?,
            b"backup-timestamp-copy-start" => {
                header.timestamp_copy_start_s = read_time(reader, "backup-timestamp-copy-start")?;
                self.times_found[0] = true;
            }
            b"backup-timestamp-start" => {
                header.timestamp_start_s = read_time(reader, "backup-timestamp-start")?;
                self.times_found[1] = true;
            }
            b"backup-timestamp-stop" => {
                header.timestamp_stop_s = read_time(reader, "backup-timestamp-stop")?;
                self.times_found[2] = true;
            }
            b"backup-type" => self.backup_type = Some(read_type(reader)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish(mut self, mut envelope: Envelope) -> Result<Manifest, FormatError> {
        let label = self.finish_labels()?;
        let time_keys = ["backup-timestamp-copy-start", "backup-timestamp-start", "backup-timestamp-stop"];
        if let Some((key, _)) = time_keys.into_iter().zip(self.times_found).find(|(_, found)| !found) {
            return Err(FormatError::Missing { section: "backup", key });
        }
        let cluster = self.cluster.finish()?;
        self.finish_rows()?;
        let defaults = self.finish_defaults()?;
        envelope.add_unknown(self.unknown);
        let manifest = Manifest {
            envelope,
            label,
            prior: self.prior,
            references: self.references,
            header: self.header,
            cluster,
            options: self.options,
            annotations: self.annotations,
            targets: self.targets,
            databases: self.databases,
            files: self.files,
            links: self.links,
            paths: self.paths,
            owners: self.owners,
            defaults,
        };
        if manifest.sizes().is_none() {
            return Err(FormatError::content("target:file", b"", "the sum of all sizes has more than 64 bits"));
        }
        Ok(manifest)
    }

    /// Checks that label, type, prior and reference list go together.
    fn finish_labels(&mut self) -> Result<BackupLabel, FormatError> {
        let missing = |key| FormatError::Missing { section: "backup", key };
        let impossible = |key: &str, reason| Err(FormatError::content("backup", key.as_bytes(), reason));
        let label = self.label.ok_or_else(|| missing("backup-label"))?;
        if self.backup_type.ok_or_else(|| missing("backup-type"))? != label.backup_type() {
            return impossible("backup-type", "is not the type that the label tells");
        }
        match self.prior {
            None if label.backup_type() != BackupType::Full => return Err(missing("backup-prior")),
            Some(_) if label.backup_type() == BackupType::Full => {
                return impossible("backup-prior", "a full backup has no prior backup");
            }
            Some(prior) if !prior.same_set(&label) || prior >= label => {
                return impossible("backup-prior", "the prior is not an earlier backup of the same set");
            }
            _ => {}
        }
        if !self.references.stored {
            // The own label is implied, since no row names it.
            _ = self.references.add(label);
        } else if self.references.labels().last() != Some(&label) {
            return impossible("backup-reference", "the list does not end with the backup itself");
        } else if self.prior.is_some_and(|prior| self.references.index(&prior).is_none()) {
            return impossible("backup-reference", "the list does not have the prior backup");
        }
        Ok(label)
    }

    /// Sorts the rows and refuses names that stand twice.
    fn finish_rows(&mut self) -> Result<(), FormatError> {
        let twice = |section, key: &[u8]| Err(FormatError::content(section, key, "the key stands twice"));
        if let Some(key) = sort_rows(&mut self.files, |file| file.name().as_bytes()) {
            return twice("target:file", key);
        }
        if let Some(key) = sort_rows(&mut self.links, |link| link.name().as_bytes()) {
            return twice("target:link", key);
        }
        if let Some(key) = sort_rows(&mut self.paths, |path| path.name().as_bytes()) {
            return twice("target:path", key);
        }
        if let Some(key) = sort_rows(&mut self.targets, |target| target.name().as_bytes()) {
            return twice("backup:target", key);
        }
        if let Some(key) = sort_rows(&mut self.databases, |database| database.name.as_bytes()) {
            return twice("db", key);
        }
        if !self.targets.iter().any(|target| matches!(target.kind(), TargetKind::PgData { .. })) {
            return Err(FormatError::Missing { section: "backup:target", key: "pg_data" });
        }
        if !self.paths.iter().any(|path| path.name().as_bytes() == b"pg_data") {
            return Err(FormatError::Missing { section: "target:path", key: "pg_data" });
        }
        let is_file = |name: &[u8]| self.files.binary_search_by(|file| file.name().as_bytes().cmp(name)).is_ok();
        if let Some(path) = self.paths.iter().find(|path| is_file(path.name().as_bytes())) {
            return Err(FormatError::content("target:path", path.name().as_bytes(), "a file has the same name"));
        }
        Ok(())
    }

    /// Gives rows the defaults that stand after them.
    fn finish_defaults(&mut self) -> Result<Defaults, FormatError> {
        let file = self.file_default.finish("target:file:default")?;
        let path = self.path_default.finish("target:path:default")?;
        let (link_user, link_group) = if self.links.is_empty() {
            (path.user, path.group)
        } else {
            let missing = |key| FormatError::Missing { section: "target:link:default", key };
            let user = self.link_default.user.ok_or_else(|| missing("user"))?;
            (user, self.link_default.group.ok_or_else(|| missing("group"))?)
        };
        let owner = |owner: &mut Owner, default| {
            if *owner == Owner::DEFAULT {
                *owner = default;
            }
        };
        for row in &mut self.files {
            owner(&mut row.user, file.user);
            owner(&mut row.group, file.group);
            if row.mode == MODE_DEFAULT {
                row.mode = file.mode;
            }
        }
        for row in &mut self.paths {
            owner(&mut row.user, path.user);
            owner(&mut row.group, path.group);
            if row.mode == MODE_DEFAULT {
                row.mode = path.mode;
            }
        }
        for row in &mut self.links {
            owner(&mut row.user, link_user);
            owner(&mut row.group, link_group);
        }
        Ok(Defaults { file, path, link_user, link_group })
    }
}

/// Sorts rows by name, where they are not sorted yet; gives a name that stands twice.
pub(super) fn sort_rows<T>(rows: &mut [T], name: impl Fn(&T) -> &[u8]) -> Option<&[u8]> {
    if !rows.is_sorted_by(|one, other| name(one) < name(other)) {
        rows.sort_by(|one, other| name(one).cmp(name(other)));
    }
    rows.array_windows().find(|[one, other]| name(one) == name(other)).map(|[one, _]| name(one))
}

fn read_references(reader: &mut JsonReader<'_>) -> Result<References, ValueProblem> {
    let impossible = |reason| ValueProblem::Attribute { attribute: "backup-reference", reason };
    let text = reader.string()?;
    let labels: Result<Vec<_>, _> = text.split(|byte| *byte == b',').map(BackupLabel::parse).collect();
    References::new(labels.map_err(|_| impossible("is not a list of backup labels"))?)
        .ok_or_else(|| impossible("has a label twice"))
}

impl FoundCluster {
    fn take(&mut self, key: &[u8], reader: &mut JsonReader<'_>) -> Result<bool, ValueProblem> {
        match key {
            b"db-catalog-version" => self.catalog_version = Some(reader.u32()?),
            b"db-control-version" => self.control_version = Some(reader.u32()?),
            b"db-id" => self.history_id = Some(reader.u32()?),
            b"db-system-id" => self.system_id = Some(reader.u64()?),
            b"db-version" => self.version = Some(read_version(reader)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish(&self) -> Result<ManifestCluster, FormatError> {
        let missing = |key| FormatError::Missing { section: "backup:db", key };
        Ok(ManifestCluster {
            version: self.version.ok_or_else(|| missing("db-version"))?,
            catalog_version: self.catalog_version.ok_or_else(|| missing("db-catalog-version"))?,
            control_version: self.control_version.ok_or_else(|| missing("db-control-version"))?,
            history_id: HistoryId::new(self.history_id.ok_or_else(|| missing("db-id"))?),
            system_id: Some(self.system_id.ok_or_else(|| missing("db-system-id"))?).filter(|id| *id != 0).map(SystemId),
        })
    }
}

impl FoundDefault {
    fn take(&mut self, key: &[u8], reader: &mut JsonReader<'_>, owners: &mut OwnerNames) -> Result<bool, ValueProblem> {
        match key {
            b"group" => self.group = Some(read_owner(reader, "group", owners)?),
            b"mode" => self.mode = Some(read_mode(reader)?),
            b"user" => self.user = Some(read_owner(reader, "user", owners)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish(&self, section: &'static str) -> Result<Attributes, FormatError> {
        let missing = |key| FormatError::Missing { section, key };
        Ok(Attributes {
            user: self.user.ok_or_else(|| missing("user"))?,
            group: self.group.ok_or_else(|| missing("group"))?,
            mode: self.mode.ok_or_else(|| missing("mode"))?,
        })
    }
}

impl Default for ManifestOptions {
    /// No option is there.
    fn default() -> Self {
        Self {
            archive_check: false,
            archive_copy: false,
            backup_standby: None,
            buffer_size_bytes: None,
            checksum_page: None,
            compress_type: CompressType::None,
            compress_level: None,
            compress_level_network: None,
            delta: None,
            hardlink: false,
            online: false,
            process_max: None,
        }
    }
}

impl ManifestOptions {
    fn take(&mut self, key: &[u8], reader: &mut JsonReader<'_>) -> Result<bool, ValueProblem> {
        match key {
            b"option-archive-check" => self.archive_check = reader.bool()?,
            b"option-archive-copy" => self.archive_copy = reader.bool()?,
            b"option-backup-standby" => self.backup_standby = Some(reader.bool()?),
            b"option-buffer-size" => self.buffer_size_bytes = Some(reader.u64()?),
            b"option-checksum-page" => self.checksum_page = Some(reader.bool()?),
            // Before 2.25 this was all, and meant gz. The type stands after it and counts.
            b"option-compress" => {
                self.compress_type = if reader.bool()? { CompressType::Gz } else { CompressType::None };
            }
            b"option-compress-level" => self.compress_level = Some(reader.u32()?.cast_signed()),
            b"option-compress-level-network" => self.compress_level_network = Some(reader.u32()?.cast_signed()),
            b"option-compress-type" => {
                let name = reader.string()?;
                let found = CompressType::ALL.into_iter().find(|kind| kind.name().as_bytes() == &*name);
                let reason = "is not none, gz, bz2, lz4 or zst";
                self.compress_type =
                    found.ok_or(ValueProblem::Attribute { attribute: "option-compress-type", reason })?;
            }
            b"option-delta" => self.delta = Some(reader.bool()?),
            b"option-hardlink" => self.hardlink = reader.bool()?,
            b"option-online" => self.online = reader.bool()?,
            b"option-process-max" => self.process_max = Some(reader.u32()?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}
