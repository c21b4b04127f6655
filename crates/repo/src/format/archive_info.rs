//! archive.info: which clusters a stanza archives, and the passphrase of their WAL.
//!
//! ```text
//! [cipher]                  only in an encrypted repository
//! cipher-pass="..."         passphrase of everything else below archive/<stanza>
//!
//! [db]                      the current cluster, as in the history
//! db-id=1
//! db-system-id=7710876112923268514
//! db-version="15"
//!
//! [db:history]
//! 1={"db-id":7710876112923268514,"db-version":"15"}
//! ```

use super::archive_id::{ArchiveId, HistoryId};
use super::cipher_pass::CipherPass;
use super::db_history::{DbHistory, DbHistoryReader, HistoryFull, HistoryKind};
use super::error::FormatError;
use super::info::{Envelope, InfoReader, UnknownEntries, write_to_vec};
use super::ini::IniLimits;
use crate::postgres::{PgVersion, SystemId};

/// The content of archive.info.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveInfo {
    envelope: Envelope,
    history: DbHistory,
}

impl ArchiveInfo {
    /// The file of a new stanza. `archive_pass` is given in an encrypted repository.
    pub fn new(archive_pass: Option<CipherPass>, version: PgVersion, system_id: SystemId) -> Self {
        Self { envelope: Envelope::new(archive_pass), history: DbHistory::new(version, system_id, None) }
    }

    /// Reads the decrypted file.
    ///
    /// # Errors
    /// [`FormatError`] for anything that the original would refuse, and for an impossible history.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = InfoReader::new(IniLimits::INFO);
        let mut history = DbHistoryReader::new(HistoryKind::Archive);
        let mut unknown = UnknownEntries::default();
        reader.feed(bytes, &mut |entry| history.take(entry, &mut unknown))?;
        let mut envelope = reader.finish(&mut |entry| history.take(entry, &mut unknown))?;
        envelope.add_unknown(unknown);
        Ok(Self { envelope, history: history.finish()? })
    }

    /// The file's bytes, not encrypted. A file that was read and not changed gives the bytes that were read.
    pub fn write(&self) -> Vec<u8> {
        write_to_vec(&self.envelope, |writer| self.history.write(HistoryKind::Archive, writer))
    }

    /// Version, passphrase and what is unknown.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Passphrase of the WAL; `None` when it is not encrypted.
    pub fn archive_pass(&self) -> Option<&CipherPass> {
        self.envelope.cipher_pass()
    }

    /// The clusters.
    pub fn history(&self) -> &DbHistory {
        &self.history
    }

    /// Where WAL of the current cluster goes.
    pub fn current_archive_id(&self) -> ArchiveId {
        self.history.current().archive_id()
    }

    /// Makes another cluster the current one (stanza-upgrade).
    ///
    /// # Errors
    /// [`HistoryFull`] after 4,294,967,295 clusters.
    pub fn upgrade(&mut self, version: PgVersion, system_id: SystemId) -> Result<HistoryId, HistoryFull> {
        let id = self.history.append(version, system_id, None)?;
        self.envelope.set_version_written();
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{resealed, sample, samples};
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &str = "2.60-pg15to18-zst-bundle-upgrade/archive.info";

    #[test]
    fn in08_files_of_the_original_are_written_again_byte_for_byte() {
        for (name, bytes) in samples("archive.info") {
            let info = ArchiveInfo::parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(info.write(), bytes, "{name}");
            assert_eq!(info.archive_pass().is_some(), name.contains("aes"), "{name}");
        }
    }

    #[test]
    fn reads_the_history() {
        let info = ArchiveInfo::parse(&sample(SAMPLE)).unwrap();
        assert_eq!(info.current_archive_id().to_string(), "18-2");
        let first = info.history().generations().first().unwrap();
        assert_eq!(first.system_id, SystemId(7710875796684766404));
        let found: Vec<_> = info.history().archive_ids_of(first.version, first.system_id).collect();
        assert_eq!(found, [ArchiveId::parse("15-1").unwrap()]);
        assert_eq!(info.history().archive_ids_of(first.version, SystemId(1)).count(), 0);
    }

    #[test]
    fn an_upgrade_appends_to_the_history() {
        let mut info = ArchiveInfo::new(Some(CipherPass::new(b"pass".to_vec())), PgVersion::V15, SystemId(1));
        assert_eq!(info.upgrade(PgVersion::V18, SystemId(2)).unwrap().number(), 2);
        assert_eq!(ArchiveInfo::parse(&info.write()).unwrap(), info);
        assert_eq!(info.current_archive_id().to_string(), "18-2");
    }

    #[test]
    fn in06_impossible_content_is_refused_with_section_and_key() {
        let file = sample(SAMPLE);
        let refusal = |from: &str, to: &str| {
            let error = ArchiveInfo::parse(&resealed(&file, from, to)).unwrap_err();
            assert!(!error.is_checksum(), "{error}");
            error.to_string()
        };
        assert_eq!(
            refusal("db-id=2", "db-id=3"),
            "section 'db:history', key '3': the current id is not in the history"
        );
        assert_eq!(refusal("db-id=2\n", ""), "section 'db', key 'db-id' is missing");
        assert_eq!(refusal("\n2={", "\n1={"), "line 12, section 'db:history', key '1': the history id stands twice");
        assert_eq!(
            refusal("\n2={", "\n02={"),
            "line 12, section 'db:history', key '02': the key is not a history id from 1"
        );
        assert_eq!(
            refusal(",\"db-version\":\"18\"", ""),
            "line 12, section 'db:history', key '2': attribute 'db-version' is missing"
        );
        assert!(refusal("\"db-version\":\"18\"", "\"db-version\":\"../18\"").contains("is not a PostgreSQL version"));
        assert!(refusal("{\"db-id\":7710875809069731181", "{\"db-id\":77108758090697311810").contains("out of range"));
    }

    #[test]
    fn in07_unknown_keys_and_sections_are_written_again() {
        let mut file = sample(SAMPLE);
        for (from, to) in [
            ("\n[db]\n", "\n[above]\nx={\"a\": [1, 2]}\n\n[db]\ndb-a=1\n"),
            ("\"db-version\":\"15\"}", "\"db-version\":\"15\",\"x\":{\"y\":[]}}"),
            ("\n[backrest]\nbackrest-checksum", "\n[zzz]\nk=null\n\n[backrest]\nbackrest-checksum"),
            ("backrest-format=5\n", "backrest-flags=true\nbackrest-format=5\n"),
        ] {
            file = resealed(&file, from, to);
        }
        // Sections are ascending in a legal file, so the new one stands first.
        file = resealed(&file, "\n[above]\nx={\"a\": [1, 2]}\n", "");
        file =
            resealed(&file, "[backrest]\nbackrest-flags", "[above]\nx={\"a\": [1, 2]}\n\n[backrest]\nbackrest-flags");
        let mut info = ArchiveInfo::parse(&file).unwrap();
        assert_eq!(info.write(), file);
        info.upgrade(PgVersion::V18, SystemId(5)).unwrap();
        let text = String::from_utf8(info.write()).unwrap();
        for kept in [
            "[above]\nx={\"a\": [1, 2]}\n",
            "\ndb-a=1\n",
            ",\"x\":{\"y\":[]}}\n",
            "[zzz]\nk=null\n",
            "backrest-flags=true\n",
        ] {
            assert!(text.contains(kept), "{kept} is lost in {text}");
        }
    }

    #[test]
    fn truncation_at_every_length_is_an_error() {
        let file = sample("2.60-pg18-zst-aes-bundle-block/archive.info");
        for length in 0..file.len() - 1 {
            assert!(ArchiveInfo::parse(file.get(..length).unwrap()).is_err(), "{length} bytes were accepted");
        }
    }

    proptest! {
        #[test]
        fn a_damaged_file_never_panics(at in 0_usize..300, byte in any::<u8>()) {
            let mut file = sample(SAMPLE);
            let before = file.clone();
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
            if ArchiveInfo::parse(&file).is_ok() {
                // Only a change that the checksum does not cover may pass, and then the content is the same.
                prop_assert_eq!(ArchiveInfo::parse(&file).unwrap(), ArchiveInfo::parse(&before).unwrap());
            }
        }
    }
}
