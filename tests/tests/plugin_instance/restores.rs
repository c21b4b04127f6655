//! Restores by the hook of a Job, and what PostgreSQL makes of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgbr_testkit::postgres::{Cluster, Shutdown};
use pgbr_testkit::user;
use pgbr_testkit::wait::until;
use serde_json::{Value, json};

use crate::scene::{Pod, Primary, World, cluster, recover, recovering};

const LIMIT: Duration = Duration::from_secs(30);

/// The pod of the Job of cluster `copy`: an empty volume, and no server in it.
fn job(world: &World) -> Pod {
    let (data, socket) = (world.folder.path().join("copy"), world.folder.path().join("copy-run"));
    user::create_dir(&socket).unwrap();
    Pod::start(world, "copy-1-full-recovery", &data, &socket)
}

/// How many files are below a folder.
fn files_below(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files_below(&entry.path()) } else { 1 }).sum()
}

/// The pods of a Job are killed three times in the middle. Every next one goes on with what it finds, and none leaves what
/// could be started. Tablespaces go to their volumes, WAL to its own.
#[test]
fn kg11_c21_c23_a_job_that_is_killed_thrice_restores_tablespaces_in_the_end() {
    let mut primary = Primary::start();
    let tablespaces =
        ["hot", "cold"].map(|name| primary.world.folder.path().join("tablespaces").join(name).join("data"));
    let rows = "SELECT count(*) || md5(string_agg(id || note, ',' ORDER BY id)) FROM";
    for (name, path) in ["hot", "cold"].into_iter().zip(&tablespaces) {
        user::create_dir(path).unwrap();
        primary.server.sql(&format!("CREATE TABLESPACE {name} LOCATION '{}'", path.display())).unwrap();
        let fill = "AS SELECT id, md5(id::text) AS note FROM generate_series(1, 20000) AS id";
        primary.server.sql(&format!("CREATE TABLE in_{name} TABLESPACE {name} {fill}")).unwrap();
    }
    primary.pod.caller().backup(&cluster("demo-1"), "base", &[("type", "full")]).unwrap();
    primary.server.sql("INSERT INTO in_hot SELECT id, 'later' FROM generate_series(20001, 20500) AS id").unwrap();
    primary.server.archive_current_segment(LIMIT).unwrap();
    let wanted = ["hot", "cold"].map(|name| primary.server.value(&format!("{rows} in_{name}")).unwrap());
    primary.server.stop(Shutdown::Fast).unwrap();
    // The volumes of the new pods are mounted, and empty.
    for path in &tablespaces {
        fs::remove_dir_all(path).unwrap();
    }

    let mut job = job(&primary.world);
    let mut copy = recovering(&json!({}));
    copy["spec"]["walStorage"] = json!({"size": "1Gi"});
    copy["spec"]["tablespaces"] = json!([{"name": "hot"}, {"name": "cold"}]);
    let data = job.data.clone();
    let control = data.join("global/pg_control");
    let stages: [(&str, &dyn Fn() -> bool); 3] = [
        ("the restore has begun", &|| data.join("backup.manifest").try_exists().unwrap()),
        ("a part is restored", &|| tablespaces.iter().all(|path| files_below(path) > 0)),
        ("the most is restored", &|| files_below(&data.join("base")) > 400),
    ];
    for (what, is_there) in stages {
        primary.world.bucket.server().delay(Duration::from_millis(8));
        let (caller, definition) = (job.caller(), copy.clone());
        let asked = std::thread::spawn(move || caller.restore_job(&definition, Some(true)));
        until(LIMIT, what, is_there);
        let sidecar = job.sidecar.take().unwrap();
        sidecar.pause();
        assert!(!asked.is_finished(), "it is to be killed in the middle");
        assert!(!control.try_exists().unwrap(), "half a cluster cannot be started");
        sidecar.kill();
        asked.join().unwrap().unwrap_err();
        primary.world.bucket.server().heal();
        job.start_sidecar();
    }
    job.caller().restore_job(&copy, Some(true)).unwrap();
    assert!(job.log().contains("Restoring backup"));
    assert!(fs::read_link(data.join("pg_wal")).unwrap().ends_with("wal/pg_wal"));
    let mut links: Vec<PathBuf> = fs::read_dir(data.join("pg_tblspc"))
        .unwrap()
        .map(|entry| fs::read_link(entry.unwrap().path()).unwrap())
        .collect();
    links.sort();
    assert_eq!(links, [tablespaces[1].clone(), tablespaces[0].clone()]);
    let server = recover(&mut primary.bridge, &job, &copy, &[]);
    for (name, wanted) in ["hot", "cold"].into_iter().zip(wanted) {
        assert_eq!(server.value(&format!("{rows} in_{name}")).unwrap(), wanted, "{name}");
    }
}

/// Where a cluster was when something was asked for.
struct Moment {
    time: String,
    lsn: String,
    xid: String,
}

/// Inserts `what` and gives the moment after it, which is in another second than backups are.
fn moment(server: &Cluster, what: &str) -> Moment {
    std::thread::sleep(Duration::from_millis(1100));
    let insert = format!("INSERT INTO t VALUES ('{what}') RETURNING pg_current_xact_id()::xid");
    let xid = server.value(&insert).unwrap();
    server.value(&format!("SELECT pg_create_restore_point('after-{what}')")).unwrap();
    let rows = server.sql("SELECT now(), pg_current_wal_lsn()").unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    Moment { time: rows[0][0].clone(), lsn: rows[0][1].clone(), xid }
}

/// The backup is chosen by every kind of target, and the restored server is in that moment: no row is missing, none is later.
#[test]
fn c24_the_backup_is_chosen_by_every_target() {
    let mut primary = Primary::start();
    let (caller, demo) = (primary.pod.caller(), cluster("demo-1"));
    let back_up = |name: &str| caller.backup(&demo, name, &[("repo1-bundle", "y")]).unwrap().backup_id;
    primary.server.sql("CREATE TABLE t (what text); INSERT INTO t VALUES ('a')").unwrap();
    let first = back_up("first");
    let b = moment(&primary.server, "b");
    primary.server.sql("INSERT INTO t VALUES ('c')").unwrap();
    let second = back_up("second");
    let d = moment(&primary.server, "d");
    primary.server.sql("INSERT INTO t VALUES ('e')").unwrap();
    // Another timeline, as after a failover.
    primary.server.stop(Shutdown::Fast).unwrap();
    user::write_file(&primary.server.data().join("standby.signal"), "").unwrap();
    primary.server.start().unwrap();
    primary.server.sql("SELECT pg_promote()").unwrap();
    primary.server.wait_until_promoted(LIMIT).unwrap();
    primary.server.sql("INSERT INTO t VALUES ('f')").unwrap();
    let third = back_up("third");
    primary.server.sql("INSERT INTO t VALUES ('g')").unwrap();
    primary.server.archive_current_segment(LIMIT).unwrap();
    primary.server.stop(Shutdown::Fast).unwrap();

    let job = job(&primary.world);
    let named = |label: &str, field: &str, value: &str| json!({"backupID": label, field: value});
    let rfc_3339 = format!("{}Z", d.time.replace(' ', "T").trim_end_matches("+00"));
    let on_first = ("recovery_target_timeline", "1");
    type Case<'a> = (Value, Vec<(&'a str, &'a str)>, &'a str, &'a str);
    let cases: [Case<'_>; 9] = [
        (json!({}), vec![], &third, "abcdefg"),
        (json!({"targetTime": b.time}), vec![("recovery_target_time", &b.time)], &first, "ab"),
        (json!({"targetTime": rfc_3339}), vec![("recovery_target_time", &d.time)], &second, "abcd"),
        (json!({"targetLSN": d.lsn}), vec![("recovery_target_lsn", &d.lsn)], &second, "abcd"),
        (json!({"targetLSN": b.lsn, "targetTLI": "1"}), vec![on_first, ("recovery_target_lsn", &b.lsn)], &first, "ab"),
        (json!({"targetTLI": "1"}), vec![on_first], &second, "abcde"),
        (named(&first, "targetXID", &d.xid), vec![("recovery_target_xid", &d.xid)], &first, "abcd"),
        (named(&second, "targetName", "after-d"), vec![("recovery_target_name", "after-d")], &second, "abcd"),
        (json!({"backupID": second, "targetImmediate": true}), vec![("recovery_target", "immediate")], &second, "abc"),
    ];
    for (target, settings, label, rows) in &cases {
        let copy = recovering(target);
        let before = job.log().len();
        job.caller().restore_job(&copy, Some(true)).unwrap();
        let log = job.log();
        let chosen: Vec<&str> = log[before..].lines().filter(|line| line.contains("\"Restoring backup\"")).collect();
        assert!(chosen.len() == 1 && chosen[0].contains(&format!("\"label\":\"{label}\"")), "{target}: {chosen:?}");
        let mut server = recover(&mut primary.bridge, &job, &copy, settings);
        let found = server.value("SELECT string_agg(what, '' ORDER BY what) FROM t").unwrap();
        assert_eq!(&found, rows, "{target}");
        server.stop(Shutdown::Immediate).unwrap();
    }
    // Before the first backup there is nothing to begin with, and nothing is changed.
    let too_early = recovering(&json!({"targetTime": "2020-01-01T00:00:00Z"}));
    let refused = job.caller().restore_job(&too_early, Some(true)).unwrap_err();
    assert!(refused.message().contains("[075]") && refused.message().contains("2020-01-01"), "{refused:?}");
    assert!(job.data.join("PG_VERSION").try_exists().unwrap());
}
