//! What stays of calls when they are over, answered or not: nothing.

use std::fs;
use std::time::{Duration, Instant};

use pgbr_testkit::s3::S3Operation;
use pgbr_testkit::user;
use tokio::task::JoinSet;

use crate::scene::{Caller, Pod, Primary, block_on, cluster};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

/// Descriptors, threads and resident KiB of a sidecar.
fn held(pod: &Pod) -> (usize, usize, u64) {
    let process = format!("/proc/{}", pod.sidecar.as_ref().unwrap().id());
    let count = |name: &str| fs::read_dir(format!("{process}/{name}")).unwrap().count();
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (count("fd"), count("task"), resident.split_whitespace().next().unwrap().parse().unwrap())
}

/// Waits until a sidecar holds no more descriptors and threads than that.
fn settles(pod: &Pod, descriptors: usize, threads: usize) {
    let begin = Instant::now();
    loop {
        let now = held(pod);
        if now.0 <= descriptors && now.1 <= threads {
            return;
        }
        assert!(begin.elapsed() < LIMIT, "{now:?} are held, at first {descriptors} descriptors, {threads} threads");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Calls at once, each of which its caller gives up after a moment.
fn give_up(calls: usize, call: impl Fn(usize) -> Caller, file: &str, demo: &Value) {
    block_on(async {
        let mut given_up = JoinSet::new();
        for number in 0..calls {
            let (caller, demo, file) = (call(number), demo.clone(), file.to_owned());
            given_up.spawn(async move {
                let archived = caller.archive_async(&demo, &file, None);
                tokio::time::timeout(Duration::from_millis(400), archived).await.is_err()
            });
        }
        let given_up = given_up.join_all().await;
        assert!(given_up.into_iter().all(|is| is), "a call was answered too early to be given up");
    });
}

/// 200 Archive calls and some backups that their callers give up: the file is uploaded once all the same, and no task,
/// descriptor or session stays.
#[test]
fn kg02_what_callers_give_up_leaves_nothing() {
    let primary = Primary::start();
    let (caller, demo) = (primary.pod.caller(), cluster("demo-1"));
    primary.server.archive_current_segment(LIMIT).unwrap();
    caller.backup(&demo, "warm", &[("repo1-bundle", "y")]).unwrap();
    primary.server.set_archive_command("false").unwrap();
    // As many connections as the calls below have at once, so that the process has its size.
    let server = primary.world.bucket.server();
    block_on(async {
        let mut calls = JoinSet::new();
        for _ in 0..25 {
            let (caller, demo) = (caller.clone(), demo.clone());
            calls.spawn(async move { caller.archive_async(&demo, "00000001.history", None).await.unwrap_err() });
        }
        calls.join_all().await;
    });
    std::thread::sleep(Duration::from_secs(1));
    let (descriptors, threads, _) = held(&primary.pod);
    let before = server.count(S3Operation::PutObject);
    server.delay(Duration::from_secs(2));
    let switched = "SELECT pg_walfile_name(pg_switch_wal()) FROM pg_create_restore_point('x')";
    let segment = primary.server.value(switched).unwrap();
    for _ in 0..4 {
        give_up(50, |_| caller.clone(), &segment, &demo);
    }
    server.heal();
    caller.archive(&demo, &segment, None).unwrap();
    assert_eq!(server.count(S3Operation::PutObject) - before, 1, "the calls joined one upload");
    assert_eq!(primary.world.objects("archive/demo").iter().filter(|name| name.starts_with(&segment)).count(), 1);
    primary.server.set_archive_command(&primary.bridge.command("archive")).unwrap();
    server.delay(Duration::from_millis(50));
    for number in 0..3 {
        let given_up = block_on(async {
            let name = format!("given-up-{number}");
            tokio::time::timeout(Duration::from_millis(900), caller.backup_async(&demo, &name, &[("type", "full")]))
                .await
        });
        assert!(given_up.is_err(), "{given_up:?}");
        primary
            .server
            .wait("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgBackRest%'", "0", LIMIT)
            .unwrap();
    }
    server.heal();
    settles(&primary.pod, descriptors, threads + 1);
    assert_eq!(primary.world.objects("backup/demo").iter().filter(|name| *name == "backup.manifest").count(), 1);
}

/// Thousands of Archive calls, by a server under load and again for what is archived: the process stays as it is, and the
/// server has nothing to complain about.
#[test]
fn np06_re01_re02_a_sidecar_stays_as_it_is_under_load() {
    let primary = Primary::start();
    let (caller, demo) = (primary.pod.caller(), cluster("demo-1"));
    primary.server.archive_current_segment(LIMIT).unwrap();
    let log_path = primary.server.socket_dir().join("log");
    let before = fs::read_to_string(&log_path).unwrap().len();
    for _ in 0..20 {
        primary.server.sql("SELECT pg_switch_wal() FROM pg_create_restore_point('x')").unwrap();
    }
    primary.server.archive_current_segment(LIMIT).unwrap();
    let log = fs::read_to_string(&log_path).unwrap();
    let complaints: Vec<&str> = log[before..]
        .lines()
        .filter(|line| ["WARNING", "ERROR", "FATAL", "PANIC", "archive"].iter().any(|word| line.contains(word)))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    let states = fs::read_dir(primary.pod.data.join("pg_wal/archive_status")).unwrap();
    let states: Vec<String> = states.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(states.iter().all(|name| name.ends_with(".done")), "{states:?}");
    // Small files, so that it is calls that are looked at, and not how fast a debug build hashes.
    let histories = ["00000002.history", "00000003.history", "00000004.history"];
    for name in histories {
        let content = "1\t0/3000000\tno recovery target specified\n";
        user::write_file(&primary.pod.data.join("pg_wal").join(name), content).unwrap();
    }
    let rounds = |callers_at_once: usize, calls: usize| {
        block_on(async {
            let mut callers = JoinSet::new();
            for first in 0..callers_at_once {
                let (caller, demo) = (caller.clone(), demo.clone());
                callers.spawn(async move {
                    for number in 0..calls / callers_at_once {
                        let name = histories[(first + number) % histories.len()];
                        caller.archive_async(&demo, name, Some(false)).await.unwrap();
                    }
                });
            }
            callers.join_all().await;
        });
        std::thread::sleep(Duration::from_millis(300));
        held(&primary.pod)
    };
    // With more at once than later, so that every thread and connection is there.
    let warm = rounds(8, 400);
    let after = rounds(4, 1200);
    // What a call left would be there a thousand times; connections to the store, and threads that wait for files, come and
    // go with the load.
    assert!(after.0 <= warm.0 + 16 && after.1 <= warm.1 + 16, "{warm:?}, then {after:?}");
    assert!(after.2 <= warm.2 + warm.2 / 20 + 1024, "KiB: {warm:?}, then {after:?}");
    // A backup is within the bound of the sidecar (design: 64 MiB), whatever was before.
    caller.backup(&demo, "large", &[("type", "full"), ("process-max", "2"), ("repo1-bundle", "y")]).unwrap();
    let (.., resident_kib) = held(&primary.pod);
    assert!(resident_kib < 64 * 1024, "{resident_kib} KiB");
}
