//! Backup and RestoreJobHooks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use pgbr_testkit::postgres::Options;
use pgbr_testkit::user;
use serde_json::json;
use tonic::Code;

use crate::scene::{Pod, Primary, block_on, cluster, recover, recovering};

const LIMIT: Duration = Duration::from_secs(30);

/// A backup of the primary, its repetition, and a cluster that is made of it, also on a directory that a killed Job left.
#[test]
fn c15_c20_c22_c23_c27_c30_c39_a_backup_becomes_a_cluster() {
    let mut primary = Primary::start();
    let (caller, demo) = (primary.pod.caller(), cluster("demo-1"));
    let before = caller.metrics(&demo);
    assert!(!before.iter().any(|(name, ..)| name.ends_with("last_available_backup_timestamp")), "{before:?}");
    primary.server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id").unwrap();

    let made = caller.backup(&demo, "first", &[("type", "full"), ("process-max", "2")]).unwrap();
    assert!(made.backup_id.ends_with('F') && made.backup_name.starts_with("backup-20"), "{made:?}");
    assert!(made.started_at > 0 && made.stopped_at >= made.started_at && made.online, "{made:?}");
    assert!(made.begin_wal <= made.end_wal && made.begin_wal.len() == 24, "{made:?}");
    assert!(made.begin_lsn.contains('/') && made.end_lsn.contains('/'), "{made:?}");
    assert_eq!(made.metadata.get("name").map(String::as_str), Some("pgbackrest.cnpg.opera.com"));
    let archived = primary.world.objects("archive/demo");
    for segment in [&made.begin_wal, &made.end_wal] {
        assert!(archived.iter().any(|name| name.starts_with(segment.as_str())), "{segment} of {archived:?}");
    }
    // The same object again gives the same backup, also to a sidecar that has forgotten it.
    assert_eq!(caller.backup(&demo, "first", &[]).unwrap().backup_id, made.backup_id);
    primary.pod.kill_sidecar();
    assert_eq!(caller.backup(&demo, "first", &[]).unwrap().backup_id, made.backup_id);
    let second = caller.backup(&demo, "second", &[]).unwrap();
    assert!(second.backup_id.ends_with('I'), "{second:?}");
    for (name, value) in [("cmd", "sh"), ("repo1-path", "/x"), ("type", "huge"), ("", "x")] {
        let refused = caller.backup(&demo, "wrong", &[(name, value)]).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
    primary.server.sql("INSERT INTO t VALUES (1001)").unwrap();
    primary.server.archive_current_segment(LIMIT).unwrap();

    // The target of the new cluster is in use: nothing is written.
    let data = primary.world.folder.path().join("copy");
    let socket = primary.world.folder.path().join("copy-run");
    user::create_dir(&socket).unwrap();
    let job = Pod::start(&primary.world, "copy-1-full-recovery", &data, &socket);
    let job_caller = job.caller();
    let mut taken = recovering(&json!({}));
    taken["spec"]["plugins"] = json!([{"name": "pgbackrest.cnpg.opera.com", "parameters": {"pgbackrestObjectName": "store", "stanza": "demo"}}]);
    let refused = job_caller.restore_job(&taken, Some(true)).unwrap_err();
    assert!(refused.message().contains("expected an empty archive"), "{refused:?}");
    assert!(!data.try_exists().unwrap());

    let mut copy = recovering(&json!({}));
    copy["spec"]["walStorage"] = json!({"size": "1Gi"});
    let target = recovering(&json!({"backupID": made.backup_id}));
    for (cluster, wal_storage) in [(&target, false), (&copy, true), (&copy, true)] {
        let answer = job_caller.restore_job(cluster, Some(true)).unwrap();
        assert!(answer.restore_config.contains("/controller/manager wal-restore"), "{answer:?}");
        assert!(answer.envs.is_empty());
        let link = fs::symlink_metadata(data.join("pg_wal")).unwrap().is_symlink();
        assert_eq!(link, wal_storage);
        assert!(data.join("backup_label").try_exists().unwrap());
        assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
        for gone in ["recovery.signal", "standby.signal", "postmaster.pid", "backup.manifest"] {
            assert!(!data.join(gone).try_exists().unwrap(), "{gone}");
        }
        let auto = fs::read_to_string(data.join("postgresql.auto.conf")).unwrap_or_default();
        assert!(!auto.contains("restore_command") && !auto.contains("recovery_target"), "{auto}");
        // What a Job that was killed in the middle leaves.
        fs::remove_file(data.join("global/pg_control")).unwrap();
        user::write_file(&data.join("postmaster.pid"), "999999\n").unwrap();
    }
    job_caller.restore_job(&copy, Some(false)).unwrap();
    let server = recover(&mut primary.bridge, &job, &copy, &[]);
    assert_eq!(server.value("SELECT count(*) FROM t").unwrap(), "1001");
    let after = caller.metrics(&demo);
    assert!(!after.is_empty(), "{after:?}");
}

/// One at a time, and given up when nobody waits for it.
#[test]
fn kg02_c29_a_backup_that_nobody_waits_for_is_given_up() {
    let primary = Primary::start();
    let (caller, demo) = (primary.pod.caller(), cluster("demo-1"));
    primary.server.archive_current_segment(LIMIT).unwrap();
    primary.world.archive(
        "store",
        &json!({"data": {"immediateCheckpoint": true, "additionalCommandArgs": ["--archive-timeout=60"]}}),
    );
    let slow = Duration::from_millis(150);
    primary.world.bucket.server().delay(slow);
    block_on(async {
        let first = caller.backup_async(&demo, "first", &[]);
        let joined = async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            caller.backup_async(&demo, "other", &[]).await.unwrap_err()
        };
        // The first caller goes away while its backup runs.
        let busy = tokio::select! {
            made = first => panic!("too fast to be given up: {made:?}"),
            busy = joined => busy,
        };
        assert_eq!(busy.code(), Code::Aborted, "{busy:?}");
    });
    primary.world.bucket.server().heal();
    let active = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgBackRest%'";
    primary.server.wait(active, "0", Duration::from_secs(20)).unwrap();
    assert!(!primary.world.objects("backup/demo").iter().any(|name| name == "backup.manifest"));
    caller.backup(&demo, "again", &[]).unwrap();
}

/// A standby is backed up by itself; its stanza may even be new.
#[test]
fn c28_a_standby_is_backed_up_alone() {
    let mut primary = Primary::start();
    primary.server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id").unwrap();
    primary.server.archive_current_segment(LIMIT).unwrap();
    let data = primary.world.folder.path().join("standby");
    let standby = primary.server.replica(&data, Options::default()).unwrap();
    let pod = Pod::start(&primary.world, "demo-2", &data, standby.socket_dir());
    let (caller, demo) = (pod.caller(), cluster("demo-1"));
    let made = std::thread::scope(|scope| {
        let made = scope.spawn(|| caller.backup(&demo, "of-standby", &[]));
        // The primary goes on writing: the standby waits for its WAL.
        while !made.is_finished() {
            primary.server.sql("CHECKPOINT; SELECT pg_create_restore_point('x'); SELECT pg_switch_wal()").unwrap();
            std::thread::sleep(Duration::from_millis(500));
        }
        made.join().unwrap().unwrap()
    });
    let archived = primary.world.objects("archive/demo");
    assert!(archived.iter().any(|name| name.starts_with(&made.end_wal)), "{made:?} {archived:?}");
}
