//! A server that two programs archive and back up in turns.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::postgres::{Cluster, Load, Options, Shutdown};
use pgbr_testkit::s3::Bucket;
use pgbr_testkit::stock::{self, Release, Stock};
use pgbr_testkit::{pgbr, user};
use tempfile::TempDir;

use crate::tree::{differences, tree};
use crate::values::Row;

const WAIT: Duration = Duration::from_secs(60);

/// Which of the two programs; the row says which is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    First,
    Second,
}

/// Something that one program does to the repository.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Backup(Who, &'static str),
    Expire(Who),
}

pub(crate) struct Scene {
    row: Row,
    dir: TempDir,
    conf: Conf,
    cluster: Cluster,
    stock: Stock,
    ours: Engine,
    done: u32,
    started: Instant,
    // Ends after everything that uses it.
    _bucket: Option<Bucket>,
}

impl Scene {
    pub(crate) fn new(row: &Row) -> Self {
        let started = Instant::now();
        let stock = stock::find(row.release).unwrap_or_else(|error| panic!("{row:?}: {error}"));
        let dir = user::scratch().unwrap();
        let mut conf = Conf::create(&dir.path().join("backrest"), "demo").unwrap();
        let bucket = row.s3.then(|| Bucket::start(dir.path()).unwrap());
        for (option, value) in bucket.iter().flat_map(|bucket| bucket.options(1)) {
            conf.global(&option, &value).unwrap();
        }
        // Something to expire at the end, and nothing before.
        let fixed = [("process-max", "2"), ("repo1-retention-full", "1"), ("expire-auto", "n")];
        for (option, value) in row.options().iter().chain(&fixed) {
            conf.global(option, value).unwrap();
        }
        let cluster = Cluster::started(row.version, &dir.path().join("data"), Options::default()).unwrap();
        conf.cluster(&cluster).unwrap();
        let scene =
            Self { row: *row, dir, conf, cluster, stock, ours: pgbr::engine(), done: 0, started, _bucket: bucket };
        scene.engine(Who::First).ok(&scene.conf, &["stanza-create"]).unwrap();
        scene.fill();
        scene
    }

    pub(crate) fn elapsed_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    fn engine(&self, who: Who) -> &Engine {
        let is_ours = (who == Who::First) == self.row.ours_first;
        if is_ours { &self.ours } else { &self.stock.engine }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn fill(&self) {
        user::create_dir(&self.path("space")).unwrap();
        let tablespace = format!("CREATE TABLESPACE space LOCATION '{}'", self.path("space").display());
        self.cluster.sql(&tablespace).unwrap();
        self.cluster
            .sql("CREATE TABLE spaced (g int, t text) TABLESPACE space; CREATE UNLOGGED TABLE lost AS SELECT 1")
            .unwrap();
        self.cluster.pgbench_init(2).unwrap();
    }

    /// New rows, changed pages in a large table, a new table, and one that goes.
    fn change(&self) {
        let number = self.done;
        self.cluster.pgbench_run(1, Load::Transactions(50)).unwrap();
        let sql = format!(
            "INSERT INTO spaced SELECT g, repeat('x', g % 90) FROM generate_series(1, 3000) g;
             CREATE TABLE step{number} AS SELECT g, md5(g::text) FROM generate_series(1, 1000) g;
             DROP TABLE IF EXISTS step{};
             UPDATE pgbench_accounts SET filler = 'step {number}' WHERE aid % 5000 = {number}",
            number.saturating_sub(2).max(1)
        );
        self.cluster.sql(&sql).unwrap();
    }

    /// Takes a step; both programs then agree about the repository and restore its newest backup to the same. After the
    /// last step ours also restores over what the original made of it.
    pub(crate) fn take(&mut self, step: Step, is_last: bool) {
        self.done += 1;
        match step {
            Step::Backup(who, kind) => self.back_up(who, kind),
            Step::Expire(who) => self.expire(who),
        }
        let what = format!("{:?} after {step:?}", self.row);
        self.both_say_the_same(&what);
        self.both_restore_the_same(&what, is_last);
    }

    fn back_up(&self, who: Who, kind: &str) {
        // WAL comes from both programs too.
        let archiver = if self.done.is_multiple_of(2) { Who::First } else { Who::Second };
        self.cluster.set_archive_command(&self.engine(archiver).archive_command(&self.conf)).unwrap();
        self.change();
        let before = self.labels();
        let outcome = self.engine(who).ok(&self.conf, &["backup", &format!("--type={kind}")]).unwrap();
        let after = self.labels();
        assert_eq!(after.len(), before.len() + 1, "{:?} {kind}: {}", self.row, outcome.text());
        let newest = after.last().unwrap();
        let letter = kind.chars().next().unwrap().to_ascii_uppercase();
        assert!(newest.ends_with(letter), "{:?} {kind}: {newest}\n{}", self.row, outcome.text());
    }

    fn expire(&self, who: Who) {
        let before = self.labels();
        self.engine(who).ok(&self.conf, &["expire"]).unwrap();
        let after = self.labels();
        let last_full = before.iter().rposition(|label| label.ends_with('F')).unwrap();
        assert_eq!(after, before[last_full..], "{:?}: what expire left", self.row);
    }

    fn info(&self, engine: &Engine) -> serde_json::Value {
        let json = engine.ok(&self.conf, &["info", "--output=json", "--log-level-console=off"]).unwrap().stdout;
        serde_json::from_str(&json).unwrap()
    }

    fn labels(&self) -> Vec<String> {
        let info = self.info(&self.stock.engine);
        let backups = info[0]["backup"].as_array().cloned().unwrap_or_default();
        backups.iter().map(|backup| backup["label"].as_str().unwrap().to_owned()).collect()
    }

    /// The original finds nothing wrong, and our `info` says what its does.
    fn both_say_the_same(&self, what: &str) {
        let stock = &self.stock.engine;
        stock.ok(&self.conf, &["check"]).unwrap_or_else(|error| panic!("{what}: {error}"));
        let verified = stock.ok(&self.conf, &["verify", "--log-level-console=detail"]).unwrap().text();
        for word in ["ERROR", "invalid checksum", "missing file", "status: error"] {
            assert!(!verified.contains(word), "{what}: verify says {word}:\n{verified}");
        }
        let theirs = self.info(stock);
        assert_eq!(theirs[0]["status"]["code"], 0, "{what}: {theirs}");
        let ours = self.info(&self.ours);
        // A field that the older releases do not know yet is no difference.
        assert!(is_within(&theirs, &ours), "{what}:\n{theirs}\n{ours}");
    }

    fn both_restore_the_same(&self, what: &str, is_last: bool) {
        let restore = |engine: &Engine, more: &[&str]| {
            let (data, space) = (self.path("restored"), self.path("restored-space"));
            user::create_dir(&data).unwrap();
            user::create_dir(&space).unwrap();
            let pg_path = format!("--pg1-path={}", data.display());
            let map = format!("--tablespace-map=space={}", space.display());
            let arguments = [&["restore", &pg_path, &map, "--archive-mode=off"], more].concat();
            engine.ok(&self.conf, &arguments).unwrap_or_else(|error| panic!("{what}: {error}"));
            let mut tree = tree(&data);
            if self.row.release == Release::V2_45 {
                // It does not mark the checkpoint as invalid yet.
                tree.remove("global/pg_control");
            }
            tree
        };
        let theirs = restore(&self.stock.engine, &[]);
        assert!(theirs.len() > 900, "{what}: {} entries", theirs.len());
        if is_last {
            let over = restore(&self.ours, &["--delta"]);
            let found = differences(&theirs, &over);
            assert!(found.is_empty(), "{what}, delta: {found:#?}");
        }
        self.remove_restored();
        let ours = restore(&self.ours, &[]);
        let found = differences(&theirs, &ours);
        assert!(found.is_empty(), "{what}: {found:#?}");
        self.remove_restored();
    }

    fn remove_restored(&self) {
        for name in ["restored", "restored-space"] {
            fs::remove_dir_all(self.path(name)).unwrap();
        }
    }

    /// The newest backup as a running server: all rows that were archived, and no broken page.
    pub(crate) fn the_last_backup_runs(&mut self) {
        self.change();
        self.cluster.archive_current_segment(WAIT).unwrap();
        let digest = |cluster: &Cluster| {
            ["pgbench_accounts", "pgbench_history", "spaced"].map(|table| {
                let sum = format!("SELECT count(*) || ' ' || sum(hashtext(t::text)) FROM {table} t");
                cluster.value(&sum).unwrap()
            })
        };
        let expected = digest(&self.cluster);
        self.cluster.stop(Shutdown::Fast).unwrap();
        for engine in [&self.stock.engine, &self.ours] {
            let (data, space) = (self.path("restored"), self.path("restored-space"));
            user::create_dir(&data).unwrap();
            user::create_dir(&space).unwrap();
            let pg_path = format!("--pg1-path={}", data.display());
            let map = format!("--tablespace-map=space={}", space.display());
            engine.ok(&self.conf, &["restore", &pg_path, &map]).unwrap();
            let overrides = vec![("archive_mode".to_owned(), "off".to_owned())];
            let mut restored =
                Cluster::open(self.row.version, &data, Options { overrides, ..Options::default() }).unwrap();
            restored.start().unwrap();
            restored.wait_until_promoted(WAIT).unwrap();
            assert_eq!(digest(&restored), expected, "{:?}: {} restored other rows", self.row, engine.name());
            restored.stop(Shutdown::Immediate).unwrap();
            self.remove_restored();
        }
    }
}

/// Whether everything in `one` is in `other` too, with the same values.
fn is_within(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Object};
    match (one, other) {
        (Object(one), Object(other)) => {
            one.iter().all(|(key, value)| other.get(key).is_some_and(|other| is_within(value, other)))
        }
        (Array(one), Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_within(one, other))
        }
        _ => one == other,
    }
}
