//! Statements of cnpg-i.md §7 about WAL that no other story has.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pgbr_testkit::process;
use pgbr_testkit::s3::S3Operation;
use pgbr_testkit::user;
use serde_json::json;
use tonic::Code;

use crate::manager::{Definition, MARKER, Plan, Speaks};
use crate::scene::{Primary, VERSION, World, cluster};

const LIMIT: Duration = Duration::from_secs(30);

/// A second cluster that is told to write where another one does: nothing of it is stored, whoever asks how.
#[test]
fn kg20_c13_c15_a_second_cluster_in_a_stanza_is_refused() {
    let first = Primary::start();
    first.server.archive_current_segment(LIMIT).unwrap();
    let before = (first.world.objects("archive"), first.world.objects("backup"));
    let definition = Definition::new("demo");
    let plan = Plan {
        world: &first.world,
        name: "other-1",
        cluster: &definition,
        version: VERSION,
        speaks: Speaks::Six,
        archives: "on",
    };
    let mut other = plan.init();
    other.server.start().unwrap();
    definition.promote("other-1", 1);
    other.server.sql("CREATE TABLE t (what text); SELECT pg_switch_wal()").unwrap();
    let (caller, object) = (other.pod.caller(), definition.get());
    let segment = "000000010000000000000008";

    // Asked for the check, or not told whether (with the marker): the archive is not empty.
    for check in [Some(true), None] {
        let refused = caller.archive(&object, segment, check).unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        assert!(refused.message().contains("expected an empty archive"), "{refused:?}");
    }
    // Told not to check, by the field, by the annotation, or by the missing marker: the systems differ all the same.
    let mut skipping = object.clone();
    skipping["metadata"]["annotations"] = json!({"cnpg.io/skipEmptyWalArchiveCheck": "enabled"});
    let systems = [&first.server, &other.server]
        .map(|server| server.value("SELECT system_identifier FROM pg_control_system()").unwrap());
    for (object, check, marked) in [(&object, Some(false), true), (&skipping, None, true), (&object, None, false)] {
        if !marked {
            drop(fs::remove_file(other.server.data().join(MARKER)));
        }
        let refused = caller.archive(object, segment, check).unwrap_err();
        assert!(refused.message().starts_with("[044]"), "{refused:?}");
        assert!(systems.iter().all(|system| refused.message().contains(system.as_str())), "{refused:?}");
    }
    let refused = caller.backup(&object, "foreign", &[]).unwrap_err();
    assert!(refused.message().contains("[028]") || refused.message().contains("[051]"), "{refused:?}");
    assert!(systems.iter().all(|system| refused.message().contains(system.as_str())), "{refused:?}");
    // While the other one kept trying, the first one's archive stayed as it was.
    let after = (first.world.objects("archive"), first.world.objects("backup"));
    assert_eq!(before.0.len(), after.0.iter().filter(|name| before.0.contains(*name)).count());
    assert_eq!(before.1, after.1);
    first.server.archive_current_segment(LIMIT).unwrap();
}

/// pg_rewind walks backwards and wants each file once.
#[test]
fn c26_a_rewind_fetches_one_file_and_nothing_else() {
    let primary = Primary::start();
    let segments: Vec<String> = (0..4).map(|_| primary.server.archive_current_segment(LIMIT).unwrap()).collect();
    let (caller, demo) = (primary.pod.caller(), cluster("demo-1"));
    let server = primary.world.bucket.server();
    // A miss before does not count.
    for mode in [0, 1] {
        let missing = caller.fetch(&demo, "0000000100000000000000F0", "RECOVERYXLOG", mode).unwrap_err();
        assert_eq!(missing.code(), Code::NotFound, "{missing:?}");
    }
    for segment in segments.iter().rev() {
        let before = server.count(S3Operation::GetObject);
        caller.fetch(&demo, segment, "RECOVERYXLOG", 2).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        // The segment, and archive.info at most.
        let asked = server.count(S3Operation::GetObject) - before;
        assert!(asked <= 2, "{segment}: {asked} objects were read");
    }
    let ahead = primary.world.folder.path().join("demo-1/controller/pgbackrest-plugin/get");
    assert_eq!(files_below(&ahead), 0, "nothing waits");
}

fn files_below(folder: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        count += if entry.path().is_dir() { files_below(&entry.path()) } else { 1 };
    }
    count
}

/// A sidecar that dies in the middle of an upload, and a scratch volume that is lost: nothing but time is.
#[test]
fn kg01_kg18_re03_c43_c45_what_a_killed_sidecar_leaves_is_harmless() {
    let mut primary = Primary::start();
    primary.server.archive_current_segment(LIMIT).unwrap();
    let (caller, demo) = (primary.pod.caller(), cluster("demo-1"));
    let wal = primary.pod.data.join("pg_wal");
    for round in 0..3 {
        primary.world.bucket.server().delay(Duration::from_millis(150));
        primary.server.sql("SELECT pg_create_restore_point('x'); SELECT pg_switch_wal()").unwrap();
        std::thread::sleep(Duration::from_millis(200));
        user::write_file(&wal.join(".pgbackrest-plugin-000000010000000000000001-0"), "half a segment").unwrap();
        primary.pod.sidecar.take().unwrap().kill();
        primary.world.bucket.server().heal();
        if round > 0 {
            let scratch = primary.world.folder.path().join("demo-1/controller");
            for entry in fs::read_dir(&scratch).unwrap().flatten() {
                fs::remove_dir_all(entry.path()).unwrap();
            }
        }
        primary.pod.start_sidecar();
        assert!(!wal.join(".pgbackrest-plugin-000000010000000000000001-0").try_exists().unwrap(), "it tidies up");
    }
    let last = primary.server.archive_current_segment(Duration::from_secs(90)).unwrap();
    let mut names: Vec<String> =
        primary.world.objects("archive/demo").iter().filter_map(|name| name.get(..24).map(str::to_owned)).collect();
    names.retain(|name| name.starts_with("0000000100"));
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "each segment once: {names:?}");
    let numbers: Vec<u64> = names.iter().map(|name| u64::from_str_radix(&name[8..], 16).unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "no gap: {names:?}");

    // c45: the pages of what was archived are given back.
    let resident = |file: &Path| {
        let mut fincore = Command::new("fincore");
        fincore.args(["--bytes", "--noheadings", "--output", "RES"]).arg(file);
        let outcome = process::run(&mut fincore, LIMIT).unwrap().success().unwrap();
        outcome.stdout.trim().parse::<u64>().unwrap()
    };
    let file = wal.join(&last);
    fs::File::open(&file).unwrap().sync_all().unwrap();
    assert!(fs::read(&file).unwrap().len() as u64 == resident(&file), "read, it is in memory");
    caller.archive(&demo, &last, None).unwrap();
    assert_eq!(resident(&file), 0);
}

/// An Archive that is edited: what runs keeps what it began with, and the result says which that was.
#[test]
fn kg22_a_running_backup_keeps_its_settings() {
    let world = World::new();
    let primary = Primary::in_world(world);
    primary.server.archive_current_segment(LIMIT).unwrap();
    let (caller, demo) = (primary.pod.caller(), cluster("demo-1"));
    let edit = json!({"compression": "zst"});
    primary.world.bucket.server().delay(Duration::from_millis(20));
    let first = std::thread::scope(|scope| {
        let first = scope.spawn(|| caller.backup(&demo, "first", &[]).unwrap());
        std::thread::sleep(Duration::from_secs(2));
        assert!(!first.is_finished(), "the edit comes too late");
        primary.world.archive("store", &edit);
        first.join().unwrap()
    });
    primary.world.bucket.server().heal();
    // Settings are looked at anew after ten seconds at the latest.
    std::thread::sleep(Duration::from_secs(11));
    let second = caller.backup(&demo, "second", &[("type", "full")]).unwrap();
    let generation = |metadata: &std::collections::BTreeMap<String, String>| metadata["archiveGeneration"].clone();
    assert_ne!(generation(&first.metadata), generation(&second.metadata));
    for (made, ending) in [(&first, ".lz4"), (&second, ".zst")] {
        let files = primary.world.objects(&format!("backup/demo/{}/pg_data", made.backup_id));
        assert!(!files.is_empty() && files.iter().all(|name| name.ends_with(ending)), "{made:?}: {:?}", files.first());
    }
}
