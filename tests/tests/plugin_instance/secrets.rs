//! No secret leaves the sidecar by any way but to the store that it is for, however much it logs and whatever fails.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use pgbr_testkit::conf::Conf;
use pgbr_testkit::s3::{Bucket, Fault, Rule as S3Rule, S3Operation};
use pgbr_testkit::wait::found;
use pgbr_testkit::{pgbr, user};
use serde_json::json;
use tonic::Code;

use crate::scene::{NAMESPACE, Primary, World, cluster};
use crate::upkeep::LIMIT;

/// The numbers of the processes that another one has begun and that are there now.
fn children(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect()
}

/// What the kernel has counted for children of a process that ended: page faults and time. Nothing that ran has none.
fn ended_children(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // After the name, which may have spaces, the third field comes first.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    [11, 13, 16, 17].iter().map(|field| fields[field - 3].parse::<u64>().unwrap()).sum()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

/// The passphrase that the repository generated for itself and keeps, encrypted, in an info file.
fn generated(world: &World, file: &str) -> String {
    let mut conf = Conf::create(&world.folder.path().join("reader"), "demo").unwrap();
    let repo = world.bucket.repo().display().to_string();
    for (option, value) in [
        ("repo1-path", repo.as_str()),
        ("repo1-cipher-type", "aes-256-cbc"),
        ("repo1-cipher-pass", "canary-passphrase"),
    ] {
        conf.global(option, value).unwrap();
    }
    let text = pgbr::engine().ok(&conf, &["--log-level-console=off", "repo-get", file]).unwrap().stdout;
    fs::remove_dir_all(world.folder.path().join("reader")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("cipher-pass=")).unwrap();
    line.trim_matches('"').to_owned()
}

/// A key that is not there, a wrong one, another authority: every file goes by what the Secrets hold then, and nothing has to
/// be restarted.
#[test]
fn kg15_secrets_count_from_the_next_request_on() {
    let primary = Primary::start();
    let (world, demo) = (&primary.world, cluster("demo-1"));
    let caller = primary.pod.caller();
    let segment = primary.server.archive_current_segment(LIMIT).unwrap();
    let refused = || caller.archive(&demo, &segment, None).unwrap_err();
    for key in ["secret", "ca", "cipher"] {
        let value = world.secrets.remove(key).unwrap();
        let error = refused();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
        assert!(error.message().contains(&format!("key '{key}' of Secret 'keys' is not in the pod")), "{error}");
        world.secrets.set(key, &value);
        caller.archive(&demo, &segment, None).unwrap();
    }
    let folder = user::scratch().unwrap();
    let other = Bucket::start(folder.path()).unwrap();
    let authority = fs::read(other.server().ca_file()).unwrap();
    for (key, value, told) in [
        ("ca", authority.as_slice(), "certificate"),
        ("ca", b"no certificate", "certificate"),
        ("secret", b"canary-wrong", "SignatureDoesNotMatch"),
        ("cipher", b"canary-other-key", "archive.info"),
    ] {
        let value = world.secrets.set(key, value).unwrap();
        let error = refused();
        assert!(error.message().contains(told), "{key}: {error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        world.secrets.set(key, &value);
        caller.archive(&demo, &segment, None).unwrap();
    }
}

/// Archiving, fetching, backups, retention, figures and the status, with everything logged and everything failing once, and
/// with a umask that takes nothing away: no secret is in a log, an answer, an object of the API server, a file, an argument
/// or a variable, and no process is ever begun.
#[test]
fn sec01_sec02_the_sidecar_gives_no_secret_away_and_begins_no_process() {
    let world = World::new();
    world.archive("store", &json!({ "log": { "levelStderr": "trace" }, "compression": "zst" }));
    let mut primary = Primary::in_world(world);
    primary.pod.variables.push(("STATUS_INTERVAL_SECONDS".to_owned(), "1".to_owned()));
    primary.pod.variables.push(("RETENTION_INTERVAL_SECONDS".to_owned(), "1".to_owned()));
    primary.pod.arguments.push("--log-level=trace".to_owned());
    primary.pod.kill_sidecar();
    let process = primary.pod.sidecar.as_ref().unwrap().id();
    let end = Arc::new(AtomicBool::new(false));
    let watching = Arc::clone(&end);
    let watcher = std::thread::spawn(move || {
        let mut seen = BTreeSet::new();
        while !watching.load(Ordering::Relaxed) {
            seen.extend(children(process));
            std::thread::sleep(Duration::from_millis(3));
        }
        seen
    });

    let (world, caller, demo) = (&primary.world, primary.pod.caller(), cluster("demo-1"));
    let server = world.bucket.server();
    let mut answers: Vec<String> = Vec::new();
    primary.server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id").unwrap();
    let segment = primary.server.archive_current_segment(LIMIT).unwrap();
    caller.backup(&demo, "first", &[("type", "full"), ("repo1-bundle", "y"), ("repo1-block", "y")]).unwrap();
    caller.fetch(&demo, &segment, "RECOVERYXLOG", 0).unwrap();
    let keys = [generated(world, "archive/demo/archive.info"), generated(world, "backup/demo/backup.info")];
    answers.push(format!("{:?}", caller.metrics(&demo)));

    // A store that refuses and tells all that it knows, one that ends connections, one that asks to slow down.
    let told = format!(
        "<Error><Code>InvalidAccessKeyId</Code><Message>The key {key} is not known; {secret}; \
         Authorization: AWS4-HMAC-SHA256 Credential={key}/x, Signature=c0ffeec0ffee</Message>\
         <AWSAccessKeyId>{key}</AWSAccessKeyId></Error>",
        key = server.key(),
        secret = server.secret(),
    );
    let echo = Fault::Answer { status: StatusCode::FORBIDDEN, headers: Vec::new(), body: told.into() };
    server.inject(S3Rule::always(echo, |_| true));
    answers.push(format!("{:?}", caller.archive(&demo, &segment, None).unwrap_err()));
    answers.push(format!("{:?}", caller.fetch(&demo, &segment, "RECOVERYXLOG", 1).unwrap_err()));
    server.heal();
    for fault in [Fault::Reset, Fault::slow_down(0), Fault::error(500, "InternalError")] {
        server.inject(S3Rule::next(1, S3Operation::ListObjects, fault));
    }
    primary.server.sql("INSERT INTO t VALUES (1001)").unwrap();
    primary.server.archive_current_segment(LIMIT).unwrap();
    let echo = Fault::error(403, "AccessDenied");
    server.inject(S3Rule::always(echo, |request| {
        request.operation == S3Operation::PutObject && request.key.contains("/backup/")
    }));
    answers.push(format!("{:?}", caller.backup(&demo, "refused", &[("type", "full")]).unwrap_err()));
    server.heal();
    // A mistake of a person: the value is a secret that stands in the wrong place.
    let mistaken = caller.backup(&demo, "wrong", &[("repo1-cipher-pass", "canary-passphrase")]).unwrap_err();
    answers.push(format!("{mistaken:?}"));
    // A key that does not fit.
    let good = world.secrets.set("cipher", b"canary-other-key").unwrap();
    let wrong = found(LIMIT, "the wrong key is told", || {
        let archive = world.api.get("Archive", NAMESPACE, "store")?;
        let text = archive["status"].to_string();
        text.contains("WrongKey").then_some(text)
    });
    answers.push(wrong);
    world.secrets.set("cipher", &good);

    end.store(true, Ordering::Relaxed);
    let begun = watcher.join().unwrap();
    assert!(begun.is_empty() && ended_children(process) == 0, "processes {begun:?} were begun");
    for file in ["cmdline", "environ"] {
        answers.push(String::from_utf8_lossy(&fs::read(format!("/proc/{process}/{file}")).unwrap()).into_owned());
    }
    answers.push(primary.pod.log());
    for kind in ["Archive", "Event", "Lease", "Backup", "Role", "RoleBinding", "ConfigMap"] {
        answers.extend(world.api.list(kind).iter().map(ToString::to_string));
    }
    let log = primary.pod.log();
    assert!(log.contains("\"level\":\"debug\"") || log.contains("\"level\":\"trace\""), "nothing was logged in detail");
    let canaries = [server.key(), server.secret(), "canary-passphrase", "canary-other-key", &keys[0], &keys[1]];
    for canary in canaries {
        assert!(canary.len() >= 8, "{canary}");
        for answer in &answers {
            assert!(!answer.contains(canary), "{canary} is in: {answer}");
        }
    }
    assert!(answers.iter().all(|answer| !answer.contains("c0ffeec0ffee")), "a signature was told");
    for path in files_below(world.folder.path()) {
        let content = fs::read(&path).unwrap_or_default();
        let content = String::from_utf8_lossy(&content);
        for canary in canaries {
            assert!(!content.contains(canary), "{canary} is in {}", path.display());
        }
    }
}
