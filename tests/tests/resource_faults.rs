//! Few descriptors, a throttled processor, no memory, very many objects (the rows RE of the faults).
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pgbr_testkit::conf::Conf;
use pgbr_testkit::postgres::{Cluster, Options, Version};
use pgbr_testkit::process::{self, Outcome};
use pgbr_testkit::s3::{Bucket, Fault, RequestInfo, Rule, S3Operation};
use pgbr_testkit::{pgbr, stock, user};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(120);

/// The only segment of a new cluster.
const SEGMENT: &str = "000000010000000000000001";

/// A new cluster at rest with a stanza on S3 or in a directory.
struct Scene {
    dir: TempDir,
    conf: Conf,
    bucket: Option<Bucket>,
}

impl Scene {
    fn new(s3: bool) -> Self {
        let dir = user::scratch().unwrap();
        let mut conf = Conf::create(&dir.path().join("backrest"), "demo").unwrap();
        let bucket = s3.then(|| Bucket::start(dir.path()).unwrap());
        for (option, value) in bucket.iter().flat_map(|bucket| bucket.options(1)) {
            conf.global(&option, &value).unwrap();
        }
        for (option, value) in [("compress-type", "zst"), ("process-max", "2")] {
            conf.global(option, value).unwrap();
        }
        drop(Cluster::create(Version::V15, &dir.path().join("data"), Options::default()).unwrap());
        conf.local("pg1-path", &dir.path().join("data").display().to_string()).unwrap();
        pgbr::engine().ok(&conf, &["stanza-create", "--no-online"]).unwrap();
        Self { dir, conf, bucket }
    }

    fn bucket(&self) -> &Bucket {
        self.bucket.as_ref().unwrap()
    }

    /// Runs `pgbr` behind a limit that a shell sets.
    fn limited(&self, limit: &str, arguments: &[&str]) -> Outcome {
        let engine = pgbr::engine();
        let mut command = user::command("/bin/sh");
        command.args(["-c", &format!("{limit}; exec \"$0\" \"$@\"")]).arg(engine.binary());
        command.arg(self.conf.config_option()).arg(self.conf.stanza_option()).args(arguments);
        process::run(&mut command, LIMIT).unwrap()
    }

    fn labels(&self) -> usize {
        let json =
            stock::newest().engine.ok(&self.conf, &["info", "--output=json", "--log-level-console=off"]).unwrap();
        let info: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        info[0]["backup"].as_array().map_or(0, Vec::len)
    }

    fn target(&self, name: &str) -> (PathBuf, String) {
        let data = self.dir.path().join(name);
        user::create_dir(&data).unwrap();
        let pg_path = format!("--pg1-path={}", data.display());
        (data, pg_path)
    }
}

const BACKUP: [&str; 3] = ["backup", "--type=full", "--no-online"];

#[test]
fn re04_few_descriptors_are_enough_or_named() {
    let scene = Scene::new(true);
    scene.limited("ulimit -n 64", &BACKUP).success().unwrap();
    let (data, pg_path) = scene.target("restored");
    scene.limited("ulimit -n 64", &["restore", &pg_path, "--type=none"]).success().unwrap();
    assert!(data.join("global/pg_control").is_file());
    assert_eq!(scene.labels(), 1);
    // Not even the connections fit: an error that says so, and nothing that looks like a success.
    let starved = scene.limited("ulimit -n 10", &BACKUP);
    assert!(!matches!(starved.exit_code, Some(0) | None), "{}", starved.text());
    assert!(starved.text().contains("open files"), "{}", starved.text());
    assert_eq!(scene.labels(), 1);
    let (data, pg_path) = scene.target("starved");
    let starved = scene.limited("ulimit -n 10", &["restore", &pg_path, "--type=none"]);
    assert!(!matches!(starved.exit_code, Some(0) | None), "{}", starved.text());
    assert!(!data.join("global/pg_control").try_exists().unwrap());
}

#[test]
fn re05_a_throttled_processor_only_takes_longer() {
    let scene = Scene::new(true);
    let mut command = pgbr::engine().command(&scene.conf, &["archive-push", &format!("pg_wal/{SEGMENT}")]);
    command.current_dir(scene.dir.path().join("data")).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id().to_string();
    let signal = |name: &str| user::command("kill").args([name, &pid]).stderr(Stdio::null()).status().unwrap();
    let started = Instant::now();
    // A twentieth of the time, for some seconds in which peers would time out; then freely.
    while child.try_wait().unwrap().is_none() && started.elapsed() < Duration::from_secs(8) {
        signal("-STOP");
        std::thread::sleep(Duration::from_millis(190));
        signal("-CONT");
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let destination = scene.dir.path().join("fetched");
    let get = pgbr::engine().run(&scene.conf, &["archive-get", SEGMENT, &destination.display().to_string()]).unwrap();
    get.success().unwrap();
    assert_eq!(fs::read(&destination).unwrap(), fs::read(scene.dir.path().join("data/pg_wal").join(SEGMENT)).unwrap());
}

/// Threads that the system refuses are an error at the start, not a wait without end.
#[test]
fn re04_threads_that_do_not_fit_are_named() {
    let scene = Scene::new(false);
    let refused = scene.limited("ulimit -v 60000", &["backup", "--type=full", "--no-online", "--process-max=90"]);
    assert_eq!(refused.exit_code, Some(100), "{}", refused.text());
    assert!(refused.text().contains("unable to start threads"), "{}", refused.text());
    assert_eq!(scene.labels(), 0);
}

/// Memory that runs out ends the process wherever it is: not a success, not listed, and the next backup tidies up.
#[test]
fn re08_no_memory_is_a_failure_that_leaves_nothing() {
    let scene = Scene::new(false);
    let mut failed = 0;
    for kib in [16_000, 20_000, 24_000, 28_000, 32_000] {
        let outcome = scene.limited(&format!("ulimit -v {kib}"), &BACKUP);
        if outcome.exit_code == Some(0) {
            continue;
        }
        failed += 1;
        assert_eq!(scene.labels(), 0, "{kib} KiB: {}", outcome.text());
    }
    assert!(failed > 0, "the limits were no limits");
    let before = scene.labels();
    pgbr::engine().ok(&scene.conf, &BACKUP).unwrap();
    assert_eq!(scene.labels(), before + 1);
    let verified = stock::newest().engine.ok(&scene.conf, &["verify", "--log-level-console=detail"]).unwrap().text();
    assert!(!verified.contains("ERROR") && !verified.contains("invalid"), "{verified}");
}

/// An archiver and a backup need no right to delete, nor to give up uploads: neither when all goes well, nor when transfers
/// fail on the way, nor for what a failed backup left. Expire may have an identity of its own.
#[test]
fn sec19_archiving_and_backups_need_no_right_to_delete() {
    let mut scene = Scene::new(true);
    // Expire has another identity, and its own time.
    scene.conf.global("expire-auto", "n").unwrap();
    let server = scene.bucket().server();
    fs::remove_dir_all(scene.bucket().repo()).unwrap();
    let is_deletion = |operation| {
        matches!(operation, S3Operation::DeleteObject | S3Operation::DeleteObjects | S3Operation::AbortMultipartUpload)
    };
    let deny = || {
        server.inject(Rule::always(Fault::error(403, "AccessDenied"), move |request| is_deletion(request.operation)));
    };
    let deletions = || {
        let all = [S3Operation::DeleteObject, S3Operation::DeleteObjects, S3Operation::AbortMultipartUpload];
        all.map(|operation| server.count(operation)).iter().sum::<u64>()
    };
    let ok = |arguments: &[&str]| pgbr::engine().ok(&scene.conf, arguments).unwrap();
    let push = |expected: bool| {
        let mut push = pgbr::engine().command(&scene.conf, &["archive-push", &format!("pg_wal/{SEGMENT}")]);
        let outcome = process::run(push.current_dir(scene.dir.path().join("data")), LIMIT).unwrap();
        assert_eq!(outcome.exit_code == Some(0), expected, "{}", outcome.text());
    };
    let bundled = ["backup", "--type=full", "--no-online", "--repo1-bundle"];
    deny();
    let before = deletions();
    ok(&["stanza-create", "--no-online"]);
    push(true);
    push(true);
    ok(&BACKUP);
    ok(&bundled);
    assert_eq!(deletions(), before, "nothing was even tried");

    // Answers that are lost and connections that break are tried again; a refusal ends the command.
    let data_file = |request: &RequestInfo| request.key.contains("/bundle/");
    for fault in [Fault::Reset, Fault::LoseAnswer] {
        let left = AtomicU32::new(1);
        server.inject(Rule::always(fault, move |request| {
            request.operation == S3Operation::PutObject
                && data_file(request)
                && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        }));
        ok(&bundled);
    }
    let listed = scene.labels();
    let fail = || {
        server.heal();
        deny();
        server.inject(Rule::always(Fault::error(403, "AccessDenied"), |request| {
            request.operation == S3Operation::PutObject
                && (request.key.contains("archive/demo/15-1") || request.key.contains("/bundle/2"))
        }));
        let failed = pgbr::engine().run(&scene.conf, &bundled).unwrap();
        assert!(failed.exit_code != Some(0) && failed.text().contains("AccessDenied"), "{}", failed.text());
    };
    fail();
    fs::remove_dir_all(scene.bucket().repo().join("archive/demo/15-1")).unwrap();
    push(false);
    server.heal();
    deny();
    push(true);
    // What the failed one left is gone on with; what cannot be, stays for expire.
    let resumed = ok(&bundled).text();
    assert!(resumed.contains("resumable backup") && resumed.contains("may not be removed here"), "{resumed}");
    fail();
    server.heal();
    deny();
    let anew = ok(&["backup", "--type=full", "--no-online", "--repo1-bundle", "--no-resume"]).text();
    assert!(anew.contains("cannot be resumed") && anew.contains("may not be removed here"), "{anew}");
    assert_eq!(scene.labels(), listed + 2);
    // The store's folders stay when nothing is in them.
    let folders = || {
        let entries = fs::read_dir(scene.bucket().repo().join("backup/demo")).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().path().join("backup.manifest.copy").is_file()).count()
    };
    assert_eq!(folders(), listed + 3);
    server.heal();
    ok(&["expire", "--repo1-retention-full=1"]);
    assert_eq!((scene.labels(), folders()), (1, 1));
    let verified = stock::newest().engine.ok(&scene.conf, &["verify", "--log-level-console=detail"]).unwrap().text();
    assert!(!verified.contains("ERROR") && !verified.contains("invalid"), "{verified}");
}

/// Pushing and fetching a segment asks for as much in a large archive as in an empty one.
#[test]
fn re09_requests_do_not_grow_with_the_archive() {
    let requests = |scene: &Scene| {
        let server = scene.bucket().server();
        [S3Operation::ListObjects, S3Operation::GetObject, S3Operation::HeadObject, S3Operation::PutObject]
            .map(|operation| server.count(operation))
    };
    let push_and_get = |scene: &Scene, name: &str| {
        let before = requests(scene);
        let mut push = pgbr::engine().command(&scene.conf, &["archive-push", &format!("pg_wal/{SEGMENT}")]);
        process::run(push.current_dir(scene.dir.path().join("data")), LIMIT).unwrap().success().unwrap();
        let destination = scene.dir.path().join(name);
        pgbr::engine().ok(&scene.conf, &["archive-get", SEGMENT, &destination.display().to_string()]).unwrap();
        assert_eq!(fs::metadata(&destination).unwrap().len(), 16 * 1024 * 1024);
        let after = requests(scene);
        [0, 1, 2, 3].map(|at| after[at] - before[at])
    };
    let empty = push_and_get(&Scene::new(true), "fetched");
    let large = Scene::new(true);
    let archive = large.bucket().repo().join("archive/demo/15-1");
    for log in 1..40 {
        let folder = archive.join(format!("00000001{log:08X}"));
        fs::create_dir_all(&folder).unwrap();
        for segment in 0..256 {
            fs::write(folder.join(format!("00000001{log:08X}{segment:08X}-{segment:040x}.zst")), "").unwrap();
        }
    }
    assert_eq!(push_and_get(&large, "fetched"), empty);
}
