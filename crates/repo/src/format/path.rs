//! Every path in a repository is composed and taken apart here, and nowhere else.
//!
//! ```text
//! archive/<stanza>/archive.info, archive.info.copy
//! archive/<stanza>/<archive id>/<timeline>.history
//! archive/<stanza>/<archive id>/<first 16 digits>/<segment>[.partial]-<sha-1>[.<ext>]
//! archive/<stanza>/<archive id>/<first 16 digits>/<segment>.<offset>.backup
//! backup/<stanza>/backup.info, backup.info.copy
//! backup/<stanza>/<label>/backup.manifest, backup.manifest.copy
//! backup/<stanza>/<label>/<name in manifest>[.<ext>]
//! backup/<stanza>/<label>/<name in manifest>.pgbi
//! backup/<stanza>/<label>/bundle/<number>
//! backup/<stanza>/backup.history/<year>/<label>.manifest.gz
//! backup/<stanza>/latest
//! ```
//!
//! The parts are types that cannot hold a slash or a relative name, so no input makes a path outside of its stanza.

use std::num::NonZeroU64;

use super::archive_id::ArchiveId;
use super::checksum::Checksum;
use super::compress_type::CompressType;
use super::label::BackupLabel;
use super::manifest_name::ManifestName;
use super::stanza::Stanza;
use crate::postgres::{Timeline, WalFileName, WalSegmentName};
use crate::storage::{PathError, StoragePath};

const ARCHIVE: &str = "archive";
const BACKUP: &str = "backup";
const ARCHIVE_INFO: &str = "archive.info";
const BACKUP_INFO: &str = "backup.info";
const COPY: &str = ".copy";
const HISTORY_MANIFEST: &str = ".manifest.gz";

/// The name of a manifest in the directory of its backup.
pub const MANIFEST: &str = "backup.manifest";
/// The directory of the manifest history below `backup/<stanza>`.
pub const HISTORY_DIRECTORY: &str = "backup.history";
/// The directory of the bundles in a backup.
pub const BUNDLE_DIRECTORY: &str = "bundle";
/// The link to the newest backup below `backup/<stanza>`.
pub const LATEST: &str = "latest";
/// What the name of a block incremental file ends with, instead of a compression extension.
pub const BLOCK_INCR_EXTENSION: &str = ".pgbi";

/// The number of a bundle within its backup, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleId(NonZeroU64);

impl BundleId {
    /// The bundle with this number; `None` for zero.
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// The number.
    pub fn number(self) -> u64 {
        self.0.get()
    }
}

/// `archive`: the directories of all stanzas with WAL.
pub fn archive_root() -> StoragePath {
    composed(ARCHIVE)
}

/// `backup`: the directories of all stanzas with backups.
pub fn backup_root() -> StoragePath {
    composed(BACKUP)
}

/// `archive/<stanza>`
pub fn archive_stanza(stanza: &Stanza) -> StoragePath {
    composed(&format!("{ARCHIVE}/{stanza}"))
}

/// `backup/<stanza>`
pub fn backup_stanza(stanza: &Stanza) -> StoragePath {
    composed(&format!("{BACKUP}/{stanza}"))
}

/// `archive/<stanza>/archive.info`
pub fn archive_info(stanza: &Stanza) -> StoragePath {
    below(&archive_stanza(stanza), ARCHIVE_INFO)
}

/// `archive/<stanza>/archive.info.copy`
pub fn archive_info_copy(stanza: &Stanza) -> StoragePath {
    copy_of(&archive_info(stanza))
}

/// `backup/<stanza>/backup.info`
pub fn backup_info(stanza: &Stanza) -> StoragePath {
    below(&backup_stanza(stanza), BACKUP_INFO)
}

/// `backup/<stanza>/backup.info.copy`
pub fn backup_info_copy(stanza: &Stanza) -> StoragePath {
    copy_of(&backup_info(stanza))
}

/// The copy of an info file or manifest.
pub fn copy_of(main: &StoragePath) -> StoragePath {
    composed(&format!("{main}{COPY}"))
}

/// `archive/<stanza>/<archive id>`
pub fn archive_directory(stanza: &Stanza, id: ArchiveId) -> StoragePath {
    below(&archive_stanza(stanza), &id.to_string())
}

/// `archive/<stanza>/<archive id>/<first 16 digits>`: the segments of one 4 GiB of WAL of one timeline.
pub fn wal_directory(stanza: &Stanza, id: ArchiveId, segment: WalSegmentName) -> StoragePath {
    below(&archive_directory(stanza, id), &segment.first16())
}

/// The path of an archived segment.
pub fn wal_object(stanza: &Stanza, id: ArchiveId, name: &WalObjectName) -> StoragePath {
    below(&wal_directory(stanza, id, name.segment), &name.to_string())
}

/// `archive/<stanza>/<archive id>/<timeline>.history`
pub fn timeline_history(stanza: &Stanza, id: ArchiveId, timeline: Timeline) -> StoragePath {
    below(&archive_directory(stanza, id), &timeline.history_file_name())
}

/// The path of an archived backup history file: `offset` is the second number of its name.
pub fn backup_history_file(stanza: &Stanza, id: ArchiveId, segment: WalSegmentName, offset: u32) -> StoragePath {
    below(&wal_directory(stanza, id, segment), &WalFileName::BackupHistory { segment, offset }.to_string())
}

/// `archive/<stanza>/<archive id>/<first 16 digits>`, as a listing names it.
pub fn wal_directory_named(stanza: &Stanza, id: ArchiveId, name: WalDirectoryName) -> StoragePath {
    below(&archive_directory(stanza, id), name.as_str())
}

/// A file in a directory of WAL, as a listing names it: a segment or what belongs to one.
///
/// # Errors
/// [`PathError`] for a name that leaves the directory.
pub fn wal_directory_entry(
    stanza: &Stanza,
    id: ArchiveId,
    directory: WalDirectoryName,
    name: &str,
) -> Result<StoragePath, PathError> {
    wal_directory_named(stanza, id, directory).join(name)
}

/// `backup/<stanza>/<label>`
pub fn backup(stanza: &Stanza, label: &BackupLabel) -> StoragePath {
    below(&backup_stanza(stanza), label.as_str())
}

/// `backup/<stanza>/<label>/backup.manifest`
pub fn manifest(stanza: &Stanza, label: &BackupLabel) -> StoragePath {
    below(&backup(stanza, label), MANIFEST)
}

/// `backup/<stanza>/<label>/backup.manifest.copy`
pub fn manifest_copy(stanza: &Stanza, label: &BackupLabel) -> StoragePath {
    copy_of(&manifest(stanza, label))
}

/// How a file of a backup is stored outside of bundles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredFile {
    /// Whole, compressed thus.
    Whole(CompressType),
    /// As blocks and a block map.
    BlockIncremental,
}

/// The path of a file of a backup that is not in a bundle.
///
/// # Errors
/// [`PathError`] when the name is not UTF-8: a storage path is text, as the keys of an object store are. Such a file
/// can be kept in a bundle, where its name is only in the manifest.
pub fn file(
    stanza: &Stanza,
    label: &BackupLabel,
    name: &ManifestName,
    stored: StoredFile,
) -> Result<StoragePath, PathError> {
    let extension = match stored {
        StoredFile::Whole(compress) => compress.extension(),
        StoredFile::BlockIncremental => BLOCK_INCR_EXTENSION,
    };
    // What is not UTF-8 gets a NUL here, which the path refuses with the name in its message.
    let text = std::str::from_utf8(name.as_bytes()).map_or_else(|_| format!("{name}\0"), str::to_owned);
    backup(stanza, label).join(&format!("{text}{extension}"))
}

/// The directory `name` of a backup, for the empty directories that some backups have.
///
/// # Errors
/// [`PathError`] as for [`file()`].
pub fn directory(stanza: &Stanza, label: &BackupLabel, name: &ManifestName) -> Result<StoragePath, PathError> {
    file(stanza, label, name, StoredFile::Whole(CompressType::None))
}

/// `backup/<stanza>/<label>/bundle/<number>`
pub fn bundle(stanza: &Stanza, label: &BackupLabel, id: BundleId) -> StoragePath {
    below(&backup(stanza, label), &format!("{BUNDLE_DIRECTORY}/{}", id.number()))
}

/// The link of a tablespace in a backup on a directory with links, `pg_data/pg_tblspc/<oid>`, and its text.
pub fn tablespace_link(stanza: &Stanza, label: &BackupLabel, oid: u32) -> (StoragePath, String) {
    let path = below(&backup(stanza, label), &format!("pg_data/pg_tblspc/{oid}"));
    (path, format!("../../pg_tblspc/{oid}"))
}

/// `backup/<stanza>/backup.history`
pub fn history(stanza: &Stanza) -> StoragePath {
    below(&backup_stanza(stanza), HISTORY_DIRECTORY)
}

/// `backup/<stanza>/backup.history/<year>`: the year of the full backup, for its dependents too.
pub fn history_year(stanza: &Stanza, label: &BackupLabel) -> StoragePath {
    below(&history(stanza), label.year())
}

/// `backup/<stanza>/backup.history/<year>`, as a listing names it.
pub fn history_year_named(stanza: &Stanza, year: HistoryYear) -> StoragePath {
    below(&history(stanza), year.as_str())
}

/// `backup/<stanza>/backup.history/<year>/<label>.manifest.gz`
pub fn history_manifest(stanza: &Stanza, label: &BackupLabel) -> StoragePath {
    below(&history_year(stanza, label), &format!("{label}{HISTORY_MANIFEST}"))
}

/// The backup that a file in a year of the manifest history describes; `None` for a file with another name.
pub fn history_manifest_label(file_name: &str) -> Option<BackupLabel> {
    BackupLabel::parse(file_name.strip_suffix(HISTORY_MANIFEST)?).ok()
}

/// `backup/<stanza>/latest`
pub fn latest(stanza: &Stanza) -> StoragePath {
    below(&backup_stanza(stanza), LATEST)
}

/// The name of a directory of WAL: timeline and log, the first 16 digits of the segments in it. Ordered as texts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalDirectoryName([u8; WalDirectoryName::LEN]);

impl WalDirectoryName {
    const LEN: usize = 16;

    /// Reads 16 upper-case hexadecimal digits; `None` for every other name.
    pub fn parse(name: &str) -> Option<Self> {
        let digits: [u8; Self::LEN] = name.as_bytes().try_into().ok()?;
        digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F')).then_some(Self(digits))
    }

    /// The directory of a segment.
    pub fn of(segment: WalSegmentName) -> Self {
        // The text has 16 digits by construction.
        Self::parse(&segment.first16()).unwrap_or(Self([b'0'; Self::LEN]))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Digits by construction.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::fmt::Display for WalDirectoryName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The name of a directory of the manifest history: a year of the third millennium, as the original looks for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HistoryYear([u8; 4]);

impl HistoryYear {
    /// Reads `2` and three digits; `None` for every other name.
    pub fn parse(name: &str) -> Option<Self> {
        let digits: [u8; 4] = name.as_bytes().try_into().ok()?;
        (digits.first() == Some(&b'2') && digits.iter().all(u8::is_ascii_digit)).then_some(Self(digits))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Digits by construction.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::fmt::Display for HistoryYear {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The name of an archived segment: `<segment>[.partial]-<sha-1>[.<ext>]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalObjectName {
    /// The segment.
    pub segment: WalSegmentName,
    /// Whether it is the part of a segment that a promotion left.
    pub partial: bool,
    /// SHA-1 of the plain segment.
    pub checksum: Checksum,
    /// How it is compressed.
    pub compress: CompressType,
}

impl WalObjectName {
    /// Reads a file name; `None` for everything that is no archived segment. The original reserves `.xz`, which it
    /// never wrote and nothing here can read.
    pub fn parse(file_name: &str) -> Option<Self> {
        let (wal, rest) = file_name.split_once('-')?;
        let (checksum, extension) = rest.split_at_checked(40)?;
        let (segment, partial) = match WalFileName::parse(wal).ok()? {
            WalFileName::Segment(segment) => (segment, false),
            WalFileName::Partial(segment) => (segment, true),
            _ => return None,
        };
        Some(Self {
            segment,
            partial,
            checksum: Checksum::parse(checksum.as_bytes())?,
            compress: CompressType::ALL.into_iter().find(|compress| compress.extension() == extension)?,
        })
    }

    /// What the names of all objects of a segment begin with: one listing by this prefix finds every version of it.
    pub fn prefix(segment: WalSegmentName, partial: bool) -> String {
        let name = if partial { WalFileName::Partial(segment) } else { WalFileName::Segment(segment) };
        format!("{name}-")
    }
}

impl std::fmt::Display for WalObjectName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let prefix = Self::prefix(self.segment, self.partial);
        write!(formatter, "{prefix}{}{}", self.checksum, self.compress.extension())
    }
}

/// Which passphrase encrypts a file of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PassphraseScope {
    /// The user's own: archive.info and backup.info.
    Main,
    /// The one in archive.info: everything else below `archive/<stanza>`.
    Archive,
    /// The one in backup.info: manifests and the manifest history.
    Manifest,
    /// The one in the manifest of this directory (a label, or `latest`): the data of a backup.
    Backup(String),
}

/// The stanza of a file and the passphrase that encrypts it, told by the path alone as `repo-get` of the original does;
/// `None` for a path that is not below a stanza.
pub fn passphrase_scope(path: &StoragePath) -> Option<(Stanza, PassphraseScope)> {
    let mut parts = path.as_str().splitn(3, '/');
    let (root, stanza, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let stanza = Stanza::parse(stanza).ok()?;
    let plain = rest.strip_suffix(COPY).unwrap_or(rest);
    let directory = rest.split('/').next().unwrap_or_default();
    let scope = match root {
        ARCHIVE if plain.ends_with(ARCHIVE_INFO) => PassphraseScope::Main,
        ARCHIVE => PassphraseScope::Archive,
        BACKUP if plain.ends_with(BACKUP_INFO) => PassphraseScope::Main,
        BACKUP if directory == HISTORY_DIRECTORY || plain.ends_with(MANIFEST) => PassphraseScope::Manifest,
        BACKUP => PassphraseScope::Backup(directory.to_owned()),
        _ => return None,
    };
    Some((stanza, scope))
}

/// A path of parts that were checked by their types.
fn composed(text: &str) -> StoragePath {
    StoragePath::parse(text).expect("the parts of a repository path have no slash and are not relative")
}

fn below(path: &StoragePath, name: &str) -> StoragePath {
    composed(&format!("{path}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LABEL: &str = "20261122-061730F_20261122-061736D";
    const OBJECT: &str = "00000001000000000000000A-dfe40935642c2445b4783ef3796135d93d10442f";

    fn stanza() -> Stanza {
        Stanza::parse("demo").unwrap()
    }

    fn label() -> BackupLabel {
        BackupLabel::parse(LABEL).unwrap()
    }

    #[test]
    fn paths_are_those_of_the_original() {
        let (stanza, label, id) = (stanza(), label(), ArchiveId::parse("15-1").unwrap());
        let segment = WalSegmentName::parse("00000001000000000000000A").unwrap();
        let object = WalObjectName::parse(&format!("{OBJECT}.zst")).unwrap();
        let name = ManifestName::parse(b"pg_data/base/1/112").unwrap();
        for (path, expected) in [
            (archive_info(&stanza), "archive/demo/archive.info".to_owned()),
            (archive_info_copy(&stanza), "archive/demo/archive.info.copy".to_owned()),
            (backup_info_copy(&stanza), "backup/demo/backup.info.copy".to_owned()),
            (wal_object(&stanza, id, &object), format!("archive/demo/15-1/0000000100000000/{OBJECT}.zst")),
            (timeline_history(&stanza, id, Timeline::new(2).unwrap()), "archive/demo/15-1/00000002.history".to_owned()),
            (
                backup_history_file(&stanza, id, segment, 0x28),
                "archive/demo/15-1/0000000100000000/00000001000000000000000A.00000028.backup".to_owned(),
            ),
            (manifest(&stanza, &label), format!("backup/demo/{LABEL}/backup.manifest")),
            (manifest_copy(&stanza, &label), format!("backup/demo/{LABEL}/backup.manifest.copy")),
            (
                file(&stanza, &label, &name, StoredFile::Whole(CompressType::Gz)).unwrap(),
                format!("backup/demo/{LABEL}/pg_data/base/1/112.gz"),
            ),
            (
                file(&stanza, &label, &name, StoredFile::BlockIncremental).unwrap(),
                format!("backup/demo/{LABEL}/pg_data/base/1/112.pgbi"),
            ),
            (bundle(&stanza, &label, BundleId::new(7).unwrap()), format!("backup/demo/{LABEL}/bundle/7")),
            (history_manifest(&stanza, &label), format!("backup/demo/backup.history/2026/{LABEL}.manifest.gz")),
            (latest(&stanza), "backup/demo/latest".to_owned()),
            (tablespace_link(&stanza, &label, 16384).0, format!("backup/demo/{LABEL}/pg_data/pg_tblspc/16384")),
        ] {
            assert_eq!(path.as_str(), expected);
        }
        assert_eq!(history_manifest_label(&format!("{LABEL}.manifest.gz")), Some(label));
        assert_eq!(history_manifest_label(LABEL), None);
    }

    #[test]
    fn bk22_a_name_that_is_not_utf8_has_no_path_of_its_own() {
        let name = ManifestName::parse(b"pg_data/caf\xe9").unwrap();
        assert!(file(&stanza(), &label(), &name, StoredFile::BlockIncremental).is_err());
    }

    #[test]
    fn reads_the_names_of_archived_segments() {
        for text in [OBJECT.to_owned(), format!("{OBJECT}.gz"), OBJECT.replace('-', ".partial-")] {
            let name = WalObjectName::parse(&text).unwrap();
            assert_eq!(name.to_string(), text);
            assert!(text.starts_with(&WalObjectName::prefix(name.segment, name.partial)));
        }
        for bad in [
            "",
            OBJECT.get(..64).unwrap(),
            &format!("{OBJECT}.xz"),
            &format!("{OBJECT}.gz.gz"),
            &OBJECT.to_lowercase(),
            "00000002.history",
            "00000001000000000000000A.00000028.backup",
            &format!("{OBJECT}é"),
        ] {
            assert_eq!(WalObjectName::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn reads_the_names_of_directories() {
        let directory = WalDirectoryName::parse("00000001000000AF").unwrap();
        assert_eq!(directory, WalDirectoryName::of(WalSegmentName::parse("00000001000000AF00000003").unwrap()));
        let id = ArchiveId::parse("15-1").unwrap();
        assert_eq!(
            wal_directory_entry(&stanza(), id, directory, OBJECT).unwrap().as_str(),
            format!("archive/demo/15-1/00000001000000AF/{OBJECT}")
        );
        assert!(wal_directory_entry(&stanza(), id, directory, "../x").is_err());
        for bad in
            ["", "00000001000000af", "00000001000000A", "00000001000000AF0", "0000000100000 AF", "é0000001000000A"]
        {
            assert_eq!(WalDirectoryName::parse(bad), None, "{bad}");
        }
        let year = HistoryYear::parse("2026").unwrap();
        assert_eq!(history_year_named(&stanza(), year).as_str(), "backup/demo/backup.history/2026");
        for bad in ["", "1999", "202", "20266", "2o26", "..", "2é2"] {
            assert_eq!(HistoryYear::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_path_tells_the_passphrase() {
        for (path, expected) in [
            ("archive/demo/archive.info", Some(PassphraseScope::Main)),
            ("archive/demo/archive.info.copy", Some(PassphraseScope::Main)),
            ("archive/demo/15-1/0000000100000000/x", Some(PassphraseScope::Archive)),
            ("archive/demo/15-1/00000002.history", Some(PassphraseScope::Archive)),
            ("backup/demo/backup.info.copy", Some(PassphraseScope::Main)),
            ("backup/demo/backup.history/2026/x.manifest.gz", Some(PassphraseScope::Manifest)),
            ("backup/demo/20261122-061730F/backup.manifest.copy", Some(PassphraseScope::Manifest)),
            ("backup/demo/latest/pg_data/PG_VERSION.gz", Some(PassphraseScope::Backup("latest".to_owned()))),
            ("backup/demo/20261122-061730F/bundle/1", Some(PassphraseScope::Backup("20261122-061730F".to_owned()))),
            ("backup/demo", None),
            ("other/demo/x", None),
            ("", None),
        ] {
            let found = passphrase_scope(&StoragePath::parse(path).unwrap());
            assert_eq!(found.map(|(_, scope)| scope), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn hi04_sec09_a_file_of_a_backup_stays_below_it(name in proptest::collection::vec(prop_oneof![Just(b'.'), Just(b'/'), Just(b'a'), any::<u8>()], 0..30)) {
            let name = [b"pg_data/", name.as_slice()].concat();
            if let Ok(name) = ManifestName::parse(&name)
                && let Ok(path) = file(&stanza(), &label(), &name, StoredFile::Whole(CompressType::None))
            {
                prop_assert!(path.as_str().starts_with(backup(&stanza(), &label()).as_str()));
                prop_assert!(!path.as_str().split('/').any(|part| part.is_empty() || part == "." || part == ".."));
            }
        }

        /// Whatever is asked for by name, every path is below the stanza's own directory in the archive or among the backups.
        #[test]
        fn hi04_sec09_no_text_leads_out_of_the_stanza(
            stanza in "[a-z./ \\\\]{1,8}|\\PC{1,12}", text in "[0-9A-F./a-z_-]{0,40}|\\PC{0,40}", below in "[./a-z]{0,12}|\\PC{0,12}"
        ) {
            let Ok(stanza) = Stanza::parse(&stanza) else { return Ok(()) };
            let mut paths = vec![archive_info(&stanza), backup_info_copy(&stanza), history(&stanza), latest(&stanza)];
            if let Ok(id) = ArchiveId::parse(&text) {
                paths.push(archive_directory(&stanza, id));
            }
            let id = ArchiveId::parse("17-1").unwrap();
            if let Some(name) = WalObjectName::parse(&text) {
                paths.push(wal_object(&stanza, id, &name));
            }
            if let Some(name) = WalDirectoryName::parse(&text) {
                paths.push(wal_directory_named(&stanza, id, name));
            }
            let directory = WalDirectoryName::parse("0000000100000000").unwrap();
            paths.extend(wal_directory_entry(&stanza, id, directory, &below));
            if let Ok(label) = BackupLabel::parse(text.as_bytes()) {
                paths.extend([backup(&stanza, &label), manifest_copy(&stanza, &label), history_manifest(&stanza, &label)]);
            }
            if let Some(year) = HistoryYear::parse(&text) {
                paths.push(history_year_named(&stanza, year));
            }
            for name in [text.as_bytes(), [b"pg_data/", below.as_bytes()].concat().as_slice()] {
                if let Ok(name) = ManifestName::parse(name) {
                    paths.extend(file(&stanza, &label(), &name, StoredFile::Whole(CompressType::Gz)));
                    paths.extend(super::directory(&stanza, &label(), &name));
                }
            }
            let roots = [archive_stanza(&stanza), backup_stanza(&stanza)];
            for path in &paths {
                let is_below = |root: &StoragePath| path.as_str().strip_prefix(root.as_str()).is_some_and(|rest| rest.starts_with('/'));
                prop_assert!(roots.iter().any(is_below) || roots.contains(path), "{}", path.as_str());
                prop_assert!(path.as_str().split('/').all(|part| !matches!(part, "" | "." | "..")), "{}", path.as_str());
            }
        }

        #[test]
        fn arbitrary_names_never_panic(text in "\\PC{0,90}") {
            _ = WalObjectName::parse(&text);
            if let Ok(path) = StoragePath::parse(&text) {
                drop(passphrase_scope(&path));
            }
        }
    }
}
