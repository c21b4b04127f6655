//! One backup in backup.info: what `info`, `expire` and the choice of a prior backup need without its manifest.

use super::annotation::Annotations;
use super::archive_id::HistoryId;
use super::error::{FormatError, ValueProblem};
use super::ini::IniEntry;
use super::json::{JsonReader, ObjectWriter, UnknownAttributes, write_string};
use super::label::{BackupLabel, BackupType};
use super::stored_lsn::StoredLsn;
use super::text::RawText;
use crate::postgres::WalSegmentName;

/// Sums over the files of a backup, in bytes. "Delta" counts only the files that this backup stores itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackupSizes {
    /// Plain size of all files.
    pub size_bytes: u64,
    /// Plain size of the files that are stored in this backup.
    pub size_delta_bytes: u64,
    /// Stored size of all files, wherever they are stored.
    pub size_repo_bytes: u64,
    /// Stored size of the files that are stored in this backup.
    pub size_repo_delta_bytes: u64,
    /// Stored size of the block maps, in a block incremental backup.
    pub map: Option<MapSizes>,
}

/// Stored sizes of block maps, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MapSizes {
    /// Of all files.
    pub size_repo_bytes: u64,
    /// Of the files that are stored in this backup.
    pub size_repo_delta_bytes: u64,
}

/// The options of a backup that backup.info repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EntryOptions {
    /// The WAL was checked to be archived.
    pub archive_check: bool,
    /// The WAL was copied into the backup.
    pub archive_copy: bool,
    /// Files were read from a standby.
    pub backup_standby: bool,
    /// Page checksums were checked.
    pub checksum_page: bool,
    /// Files are compressed.
    pub compress: bool,
    /// Files that another backup stores are hard links in this one.
    pub hardlink: bool,
    /// The cluster was running.
    pub online: bool,
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupEntry {
    /// Its name.
    pub label: BackupLabel,
    /// Repository format of the version that made it.
    pub format: u64,
    /// Version of pgBackRest that made it.
    pub version: RawText,
    /// What people noted about it.
    pub annotations: Annotations,
    /// First WAL segment that it needs; `None` for an offline backup.
    pub archive_start: Option<WalSegmentName>,
    /// Last WAL segment that it needs; `None` for an offline backup.
    pub archive_stop: Option<WalSegmentName>,
    /// Whether a file has page checksum errors; `None` when the version that made it did not say.
    pub error: Option<bool>,
    /// Sums over its files.
    pub sizes: BackupSizes,
    /// Where it started in the WAL; `None` for an offline backup or an old version.
    pub lsn_start: Option<StoredLsn>,
    /// Where it ended in the WAL.
    pub lsn_stop: Option<StoredLsn>,
    /// The backup that it is based on; `None` exactly for a full backup.
    pub prior: Option<BackupLabel>,
    /// The backups that may store files of this one, in ascending order, without this one; `None` exactly when the file
    /// has no list, which is so for full backups.
    pub references: Option<Vec<BackupLabel>>,
    /// When it started, seconds since the Unix epoch, not negative.
    pub timestamp_start_s: i64,
    /// When it ended, seconds since the Unix epoch, not negative.
    pub timestamp_stop_s: i64,
    /// The cluster that it is of.
    pub history_id: HistoryId,
    /// How it was made.
    pub options: EntryOptions,
    /// Attributes that this code does not know.
    pub unknown: UnknownAttributes,
}

impl BackupEntry {
    /// Full, differential or incremental: told by the label.
    pub fn backup_type(&self) -> BackupType {
        self.label.backup_type()
    }

    /// Whether this backup cannot be restored without the other.
    pub fn depends_on(&self, other: &BackupLabel) -> bool {
        self.prior == Some(*other) || self.references.as_ref().is_some_and(|labels| labels.contains(other))
    }

    /// Reads a line of `[backup:current]`.
    pub(crate) fn read(entry: &IniEntry<'_>) -> Result<Self, FormatError> {
        let label = BackupLabel::parse(entry.key)
            .map_err(|_| entry.error(ValueProblem::Refused("the key is not a backup label")))?;
        let found = Attributes::read(entry.value).map_err(|problem| entry.error(problem))?;
        found.into_entry(label).map_err(|problem| entry.error(problem))
    }

    /// Appends the value of a line of `[backup:current]`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::new(out, Some(&self.unknown));
        object.u64("backrest-format", self.format);
        object.string("backrest-version", self.version.as_bytes());
        if !self.annotations.is_empty() {
            self.annotations.write(object.key("backup-annotation"));
        }
        for (key, segment) in [("backup-archive-start", self.archive_start), ("backup-archive-stop", self.archive_stop)]
        {
            match segment {
                Some(segment) => object.string(key, segment.to_string().as_bytes()),
                None => object.key(key).extend_from_slice(b"null"),
            }
        }
        if let Some(error) = self.error {
            object.bool("backup-error", error);
        }
        object.u64("backup-info-repo-size", self.sizes.size_repo_bytes);
        object.u64("backup-info-repo-size-delta", self.sizes.size_repo_delta_bytes);
        if let Some(map) = self.sizes.map {
            object.u64("backup-info-repo-size-map", map.size_repo_bytes);
            object.u64("backup-info-repo-size-map-delta", map.size_repo_delta_bytes);
        }
        object.u64("backup-info-size", self.sizes.size_bytes);
        object.u64("backup-info-size-delta", self.sizes.size_delta_bytes);
        for (key, lsn) in [("backup-lsn-start", &self.lsn_start), ("backup-lsn-stop", &self.lsn_stop)] {
            if let Some(lsn) = lsn {
                object.string(key, lsn.as_str().as_bytes());
            }
        }
        if let Some(prior) = self.prior {
            object.string("backup-prior", prior.as_bytes());
        }
        if let Some(references) = &self.references {
            write_labels(object.key("backup-reference"), references);
        }
        object.i64("backup-timestamp-start", self.timestamp_start_s);
        object.i64("backup-timestamp-stop", self.timestamp_stop_s);
        object.string("backup-type", self.backup_type().name().as_bytes());
        object.u64("db-id", self.history_id.number().into());
        object.bool("option-archive-check", self.options.archive_check);
        object.bool("option-archive-copy", self.options.archive_copy);
        object.bool("option-backup-standby", self.options.backup_standby);
        object.bool("option-checksum-page", self.options.checksum_page);
        object.bool("option-compress", self.options.compress);
        object.bool("option-hardlink", self.options.hardlink);
        object.bool("option-online", self.options.online);
        object.end();
    }
}

fn write_labels(out: &mut Vec<u8>, labels: &[BackupLabel]) {
    out.push(b'[');
    for (at, label) in labels.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(out, label.as_bytes());
    }
    out.push(b']');
}

/// The attributes of a line as they are found, before it is known whether all are there.
#[derive(Default)]
struct Attributes {
    format: Option<u64>,
    version: Option<RawText>,
    annotations: Annotations,
    archive_start: Option<WalSegmentName>,
    archive_stop: Option<WalSegmentName>,
    error: Option<bool>,
    size: Option<u64>,
    size_delta: Option<u64>,
    size_repo: Option<u64>,
    size_repo_delta: Option<u64>,
    size_map: Option<u64>,
    size_map_delta: Option<u64>,
    lsn_start: Option<StoredLsn>,
    lsn_stop: Option<StoredLsn>,
    prior: Option<BackupLabel>,
    references: Option<Vec<BackupLabel>>,
    timestamp_start: Option<i64>,
    timestamp_stop: Option<i64>,
    backup_type: Option<BackupType>,
    history_id: Option<HistoryId>,
    archive_check: Option<bool>,
    archive_copy: Option<bool>,
    backup_standby: Option<bool>,
    checksum_page: Option<bool>,
    compress: Option<bool>,
    hardlink: Option<bool>,
    online: Option<bool>,
    unknown: UnknownAttributes,
}

impl Attributes {
    fn read(value: &[u8]) -> Result<Self, ValueProblem> {
        let mut found = Self::default();
        let mut reader = JsonReader::new(value);
        let mut object = reader.object()?;
        while let Some(key) = object.next_key(&mut reader)? {
            let reader = &mut reader;
            match key {
                b"backrest-format" => found.format = Some(reader.u64()?),
                b"backrest-version" => found.version = Some(RawText::from(reader.string()?.into_owned())),
                b"backup-annotation" => found.annotations = Annotations::read(reader)?,
                b"backup-archive-start" => found.archive_start = read_segment(reader, "backup-archive-start")?,
                b"backup-archive-stop" => found.archive_stop = read_segment(reader, "backup-archive-stop")?,
                b"backup-error" => found.error = Some(reader.bool()?),
                b"backup-info-repo-size" => found.size_repo = Some(reader.u64()?),
                b"backup-info-repo-size-delta" => found.size_repo_delta = Some(reader.u64()?),
                b"backup-info-repo-size-map" => found.size_map = Some(reader.u64()?),
                b"backup-info-repo-size-map-delta" => found.size_map_delta = Some(reader.u64()?),
                b"backup-info-size" => found.size = Some(reader.u64()?),
                b"backup-info-size-delta" => found.size_delta = Some(reader.u64()?),
                b"backup-lsn-start" => found.lsn_start = read_lsn(reader, "backup-lsn-start")?,
                b"backup-lsn-stop" => found.lsn_stop = read_lsn(reader, "backup-lsn-stop")?,
                b"backup-prior" => found.prior = Some(read_label(reader, "backup-prior")?),
                b"backup-reference" => found.references = Some(read_labels(reader)?),
                b"backup-timestamp-start" => found.timestamp_start = Some(read_time(reader, "backup-timestamp-start")?),
                b"backup-timestamp-stop" => found.timestamp_stop = Some(read_time(reader, "backup-timestamp-stop")?),
                b"backup-type" => found.backup_type = Some(read_type(reader)?),
                b"db-id" => {
                    let id = HistoryId::new(reader.u32()?);
                    found.history_id =
                        Some(id.ok_or(ValueProblem::Attribute { attribute: "db-id", reason: "is zero" })?);
                }
                b"option-archive-check" => found.archive_check = Some(reader.bool()?),
                b"option-archive-copy" => found.archive_copy = Some(reader.bool()?),
                b"option-backup-standby" => found.backup_standby = Some(reader.bool()?),
                b"option-checksum-page" => found.checksum_page = Some(reader.bool()?),
                b"option-compress" => found.compress = Some(reader.bool()?),
                b"option-hardlink" => found.hardlink = Some(reader.bool()?),
                b"option-online" => found.online = Some(reader.bool()?),
                _ => found.unknown.push(key, reader.raw()?),
            }
        }
        reader.end()?;
        Ok(found)
    }

    fn into_entry(self, label: BackupLabel) -> Result<BackupEntry, ValueProblem> {
        fn required<T>(value: Option<T>, attribute: &'static str) -> Result<T, ValueProblem> {
            value.ok_or(ValueProblem::Missing(attribute))
        }
        let impossible = |attribute, reason| Err(ValueProblem::Attribute { attribute, reason });
        if required(self.backup_type, "backup-type")? != label.backup_type() {
            return impossible("backup-type", "is not the type that the label tells");
        }
        match self.prior {
            None if label.backup_type() != BackupType::Full => return Err(ValueProblem::Missing("backup-prior")),
            Some(_) if label.backup_type() == BackupType::Full => {
                return impossible("backup-prior", "is there for a full backup");
            }
            Some(prior) if !prior.same_set(&label) || prior >= label => {
                return impossible("backup-prior", "is not an earlier backup of the same set");
            }
            _ => {}
        }
        let map = match (self.size_map, self.size_map_delta) {
            (None, None) => None,
            (Some(size_repo_bytes), Some(size_repo_delta_bytes)) => {
                Some(MapSizes { size_repo_bytes, size_repo_delta_bytes })
            }
            (Some(_), None) => return Err(ValueProblem::Missing("backup-info-repo-size-map-delta")),
            (None, Some(_)) => return Err(ValueProblem::Missing("backup-info-repo-size-map")),
        };
        Ok(BackupEntry {
            label,
            format: required(self.format, "backrest-format")?,
            version: required(self.version, "backrest-version")?,
            annotations: self.annotations,
            archive_start: self.archive_start,
            archive_stop: self.archive_stop,
            error: self.error,
            sizes: BackupSizes {
                size_bytes: required(self.size, "backup-info-size")?,
                size_delta_bytes: required(self.size_delta, "backup-info-size-delta")?,
                size_repo_bytes: required(self.size_repo, "backup-info-repo-size")?,
                size_repo_delta_bytes: required(self.size_repo_delta, "backup-info-repo-size-delta")?,
                map,
            },
            lsn_start: self.lsn_start,
            lsn_stop: self.lsn_stop,
            prior: self.prior,
            references: self.references,
            timestamp_start_s: required(self.timestamp_start, "backup-timestamp-start")?,
            timestamp_stop_s: required(self.timestamp_stop, "backup-timestamp-stop")?,
            history_id: required(self.history_id, "db-id")?,
            options: EntryOptions {
                archive_check: required(self.archive_check, "option-archive-check")?,
                archive_copy: required(self.archive_copy, "option-archive-copy")?,
                backup_standby: required(self.backup_standby, "option-backup-standby")?,
                checksum_page: required(self.checksum_page, "option-checksum-page")?,
                compress: required(self.compress, "option-compress")?,
                hardlink: required(self.hardlink, "option-hardlink")?,
                online: required(self.online, "option-online")?,
            },
            unknown: self.unknown,
        })
    }
}

/// Reads a WAL segment name or `null`.
pub(crate) fn read_segment(
    reader: &mut JsonReader<'_>,
    attribute: &'static str,
) -> Result<Option<WalSegmentName>, ValueProblem> {
    let Some(text) = reader.string_or_null()? else { return Ok(None) };
    let segment = std::str::from_utf8(&text).ok().and_then(|text| WalSegmentName::parse(text).ok());
    segment.map(Some).ok_or(ValueProblem::Attribute { attribute, reason: "is not the name of a WAL segment" })
}

/// Reads an LSN or `null`.
pub(crate) fn read_lsn(
    reader: &mut JsonReader<'_>,
    attribute: &'static str,
) -> Result<Option<StoredLsn>, ValueProblem> {
    let Some(text) = reader.string_or_null()? else { return Ok(None) };
    StoredLsn::parse(&text).map(Some).ok_or(ValueProblem::Attribute { attribute, reason: "is not an LSN" })
}

/// Reads a backup label.
pub(crate) fn read_label(reader: &mut JsonReader<'_>, attribute: &'static str) -> Result<BackupLabel, ValueProblem> {
    let text = reader.string()?;
    BackupLabel::parse(&text).map_err(|_| ValueProblem::Attribute { attribute, reason: "is not a backup label" })
}

/// Reads a time that is not negative.
pub(crate) fn read_time(reader: &mut JsonReader<'_>, attribute: &'static str) -> Result<i64, ValueProblem> {
    let time = reader.i64()?;
    if time < 0 {
        return Err(ValueProblem::Attribute { attribute, reason: "is before 1970" });
    }
    Ok(time)
}

/// Reads a backup type.
pub(crate) fn read_type(reader: &mut JsonReader<'_>) -> Result<BackupType, ValueProblem> {
    let name = reader.string()?;
    BackupType::from_name(&name)
        .ok_or(ValueProblem::Attribute { attribute: "backup-type", reason: "is not full, diff or incr" })
}

fn read_labels(reader: &mut JsonReader<'_>) -> Result<Vec<BackupLabel>, ValueProblem> {
    let mut labels = Vec::new();
    let mut array = reader.array()?;
    while array.next_element(reader)? {
        labels.push(read_label(reader, "backup-reference")?);
    }
    Ok(labels)
}
