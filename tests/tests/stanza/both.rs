//! One state in two copies: the original works on one, pgbr on the other.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::postgres::{Cluster, Options, Version};
use pgbr_testkit::{pgbr, stock, user};

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) code: i32,
    /// Log lines without time, options and the path of the copy.
    pub(crate) lines: Vec<String>,
    /// What is in the copy afterwards, without logs.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

/// A configuration with its repositories and locks, for one of the two.
pub(crate) struct Side {
    pub(crate) engine: Engine,
    pub(crate) conf: Conf,
    pub(crate) root: PathBuf,
}

impl Side {
    pub(crate) fn new(engine: &Engine, root: PathBuf, data: &Path) -> Self {
        let mut conf = Conf::create(&root, "demo").unwrap();
        conf.local("pg1-path", data.to_str().unwrap()).unwrap();
        conf.global("log-timestamp", "n").unwrap();
        Self { engine: engine.clone(), conf, root }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A second repository.
    pub(crate) fn second_repository(&mut self) {
        let path = self.path("repo2");
        user::create_dir(&path).unwrap();
        self.conf.global("repo2-path", path.to_str().unwrap()).unwrap();
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        user::create_dir(path.parent().unwrap()).unwrap();
        user::write_file(&path, content).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// Runs a command and looks at what it left.
    pub(crate) fn run(&self, arguments: &[&str]) -> Effect {
        let outcome = self.engine.run(&self.conf, arguments).unwrap();
        let own = self.root.display().to_string();
        let wanted = |line: &&str| !line.contains(" command begin ");
        let lines = outcome.stdout.lines().filter(wanted).map(|line| line.replace(&own, "ROOT")).collect();
        Effect { code: outcome.exit_code.unwrap(), lines, files: self.files() }
    }

    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for top in ["repo", "repo2", "lock"] {
            collect(&self.root, &self.path(top), &mut files);
        }
        files
    }
}

fn collect(root: &Path, directory: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        if path.is_dir() {
            files.insert(format!("{name}/"), Vec::new());
            collect(root, &path, files);
        } else {
            files.insert(name, fs::read(&path).unwrap());
        }
    }
}

/// The two sides of one state, and data directories of PostgreSQL 15 and 18.
pub(crate) struct Both {
    pub(crate) stock: Side,
    pub(crate) ours: Side,
}

impl Both {
    pub(crate) fn new(dir: &Path, name: &str, data: &Path) -> Self {
        let stock = Side::new(&stock::newest().engine, dir.join(name).join("stock"), data);
        let ours = Side::new(&pgbr::engine(), dir.join(name).join("ours"), data);
        Self { stock, ours }
    }

    /// Prepares both sides alike.
    pub(crate) fn each(&mut self, prepare: impl Fn(&mut Side)) -> &mut Self {
        prepare(&mut self.stock);
        prepare(&mut self.ours);
        self
    }

    /// Makes both copies by the original, so that they begin with the same bytes.
    pub(crate) fn made_by_stock(&mut self, arguments: &[&str]) -> &mut Self {
        let stock = &stock::newest().engine;
        for side in [&self.stock, &self.ours] {
            stock.ok(&side.conf, arguments).unwrap();
        }
        self
    }

    /// Both must do the same.
    pub(crate) fn agree(&self, what: &str, arguments: &[&str]) -> Effect {
        let (stock, ours) = (self.stock.run(arguments), self.ours.run(arguments));
        let context = format!("{what}: {arguments:?}\nstock {:?}\nours  {:?}", stock.lines, ours.lines);
        assert_eq!(ours.code, stock.code, "{context}");
        // Whoever loses a file hears of it from ours alone.
        let mut ours_said = said(&ours);
        ours_said.retain(|line| !line.contains(".info cannot be used, its copy is: "));
        assert_eq!(ours_said, said(&stock), "{context}");
        let names = |effect: &Effect| effect.files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&stock), "{context}");
        assert!(ours.files == stock.files, "{context}\nthe files have other content");
        ours
    }
}

/// What scripts look at: the lines, where ours may say more after the first line of an error, and names itself.
fn said(effect: &Effect) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut in_error = false;
    for line in &effect.lines {
        if !line.starts_with('P') {
            // A line that goes on: of errors only the code counts, hints are our own.
            if !in_error {
                lines.push(line.clone());
            }
            continue;
        }
        in_error = line.contains("ERROR: [");
        let shown = if in_error { line.split_once("]: ").map_or(line.as_str(), |(code, _)| code) } else { line };
        lines.push(shown.to_owned());
    }
    lines
}

/// Data directories at rest of two clusters, as before and after a major upgrade.
pub(crate) struct Clusters {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) old: PathBuf,
    pub(crate) new: PathBuf,
}

impl Clusters {
    pub(crate) fn new() -> Self {
        let dir = user::scratch().unwrap();
        let make = |version, name: &str| {
            let data = dir.path().join(name);
            Cluster::create(version, &data, Options::default()).unwrap();
            data
        };
        let (old, new) = (make(Version::V15, "pg15"), make(Version::V18, "pg18"));
        Self { dir, old, new }
    }

    pub(crate) fn both(&self, name: &str) -> Both {
        Both::new(self.dir.path(), name, &self.old)
    }
}
