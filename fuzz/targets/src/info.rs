//! The text of info files and manifests.

use pgbr_repo::format::error::FormatError;
use pgbr_repo::format::ini::{IniEntry, IniLimits, IniReader};
use pgbr_repo::format::manifest::parse_file_row;
use pgbr_repo::format::{ArchiveInfo, BackupInfo, Manifest, ManifestReader, json as dialect_json};

type Rows = Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>;

/// Small ceilings, so that a short input can reach them.
const LIMITS: IniLimits = IniLimits { line_bytes_max: 600, file_bytes_max: 100_000 };

/// The dialect: pieces of any size say what the whole says, and what is accepted is accepted again when it is written.
pub(crate) fn dialect(bytes: &[u8]) {
    let (knob, file) = super::knob(bytes);
    let whole = rows(file, file.len());
    let pieces = rows(file, usize::from(knob % 7) + 1);
    assert_eq!(whole.is_ok(), pieces.is_ok(), "the cut does not decide");
    let (Ok(whole), Ok(pieces)) = (whole, pieces) else { return };
    assert!(whole == pieces, "the cut does not change what is read");
    for (_, _, value) in whole {
        dialect_json::validate(&value).expect("a value is one JSON value");
    }
}

fn rows(file: &[u8], piece: usize) -> Result<Rows, FormatError> {
    let mut rows = Vec::new();
    let mut sink = |entry: &IniEntry<'_>| {
        rows.push((entry.section.to_vec(), entry.key.to_vec(), entry.value.to_vec()));
        Ok(())
    };
    let mut reader = IniReader::new(LIMITS);
    for piece in file.chunks(piece.max(1)) {
        reader.feed(piece, &mut sink)?;
    }
    reader.finish(&mut sink)?;
    Ok(rows)
}

/// One JSON value.
pub(crate) fn json(bytes: &[u8]) {
    if dialect_json::validate(bytes).is_ok() {
        let mut reader = dialect_json::JsonReader::new(bytes);
        let raw = reader.raw().expect("a valid value is read");
        reader.end().expect("nothing is behind a valid value");
        dialect_json::validate(raw).expect("a value without the blanks around it is valid");
    }
    let mut reader = dialect_json::JsonReader::new(bytes);
    if let Ok(text) = reader.string()
        && reader.end().is_ok()
    {
        let mut written = Vec::new();
        dialect_json::write_string(&mut written, &text);
        let mut again = dialect_json::JsonReader::new(&written);
        assert!(again.string().is_ok_and(|again| again == text), "a string written is read again");
    }
}

/// archive.info, as it is and with the checksum it should have.
pub(crate) fn archive_info(bytes: &[u8]) {
    for file in with_checksum(bytes) {
        let Ok(info) = ArchiveInfo::parse(&file) else { continue };
        let written = info.write();
        let again = ArchiveInfo::parse(&written).expect("what is written is read");
        assert!(again == info && again.write() == written, "and says the same");
    }
}

/// backup.info, as it is and with the checksum it should have.
pub(crate) fn backup_info(bytes: &[u8]) {
    for file in with_checksum(bytes) {
        let Ok(info) = BackupInfo::parse(&file) else { continue };
        for backup in info.backups() {
            let dependents = info.dependents(&backup.label);
            assert!(!dependents.contains(&backup.label), "nothing depends on itself");
        }
        let written = info.write();
        let again = BackupInfo::parse(&written).expect("what is written is read");
        assert!(again == info && again.write() == written, "and says the same");
    }
}

/// A manifest, as it is and with the checksum it should have.
pub(crate) fn manifest(bytes: &[u8]) {
    for file in with_checksum(bytes) {
        let whole = Manifest::parse(&file);
        let mut reader = ManifestReader::new();
        let pieces = file.chunks(97).try_for_each(|piece| reader.feed(piece)).and_then(|()| reader.finish());
        assert_eq!(whole.is_ok(), pieces.is_ok(), "the cut does not decide");
        let Ok(manifest) = whole else { continue };
        for row in manifest.files() {
            let (_, _) = (manifest.location(row), manifest.is_raw(row));
            let stored_in = manifest.stored_in(row);
            assert!(
                manifest.references().contains(&stored_in) || stored_in == manifest.label(),
                "a file is in the set"
            );
            assert!(manifest.file(row.name().as_bytes()).is_some(), "a file is found by its name");
            let escapes = row.name().as_bytes().split(|byte| *byte == b'/').any(|part| part == b".." || part == b".");
            assert!(!escapes, "no name leaves its target");
        }
        let (_, _, _) = (manifest.sizes(), manifest.validate().is_ok(), manifest.backup_entry().is_ok());
        let written = manifest.write_to_vec();
        let again = Manifest::parse(&written).expect("what is written is read");
        assert!(again.write_to_vec() == written, "and says the same");
    }
}

/// The line of a file in a manifest: name and JSON, with `=` between them.
pub(crate) fn file_row(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'=');
    let (Some(name), Some(value)) = (parts.next(), parts.next()) else { return };
    if let Ok(row) = parse_file_row(name, value) {
        assert!(row.name().as_bytes() == name, "the name is kept");
    }
}

/// The file as it is, and with the right checksum in place of whatever its last entry is, or behind it: a checksum is no
/// wall for who can write the bucket, so it must not be one for a fuzzer.
fn with_checksum(bytes: &[u8]) -> Vec<Vec<u8>> {
    const KEY: &[u8] = b"backrest-checksum=";
    let mut files = vec![bytes.to_vec()];
    let end = bytes.windows(KEY.len()).rposition(|window| window == KEY);
    let mut content = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default().to_vec();
    if end.is_none() {
        content.extend_from_slice(b"\n\n[backrest]\n");
    }
    let sealed = |checksum: &str| [&content, KEY, b"\"", checksum.as_bytes(), b"\"\n"].concat();
    // The parser itself says which one it wants.
    let unsealed = sealed("0");
    let refused = |error: Option<FormatError>| match error {
        Some(FormatError::ChecksumMismatch { actual, .. }) => Some(actual),
        _ => None,
    };
    let actual = refused(ArchiveInfo::parse(&unsealed).err())
        .or_else(|| refused(BackupInfo::parse(&unsealed).err()))
        .or_else(|| refused(Manifest::parse(&unsealed).err()));
    files.extend(actual.map(|actual| sealed(&actual)));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_mended() {
        let file = b"[backrest]\nbackrest-format=5\nbackrest-version=\"2.60.0\"\n\n[db]\ndb-id=1\ndb-system-id=7\n\
            db-version=\"15\"\n\n[db:history]\n1={\"db-id\":7,\"db-version\":\"15\"}\n\n[backrest]\n\
            backrest-checksum=\"wrong\"\n";
        let files = with_checksum(file);
        assert_eq!(files.len(), 2);
        ArchiveInfo::parse(&files[0]).unwrap_err();
        ArchiveInfo::parse(&files[1]).unwrap();
    }
}
