//! A primary, its replica, and a repository that both use.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::postgres::{Cluster, Load, Options, Shutdown, Version};
use pgbr_testkit::stock::Stock;
use pgbr_testkit::{pgbr, user};

pub(crate) struct Scene {
    pub(crate) dir: tempfile::TempDir,
    /// Of the primary's host: archives, and backs up the primary.
    pub(crate) primary_conf: Conf,
    /// Of the standby's host: knows nothing of the primary.
    pub(crate) standby_conf: Conf,
    pub(crate) primary: Cluster,
    pub(crate) standby: Cluster,
}

impl Scene {
    /// `archive_timeout` in seconds, 0 for never; `options` are those of the repository and of every backup.
    pub(crate) fn new(version: Version, archive_timeout: u32, options: &[(&str, &str)]) -> Self {
        let dir = user::scratch().unwrap();
        let mut primary_conf = Conf::create(&dir.path().join("primary-host"), "demo").unwrap();
        let mut standby_conf = Conf::create(&dir.path().join("standby-host"), "demo").unwrap();
        let repository = dir.path().join("primary-host/repo").display().to_string();
        for conf in [&mut primary_conf, &mut standby_conf] {
            conf.global("repo1-path", &repository).unwrap();
            conf.global("process-max", "2").unwrap();
            for (option, value) in options {
                conf.global(option, value).unwrap();
            }
        }
        let ours = pgbr::engine();
        let conf = vec![
            format!("archive_timeout = {archive_timeout}"),
            "log_connections = on".to_owned(),
            "wal_keep_size = 64MB".to_owned(),
            // Nobody but a backup has a reason to read a database that nobody uses.
            "autovacuum = off".to_owned(),
        ];
        let options = Options {
            archive_command: Some(ours.archive_command(&primary_conf)),
            wal_segment_size_mib: 1,
            conf,
            ..Options::default()
        };
        let mut primary = Cluster::started(version, &dir.path().join("primary"), options).unwrap();
        primary_conf.cluster(&primary).unwrap();
        ours.ok(&primary_conf, &["stanza-create"]).unwrap();
        let space = dir.path().join("space");
        user::create_dir(&space).unwrap();
        primary.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", space.display())).unwrap();
        primary
            .sql(
                "CREATE TABLE spaced TABLESPACE space AS SELECT g, repeat('x', 90) AS t FROM generate_series(1, 30000) g;
                 CREATE UNLOGGED TABLE lost AS SELECT 1;",
            )
            .unwrap();
        primary.pgbench_init(1).unwrap();
        let standby = primary.replica(&dir.path().join("standby"), Options::default()).unwrap();
        standby_conf.cluster(&standby).unwrap();
        Self { dir, primary_conf, standby_conf, primary, standby }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `work` while clients write to the primary, beginning when they do.
    pub(crate) fn under_load<T>(&self, seconds: u64, work: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            let begin = self.transactions();
            let load = scope.spawn(|| self.primary.pgbench_run(2, Load::Time(Duration::from_secs(seconds))).unwrap());
            while self.transactions() < begin + 20 {
                std::thread::sleep(Duration::from_millis(50));
            }
            let worked = work();
            load.join().unwrap();
            worked
        })
    }

    fn transactions(&self) -> u64 {
        self.primary.value("SELECT count(*) FROM pgbench_history").unwrap().parse().unwrap()
    }

    /// Everything that the primary wrote is archived.
    pub(crate) fn archive_all(&self) {
        self.primary.archive_current_segment(Duration::from_secs(30)).unwrap();
    }

    /// Restores with `engine` and recovers as `arguments` say; gives what is in the restored server.
    pub(crate) fn restored(&self, engine: &Engine, arguments: &[&str]) -> Vec<String> {
        let name = format!("restored{}", std::fs::read_dir(self.dir.path()).unwrap().count());
        let (data, space) = (self.path(&name), self.path(&format!("{name}-space")));
        user::create_dir(&data).unwrap();
        user::create_dir(&space).unwrap();
        let pg_path = format!("--pg1-path={}", data.display());
        let map = format!("--tablespace-map=space={}", space.display());
        let arguments = [&["restore", &pg_path, &map], arguments].concat();
        engine.ok(&self.primary_conf, &arguments).unwrap();
        let overrides = vec![("archive_mode".to_owned(), "off".to_owned())];
        let mut restored =
            Cluster::open(self.primary.version(), &data, Options { overrides, ..Options::default() }).unwrap();
        restored.start().unwrap();
        restored.wait_until_promoted(Duration::from_secs(60)).unwrap();
        let rows = rows(&restored);
        assert_eq!(restored.value("SELECT count(*) FROM lost").unwrap(), "0", "an unlogged table came back");
        restored.stop(Shutdown::Immediate).unwrap();
        rows
    }

    /// The newest backup as `info` shows it.
    pub(crate) fn newest(&self, engine: &Engine) -> serde_json::Value {
        let arguments = ["info", "--output=json", "--log-level-console=off"];
        let json = engine.ok(&self.primary_conf, &arguments).unwrap().stdout;
        let info: serde_json::Value = serde_json::from_str(&json).unwrap();
        info[0]["backup"].as_array().unwrap().last().unwrap().clone()
    }

    pub(crate) fn labels(&self, engine: &Engine) -> usize {
        let arguments = ["info", "--output=json", "--log-level-console=off"];
        let json = engine.ok(&self.primary_conf, &arguments).unwrap().stdout;
        let info: serde_json::Value = serde_json::from_str(&json).unwrap();
        info[0]["backup"].as_array().unwrap().len()
    }
}

/// What a server holds, after a look at whether it contradicts itself.
pub(crate) fn rows(cluster: &Cluster) -> Vec<String> {
    let balances = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches)
         AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history)
         AND (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history)";
    assert_eq!(cluster.value(balances).unwrap(), "t", "the rows contradict each other");
    let digest = |table: &str| {
        let digest = format!("SELECT count(*) || ' ' || coalesce(sum(hashtext(t::text)), 0) FROM {table} t");
        cluster.value(&digest).unwrap()
    };
    ["spaced", "pgbench_accounts", "pgbench_history", "pgbench_tellers"].into_iter().map(digest).collect()
}

/// The original finds nothing wrong with the repository.
pub(crate) fn verifies(stock: &Stock, conf: &Conf) {
    let text = stock.engine.ok(conf, &["verify", "--log-level-console=detail"]).unwrap().text();
    for word in ["ERROR", "invalid checksum", "missing file", "status: error"] {
        assert!(!text.contains(word), "{} says {word}:\n{text}", stock.engine.name());
    }
}

/// The manifest of the newest backup, in a repository without encryption.
pub(crate) fn manifest(repository: &Path) -> String {
    std::fs::read_to_string(repository.join("backup/demo/latest/backup.manifest")).unwrap()
}
