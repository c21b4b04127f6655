//! Files written by the original, for tests: `formats/samples/info`, one folder a repository.

use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../formats/samples/info")
}

/// One file.
pub(crate) fn sample(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap_or_else(|error| panic!("sample {name}: {error}"))
}

/// All files whose name ends thus, with their names.
pub(crate) fn samples(suffix: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for directory in fs::read_dir(folder()).unwrap() {
        let directory = directory.unwrap();
        if !directory.file_type().unwrap().is_dir() {
            continue;
        }
        for file in fs::read_dir(directory.path()).unwrap() {
            let path = file.unwrap().path();
            let name = path.strip_prefix(folder()).unwrap().to_string_lossy().into_owned();
            if name.ends_with(suffix) {
                found.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "no samples end with {suffix}");
    found.sort();
    found
}

/// Replaces text of a file and gives it the checksum that it then has, so that a test gets past the checksum.
pub(crate) fn resealed(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    use super::error::FormatError;
    use super::info::InfoReader;
    use super::ini::IniLimits;

    let text = String::from_utf8(file.to_vec()).unwrap();
    assert!(text.contains(from), "the sample does not have '{from}'");
    let text = text.replacen(from, to, 1);
    let (content, _) = text.rsplit_once("backrest-checksum=").unwrap();
    let with = |checksum: &str| format!("{content}backrest-checksum=\"{checksum}\"\n").into_bytes();
    let mut reader = InfoReader::new(IniLimits::INFO);
    let read = reader.feed(&with(""), &mut |_| Ok(())).and_then(|()| reader.finish(&mut |_| Ok(())).map(drop));
    match read {
        Err(FormatError::ChecksumMismatch { actual, .. }) => with(&actual),
        // Broken in a way that the checksum never sees; the parser under test will say so too.
        _ => with("0000000000000000000000000000000000000000"),
    }
}
