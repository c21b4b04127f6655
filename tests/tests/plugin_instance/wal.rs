//! Archive and Restore.

use std::fs;
use std::time::{Duration, Instant};

use tonic::Code;

use crate::scene::{Primary, cluster, recovering};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(30);

/// Archiving from the first segment, what repeats and contradicts it, and the way back.
#[test]
fn c01_c02_c03_c04_c05_c06_c14_wal_goes_in_once_and_comes_out_whole() {
    let mut primary = Primary::start();
    let marker = primary.pod.data.join(".check-empty-wal-archive");
    let segment = primary.server.archive_current_segment(LIMIT).unwrap();
    assert!(!marker.try_exists().unwrap(), "c14: the marker goes with the first file");
    let objects = primary.world.objects("archive/demo");
    assert!(objects.iter().any(|name| name == "archive.info"), "{objects:?}");
    assert!(objects.iter().any(|name| name.starts_with(&segment) && name.ends_with(".lz4")), "{objects:?}");

    let (caller, demo) = (primary.pod.caller(), cluster("demo-1"));
    let wal = primary.pod.data.join("pg_wal");
    // Also where the check is asked for although this very cluster has archived: the answer may have been lost.
    caller.archive(&demo, &segment, Some(true)).unwrap();
    primary.pod.kill_sidecar();
    caller.archive(&demo, &segment, Some(true)).unwrap();
    caller.archive(&demo, &segment, None).unwrap();

    // The same name with other content.
    let mut content = fs::read(wal.join(&segment)).unwrap();
    let original = content.clone();
    *content.last_mut().unwrap() ^= 1;
    fs::write(wal.join(&segment), &content).unwrap();
    let refused = caller.archive(&demo, &segment, None).unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused:?}");
    assert!(refused.message().contains("[045]"), "{refused:?}");

    // Every kind of file goes in and comes out.
    fs::write(wal.join(format!("{segment}.partial")), &original).unwrap();
    fs::write(wal.join("00000002.history"), "1\t0/3000000\tno recovery target specified\n").unwrap();
    fs::write(wal.join(format!("{segment}.00000028.backup")), "START WAL LOCATION\n").unwrap();
    for name in [format!("{segment}.partial"), "00000002.history".to_owned(), format!("{segment}.00000028.backup")] {
        caller.archive(&demo, &name, Some(false)).unwrap();
        caller.fetch(&demo, &name, "RECOVERYXLOG", 0).unwrap();
        assert_eq!(fs::read(wal.join("RECOVERYXLOG")).unwrap(), fs::read(wal.join(&name)).unwrap(), "{name}");
    }
    for mode in [0, 1, 2] {
        fs::remove_file(wal.join("RECOVERYXLOG")).unwrap();
        caller.fetch(&demo, &segment, "RECOVERYXLOG", mode).unwrap();
        assert_eq!(fs::read(wal.join("RECOVERYXLOG")).unwrap(), original);
    }

    // What is not there is told at once, and leaves nothing.
    fs::remove_file(wal.join("RECOVERYXLOG")).unwrap();
    let started = Instant::now();
    for name in ["0000000100000000000000F0", "00000009.history"] {
        for mode in [1, 2] {
            let missing = caller.fetch(&demo, name, "RECOVERYXLOG", mode).unwrap_err();
            assert_eq!(missing.code(), Code::NotFound, "{missing:?}");
        }
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let left: Vec<_> = fs::read_dir(&wal).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let left: Vec<_> = left
        .iter()
        .map(|name| name.to_string_lossy())
        .filter(|name| name.starts_with('.') || *name == "RECOVERYXLOG")
        .collect();
    assert!(left.is_empty(), "{left:?}");

    // Out of the data directory, and no name of a WAL file.
    assert_eq!(caller.fetch(&demo, &segment, "../../escape", 0).unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(caller.fetch(&demo, "../archive.info", "X", 0).unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(caller.archive(&demo, "PG_VERSION", None).unwrap_err().code(), Code::InvalidArgument);
    let mut foreign = demo;
    foreign["metadata"]["namespace"] = json!("others");
    assert_eq!(caller.archive(&foreign, &segment, None).unwrap_err().code(), Code::InvalidArgument);
    // What the sidecar prints names no secret.
    let sidecar = primary.pod.sidecar.take().unwrap();
    drop(primary.server.stop(pgbr_testkit::postgres::Shutdown::Immediate));
    sidecar.ask_to_end();
    let printed = sidecar.finish(Duration::from_secs(20)).unwrap().text();
    assert!(printed.contains("Restored WAL file"), "{printed}");
    for secret in ["canary-passphrase", primary.world.bucket.server().secret()] {
        assert!(!printed.contains(secret));
    }
}

/// A store that does not answer is no end of WAL, and an API server that does not answer is no reason to stop.
#[test]
fn kg12_kg14_c05_c42_outages_are_no_absence() {
    use pgbr_testkit::kube_api::{Answer, Rule};
    use pgbr_testkit::s3::{Fault, Rule as StoreRule};
    let mut primary = Primary::start();
    let segment = primary.server.archive_current_segment(LIMIT).unwrap();
    let (caller, demo) = (primary.pod.caller(), cluster("demo-1"));
    // The first recovery waits until the store is back.
    caller.fetch(&recovering(&json!({})), &segment, "RECOVERYXLOG", 0).unwrap();
    let down = || primary.world.bucket.server().inject(StoreRule::always(Fault::error(503, "SlowDown"), |_| true));
    down();
    let (waiting, started) = (caller.clone(), Instant::now());
    let missing = "0000000100000000000000F0";
    let asked = std::thread::spawn(move || waiting.fetch(&recovering(&json!({})), missing, "RECOVERYXLOG", 0));
    std::thread::sleep(Duration::from_secs(6));
    assert!(!asked.is_finished(), "an outage was answered");
    primary.world.bucket.server().heal();
    let answer = asked.join().unwrap().unwrap_err();
    assert_eq!(answer.code(), Code::NotFound, "after {:?}: {answer:?}", started.elapsed());

    // Archiving goes on without the API server.
    primary.world.api.inject(Rule::any(Answer::Status(503)));
    primary.server.archive_current_segment(LIMIT).unwrap();
    primary.world.api.heal();

    // After the signal, what the server still writes is archived; then the process ends.
    let sidecar = primary.pod.sidecar.take().unwrap();
    sidecar.ask_to_end();
    std::thread::sleep(Duration::from_secs(1));
    let last = primary.server.archive_current_segment(LIMIT).unwrap();
    assert!(primary.world.objects("archive/demo").iter().any(|name| name.starts_with(&last)));
    let refused = caller.backup(&demo, "late", &[]).unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    primary.server.stop(pgbr_testkit::postgres::Shutdown::Fast).unwrap();
    let ended = Instant::now();
    let outcome = sidecar.finish(Duration::from_secs(20)).unwrap();
    assert_eq!(outcome.exit_code, Some(0), "{}", outcome.text());
    assert!(ended.elapsed() < Duration::from_secs(10), "{:?}", ended.elapsed());
}
