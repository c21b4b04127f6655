//! backup.info: the backups of a stanza, its clusters, and the passphrase of the manifests.
//!
//! ```text
//! [backup:current]          absent while there is no backup
//! 20261122-061730F={...}    one line a complete backup, see BackupEntry
//!
//! [cipher]                  only in an encrypted repository
//! cipher-pass="..."         passphrase of the manifests
//!
//! [db]                      the current cluster, as in the history
//! db-catalog-version=202209061
//! db-control-version=1300
//! db-id=1
//! db-system-id=7710876112923268514
//! db-version="15"
//!
//! [db:history]
//! 1={"db-catalog-version":202209061,"db-control-version":1300,"db-system-id":7710876112923268514,"db-version":"15"}
//! ```

use super::annotation::{AnnotationError, Annotations};
use super::archive_id::HistoryId;
use super::backup_entry::BackupEntry;
use super::cipher_pass::CipherPass;
use super::db_history::{CatalogNumbers, DbHistory, DbHistoryReader, HistoryFull, HistoryKind};
use super::error::{FormatError, ValueProblem};
use super::info::{Envelope, InfoReader, UnknownEntries, write_to_vec};
use super::ini::{IniEntry, IniLimits};
use super::label::BackupLabel;
use crate::postgres::{PgVersion, SystemId};

const SECTION_BACKUP: &[u8] = b"backup:current";
const SECTION_BACKUP_NAME: &str = "backup:current";

/// The content of backup.info.
///
/// Always consistent: each backup's prior and references are there too, and its cluster is in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupInfo {
    envelope: Envelope,
    history: DbHistory,
    /// In ascending order of the labels.
    backups: Vec<BackupEntry>,
}

/// A change of backup.info would make it inconsistent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupInfoError {
    /// A backup of this name is there.
    #[error("backup {0} is already in backup.info")]
    Exists(BackupLabel),
    /// No backup of this name is there.
    #[error("backup {0} is not in backup.info")]
    Unknown(BackupLabel),
    /// The backup needs another one that is not there.
    #[error("backup {label} needs backup {needed}, which is not in backup.info")]
    Needs {
        /// The backup.
        label: BackupLabel,
        /// What it needs.
        needed: BackupLabel,
    },
    /// The backup is of a cluster that is not in the history.
    #[error("backup {label} is of database {history_id}, which is not in the history of backup.info")]
    UnknownHistory {
        /// The backup.
        label: BackupLabel,
        /// Its history id.
        history_id: HistoryId,
    },
    /// Another backup cannot be restored without this one.
    #[error("backup {label} is needed by backup {dependent}")]
    Needed {
        /// The backup.
        label: BackupLabel,
        /// One that needs it.
        dependent: BackupLabel,
    },
    /// An annotation cannot be set.
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
}

impl BackupInfo {
    /// The file of a new stanza. `manifest_pass` is given in an encrypted repository.
    pub fn new(
        manifest_pass: Option<CipherPass>,
        version: PgVersion,
        system_id: SystemId,
        catalog: CatalogNumbers,
    ) -> Self {
        Self {
            envelope: Envelope::new(manifest_pass),
            history: DbHistory::new(version, system_id, Some(catalog)),
            backups: Vec::new(),
        }
    }

    /// Reads the decrypted file.
    ///
    /// # Errors
    /// [`FormatError`] for anything that the original would refuse, and for content that cannot be: a backup of an
    /// unknown cluster, or one that needs a backup that is not there.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = InfoReader::new(IniLimits::INFO);
        let mut found = Found {
            history: DbHistoryReader::new(HistoryKind::Backup),
            backups: Vec::new(),
            unknown: UnknownEntries::default(),
        };
        reader.feed(bytes, &mut |entry| found.take(entry))?;
        let mut envelope = reader.finish(&mut |entry| found.take(entry))?;
        envelope.add_unknown(found.unknown);
        let mut info = Self { envelope, history: found.history.finish()?, backups: found.backups };
        info.backups.sort_by_key(|backup| backup.label);
        info.check()?;
        Ok(info)
    }

    /// The file's bytes, not encrypted. A file that was read and not changed gives the bytes that were read.
    pub fn write(&self) -> Vec<u8> {
        write_to_vec(&self.envelope, |writer| {
            for backup in &self.backups {
                writer.entry(SECTION_BACKUP, backup.label.as_bytes(), |out| backup.write(out))?;
            }
            self.history.write(HistoryKind::Backup, writer)
        })
    }

    /// Version, passphrase and what is unknown.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Passphrase of the manifests; `None` when they are not encrypted.
    pub fn manifest_pass(&self) -> Option<&CipherPass> {
        self.envelope.cipher_pass()
    }

    /// The clusters.
    pub fn history(&self) -> &DbHistory {
        &self.history
    }

    /// All backups in ascending order of their labels: a full backup, then its dependents by time.
    pub fn backups(&self) -> &[BackupEntry] {
        &self.backups
    }

    /// The backup of this name.
    pub fn backup(&self, label: &BackupLabel) -> Option<&BackupEntry> {
        let at = self.position(label).ok()?;
        self.backups.get(at)
    }

    /// The backups that cannot be restored without this one, newest first: the order in which they may be removed.
    pub fn dependents(&self, label: &BackupLabel) -> Vec<BackupLabel> {
        let mut needed = vec![*label];
        // Ascending order puts every backup after what it needs.
        for backup in &self.backups {
            if needed.iter().any(|label| backup.depends_on(label)) {
                needed.push(backup.label);
            }
        }
        needed.split_off(1).into_iter().rev().collect()
    }

    /// Adds a finished backup.
    ///
    /// # Errors
    /// [`BackupInfoError`] when it is there already, or needs what is not there.
    pub fn add(&mut self, backup: BackupEntry) -> Result<(), BackupInfoError> {
        let Err(at) = self.position(&backup.label) else { return Err(BackupInfoError::Exists(backup.label)) };
        if let Some(needed) = self.first_missing(&backup) {
            return Err(BackupInfoError::Needs { label: backup.label, needed });
        }
        if self.history.generation(backup.history_id).is_none() {
            return Err(BackupInfoError::UnknownHistory { label: backup.label, history_id: backup.history_id });
        }
        self.backups.insert(at, backup);
        self.envelope.set_version_written();
        Ok(())
    }

    /// Removes a backup, and gives it back.
    ///
    /// # Errors
    /// [`BackupInfoError`] when it is not there, or another backup still needs it: dependents go first, see
    /// [`BackupInfo::dependents`].
    pub fn remove(&mut self, label: &BackupLabel) -> Result<BackupEntry, BackupInfoError> {
        let at = self.position(label).map_err(|_| BackupInfoError::Unknown(*label))?;
        if let Some(dependent) = self.backups.iter().find(|backup| backup.depends_on(label)) {
            return Err(BackupInfoError::Needed { label: *label, dependent: dependent.label });
        }
        self.envelope.set_version_written();
        Ok(self.backups.remove(at))
    }

    /// Sets annotations of a backup, all or none; an empty value removes its key.
    ///
    /// # Errors
    /// [`BackupInfoError`] when the backup is not there or an annotation cannot be stored.
    pub fn annotate<'a>(
        &mut self,
        label: &BackupLabel,
        changes: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), BackupInfoError> {
        let backup = self.position(label).ok().and_then(|at| self.backups.get_mut(at));
        let backup = backup.ok_or(BackupInfoError::Unknown(*label))?;
        let mut annotations: Annotations = backup.annotations.clone();
        for (key, value) in changes {
            annotations.set(key, value)?;
        }
        backup.annotations = annotations;
        self.envelope.set_version_written();
        Ok(())
    }

    /// Makes another cluster the current one (stanza-upgrade).
    ///
    /// # Errors
    /// [`HistoryFull`] after 4,294,967,295 clusters.
    pub fn upgrade(
        &mut self,
        version: PgVersion,
        system_id: SystemId,
        catalog: CatalogNumbers,
    ) -> Result<HistoryId, HistoryFull> {
        let id = self.history.append(version, system_id, Some(catalog))?;
        self.envelope.set_version_written();
        Ok(id)
    }

    fn position(&self, label: &BackupLabel) -> Result<usize, usize> {
        self.backups.binary_search_by(|backup| backup.label.cmp(label))
    }

    /// The first backup that `backup` needs and that is not there.
    fn first_missing(&self, backup: &BackupEntry) -> Option<BackupLabel> {
        let references = backup.references.as_deref().unwrap_or_default();
        references.iter().chain(&backup.prior).find(|label| self.position(label).is_err()).copied()
    }

    fn check(&self) -> Result<(), FormatError> {
        let refused = |backup: &BackupEntry, attribute, reason| {
            let key = backup.label.as_str().into();
            let problem = ValueProblem::Attribute { attribute, reason };
            Err(FormatError::Content { section: SECTION_BACKUP_NAME, key, problem })
        };
        let mut previous: Option<&BackupEntry> = None;
        for backup in &self.backups {
            if previous.is_some_and(|previous| previous.label == backup.label) {
                let reason = "the backup stands twice";
                return Err(FormatError::content(SECTION_BACKUP_NAME, backup.label.as_bytes(), reason));
            }
            previous = Some(backup);
            if self.history.generation(backup.history_id).is_none() {
                return refused(backup, "db-id", "is not in the history");
            }
            if let Some(missing) = self.first_missing(backup) {
                let attribute = if backup.prior == Some(missing) { "backup-prior" } else { "backup-reference" };
                return refused(backup, attribute, "names a backup that is not there");
            }
        }
        Ok(())
    }
}

/// What has been read of a file.
struct Found {
    history: DbHistoryReader,
    backups: Vec<BackupEntry>,
    unknown: UnknownEntries,
}

impl Found {
    fn take(&mut self, entry: &IniEntry<'_>) -> Result<(), FormatError> {
        if entry.section == SECTION_BACKUP {
            self.backups.push(BackupEntry::read(entry)?);
            return Ok(());
        }
        self.history.take(entry, &mut self.unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{resealed, sample, samples};
    use super::*;
    use crate::format::label::BackupType;

    const SAMPLE: &str = "2.60-pg18-zst-aes-bundle-block/backup.info";
    const FULL: &str = "20261122-061817F";
    const DIFF: &str = "20261122-061817F_20261122-061818D";
    const INCR: &str = "20261122-061817F_20261122-061819I";

    fn label(text: &str) -> BackupLabel {
        BackupLabel::parse(text).unwrap()
    }

    #[test]
    fn in08_files_of_the_original_are_written_again_byte_for_byte() {
        for (name, bytes) in samples("backup.info") {
            let info = BackupInfo::parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(String::from_utf8(info.write()).unwrap(), String::from_utf8(bytes).unwrap(), "{name}");
            assert_eq!(info.backups().len(), 3, "{name}");
        }
    }

    #[test]
    fn in08_an_offline_entry_of_the_original_is_written_again() {
        // repository-format.md B.9.
        let line = "20261122-060702F={\"backrest-format\":5,\"backrest-version\":\"2.60.0dev\",\"backup-archive-start\":null,\
            \"backup-archive-stop\":null,\"backup-error\":false,\"backup-info-repo-size\":6862288,\
            \"backup-info-repo-size-delta\":6862288,\"backup-info-size\":40040805,\"backup-info-size-delta\":40040805,\
            \"backup-timestamp-start\":1795327622,\"backup-timestamp-stop\":1795327622,\"backup-type\":\"full\",\"db-id\":2,\
            \"option-archive-check\":false,\"option-archive-copy\":false,\"option-backup-standby\":false,\
            \"option-checksum-page\":false,\"option-compress\":true,\"option-hardlink\":false,\"option-online\":false}";
        let (key, value) = line.split_once('=').unwrap();
        let entry = IniEntry {
            line: 1,
            section: SECTION_BACKUP,
            key: key.as_bytes(),
            value: value.as_bytes(),
            ascending: true,
        };
        let backup = BackupEntry::read(&entry).unwrap();
        assert_eq!((backup.archive_start, backup.options.online, backup.error), (None, false, Some(false)));
        let mut out = Vec::new();
        backup.write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), value);
    }

    #[test]
    fn in08_an_lsn_keeps_its_leading_zeros() {
        let file = resealed(&sample(SAMPLE), "\"backup-lsn-start\":\"0/", "\"backup-lsn-start\":\"0/0");
        let info = BackupInfo::parse(&file).unwrap();
        assert_eq!(info.write(), file);
    }

    #[test]
    fn reads_a_backup() {
        let info = BackupInfo::parse(&sample(SAMPLE)).unwrap();
        let backup = info.backup(&label(INCR)).unwrap();
        assert_eq!(backup.backup_type(), BackupType::Incremental);
        assert_eq!(backup.references.as_deref().unwrap(), [label(FULL), label(DIFF)]);
        assert!(backup.sizes.map.is_some() && backup.options.compress && backup.depends_on(&label(FULL)));
        assert_eq!(info.dependents(&label(FULL)), [label(INCR), label(DIFF)]);
        assert_eq!(info.dependents(&label(INCR)), []);
    }

    #[test]
    fn backups_are_removed_dependents_first() {
        let mut info = BackupInfo::parse(&sample(SAMPLE)).unwrap();
        let whole = info.clone();
        assert!(matches!(info.remove(&label(FULL)), Err(BackupInfoError::Needed { .. })));
        let incr = info.remove(&label(INCR)).unwrap();
        assert_eq!(info.remove(&label(INCR)), Err(BackupInfoError::Unknown(label(INCR))));
        let diff = info.remove(&label(DIFF)).unwrap();
        assert!(matches!(info.add(incr.clone()), Err(BackupInfoError::Needs { .. })));
        info.add(diff.clone()).unwrap();
        info.add(incr).unwrap();
        assert_eq!(info.add(diff), Err(BackupInfoError::Exists(label(DIFF))));
        assert_eq!(info.backups(), whole.backups());
        assert_eq!(info.envelope().version(), &crate::format::info::BACKREST_VERSION);
    }

    #[test]
    fn a_stanza_without_backups_has_no_section_for_them() {
        let catalog = CatalogNumbers { catalog_version: 202209061, control_version: 1300 };
        let mut info = BackupInfo::new(None, PgVersion::V15, SystemId(7), catalog);
        let text = String::from_utf8(info.write()).unwrap();
        assert!(text.starts_with(
            "[backrest]\nbackrest-format=5\nbackrest-version=\"2.60.0\"\n\n[db]\ndb-catalog-version=202209061\n"
        ));
        assert_eq!(info.upgrade(PgVersion::V18, SystemId(8), catalog).unwrap().number(), 2);
        assert_eq!(BackupInfo::parse(&info.write()).unwrap(), info);
    }

    #[test]
    fn annotations_change_one_backup_and_keep_the_rest() {
        let mut info = BackupInfo::parse(&sample(SAMPLE)).unwrap();
        info.annotate(&label(DIFF), [("note", "before \"upgrade\""), ("gone", "")]).unwrap();
        let again = BackupInfo::parse(&info.write()).unwrap();
        assert_eq!(again, info);
        assert_eq!(again.backup(&label(DIFF)).unwrap().annotations.value("note").unwrap(), "before \"upgrade\"");
        assert!(info.annotate(&label(DIFF), [("ok", "1"), ("bad\n", "2")]).is_err());
        assert_eq!(again, info, "a refused change leaves nothing behind");
        info.annotate(&label(DIFF), [("note", "")]).unwrap();
        assert!(info.backup(&label(DIFF)).unwrap().annotations.is_empty());
    }

    #[test]
    fn in06_impossible_content_is_refused_with_section_and_key() {
        let file = sample(SAMPLE);
        for (from, to, expected) in [
            ("\n20261122-061817F={", "\nlatest={", "key 'latest': the key is not a backup label"),
            (
                "\"backup-prior\":\"20261122-061817F\"",
                "\"backup-prior\":\"20261122-061816F\"",
                "attribute 'backup-prior' is not an earlier backup",
            ),
            (
                "\"backup-reference\":[\"20261122-061817F\"]",
                "\"backup-reference\":[\"20261122-061816F\"]",
                "attribute 'backup-reference' names a backup that is not there",
            ),
            (
                "\"backup-reference\":[\"20261122-061817F\"]",
                "\"backup-reference\":[\"../x\"]",
                "attribute 'backup-reference' is not a backup label",
            ),
            ("\"backup-type\":\"diff\"", "\"backup-type\":\"incr\"", "attribute 'backup-type' is not the type"),
            ("\"backup-type\":\"diff\"", "\"backup-type\":\"x\"", "attribute 'backup-type' is not full, diff or incr"),
            ("\"backup-prior\":\"20261122-061817F\",", "", "attribute 'backup-prior' is missing"),
            ("\"db-id\":1,", "\"db-id\":2,", "attribute 'db-id' is not in the history"),
            ("\"db-id\":1,", "\"db-id\":0,", "attribute 'db-id' is zero"),
            (
                "\"backup-timestamp-stop\":1",
                "\"backup-timestamp-stop\":-1",
                "attribute 'backup-timestamp-stop' is before 1970",
            ),
            (
                "\"backup-archive-stop\":\"0",
                "\"backup-archive-stop\":\"x",
                "attribute 'backup-archive-stop' is not the name of a WAL segment",
            ),
            ("\"option-online\":true", "\"option-online\":1", "expected true or false"),
            ("\"option-online\":true", "\"option-online\":true,\"option-online\":true", "not in ascending order"),
            (
                "\n20261122-061817F_20261122-061818D={",
                "\n20261122-061817F={",
                "attribute 'backup-type' is not the type",
            ),
        ] {
            let error = BackupInfo::parse(&resealed(&file, from, to)).unwrap_err();
            assert!(!error.is_checksum() && error.to_string().contains(expected), "{to} gave: {error}");
            assert!(error.to_string().contains("section 'backup:current', key '"), "{error}");
        }
    }

    #[test]
    fn in07_unknown_attributes_survive_a_change() {
        let file = resealed(
            &sample(SAMPLE),
            "\"backup-type\":\"diff\",",
            "\"backup-tx\":{\"a\": [1]},\"backup-type\":\"diff\",",
        );
        let mut info = BackupInfo::parse(&file).unwrap();
        assert_eq!(info.write(), file);
        info.annotate(&label(DIFF), [("a", "b")]).unwrap();
        assert!(String::from_utf8(info.write()).unwrap().contains("\"backup-tx\":{\"a\": [1]},\"backup-type\""));
    }

    #[test]
    fn truncation_is_an_error_at_every_length() {
        let file = sample(SAMPLE);
        for length in 0..file.len() - 1 {
            assert!(BackupInfo::parse(file.get(..length).unwrap()).is_err(), "{length} bytes were accepted");
        }
    }
}
