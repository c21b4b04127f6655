//! The life stories of cnpg-i.md §6, played from the beginning to the end.

use std::fs;
use std::process::Command;
use std::time::Duration;

use pgbr_testkit::postgres::{Cluster, Shutdown, Version};
use pgbr_testkit::tools::{clients, readers};
use pgbr_testkit::wait::until;
use pgbr_testkit::{process, user};
use serde_json::{Value, json};

use crate::manager::{Definition, MARKER, Member, Plan, Speaks, begin_recovery};
use crate::scene::{PLUGIN, World};

const LIMIT: Duration = Duration::from_secs(30);

/// `pg_rewind`, which starts the `postgres` beside it: both are the distribution's.
fn rewind(version: Version) -> Command {
    clients::find("psql").unwrap();
    match clients::find_for("pg_rewind", version) {
        Some(program) => user::command(program),
        None => readers::command("pg_rewind", version).unwrap(),
    }
}

fn insert(server: &Cluster, what: &str) {
    server.sql(&format!("INSERT INTO t VALUES ('{what}')")).unwrap();
}

/// Stories a, b, c, f and g: a cluster archives from its creation, a standby joins and is backed up by hand and on a schedule,
/// sidecars are killed, the primary is lost and comes back as a standby. Then d: another cluster is made of its archive.
fn a_life(version: Version, speaks: Speaks) {
    let world = World::new();
    let definition = Definition::new("demo");
    let plan = |name| Plan { world: &world, name, cluster: &definition, version, speaks, archives: "on" };

    // a: nothing is archived before the cluster has a primary, then everything.
    let mut one = plan("demo-1").init();
    one.server.start().unwrap();
    one.server.sql("CREATE TABLE t (what text)").unwrap();
    one.server.sql("SELECT pg_switch_wal()").unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(world.objects("archive"), [""; 0], "no primary yet");
    definition.promote("demo-1", 1);
    one.server.archive_current_segment(LIMIT).unwrap();
    assert!(!one.has(MARKER), "the marker goes with the first file");
    let mut two = plan("demo-2").join(&mut one);
    insert(&one.server, "1-joined");
    two.wait_for_rows("1-joined");

    // b, c: the standby is backed up; the schedule's backup comes after that of the user.
    let made = std::thread::scope(|scope| {
        let (caller, cluster) = (two.pod.caller(), definition.get());
        let made = scope.spawn(move || {
            ["by-hand", "nightly-20260101000000"].map(|name| caller.backup(&cluster, name, &[]).unwrap())
        });
        while !made.is_finished() {
            one.server.sql("CHECKPOINT; SELECT pg_create_restore_point('x'); SELECT pg_switch_wal()").unwrap();
            std::thread::sleep(Duration::from_millis(300));
        }
        made.join().unwrap()
    });
    assert!(made[0].backup_id.ends_with('F') && made[1].backup_id.ends_with('I'), "{made:?}");

    // g: the sidecar dies again and again while the primary writes.
    for round in 0..3 {
        insert(&one.server, &format!("2-killed-{round}"));
        one.server.sql("SELECT pg_switch_wal()").unwrap();
        one.pod.kill_sidecar();
    }
    one.server.archive_current_segment(LIMIT).unwrap();
    let all = "1-joined,2-killed-0,2-killed-1,2-killed-2";
    two.wait_for_rows(all);

    // f: the primary is lost with WAL that nobody has, the standby in the middle of a segment.
    one.server.sql("ALTER SYSTEM SET archive_timeout = 0").unwrap();
    one.server.sql("SELECT pg_reload_conf()").unwrap();
    insert(&one.server, "2-streamed");
    let all = &format!("{all},2-streamed");
    two.wait_for_rows(all);
    two.server.stop(Shutdown::Fast).unwrap();
    one.pod.sidecar.take().unwrap().kill();
    insert(&one.server, "3-lost");
    one.server.sql("SELECT pg_switch_wal()").unwrap();
    one.server.stop(Shutdown::Immediate).unwrap();
    definition.set("/status/targetPrimary", json!("demo-2"));
    two.server.start().unwrap();
    two.wait_for_rows(all);
    two.server.sql("SELECT pg_promote()").unwrap();
    two.server.wait_until_promoted(LIMIT).unwrap();
    insert(&two.server, "4-after");
    definition.promote("demo-2", 2);
    two.server.archive_current_segment(LIMIT).unwrap();
    let archived = world.objects("archive/demo");
    assert!(archived.iter().any(|name| name.starts_with("00000002.history")), "{archived:?}");
    assert!(archived.iter().any(|name| name.contains(".partial")), "{archived:?}");
    come_back(&mut one, &two, version);
    one.wait_for_rows(&format!("{all},4-after"));

    // d: a moment of the second timeline.
    let moment = two.server.value("SELECT now()").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    insert(&two.server, "5-too-late");
    two.server.archive_current_segment(LIMIT).unwrap();
    another(&world, version, speaks, &moment, &format!("{all},4-after"));
}

/// The lost primary archives what it has, is wound back and follows the new one.
fn come_back(one: &mut Member, two: &Member, version: Version) {
    one.pod.start_sidecar();
    one.manager.archive_all_ready();
    let source = two.server.connection_string();
    let conf = one.server.data().join("postgresql.conf");
    let text = fs::read_to_string(&conf).unwrap();
    user::write_file(&conf, format!("{text}\nrestore_command = '{}'\n", one.bridge.command("rewind"))).unwrap();
    let mut command = rewind(version);
    command.arg("--target-pgdata").arg(one.server.data()).args(["--source-server", &source, "--restore-target-wal"]);
    process::run(&mut command, Duration::from_secs(60)).unwrap().success().unwrap();
    one.follow(Some(&source));
    one.server.start().unwrap();
}

/// A cluster of the archive of `demo`, at a moment, with an archive of its own.
fn another(world: &World, version: Version, speaks: Speaks, moment: &str, rows: &str) {
    let definition = Definition::new("copy");
    let recovery = |target: &str| json!({"recovery": {"source": "origin", "recoveryTarget": {"targetTime": target}}});
    definition.set("/spec/bootstrap", recovery("2100-01-01T00:00:00Z"));
    let origin = json!({"name": PLUGIN, "parameters": {"pgbackrestObjectName": "store", "stanza": "demo"}});
    definition.set("/spec/externalClusters", json!([{"name": "origin", "plugin": origin}]));
    let plan = |name| Plan { world, name, cluster: &definition, version, speaks, archives: "on" };

    // The Job, twice: the first target is beyond the end of WAL, and PostgreSQL gives up on a directory that is then dirty.
    let mut job = plan("copy-1").open();
    for (target, reached) in [("2100-01-01 00:00:00+00", false), (moment, true)] {
        definition.set("/spec/bootstrap", recovery(target));
        let check = (speaks == Speaks::Six).then_some(true);
        let answer = job.pod.caller().restore_job(&definition.get(), check).unwrap();
        begin_recovery(
            job.server.data(),
            &answer.restore_config,
            &format!("archive_mode = off\nrecovery_target_time = '{target}'"),
        );
        let started = job.server.start();
        let promoted = started.and_then(|()| job.server.wait_until_promoted(LIMIT));
        assert_eq!(promoted.is_ok(), reached, "{target}: {promoted:?}");
        drop(job.server.stop(Shutdown::Immediate));
        if !reached {
            let log = job.server.log_end();
            assert!(log.contains("recovery ended before configured recovery target was reached"), "{log}");
        }
    }
    drop(job);

    // The cluster: its first files are checked against an archive of its own.
    user::write_file(&plan("copy-1").data().join(MARKER), "").unwrap();
    definition.promote("copy-1", 3);
    let mut first = plan("copy-1").open();
    first.server.start().unwrap();
    first.wait_for_rows(rows);
    first.server.archive_current_segment(LIMIT).unwrap();
    assert!(!first.has(MARKER));
    let archived = world.objects("archive/copy");
    assert!(archived.iter().any(|name| name.starts_with("00000003.history")), "{archived:?}");
}

#[test]
fn stories_a_b_c_d_f_g_with_callers_of_cnpg_i_0_6() {
    a_life(Version::V15, Speaks::Six);
}

#[test]
fn stories_a_b_c_d_f_g_with_callers_of_cnpg_i_0_5() {
    a_life(Version::V15, Speaks::Five);
}

/// The value of a line of `pg_controldata`.
fn control(server: &Cluster, line: &str) -> String {
    let mut command = readers::command("pg_controldata", server.version()).unwrap();
    let outcome = process::run(command.arg(server.data()), LIMIT).unwrap().success().unwrap();
    let found = outcome.stdout.lines().find_map(|text| text.strip_prefix(line).map(|value| value.trim().to_owned()));
    found.unwrap_or_else(|| panic!("{line} in {}", outcome.stdout))
}

fn external(cluster: &str) -> Value {
    let parameters = json!({"pgbackrestObjectName": "store", "stanza": cluster});
    json!({"name": cluster, "plugin": {"name": PLUGIN, "parameters": parameters}})
}

/// Story e: a cluster follows another through its archive alone, takes over with a promotion token, and the other one follows.
#[test]
fn kg21_story_e_a_replica_cluster_takes_over_and_the_other_follows() {
    let (version, speaks) = (Version::V17, Speaks::Six);
    let world = World::new();
    let (left, right) = (Definition::new("dc-a"), Definition::new("dc-b"));
    for definition in [&left, &right] {
        definition.set("/spec/externalClusters", json!([external("dc-a"), external("dc-b")]));
    }
    let plan = |name, cluster| Plan { world: &world, name, cluster, version, speaks, archives: "always" };
    let mut a = plan("dc-a-1", &left).init();
    left.promote("dc-a-1", 1);
    a.server.start().unwrap();
    a.server.sql("CREATE TABLE t (what text)").unwrap();
    insert(&a.server, "1");
    a.pod.caller().backup(&left.get(), "base", &[]).unwrap();

    // The replica cluster begins with a restore; what it answers as configuration is ignored by the caller.
    right.set("/spec/bootstrap", json!({"recovery": {"source": "dc-a"}}));
    right.set("/spec/replica", json!({"self": "dc-b", "primary": "dc-a", "source": "dc-a"}));
    let mut b = plan("dc-b-1", &right).open();
    b.pod.caller().restore_job(&right.get(), Some(true)).unwrap();
    user::write_file(&b.server.data().join(MARKER), "").unwrap();
    b.follow(None);
    right.promote("dc-b-1", 1);
    b.server.start().unwrap();
    insert(&a.server, "2");
    a.server.archive_current_segment(LIMIT).unwrap();
    b.wait_for_rows("1,2");

    // It archives what it has replayed, into its own archive and never into its source's.
    let source: Vec<String> = world.objects("archive/dc-a");
    until(LIMIT, "WAL is stored", || world.objects("archive/dc-b").iter().any(|name| name.len() > 24));
    assert_eq!(world.objects("archive/dc-a"), source);
    assert!(!b.has(MARKER));

    // The primary cluster is demoted: it is stopped, and what is left of its last segment goes into its archive.
    insert(&a.server, "3");
    a.server.stop(Shutdown::Fast).unwrap();
    let segment = control(&a.server, "Latest checkpoint's REDO WAL file:");
    let wal = a.server.data().join("pg_wal");
    fs::hard_link(wal.join(&segment), wal.join(format!("{segment}.partial"))).unwrap();
    assert!(a.manager.wal_archive(&format!("{segment}.partial")));
    let end = control(&a.server, "Latest checkpoint location:");

    // The token: the other one replays to that very place, then takes over.
    right.set("/spec/replica/primary", json!("dc-b"));
    right.set("/spec/replica/promotionToken", json!("token"));
    b.server.wait(&format!("SELECT pg_last_wal_replay_lsn() > '{end}'"), "t", LIMIT).unwrap();
    b.server.sql("SELECT pg_promote()").unwrap();
    b.server.wait_until_promoted(LIMIT).unwrap();
    right.set("/status/lastPromotionToken", json!("token"));
    right.promote("dc-b-1", 2);
    insert(&b.server, "4");
    b.server.archive_current_segment(LIMIT).unwrap();
    assert!(world.objects("archive/dc-b").iter().any(|name| name.starts_with("00000002.history")));
    assert!(!world.objects("archive/dc-a").iter().any(|name| name.starts_with("00000002.history")));

    // The demoted one follows: the new timeline is found in its source's archive.
    left.set("/spec/replica", json!({"self": "dc-a", "primary": "dc-b", "source": "dc-b"}));
    a.follow(None);
    a.server.start().unwrap();
    a.wait_for_rows("1,2,3,4");
    insert(&b.server, "5");
    b.server.archive_current_segment(LIMIT).unwrap();
    a.wait_for_rows("1,2,3,4,5");
}
