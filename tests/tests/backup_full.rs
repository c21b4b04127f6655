//! Full backups of real servers under load, judged by the original: it lists, verifies and restores them, and builds
//! its own incremental backups on top.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use pgbr_testkit::canary;
use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::postgres::{Cluster, Load, Options, Shutdown, Version};
use pgbr_testkit::s3::Bucket;
use pgbr_testkit::stock::{self, Release, Stock};
use pgbr_testkit::{pgbr, user};

/// The options of a repository, the server, and the releases that have to cope with the result.
struct Case {
    version: Version,
    options: &'static [(&'static str, &'static str)],
    releases: &'static [Release],
    s3: bool,
}

const CIPHER: [(&str, &str); 2] = [("repo1-cipher-type", "aes-256-cbc"), ("repo1-cipher-pass", canary::PASSPHRASE)];

/// A server, its stanza, and the folder of both.
struct Scene {
    dir: tempfile::TempDir,
    conf: Conf,
    cluster: Cluster,
    // Ends after everything that uses it.
    _store: Option<Bucket>,
}

impl Scene {
    fn new(case: &Case) -> Self {
        let dir = user::scratch().unwrap();
        let mut conf = Conf::create(&dir.path().join("backrest"), "demo").unwrap();
        let store = case.s3.then(|| s3(dir.path(), &mut conf));
        conf.global("process-max", "2").unwrap();
        for (option, value) in case.options {
            conf.global(option, value).unwrap();
        }
        let archive_command = Some(pgbr::engine().archive_command(&conf));
        let options = Options { archive_command, ..Options::default() };
        let cluster = Cluster::started(case.version, &dir.path().join("data"), options).unwrap();
        conf.cluster(&cluster).unwrap();
        Self { dir, conf, cluster, _store: store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Tables in a tablespace and outside, files of all sizes.
    fn fill(&self) {
        let space = self.path("space");
        user::create_dir(&space).unwrap();
        self.cluster.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", space.display())).unwrap();
        self.cluster
            .sql(
                "CREATE TABLE spaced TABLESPACE space AS SELECT g, repeat('x', 90) AS t FROM generate_series(1, 30000) g;
                 CREATE TABLE empty (t text); CREATE UNLOGGED TABLE lost AS SELECT 1;",
            )
            .unwrap();
        self.cluster.pgbench_init(1).unwrap();
    }

    /// Runs `work` while clients write.
    fn under_load(&self, work: impl FnOnce()) {
        std::thread::scope(|scope| {
            let load = scope.spawn(|| self.cluster.pgbench_run(2, Load::Time(Duration::from_secs(4))).unwrap());
            work();
            load.join().unwrap();
        });
    }

    /// What a restored server must have again, and that it is consistent in itself.
    fn rows(cluster: &Cluster) -> Vec<String> {
        let balances =
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches)
             AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history)";
        assert_eq!(cluster.value(balances).unwrap(), "t", "the rows contradict each other");
        let digest = |table: &str| {
            cluster
                .value(&format!("SELECT count(*) || ' ' || coalesce(sum(hashtext(t::text)), 0) FROM {table} t"))
                .unwrap()
        };
        let mut rows: Vec<String> = ["spaced", "empty", "pgbench_accounts", "pgbench_history", "pgbench_tellers"]
            .into_iter()
            .map(digest)
            .collect();
        rows.push(cluster.value("SELECT count(*) FROM lost").unwrap());
        rows
    }

    /// Restores with `engine` beside the server, and compares the rows with `expected`.
    fn restores(&self, engine: &Engine, set: Option<&str>, expected: &[String]) {
        let name = format!("restored{}", std::fs::read_dir(self.dir.path()).unwrap().count());
        let (data, space) = (self.path(&name), self.path(&format!("{name}-space")));
        user::create_dir(&data).unwrap();
        user::create_dir(&space).unwrap();
        let pg_path = format!("--pg1-path={}", data.display());
        let map = format!("--tablespace-map=space={}", space.display());
        let mut arguments = vec!["restore", &pg_path, &map];
        let set = set.map(|label| format!("--set={label}"));
        arguments.extend(set.as_deref());
        engine.ok(&self.conf, &arguments).unwrap();
        let overrides = vec![("archive_mode".to_owned(), "off".to_owned())];
        let mut restored =
            Cluster::open(self.cluster.version(), &data, Options { overrides, ..Options::default() }).unwrap();
        restored.start().unwrap();
        restored.wait_until_promoted(Duration::from_secs(60)).unwrap();
        let mut expected = expected.to_vec();
        // Unlogged tables come back empty.
        *expected.last_mut().unwrap() = "0".to_owned();
        assert_eq!(Self::rows(&restored), expected, "{} restored other rows", engine.name());
        restored.stop(Shutdown::Immediate).unwrap();
    }

    /// The newest label in backup.info.
    fn newest(&self, engine: &Engine) -> String {
        let json = engine.ok(&self.conf, &["info", "--output=json", "--log-level-console=off"]).unwrap().stdout;
        let info: serde_json::Value = serde_json::from_str(&json).unwrap();
        let backups = info[0]["backup"].as_array().unwrap();
        backups.last().unwrap()["label"].as_str().unwrap().to_owned()
    }
}

fn s3(dir: &Path, conf: &mut Conf) -> Bucket {
    let bucket = Bucket::start(dir).unwrap();
    for (option, value) in bucket.options(1) {
        conf.global(&option, &value).unwrap();
    }
    bucket
}

fn releases(wanted: &[Release]) -> Vec<&'static Stock> {
    let found: Vec<_> = stock::all().iter().filter(|stock| wanted.contains(&stock.release)).collect();
    assert!(!found.is_empty(), "none of {wanted:?} is to be had");
    found
}

/// Our full under load; the original lists, verifies and restores it, adds an incremental and restores that.
fn the_original_goes_on_with_our_full(case: &Case) {
    let ours = pgbr::engine();
    let scene = Scene::new(case);
    ours.ok(&scene.conf, &["stanza-create"]).unwrap();
    scene.fill();
    scene.under_load(|| {
        let backed = ours.ok(&scene.conf, &["backup", "--type=full", "--annotation=by=pgbr"]).unwrap();
        for line in [
            "INFO: backup start archive = ",
            "INFO: check archive for segment(s) ",
            "INFO: new backup label = ",
            "INFO: full backup size = ",
        ] {
            assert!(backed.stdout.contains(line), "{line} is not in\n{}", backed.stdout);
        }
    });
    scene.cluster.archive_current_segment(Duration::from_secs(30)).unwrap();
    let rows = Scene::rows(&scene.cluster);
    for stock in releases(case.releases) {
        let engine = &stock.engine;
        let listed = engine.ok(&scene.conf, &["info"]).unwrap().stdout;
        assert!(listed.contains("status: ok") && listed.contains("full backup: "), "{listed}");
        engine.ok(&scene.conf, &["check"]).unwrap();
        verifies(stock, &scene.conf);
        let full = scene.newest(engine);
        scene.restores(engine, Some(&full), &rows);
    }
    // Newest last: an older release need not read what a newer one wrote.
    let stock = releases(case.releases)[0];
    scene.cluster.sql("INSERT INTO spaced SELECT g, 'later' FROM generate_series(1, 500) g").unwrap();
    stock.engine.ok(&scene.conf, &["backup", "--type=incr"]).unwrap();
    let incremental = scene.newest(&stock.engine);
    assert!(incremental.ends_with('I'), "{incremental}");
    scene.cluster.archive_current_segment(Duration::from_secs(30)).unwrap();
    let rows = Scene::rows(&scene.cluster);
    verifies(stock, &scene.conf);
    scene.restores(&stock.engine, Some(&incremental), &rows);
}

/// `verify` prints nothing of interest in 2.45 beyond its log, which later releases keep for errors.
fn verifies(stock: &Stock, conf: &Conf) {
    let verified = stock.engine.ok(conf, &["verify", "--log-level-console=detail"]).unwrap();
    let text = verified.text();
    for word in ["ERROR", "invalid checksum", "missing file", "status: error"] {
        assert!(!text.contains(word), "{} says {word}:\n{text}", stock.engine.name());
    }
}

#[test]
fn a_full_of_15_in_a_directory() {
    the_original_goes_on_with_our_full(&Case {
        version: Version::V15,
        options: &[("compress-type", "none")],
        releases: &Release::ALL,
        s3: false,
    });
}

#[test]
fn a_bundled_and_encrypted_full_of_15_in_a_directory() {
    the_original_goes_on_with_our_full(&Case {
        version: Version::V15,
        options: &[("compress-type", "gz"), ("repo1-bundle", "y"), CIPHER[0], CIPHER[1]],
        releases: &[Release::V2_45, Release::V2_60],
        s3: false,
    });
}

#[test]
fn a_bundled_full_of_18_in_a_directory() {
    the_original_goes_on_with_our_full(&Case {
        version: Version::V18,
        options: &[
            ("compress-type", "lz4"),
            ("repo1-bundle", "y"),
            ("repo1-bundle-size", "1MiB"),
            ("repo1-bundle-limit", "64KiB"),
        ],
        releases: &[Release::V2_60],
        s3: false,
    });
}

#[test]
fn an_encrypted_full_of_13_in_a_directory() {
    the_original_goes_on_with_our_full(&Case {
        version: Version::V13,
        options: &[("compress-type", "bz2"), CIPHER[0], CIPHER[1]],
        releases: &[Release::V2_55],
        s3: false,
    });
}

#[test]
fn a_bundled_and_encrypted_full_of_18_on_s3() {
    the_original_goes_on_with_our_full(&Case {
        version: Version::V18,
        options: &[("compress-type", "zst"), ("repo1-bundle", "y"), CIPHER[0], CIPHER[1]],
        releases: &[Release::V2_60],
        s3: true,
    });
}

#[test]
fn a_full_of_15_on_s3() {
    the_original_goes_on_with_our_full(&Case {
        version: Version::V15,
        options: &[("compress-type", "lz4")],
        releases: &[Release::V2_55],
        s3: true,
    });
}

#[test]
fn we_go_on_with_the_repository_of_the_original() {
    let (ours, stock) = (pgbr::engine(), stock::newest());
    let case = Case {
        version: Version::V15,
        options: &[("compress-type", "zst"), ("repo1-bundle", "y"), ("repo1-block", "y"), CIPHER[0], CIPHER[1]],
        releases: &[Release::V2_60],
        s3: false,
    };
    let scene = Scene::new(&case);
    stock.engine.ok(&scene.conf, &["stanza-create"]).unwrap();
    scene.fill();
    stock.engine.ok(&scene.conf, &["backup", "--type=full"]).unwrap();
    stock.engine.ok(&scene.conf, &["backup", "--type=incr"]).unwrap();
    let theirs = scene.newest(&stock.engine);
    scene.under_load(|| {
        ours.ok(&scene.conf, &["backup", "--type=full"]).unwrap();
    });
    let full = scene.newest(&stock.engine);
    assert!(full > theirs && full.ends_with('F'));
    scene.cluster.archive_current_segment(Duration::from_secs(30)).unwrap();
    let rows = Scene::rows(&scene.cluster);
    verifies(stock, &scene.conf);
    scene.restores(&stock.engine, Some(&full), &rows);
    // Its incremental on top of ours; the older set stays whole.
    stock.engine.ok(&scene.conf, &["backup", "--type=incr"]).unwrap();
    assert!(scene.newest(&stock.engine).starts_with(&full));
    verifies(stock, &scene.conf);
    scene.restores(&stock.engine, Some(&theirs), &rows);
}

/// A backup that is told to stop ends with 63, and the original resumes it.
#[test]
fn bk25_the_original_resumes_what_a_signal_left() {
    let (ours, stock) = (pgbr::engine(), stock::newest());
    let case = Case { version: Version::V15, options: &[("compress-type", "bz2")], releases: &[], s3: false };
    let scene = Scene::new(&case);
    ours.ok(&scene.conf, &["stanza-create"]).unwrap();
    scene.fill();
    let mut command =
        ours.command(&scene.conf, &["backup", "--type=full", "--process-max=1", "--log-level-console=detail"]);
    let mut running = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(running.stdout.take().unwrap()));
    // The first file is stored, hundreds are not.
    assert!(lines.any(|line| line.unwrap().contains("DETAIL: backup file ")));
    let term = user::command("kill").args(["-TERM", &running.id().to_string()]).status().unwrap();
    assert!(term.success());
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(running.wait().unwrap().code(), Some(63), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("[063]: terminated on signal SIGTERM")), "{rest:?}");

    let resumed =
        stock.engine.ok(&scene.conf, &["backup", "--type=full", "--log-level-console=detail"]).unwrap().stdout;
    assert!(resumed.contains("resumable backup "), "{resumed}");
    assert!(resumed.contains("checksum resumed file "), "{resumed}");
    scene.cluster.archive_current_segment(Duration::from_secs(30)).unwrap();
    verifies(stock, &scene.conf);
    scene.restores(&stock.engine, None, &Scene::rows(&scene.cluster));
}

/// The same directory at rest, backed up by both: the manifests are equal but for names, times and secrets.
#[test]
fn an_offline_manifest_is_that_of_the_original() {
    let (ours, stock) = (pgbr::engine(), stock::newest());
    for options in
        [&[("compress-type", "none")][..], &[("compress-type", "zst"), ("repo1-bundle", "y"), CIPHER[0], CIPHER[1]]]
    {
        let mut scene = Scene::new(&Case { version: Version::V18, options: &[], releases: &[], s3: false });
        for (option, value) in options {
            scene.conf.global(option, value).unwrap();
        }
        ours.ok(&scene.conf, &["stanza-create"]).unwrap();
        scene.fill();
        let running = ours.run(&scene.conf, &["backup", "--type=full", "--no-online"]).unwrap();
        assert_eq!(running.exit_code, Some(38), "{}", running.text());
        scene.cluster.set_archive_command("true").unwrap();
        scene.cluster.stop(Shutdown::Fast).unwrap();
        let arguments = ["backup", "--type=full", "--no-online", "--checksum-page", "--annotation=k=v"];
        let manifests = [&ours, &stock.engine].map(|engine| {
            engine.ok(&scene.conf, &arguments).unwrap();
            let label = scene.newest(&stock.engine);
            let path = format!("backup/demo/{label}/backup.manifest");
            stock.engine.ok(&scene.conf, &["repo-get", &path, "--log-level-console=off"]).unwrap().stdout
        });
        let [own, theirs] = manifests.map(|manifest| comparable(&manifest));
        assert!(own.len() > 900, "{} lines", own.len());
        for (own, theirs) in own.iter().zip(&theirs) {
            assert_eq!(own, theirs);
        }
        assert_eq!(own.len(), theirs.len());
        verifies(stock, &scene.conf);
    }
}

/// The lines of a manifest without what differs between two backups of the same directory.
fn comparable(manifest: &str) -> Vec<String> {
    let differs = ["backup-label=", "backup-reference=", "backup-timestamp-", "cipher-pass=", "backrest-checksum="];
    let lines = manifest.lines().filter(|line| !differs.iter().any(|key| line.starts_with(key)));
    lines
        .map(|line| {
            let Some((name, value)) = line.split_once("={") else { return line.to_owned() };
            let attributes = value.trim_end_matches('}').split(',');
            // Where and how it is stored; encoders and bundles differ.
            let stored = ["\"bni\"", "\"bno\"", "\"rck\"", "\"repo-size\""];
            let kept: Vec<&str> =
                attributes.filter(|attribute| !stored.iter().any(|key| attribute.starts_with(key))).collect();
            format!("{name}={{{}}}", kept.join(","))
        })
        .collect()
}
