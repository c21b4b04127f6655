//! One data directory at rest and two repositories: ours, and the original's. Both make the same backups of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pgbr_repo::clock::{Clock, SystemClock};
use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::postgres::{Cluster, Options, Version};
use pgbr_testkit::stock::{self, Stock};
use pgbr_testkit::{pgbr, user};

/// How the options of a backup are written down in the configuration.
pub(crate) type Settings = &'static [(&'static str, &'static str)];

pub(crate) struct Pair {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) data: PathBuf,
    ours: (Engine, Conf),
    theirs: (Engine, Conf),
    stock: &'static Stock,
}

/// What one program did: what it says about files and its warnings, and the manifest.
pub(crate) struct Made {
    pub(crate) files: Vec<String>,
    pub(crate) warnings: Vec<String>,
    pub(crate) manifest: Vec<String>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) text: String,
}

impl Pair {
    pub(crate) fn new(settings: Settings) -> Self {
        let dir = user::scratch().unwrap();
        let data = dir.path().join("data");
        let options = Options { checksums: true, ..Options::default() };
        drop(Cluster::create(Version::V15, &data, options).unwrap());
        // Two databases less: nothing here needs them.
        let databases: Vec<PathBuf> =
            fs::read_dir(data.join("base")).unwrap().map(|entry| entry.unwrap().path()).collect();
        for database in databases.iter().filter(|path| !path.ends_with("1")) {
            fs::remove_dir_all(database).unwrap();
        }
        let stock = stock::newest();
        let [ours, theirs] = [pgbr::engine(), stock.engine.clone()].map(|engine| {
            let conf = conf(&dir.path().join(engine.name().replace(' ', "-")), &data, settings);
            engine.ok(&conf, &["stanza-create", "--no-online"]).unwrap();
            (engine, conf)
        });
        Self { dir, data, ours, theirs, stock }
    }

    /// Sets an option for both.
    pub(crate) fn set(&mut self, option: &str, value: Option<&str>) {
        for conf in [&mut self.ours.1, &mut self.theirs.1] {
            match value {
                Some(value) => conf.global(option, value).unwrap(),
                None => conf.without(option).unwrap(),
            };
        }
    }

    /// Writes a file below the data directory; it was last changed this many seconds ago.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>, age_s: u64) {
        let path = self.data.join(name);
        user::create_dir(path.parent().unwrap()).unwrap();
        user::write_file(&path, content).unwrap();
        self.age(name, age_s);
    }

    pub(crate) fn age(&self, name: &str, age_s: u64) {
        set_modified(&self.data.join(name), seconds_ago(i64::try_from(age_s).unwrap()));
    }

    /// Both make a backup and must do the same.
    pub(crate) fn backup(&self, arguments: &[&str]) -> Made {
        let [own, theirs] = [&self.ours, &self.theirs].map(|(engine, conf)| made(engine, conf, arguments));
        assert_eq!(own.exit_code, theirs.exit_code, "{}\n{}", own.text, theirs.text);
        assert_eq!(own.warnings, theirs.warnings, "{arguments:?}");
        if own.exit_code == Some(0) {
            assert_same(&own.files, &theirs.files);
        }
        assert_same(&own.manifest, &theirs.manifest);
        own
    }

    /// Our newest backup, restored by both, is the data directory; the original finds the repository whole.
    pub(crate) fn ours_is_whole(&self) {
        let expected = tree(&self.data);
        let conf = &self.ours.1;
        for engine in [&self.ours.0, &self.stock.engine] {
            let target = self.dir.path().join("restored");
            user::create_dir(&target).unwrap();
            let path = format!("--pg1-path={}", target.display());
            engine.ok(conf, &["restore", "--type=none", &path]).unwrap();
            let found = tree(&target);
            let names = |tree: &Tree| tree.keys().cloned().collect::<BTreeSet<_>>();
            let other: Vec<_> = names(&found).symmetric_difference(&names(&expected)).cloned().collect();
            assert!(other.is_empty(), "{} restored other files: {other:?}", engine.name());
            for (name, content) in &expected {
                assert!(found[name] == *content, "{} restored another {}", engine.name(), name.display());
            }
            fs::remove_dir_all(&target).unwrap();
        }
        let verified = self.stock.engine.ok(conf, &["verify", "--log-level-console=detail"]).unwrap().text();
        for word in ["ERROR", "invalid checksum", "missing file", "status: error"] {
            assert!(!verified.contains(word), "{verified}");
        }
    }
}

fn conf(folder: &Path, data: &Path, settings: Settings) -> Conf {
    let mut conf = Conf::create(folder, "demo").unwrap();
    conf.local("pg1-path", &data.display().to_string()).unwrap();
    conf.global("process-max", "2").unwrap();
    for (option, value) in settings {
        conf.global(option, value).unwrap();
    }
    conf
}

fn made(engine: &Engine, conf: &Conf, arguments: &[&str]) -> Made {
    let mut all = vec!["backup", "--no-online", "--log-level-console=detail"];
    all.extend(arguments);
    let run = engine.run(conf, &all).unwrap();
    let text = run.text();
    let mut files: Vec<String> =
        messages(&text, "DETAIL: ").into_iter().filter_map(|line| about_a_file(&line)).collect();
    files.sort();
    let warnings = messages(&text, "WARN: ");
    let manifest = match run.exit_code {
        Some(0) => {
            let label = newest(engine, conf);
            let path = format!("backup/demo/{label}/backup.manifest");
            let text = engine.ok(conf, &["repo-get", &path, "--log-level-console=off"]).unwrap().stdout;
            comparable(&text)
        }
        _ => Vec::new(),
    };
    Made { files, warnings, manifest, exit_code: run.exit_code, text }
}

/// The newest label in backup.info.
pub(crate) fn newest(engine: &Engine, conf: &Conf) -> String {
    let json = engine.ok(conf, &["info", "--output=json", "--log-level-console=off"]).unwrap().stdout;
    let info: serde_json::Value = serde_json::from_str(&json).unwrap();
    info[0]["backup"].as_array().unwrap().last().unwrap()["label"].as_str().unwrap().to_owned()
}

/// The messages of a level, with labels replaced.
fn messages(text: &str, level: &str) -> Vec<String> {
    let found = text.lines().filter_map(|line| line.split_once(level).map(|(_, message)| message));
    found.filter(|message| !message.contains("retention-full")).map(without_labels).collect()
}

/// What was done with which file, without where it is stored and how far the backup was by then.
fn about_a_file(message: &str) -> Option<String> {
    let verbs = ["backup file ", "match file ", "store ", "reference ", "skip file "];
    let is_about = verbs.iter().any(|verb| message.starts_with(verb));
    is_about.then(|| message.split(" (").next().unwrap_or_default().to_owned())
}

fn without_labels(text: &str) -> String {
    // The second in which the scan ended, too.
    let text = text.split(" (relative to").next().unwrap_or_default();
    text.split(' ')
        .map(|word| {
            let is_label = word.len() >= 16 && word.as_bytes()[8] == b'-' && word.starts_with("20");
            if is_label { "LABEL" } else { word }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// The lines of a manifest without what differs between two backups of the same tree. Labels become their places in the
/// list of references.
fn comparable(manifest: &str) -> Vec<String> {
    let list = manifest.lines().find_map(|line| line.strip_prefix("backup-reference=")).unwrap().trim_matches('"');
    // Longest first: the label of a full backup begins those of its set.
    let mut labels: Vec<(usize, &str)> = list.split(',').enumerate().collect();
    labels.sort_by_key(|(_, label)| std::cmp::Reverse(label.len()));
    let differs = ["backup-timestamp-", "cipher-pass=", "backrest-checksum="];
    let lines = manifest.lines().filter(|line| !differs.iter().any(|key| line.starts_with(key)));
    lines
        .map(|line| {
            let mut line = line.to_owned();
            for (place, label) in &labels {
                line = line.replace(label, &format!("backup {place}"));
            }
            let Some((name, value)) = line.split_once("={") else { return line };
            let attributes = value.trim_end_matches('}').split(',');
            // Where and how it is stored; encoders and bundles differ.
            let stored = ["\"bim\"", "\"bni\"", "\"bno\"", "\"rck\"", "\"repo-size\""];
            let kept: Vec<&str> =
                attributes.filter(|attribute| !stored.iter().any(|key| attribute.starts_with(key))).collect();
            format!("{name}={{{}}}", kept.join(","))
        })
        .collect()
}

fn assert_same(own: &[String], theirs: &[String]) {
    for (own, theirs) in own.iter().zip(theirs) {
        assert_eq!(own, theirs, "ours before the original's");
    }
    assert_eq!(own.len(), theirs.len());
}

type Tree = BTreeMap<PathBuf, (Vec<u8>, i64)>;

/// Files with content and modification time, without what a backup leaves out and a restore writes.
fn tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
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
