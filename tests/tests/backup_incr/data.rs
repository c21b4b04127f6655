//! A small data directory at rest, and what it takes to see that a backup is it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pgbr_repo::clock::{Clock, SystemClock};
use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::postgres::{Cluster, Options, Version};
use pgbr_testkit::stock::Stock;
use pgbr_testkit::user;

/// How the options of a backup are written down in the configuration.
pub(crate) type Settings = &'static [(&'static str, &'static str)];

pub(crate) const KIB: usize = 1024;

/// Files with content and modification time, without what a backup leaves out and a restore writes.
pub(crate) type Tree = BTreeMap<PathBuf, (Vec<u8>, i64)>;

/// What initdb made, but for most of the catalogue.
pub(crate) struct DataDirectory(PathBuf);

impl DataDirectory {
    pub(crate) fn new(dir: &Path) -> Self {
        let data = dir.join("data");
        let options = Options { checksums: true, ..Options::default() };
        drop(Cluster::create(Version::V15, &data, options).unwrap());
        for database in entries(&data.join("base")) {
            if !database.ends_with("1") {
                fs::remove_dir_all(database).unwrap();
                continue;
            }
            for file in entries(&database).into_iter().filter(|file| !file.to_string_lossy().ends_with("47")) {
                fs::remove_file(file).unwrap();
            }
        }
        Self(data)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file that was last changed this many seconds ago.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>, age_s: u64) {
        let path = self.0.join(name);
        user::create_dir(path.parent().unwrap()).unwrap();
        user::write_file(&path, content).unwrap();
        self.age(name, age_s);
    }

    pub(crate) fn age(&self, name: &str, age_s: u64) {
        set_modified(&self.0.join(name), seconds_ago(i64::try_from(age_s).unwrap()));
    }

    pub(crate) fn tree(&self) -> Tree {
        tree(&self.0)
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

pub(crate) fn tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(root).unwrap().to_owned();
            let is_other = ["postgresql.auto.conf", "backup.manifest"].iter().any(|other| name.ends_with(other));
            if !is_other && !name.starts_with("pg_subtrans") {
                let modified_s = if name.ends_with("pg_control") { 0 } else { fs::metadata(&path).unwrap().mtime() };
                tree.insert(name, (fs::read(&path).unwrap(), modified_s));
            }
        }
    }
    tree
}

/// A time of whole seconds; a negative number is in the future.
pub(crate) fn seconds_ago(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(SystemClock.now_s() - seconds).unwrap())
}

pub(crate) fn set_modified(path: &Path, time: SystemTime) {
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// Bytes that do not compress.
pub(crate) fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// A configuration for the data directory.
pub(crate) fn conf(folder: &Path, data: &Path, settings: Settings) -> Conf {
    let mut conf = Conf::create(folder, "demo").unwrap();
    conf.local("pg1-path", &data.display().to_string()).unwrap();
    conf.global("process-max", "2").unwrap();
    for (option, value) in settings {
        conf.global(option, value).unwrap();
    }
    conf
}

/// The newest label in backup.info.
pub(crate) fn newest(engine: &Engine, conf: &Conf) -> String {
    let json = engine.ok(conf, &["info", "--output=json", "--log-level-console=off"]).unwrap().stdout;
    let info: serde_json::Value = serde_json::from_str(&json).unwrap();
    info[0]["backup"].as_array().unwrap().last().unwrap()["label"].as_str().unwrap().to_owned()
}

/// A backup, restored by this program, is the tree.
pub(crate) fn restores(engine: &Engine, conf: &Conf, dir: &Path, label: &str, expected: &Tree) {
    let target = dir.join("restored");
    user::create_dir(&target).unwrap();
    let (path, set) = (format!("--pg1-path={}", target.display()), format!("--set={label}"));
    engine.ok(conf, &["restore", "--type=none", &path, &set]).unwrap();
    let found = tree(&target);
    let names = |tree: &Tree| tree.keys().cloned().collect::<BTreeSet<_>>();
    let other: Vec<_> = names(&found).symmetric_difference(&names(expected)).cloned().collect();
    assert!(other.is_empty(), "{} restored other files: {other:?}", engine.name());
    for (name, content) in expected {
        assert!(found[name] == *content, "{} restored another {}", engine.name(), name.display());
    }
    fs::remove_dir_all(&target).unwrap();
}

/// The original finds the repository whole.
pub(crate) fn verifies(stock: &Stock, conf: &Conf) {
    let verified = stock.engine.ok(conf, &["verify", "--log-level-console=detail"]).unwrap().text();
    for word in ["ERROR", "invalid checksum", "missing file", "status: error"] {
        assert!(!verified.contains(word), "{} says {word}:\n{verified}", stock.engine.name());
    }
}
