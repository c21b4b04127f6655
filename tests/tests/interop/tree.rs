//! A restored directory as it is: every entry, with nothing left out but what names the program that restored it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use pgbr_testkit::samples::sha256;

/// Kind, mode and owner, size and time of files, and the content's checksum or the link's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    mode: u32,
    owner: (u32, u32),
    size_bytes: u64,
    modified_s: i64,
    content: String,
}

/// All entries below a data directory. Links are compared by what they lead to, which must be equal too.
pub(crate) fn tree(data: &Path) -> BTreeMap<String, Entry> {
    let mut found = BTreeMap::new();
    let mut open = vec![data.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(data).unwrap().display().to_string();
            let info = fs::symlink_metadata(&path).unwrap();
            let mut entry = Entry {
                mode: info.mode(),
                owner: (info.uid(), info.gid()),
                size_bytes: 0,
                modified_s: 0,
                content: String::new(),
            };
            if info.is_symlink() || info.is_dir() {
                open.push(path);
            } else if is_settings(&name) {
                // Its restore_command names the program, and its header the time.
                entry.content = settings(&path);
            } else {
                (entry.size_bytes, entry.modified_s) = (info.len(), info.mtime());
                entry.content = sha256(&path).unwrap();
            }
            found.insert(name, entry);
        }
    }
    found
}

fn is_settings(name: &str) -> bool {
    matches!(name, "postgresql.auto.conf" | "recovery.signal" | "standby.signal")
}

fn settings(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let line = |line: &str| match line.split_once(" = ") {
        Some(("restore_command", _)) => "restore_command".to_owned(),
        _ if line.starts_with('#') && line.contains("restore on ") => "generated".to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// In what two trees differ, a line each.
pub(crate) fn differences(one: &BTreeMap<String, Entry>, other: &BTreeMap<String, Entry>) -> Vec<String> {
    let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
    names
        .filter(|name| one.get(*name) != other.get(*name))
        .map(|name| format!("{name}: {:?} and {:?}", one.get(name), other.get(name)))
        .collect()
}
