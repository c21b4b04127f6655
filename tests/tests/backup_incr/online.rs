//! Chains of backups of running servers under load: ours and the original write in turn, both restore each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pgbr_testkit::canary;
use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::postgres::{Cluster, Load, Options, Shutdown, Version};
use pgbr_testkit::s3::S3Server;
use pgbr_testkit::stock::{self, Release, Stock};
use pgbr_testkit::{pgbr, user};

use crate::data::{Settings, newest, verifies};

const CIPHER: [(&str, &str); 2] = [("repo1-cipher-type", "aes-256-cbc"), ("repo1-cipher-pass", canary::PASSPHRASE)];

/// What one chain is made of.
struct Case {
    version: Version,
    settings: Settings,
    release: Release,
    s3: bool,
}

/// A server, its stanza, and the folder of both.
struct Scene {
    dir: tempfile::TempDir,
    conf: Conf,
    cluster: Cluster,
    stock: &'static Stock,
    // Ends after everything that uses it.
    _store: Option<(S3Server, tempfile::TempDir)>,
}

impl Scene {
    fn new(case: &Case) -> Self {
        let dir = user::scratch().unwrap();
        let mut conf = Conf::create(&dir.path().join("backrest"), "demo").unwrap();
        let store = case.s3.then(|| s3(dir.path(), &mut conf));
        conf.global("process-max", "2").unwrap();
        for (option, value) in case.settings {
            conf.global(option, value).unwrap();
        }
        let archive_command = Some(pgbr::engine().archive_command(&conf));
        let options = Options { archive_command, ..Options::default() };
        let cluster = Cluster::started(case.version, &dir.path().join("data"), options).unwrap();
        conf.cluster(&cluster).unwrap();
        let stock = stock::all().iter().find(|stock| stock.release == case.release).unwrap();
        let space = dir.path().join("space");
        user::create_dir(&space).unwrap();
        cluster.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", space.display())).unwrap();
        cluster
            .sql(
                "CREATE TABLE spaced TABLESPACE space AS SELECT g, repeat('x', 90) AS t FROM generate_series(1, 30000) g;
                 CREATE TABLE quiet AS SELECT g, md5(g::text) FROM generate_series(1, 20000) g; CREATE TABLE empty (t text)",
            )
            .unwrap();
        cluster.pgbench_init(1).unwrap();
        Self { dir, conf, cluster, stock, _store: store }
    }

    /// Clients write before the backup and while it runs.
    fn backup(&self, engine: &Engine, kind: &str) -> String {
        self.cluster.sql("UPDATE spaced SET t = 'changed' WHERE g % 1000 = 7; CHECKPOINT").unwrap();
        std::thread::scope(|scope| {
            let load = scope.spawn(|| self.cluster.pgbench_run(2, Load::Time(Duration::from_secs(1))).unwrap());
            engine.ok(&self.conf, &["backup", &format!("--type={kind}")]).unwrap();
            load.join().unwrap();
        });
        newest(engine, &self.conf)
    }

    /// Both restore the backup to the same files.
    fn restores(&self, ours: &Engine, label: &str) -> PathBuf {
        let restored = [ours, &self.stock.engine].map(|engine| {
            let name = if engine.name() == ours.name() { "ours" } else { "theirs" };
            let (data, space) = (self.dir.path().join(name), self.dir.path().join(format!("{name}-space")));
            for folder in [&data, &space] {
                if folder.is_dir() {
                    std::fs::remove_dir_all(folder).unwrap();
                }
                user::create_dir(folder).unwrap();
            }
            let arguments = [
                "restore".to_owned(),
                format!("--pg1-path={}", data.display()),
                format!("--tablespace-map=space={}", space.display()),
                format!("--set={label}"),
            ];
            engine.ok(&self.conf, &arguments.each_ref().map(String::as_str)).unwrap();
            data
        });
        let [ours, theirs] = [&restored[0], &restored[1]].map(|root| crate::data::tree(root));
        assert!(ours.len() > 900);
        // Since 2.46 a restored pg_control cannot be used without backup_label.
        let is_other = |name: &Path| self.stock.release == Release::V2_45 && name.ends_with("pg_control");
        for (name, content) in theirs.iter().filter(|(name, _)| !is_other(name)) {
            // The signal file has the time of the restore.
            let found = ours.get(name).map(|(content, _)| content);
            assert!(found == Some(&content.0), "{label}: {} is another one", name.display());
        }
        assert_eq!(ours.len(), theirs.len());
        restored[0].clone()
    }

    /// The server starts from what was restored, and its rows do not contradict each other.
    fn starts(&self, data: &Path) {
        let overrides = vec![("archive_mode".to_owned(), "off".to_owned())];
        let options = Options { overrides, ..Options::default() };
        let mut restored = Cluster::open(self.cluster.version(), data, options).unwrap();
        restored.start().unwrap();
        restored.wait_until_promoted(Duration::from_secs(60)).unwrap();
        let balances =
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches)
             AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history)";
        assert_eq!(restored.value(balances).unwrap(), "t", "the rows contradict each other");
        for table in ["spaced", "quiet", "empty", "pgbench_history"] {
            let digest = format!("SELECT count(*) || ' ' || coalesce(sum(hashtext(t::text)), 0) FROM {table} t");
            assert_eq!(restored.value(&digest).unwrap(), self.cluster.value(&digest).unwrap(), "{table}");
        }
        restored.stop(Shutdown::Immediate).unwrap();
    }
}

fn s3(dir: &Path, conf: &mut Conf) -> (S3Server, tempfile::TempDir) {
    const BUCKET: &str = "backups";
    let objects = tempfile::tempdir().unwrap();
    let server = S3Server::start(objects.path()).unwrap();
    server.create_bucket(BUCKET).unwrap();
    let ca_file = dir.join("ca.pem");
    user::write_file(&ca_file, std::fs::read(server.ca_file()).unwrap()).unwrap();
    for (option, value) in [
        ("repo1-type", "s3"),
        ("repo1-path", "/repo"),
        ("repo1-s3-bucket", BUCKET),
        ("repo1-s3-endpoint", "localhost"),
        ("repo1-s3-region", server.region()),
        ("repo1-s3-key", server.key()),
        ("repo1-s3-key-secret", server.secret()),
        ("repo1-s3-uri-style", "path"),
        ("repo1-storage-port", &server.port().to_string()),
        ("repo1-storage-ca-file", &ca_file.display().to_string()),
    ] {
        conf.global(option, value).unwrap();
    }
    (server, objects)
}

/// Each program goes on where the other stopped.
fn both_go_on(case: &Case) {
    let scene = Scene::new(case);
    let (ours, theirs) = (pgbr::engine(), &scene.stock.engine);
    ours.ok(&scene.conf, &["stanza-create"]).unwrap();
    let mut last = String::new();
    for (engine, kind) in [
        (&ours, "full"),
        (theirs, "incr"),
        (&ours, "diff"),
        (theirs, "diff"),
        (&ours, "incr"),
        (theirs, "incr"),
        (&ours, "incr"),
    ] {
        let label = scene.backup(engine, kind);
        assert!(label > last, "{label} after {last}");
        last = label;
        if kind != "full" {
            scene.restores(&ours, &last);
        }
        // Without the archive, which goes on growing.
        let [own, other] = [&ours, theirs].map(|engine| {
            let arguments = ["info", "--output=json", "--log-level-console=off"];
            let json = engine.ok(&scene.conf, &arguments).unwrap().stdout;
            serde_json::from_str::<serde_json::Value>(&json).unwrap()[0]["backup"].clone()
        });
        // Others do not have all keys.
        if case.release == Release::V2_60 {
            assert_eq!(own, other);
        }
    }
    verifies(scene.stock, &scene.conf);
    scene.cluster.archive_current_segment(Duration::from_secs(30)).unwrap();
    let data = scene.restores(&ours, &last);
    scene.starts(&data);
}

#[test]
fn a_chain_of_18_in_blocks_on_s3() {
    both_go_on(&Case {
        version: Version::V18,
        settings: &[("compress-type", "zst"), ("repo1-bundle", "y"), ("repo1-block", "y"), CIPHER[0], CIPHER[1]],
        release: Release::V2_60,
        s3: true,
    });
}

#[test]
fn a_chain_of_15_without_bundles_in_a_directory() {
    both_go_on(&Case {
        version: Version::V15,
        settings: &[("compress-type", "gz"), CIPHER[0], CIPHER[1]],
        release: Release::V2_45,
        s3: false,
    });
}

#[test]
fn a_chain_of_13_in_blocks_and_a_directory() {
    both_go_on(&Case {
        version: Version::V13,
        settings: &[("compress-type", "lz4"), ("repo1-bundle", "y"), ("repo1-block", "y")],
        release: Release::V2_55,
        s3: false,
    });
}

/// A cluster that was at rest at the last backup is compared by content, and so is one on another timeline.
#[test]
fn bk09_what_happened_to_the_cluster_meanwhile_is_noticed() {
    let case =
        Case { version: Version::V15, settings: &[("compress-type", "lz4")], release: Release::V2_60, s3: false };
    let mut scene = Scene::new(&case);
    let ours = pgbr::engine();
    ours.ok(&scene.conf, &["stanza-create"]).unwrap();
    let backup = |scene: &Scene, arguments: &[&str]| {
        let mut all = vec!["backup"];
        all.extend(arguments);
        ours.ok(&scene.conf, &all).unwrap().text()
    };
    scene.cluster.stop(Shutdown::Fast).unwrap();
    backup(&scene, &["--type=full", "--no-online"]);
    scene.cluster.start().unwrap();
    let online = backup(&scene, &["--type=incr"]);
    assert!(online.contains("the online option has changed since the "), "{online}");
    let quiet = backup(&scene, &["--type=incr"]);
    assert!(!quiet.contains("enabling delta checksum"), "{quiet}");

    scene.cluster.stop(Shutdown::Fast).unwrap();
    let promoted = scene.restores(&ours, &newest(&ours, &scene.conf));
    let options = Options { archive_command: Some(ours.archive_command(&scene.conf)), ..Options::default() };
    scene.cluster = Cluster::open(Version::V15, &promoted, options).unwrap();
    scene.conf.cluster(&scene.cluster).unwrap();
    scene.cluster.start().unwrap();
    scene.cluster.wait_until_promoted(Duration::from_secs(60)).unwrap();
    let switched = backup(&scene, &["--type=incr"]);
    assert!(switched.contains("a timeline switch has occurred since the "), "{switched}");
    let label = newest(&ours, &scene.conf);
    let manifest = ours
        .ok(&scene.conf, &["repo-get", &format!("backup/demo/{label}/backup.manifest"), "--log-level-console=off"])
        .unwrap()
        .stdout;
    assert!(manifest.contains("option-delta=true"), "{label}");
    verifies(scene.stock, &scene.conf);
}
