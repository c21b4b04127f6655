//! Calls that are repeated, and pods that end while something is going on.

use std::time::{Duration, Instant};

use pgbr_testkit::postgres::Shutdown;
use pgbr_testkit::s3::S3Operation;
use pgbr_testkit::wait::until;
use serde_json::Value;

use crate::scene::{NAMESPACE, Pod, Primary, World, block_on, cluster};

const LIMIT: Duration = Duration::from_secs(30);

/// How many whole backups the repository has.
fn backups(world: &World) -> usize {
    world.objects("backup/demo").iter().filter(|name| *name == "backup.manifest").count()
}

fn holder(world: &World) -> Option<String> {
    let lease = world.api.list("Lease").into_iter().find(|lease| lease["metadata"]["namespace"] == NAMESPACE)?;
    lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
}

/// However often and whenever the call for a Backup object is repeated, there is one backup of it.
#[test]
fn kg10_a_repeated_backup_call_makes_no_second_backup() {
    let mut primary = Primary::start();
    let (caller, demo) = (primary.pod.caller(), cluster("demo-1"));
    primary.server.archive_current_segment(LIMIT).unwrap();
    let full = [("type", "full"), ("repo1-bundle", "y")];
    let both = block_on(async {
        let again = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            caller.backup_async(&demo, "one", &full).await
        };
        tokio::join!(caller.backup_async(&demo, "one", &full), again)
    });
    let (made, joined) = (both.0.unwrap(), both.1.unwrap());
    assert_eq!(made, joined);
    let known = caller.backup(&demo, "one", &full).unwrap();
    // A new process knows it from the annotation in the repository; so does another pod, after a switchover.
    primary.pod.kill_sidecar();
    let found = caller.backup(&demo, "one", &full).unwrap();
    let other = Pod::start(&primary.world, "demo-2", &primary.pod.data, primary.server.socket_dir());
    let elsewhere = other.caller().backup(&cluster("demo-2"), "one", &full).unwrap();
    for again in [&known, &found, &elsewhere] {
        assert_eq!(again, &made);
    }
    assert_eq!(backups(&primary.world), 1);
    // Another object is another backup.
    let second = caller.backup(&demo, "two", &full).unwrap();
    assert_ne!(second.backup_id, made.backup_id);
    assert_eq!(backups(&primary.world), 2);
}

/// A pod is evicted in the middle of a backup: the call fails and says why, the repository is free for the next pod, which
/// goes on with what is stored. So it is when the node dies, after the time of the Lease.
#[test]
fn kg09_a_pod_that_is_evicted_leaves_the_repository_to_the_next() {
    let mut primary = Primary::start();
    primary.pod.variables.push(("LEASE_DURATION_SECONDS".to_owned(), "3".to_owned()));
    primary.pod.kill_sidecar();
    let demo = cluster("demo-1");
    primary.server.archive_current_segment(LIMIT).unwrap();
    let full = [("type", "full")];
    let begin = |pod: &Pod, definition: &Value, name: &'static str, files: u64| {
        let server = primary.world.bucket.server();
        server.delay(Duration::from_millis(5));
        let (caller, definition) = (pod.caller(), definition.clone());
        let before = server.count(S3Operation::PutObject);
        let asked = std::thread::spawn(move || caller.backup(&definition, name, &[("type", "full")]));
        until(LIMIT, "files are stored", || server.count(S3Operation::PutObject) > before + files);
        assert!(!asked.is_finished());
        asked
    };
    let asked = begin(&primary.pod, &demo, "evicted", 300);
    assert_eq!(holder(&primary.world).as_deref(), Some("demo-1"));
    let told = Instant::now();
    primary.pod.sidecar.as_ref().unwrap().ask_to_end();
    let failed = asked.join().unwrap().unwrap_err();
    assert!(failed.message().contains("the pod is ending"), "{failed:?}");
    until(LIMIT, "the Lease is given back", || holder(&primary.world).is_none());
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgBackRest%'";
    primary.server.wait(sessions, "0", LIMIT).unwrap();
    // A second signal and the end of the grace change nothing.
    primary.pod.sidecar.take().unwrap().kill();
    assert_eq!(backups(&primary.world), 0);

    // The next pod dies with its node.
    let mut next = Pod::start(&primary.world, "demo-2", &primary.pod.data, primary.server.socket_dir());
    next.variables.push(("LEASE_DURATION_SECONDS".to_owned(), "3".to_owned()));
    next.kill_sidecar();
    primary.bridge.serve(next.caller(), cluster("demo-2"));
    let asked = begin(&next, &cluster("demo-2"), "lost", 100);
    let log = next.log();
    assert!(log.contains("resumable backup"), "{log}");
    next.sidecar.take().unwrap().kill();
    asked.join().unwrap().unwrap_err();
    assert_eq!(holder(&primary.world).as_deref(), Some("demo-2"));

    let server = primary.world.bucket.server();
    server.heal();
    primary.pod.start_sidecar();
    primary.bridge.serve(primary.pod.caller(), demo.clone());
    let before = server.count(S3Operation::PutObject);
    let made = primary.pod.caller().backup(&demo, "next", &full).unwrap();
    let log = primary.pod.log();
    assert!(log.contains("resumable backup"), "{log}");
    let stored = server.count(S3Operation::PutObject) - before;
    assert!(stored < 700, "{stored} objects were stored again");
    assert_eq!(backups(&primary.world), 1);
    until(LIMIT, "the Lease is given back", || holder(&primary.world).is_none());
    assert!(made.backup_id.ends_with('F'));
}

/// The pod ends: PostgreSQL and the instance manager still bring WAL after the sidecar was told, over a slow network. All of
/// it gets in, and then nobody has to wait for the process.
#[test]
fn kg12_c42_the_last_wal_gets_in_after_the_signal() {
    let mut primary = Primary::start();
    primary.server.archive_current_segment(LIMIT).unwrap();
    primary.world.bucket.server().delay(Duration::from_millis(300));
    let sidecar = primary.pod.sidecar.take().unwrap();
    sidecar.ask_to_end();
    std::thread::sleep(Duration::from_secs(3));
    primary.server.sql("CREATE TABLE last_words AS SELECT 1 AS one").unwrap();
    // With its last checkpoint the server ends a segment, and waits for its archiver.
    primary.server.stop(Shutdown::Fast).unwrap();
    let states = std::fs::read_dir(primary.pod.data.join("pg_wal/archive_status")).unwrap();
    let mut states: Vec<String> = states.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    states.sort();
    assert!(states.iter().all(|name| name.ends_with(".done")), "{states:?}");
    let last = states.last().unwrap().trim_end_matches(".done").to_owned();
    let is_stored = || primary.world.objects("archive/demo").iter().any(|name| name.starts_with(&last));
    assert!(is_stored(), "{last}");
    // What the instance manager brings itself, a moment after the end of the server.
    std::thread::sleep(Duration::from_millis(500));
    let caller = primary.pod.caller();
    std::fs::write(primary.pod.data.join("pg_wal/00000002.history"), "1\t0/3000000\tno recovery target specified\n")
        .unwrap();
    caller.archive(&cluster("demo-1"), "00000002.history", None).unwrap();
    let ended = Instant::now();
    let outcome = sidecar.finish(Duration::from_secs(20)).unwrap();
    assert_eq!(outcome.exit_code, Some(0), "{}", outcome.text());
    assert!(ended.elapsed() < Duration::from_secs(6), "{:?}", ended.elapsed());
}
