//! Backups whose process is really killed, at points that the store's requests or the log tell. After each of them every
//! listed backup is whole, the original copes with the repository, and the next backup works.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::postgres::{Cluster, Options, Shutdown, Version};
use pgbr_testkit::s3::{Fault, RequestInfo, Rule, S3Operation, S3Server};
use pgbr_testkit::{pgbr, stock, user};

const BUCKET: &str = "backups";

struct Scene {
    dir: tempfile::TempDir,
    conf: Conf,
    cluster: Cluster,
    store: Option<(S3Server, tempfile::TempDir)>,
}

impl Scene {
    fn new(s3: bool, options: &[(&str, &str)]) -> Self {
        let dir = user::scratch().unwrap();
        let mut conf = Conf::create(&dir.path().join("backrest"), "demo").unwrap();
        let store = s3.then(|| {
            let objects = tempfile::tempdir().unwrap();
            let server = S3Server::start(objects.path()).unwrap();
            server.create_bucket(BUCKET).unwrap();
            let ca_file = dir.path().join("ca.pem");
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
        });
        for (option, value) in options {
            conf.global(option, value).unwrap();
        }
        let options = Options { archive_command: Some(pgbr::engine().archive_command(&conf)), ..Options::default() };
        let cluster = Cluster::started(Version::V17, &dir.path().join("data"), options).unwrap();
        conf.cluster(&cluster).unwrap();
        pgbr::engine().ok(&conf, &["stanza-create"]).unwrap();
        cluster.sql("CREATE TABLE rows AS SELECT g, repeat('x', 500) AS t FROM generate_series(1, 20000) g").unwrap();
        Self { dir, conf, cluster, store }
    }

    fn server(&self) -> &S3Server {
        &self.store.as_ref().unwrap().0
    }

    fn labels(&self) -> Vec<String> {
        let arguments = ["info", "--output=json", "--log-level-console=off"];
        let json = stock::newest().engine.ok(&self.conf, &arguments).unwrap().stdout;
        let info: serde_json::Value = serde_json::from_str(&json).unwrap();
        let backups = info[0]["backup"].as_array().cloned().unwrap_or_default();
        backups.iter().map(|backup| backup["label"].as_str().unwrap().to_owned()).collect()
    }

    /// How many backups have their manifest, in the directory that is the repository.
    fn whole(&self) -> usize {
        let backups = std::fs::read_dir(self.dir.path().join("backrest/repo/backup/demo")).unwrap();
        let is_whole = |path: &PathBuf| !path.is_symlink() && path.join("backup.manifest").is_file();
        backups.map(|entry| entry.unwrap().path()).filter(is_whole).count()
    }

    fn verifies(&self) {
        let stock = stock::newest();
        let text = stock.engine.ok(&self.conf, &["verify", "--log-level-console=detail"]).unwrap().text();
        // A backup that was killed has no manifest, which is said of it and no more.
        let told = text.lines().filter(|line| !line.contains("backup.manifest' for read"));
        for line in told {
            for word in ["ERROR", "invalid checksum", "missing file", "status: error"] {
                assert!(!line.contains(word), "{text}");
            }
        }
    }

    fn restores(&self, engine: &Engine, label: &str) {
        let data = self.dir.path().join(format!("restored-{label}"));
        user::create_dir(&data).unwrap();
        let (pg_path, set) = (format!("--pg1-path={}", data.display()), format!("--set={label}"));
        let arguments = ["restore", &pg_path, &set, "--type=immediate", "--target-action=promote"];
        engine.ok(&self.conf, &arguments).unwrap();
        let overrides = vec![("archive_mode".to_owned(), "off".to_owned())];
        let mut restored =
            Cluster::open(self.cluster.version(), &data, Options { overrides, ..Options::default() }).unwrap();
        restored.start().unwrap();
        restored.wait_until_promoted(Duration::from_secs(60)).unwrap();
        assert_eq!(restored.value("SELECT count(*) FROM rows WHERE length(t) = 500").unwrap(), "20000");
        restored.stop(Shutdown::Immediate).unwrap();
        std::fs::remove_dir_all(&data).unwrap();
    }

    fn start(&self, arguments: &[&str], stdout: Stdio) -> Child {
        let arguments = [&["backup", "--log-level-console=detail"], arguments].concat();
        let mut command = pgbr::engine().command(&self.conf, &arguments);
        command.stdout(stdout).spawn().unwrap()
    }
}

fn signal(child: &Child, name: &str) {
    let sent = user::command("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// A request that changes the store.
#[derive(Debug, Clone, Copy)]
struct Point {
    /// What the key ends with; all that is not a manifest or an info file for the empty text.
    key: &'static str,
    /// How many such requests pass before.
    passed: u32,
}

impl Point {
    fn is(self, key: &str) -> bool {
        let special = ["manifest.copy", "backup.manifest", "manifest.gz", "backup.info", "backup.info.copy"];
        let is_special = |key: &str| special.iter().any(|end| key.ends_with(end)) || key.contains("archive");
        if self.key.is_empty() { !is_special(key) } else { key.ends_with(self.key) }
    }

    /// The request of this point gets no answer and is not carried out; the receiver hears of it.
    fn hold(self, server: &S3Server) -> Receiver<()> {
        let (sender, receiver) = sync_channel(1);
        let state = Mutex::new((self.passed, sender));
        server.inject(Rule::always(Fault::Silence, move |request: &RequestInfo| {
            if request.operation != S3Operation::PutObject || !self.is(&request.key) {
                return false;
            }
            let (left, sender) = &mut *state.lock().unwrap();
            if *left > 0 {
                *left -= 1;
                return false;
            }
            // Only the first one counts.
            sender.try_send(()).unwrap_or_default();
            true
        }));
        receiver
    }
}

/// Every step of a backup on an object store, in order.
const POINTS: [Point; 12] = [
    Point { key: "manifest.copy", passed: 0 },
    Point { key: "manifest.copy", passed: 1 },
    Point { key: "", passed: 0 },
    Point { key: "", passed: 4 },
    Point { key: "global/pg_control.lz4", passed: 0 },
    Point { key: "backup_label.lz4", passed: 0 },
    Point { key: "manifest.copy", passed: 2 },
    Point { key: "backup.manifest", passed: 0 },
    Point { key: "manifest.gz", passed: 0 },
    Point { key: "backup.info", passed: 0 },
    Point { key: "backup.info.copy", passed: 0 },
    Point { key: "archive.info", passed: 0 },
];

fn killed_on_s3(kind: &str) {
    let (ours, stock) = (pgbr::engine(), stock::newest());
    let scene = Scene::new(true, &[("compress-type", "lz4")]);
    ours.ok(&scene.conf, &["backup", "--type=full"]).unwrap();
    let mut before = scene.labels();
    for (number, point) in POINTS.into_iter().enumerate() {
        // Some files change, none that is there for ever.
        scene.cluster.sql("UPDATE rows SET g = g + 1 WHERE g % 100 = 0").unwrap();
        let reached = point.hold(scene.server());
        let mut running = scene.start(&[kind], Stdio::null());
        reached.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("{point:?} was not reached"));
        signal(&running, "-KILL");
        running.wait().unwrap();
        scene.server().heal();
        let listed = scene.labels();
        let is_listed = point.key == "backup.info.copy" || point.key == "archive.info";
        // A listed one brings those with it that had all but their line in backup.info.
        assert_eq!(listed.len() > before.len(), is_listed, "{point:?}: {listed:?}");
        assert!(listed.starts_with(&before), "{point:?}: {listed:?}");
        // The one or the other goes on, and has what was there.
        if number % 4 == 3 || is_listed {
            scene.verifies();
            let next = if number % 2 == 0 { &ours } else { &stock.engine };
            next.ok(&scene.conf, &["backup", kind]).unwrap();
            let after = scene.labels();
            assert!(after.len() > listed.len() && after.starts_with(&listed), "{point:?}: {after:?}");
            before = after;
        }
    }
    scene.verifies();
    for label in [before.first().unwrap(), before.last().unwrap()] {
        scene.restores(&stock.engine, label);
    }
}

#[test]
fn bk13_a_full_killed_at_every_step_on_s3() {
    killed_on_s3("--type=full");
}

#[test]
fn bk13_an_incremental_killed_at_every_step_on_s3() {
    killed_on_s3("--type=incr");
}

/// Lines that a backup writes on its way.
const LINES: [&str; 6] = [
    "execute backup start",
    "backup start archive = ",
    "backup file ",
    "execute backup stop",
    "check archive for segment(s)",
    "new backup label = ",
];

/// Ends a backup with `name` as soon as it writes `line`, and gives its exit code.
fn ended_at(scene: &Scene, arguments: &[&str], line: &str, name: &str) -> Option<i32> {
    let mut running = scene.start(arguments, Stdio::piped());
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|text| text.contains(line)), "{line} was not reached");
    let begin = Instant::now();
    signal(&running, name);
    lines.for_each(drop);
    let code = running.wait().unwrap().code();
    assert!(begin.elapsed() < Duration::from_secs(30), "{name} at {line} took {:?}", begin.elapsed());
    code
}

#[test]
fn bk13_a_backup_killed_in_a_directory() {
    let (ours, stock) = (pgbr::engine(), stock::newest());
    let scene = Scene::new(false, &[("compress-type", "gz"), ("repo1-bundle", "y")]);
    ours.ok(&scene.conf, &["backup", "--type=full"]).unwrap();
    for (number, line) in LINES.into_iter().enumerate() {
        let kind = ["--type=full", "--type=incr"][number % 2];
        let before = scene.labels();
        assert_eq!(ended_at(&scene, &[kind], line, "-KILL"), None);
        let listed = scene.labels();
        assert!(listed.starts_with(&before) && listed.len() <= before.len() + 1, "{line}: {listed:?}");
        // One that has its manifest is whole: the next backup lists it.
        let whole = scene.whole();
        assert!((listed.len()..=before.len() + 1).contains(&whole), "{line}: {whole}");
        let next = if number % 2 == 0 { &stock.engine } else { &ours };
        next.ok(&scene.conf, &["backup", kind]).unwrap();
        assert_eq!(scene.labels().len(), whole + 1, "{line}");
    }
    scene.verifies();
    for label in [scene.labels().first().unwrap(), scene.labels().last().unwrap()] {
        scene.restores(&stock.engine, label);
    }
}

#[test]
fn bk25_a_backup_told_to_end_does_so_in_time() {
    for s3 in [false, true] {
        let (ours, stock) = (pgbr::engine(), stock::newest());
        let scene = Scene::new(s3, &[("compress-type", "bz2")]);
        for line in ["execute backup start", "backup file ", "execute backup stop"] {
            // The last may come too late.
            let code = ended_at(&scene, &["--type=full", "--process-max=1"], line, "-TERM");
            assert!(matches!(code, Some(63 | 0)), "{line}: {code:?}");
            assert!(line == "execute backup stop" || code == Some(63), "{line}: {code:?}");
        }
        let resumed = ours.ok(&scene.conf, &["backup", "--type=full", "--log-level-console=detail"]).unwrap().stdout;
        drop(resumed);
        scene.verifies();
        scene.restores(&stock.engine, scene.labels().last().unwrap());
    }
}

/// The store does not answer any more when the signal comes, and a second one follows.
#[test]
fn bk25_a_silent_store_does_not_hold_a_backup_that_is_to_end() {
    let scene = Scene::new(true, &[("compress-type", "lz4")]);
    let reached = Point { key: "", passed: 3 }.hold(scene.server());
    let mut running = scene.start(&["--type=full"], Stdio::null());
    reached.recv_timeout(Duration::from_secs(60)).unwrap();
    let begin = Instant::now();
    signal(&running, "-TERM");
    std::thread::sleep(Duration::from_millis(100));
    signal(&running, "-TERM");
    assert_eq!(running.wait().unwrap().code(), Some(63));
    assert!(begin.elapsed() < Duration::from_secs(25), "{:?}", begin.elapsed());
    scene.server().heal();
    pgbr::engine().ok(&scene.conf, &["backup", "--type=full"]).unwrap();
    scene.verifies();
}
