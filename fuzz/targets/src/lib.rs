//! One function for each parser of foreign bytes: what must hold for any input at all.
//!
//! A target panics when a promise is broken. cargo-fuzz calls them with inputs that reach ever more code
//! (`cargo xtask fuzz`); the test below calls them with everything in `fuzz/corpus`, which has a few real files for
//! each target and every input that once broke a promise.

mod block_map;
mod info;
mod names;
mod options;
mod streams;

use pgbr_repo::postgres::fuzz as postgres;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets by name, which is that of the file in `fuzz/fuzz_targets` and of the folder in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 24] = [
    ("archive_info", info::archive_info),
    ("backup_info", info::backup_info),
    ("block_map", block_map::map),
    ("block_restore", block_map::restore),
    ("bundle", streams::bundle),
    ("bz2", streams::bz2),
    ("cipher", streams::cipher),
    ("control_file", postgres::control_file),
    ("file_row", info::file_row),
    ("gz", streams::gz),
    ("info_dialect", info::dialect),
    ("json", info::json),
    ("lz4", streams::lz4),
    ("manifest", info::manifest),
    ("names", names::names),
    ("options", options::options),
    ("page", postgres::page),
    ("paths", names::paths),
    ("postgres_text", postgres::text),
    ("round_trip", streams::round_trip),
    ("timeline_history", postgres::timeline_history),
    ("varint", block_map::varint),
    ("wal_header", postgres::wal_header),
    ("zst", streams::zst),
];

/// Runs the target of this name.
///
/// # Panics
/// When there is none, or when the input breaks a promise.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| target);
    target.expect("a target of this name")(bytes);
}

/// The first byte of an input chooses what the parser is told besides the bytes.
fn knob(bytes: &[u8]) -> (u8, &[u8]) {
    bytes.split_first().map_or((0, bytes), |(knob, rest)| (*knob, rest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn fuzz_folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        files
    }

    #[test]
    fn every_input_of_the_corpus_keeps_the_promises() {
        for (name, target) in TARGETS {
            let inputs = files(&fuzz_folder().join("corpus").join(name));
            assert!(!inputs.is_empty(), "no corpus for {name}");
            for input in inputs {
                let bytes = fs::read(&input).unwrap();
                println!("{name} {}", input.display());
                target(&bytes);
            }
        }
    }

    #[test]
    fn every_input_cut_anywhere_keeps_the_promises() {
        for (name, target) in TARGETS {
            for input in files(&fuzz_folder().join("corpus").join(name)) {
                let bytes = fs::read(&input).unwrap();
                let step = (bytes.len() / 40).max(1);
                for length in (0..bytes.len()).step_by(step) {
                    target(&bytes[..length]);
                }
            }
        }
    }

    #[test]
    fn each_target_has_a_binary_and_a_corpus_and_nothing_else_is_there() {
        let expected: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let stems = |folder: &str| -> BTreeSet<String> {
            let paths = files(&fuzz_folder().join(folder));
            paths.iter().map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(stems("corpus"), expected);
        assert_eq!(stems("fuzz_targets"), expected);
    }
}
