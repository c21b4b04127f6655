//! The invariants of ARCHITECTURE.md that are about the code itself.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers of the engine: name, and the layers it may import.
const LAYERS: [(&str, &[&str]); 10] = [
    ("postgres", &[]),
    ("format", &["postgres", "storage"]),
    ("filter", &["postgres", "format", "clock"]),
    ("storage", &["clock", "workers"]),
    ("pgdata", &["postgres", "clock"]),
    ("db", &["postgres"]),
    ("transfer", &["filter", "storage", "error", "progress", "workers"]),
    ("repository", &["postgres", "format", "filter", "storage", "transfer", "clock", "error", "progress"]),
    (
        "command",
        &[
            "postgres",
            "format",
            "filter",
            "storage",
            "pgdata",
            "db",
            "transfer",
            "repository",
            "clock",
            "error",
            "progress",
            "workers",
        ],
    ),
    ("resident", &["postgres", "format", "repository", "command", "clock", "error", "progress"]),
];

/// What no shipped crate may contain: the text, the files that may, and why.
const BANNED: [(&str, &[&str], &str); 9] = [
    ("SystemTime::now", &["crates/repo/src/clock.rs"], "time comes from clock::Clock"),
    ("std::time::Instant", &[], "waiting uses tokio::time, which tests can pause"),
    ("process::Command", &["crates/cli/src/background.rs"], "no other program is ever started"),
    ("process::{Command", &["crates/cli/src/background.rs"], "no other program is ever started"),
    (".exists()", &[], "hides every error but ENOENT"),
    ("unbounded_channel", &[], "every queue is bounded"),
    ("Server::builder()", &["crates/plugin/src/transport/limits.rs"], "every service has the same limits"),
    ("todo!(", &[], "nothing unfinished is shipped"),
    ("unimplemented!(", &[], "nothing unfinished is shipped"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

/// The Rust files below a folder, with their paths from the workspace's root.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the workspace") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
                found.push((name, fs::read_to_string(&path).expect("a source file")));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no sources below {folder}");
    found
}

/// The code of a file without its tests and comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| *line != "#[cfg(test)]" && *line != "#[cfg(any(test, feature = \"conformance\"))]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line))
}

/// The first path segment after each `crate::` of a line.
fn imports(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("crate::").map(|(at, text)| {
        let rest = &line[at + text.len()..];
        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

fn is_test_file(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.contains("/tests/") || name.ends_with("/conformance.rs")
}

#[test]
fn a_layer_imports_only_layers_below_it() {
    let mut wrong = Vec::new();
    for (layer, allowed) in LAYERS {
        for (name, text) in sources(&format!("crates/repo/src/{layer}")) {
            if is_test_file(&name) {
                continue;
            }
            for (number, line) in code(&text) {
                for import in imports(line) {
                    if import != layer && !allowed.contains(&import) && !import.is_empty() {
                        wrong.push(format!("{name}:{number}: {layer} must not use {import}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn format_takes_nothing_from_storage_but_the_path() {
    let mut wrong = Vec::new();
    for (name, text) in sources("crates/repo/src/format") {
        for (number, line) in code(&text) {
            let is_path = line.contains("storage::StoragePath")
                || line.contains("storage::PathError")
                || line.contains("storage::{PathError, StoragePath}");
            if line.contains("crate::storage") && !is_path {
                wrong.push(format!("{name}:{number}: {}", line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_command_never_imports_another() {
    let mut wrong = Vec::new();
    for (name, text) in sources("crates/repo/src/command") {
        let own = name.trim_start_matches("crates/repo/src/command/");
        let own = own.split(['/', '.']).next().expect("a first part").to_owned();
        for (number, line) in code(&text) {
            for (at, matched) in line.match_indices("command::") {
                let rest = &line[at + matched.len()..];
                let end =
                    rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(rest.len());
                if line[..at].ends_with("crate::") && rest[..end] != *own {
                    wrong.push(format!("{name}:{number}: {own} must not use {}", &rest[..end]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_banned_is_shipped() {
    let mut wrong = Vec::new();
    for folder in ["crates/repo/src", "crates/config/src", "crates/plugin/src", "crates/cli/src"] {
        for (name, text) in sources(folder) {
            if is_test_file(&name) {
                continue;
            }
            for (number, line) in code(&text) {
                for (banned, allowed, reason) in BANNED {
                    if line.contains(banned) && !allowed.contains(&name.as_str()) {
                        wrong.push(format!("{name}:{number}: {banned}: {reason}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_blocking_thread_of_the_engine_is_counted() {
    let mut wrong = Vec::new();
    for (name, text) in sources("crates/repo/src") {
        for (number, line) in code(&text) {
            if line.contains("task::spawn_blocking") && name != "crates/repo/src/workers.rs" {
                wrong.push(format!("{name}:{number}: nobody waits for this thread: see workers.rs"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_engine_knows_no_terminal_and_no_environment() {
    let mut wrong = Vec::new();
    for (name, text) in sources("crates/repo/src") {
        for (number, line) in code(&text) {
            for banned in ["println!", "eprintln!", "std::env", "io::stdout", "io::stderr", "std::process"] {
                if line.contains(banned) {
                    wrong.push(format!("{name}:{number}: {banned}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Parsers of what others have written, with what shows that none of it ends the process: a fuzz target, or a test over
/// generated or damaged input.
const PARSERS: [(&str, &str, &str); 23] = [
    ("info file", "fuzz/fuzz_targets/info_dialect.rs", "fuzz_target!"),
    ("archive.info", "fuzz/fuzz_targets/archive_info.rs", "fuzz_target!"),
    ("backup.info", "fuzz/fuzz_targets/backup_info.rs", "fuzz_target!"),
    ("manifest", "fuzz/fuzz_targets/manifest.rs", "fuzz_target!"),
    ("file entry of a manifest", "fuzz/fuzz_targets/file_row.rs", "fuzz_target!"),
    ("block map", "fuzz/fuzz_targets/block_map.rs", "fuzz_target!"),
    ("bundle", "fuzz/fuzz_targets/bundle.rs", "fuzz_target!"),
    ("super block", "fuzz/fuzz_targets/block_restore.rs", "fuzz_target!"),
    ("names of WAL and labels of backups", "fuzz/fuzz_targets/names.rs", "fuzz_target!"),
    ("WAL header", "fuzz/fuzz_targets/wal_header.rs", "fuzz_target!"),
    ("pg_control", "fuzz/fuzz_targets/control_file.rs", "fuzz_target!"),
    ("history file", "fuzz/fuzz_targets/timeline_history.rs", "fuzz_target!"),
    ("configuration file", "crates/config/src/ini.rs", "fn no_text_panics"),
    ("command line and parameters", "fuzz/fuzz_targets/options.rs", "fuzz_target!"),
    ("answer of S3", "crates/repo/src/storage/s3/answer.rs", "fn never_panics"),
    ("framing of HTTP", "tests/tests/s3_storage/reads.rs", "fn hi14_sec10_broken_framing"),
    ("marker in the spool", "crates/repo/src/command/archive/spool.rs", "fn sec07_no_marker_panics"),
    ("cluster definition", "crates/plugin/src/cluster/tests.rs", "fn kg04_no_wrong_type_anywhere_panics"),
    ("encrypted stream", "fuzz/fuzz_targets/cipher.rs", "fuzz_target!"),
    ("gz", "fuzz/fuzz_targets/gz.rs", "fuzz_target!"),
    ("lz4", "fuzz/fuzz_targets/lz4.rs", "fuzz_target!"),
    ("zst", "fuzz/fuzz_targets/zst.rs", "fuzz_target!"),
    ("bz2", "fuzz/fuzz_targets/bz2.rs", "fuzz_target!"),
];

#[test]
fn sec07_every_parser_is_given_nonsense_and_no_crate_may_be_unsafe() {
    for (parser, file, what) in PARSERS {
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        assert!(text.contains(what), "{parser}: {file} has no {what}");
    }
    let workspace = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    assert!(workspace.contains("unsafe_code = \"forbid\""));
    for folder in ["crates/repo", "crates/config", "crates/plugin", "crates/cli"] {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("Cargo.toml");
        assert!(manifest.contains("[lints]\nworkspace = true"), "{folder}");
    }
}

/// Licences that a dependency may have (SPDX): all let the program be given away under its own.
const LICENCES: [&str; 15] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
];

/// Whether an SPDX expression leaves a choice among [`LICENCES`]. Parentheses stand around choices only.
fn is_free(expression: &str) -> bool {
    let expression = expression.replace(['(', ')'], "").replace('/', " OR ");
    let is_known = |licence: &str| LICENCES.contains(&licence.trim());
    expression.split(" AND ").all(|part| part.split(" OR ").any(is_known))
}

/// What is built is what was locked: every crate comes from the registry with the checksum of its archive, none from a
/// repository or another place, and each may be given away.
#[test]
fn sec22_every_dependency_is_locked_with_its_checksum_and_may_be_given_away() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    let mut registry = 0;
    for package in lock.split("[[package]]\n").skip(1) {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(&format!("{name} = ")));
            line.map(|value| value.trim_matches('"').to_owned())
        };
        let name = field("name").expect("a name");
        match field("source") {
            Some(source) => {
                registry += 1;
                assert_eq!(source, "registry+https://github.com/rust-lang/crates.io-index", "{name}");
                assert!(field("checksum").is_some_and(|checksum| checksum.len() == 64), "{name} has no checksum");
            }
            None => assert!(name.starts_with("pgbr") || name == "xtask", "{name} is not of this workspace"),
        }
    }
    assert!(registry > 100, "{registry}");
    let mut cargo = std::process::Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    cargo.args(["metadata", "--locked", "--offline", "--format-version=1", "--filter-platform", &host]);
    let told = cargo.current_dir(root()).output().expect("cargo");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let mut wrong = Vec::new();
    for package in packages.iter().filter(|package| package["source"].is_string()) {
        let licence = package["license"].as_str().unwrap_or("none");
        if !is_free(licence) {
            wrong.push(format!("{} has the licence {licence}", package["name"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!is_free("GPL-3.0-only") && !is_free("MIT AND GPL-2.0-only") && is_free("GPL-2.0 OR MIT"));
}
