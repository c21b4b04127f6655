//! What can go wrong with a standby: it stands still, is promoted, or its primary has nothing to say.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use pgbr_testkit::conf::Conf;
use pgbr_testkit::postgres::{Cluster, Shutdown, Version};
use pgbr_testkit::{pgbr, stock};

use crate::scene::{Scene, rows, verifies};

const BACKUP: [&str; 3] = ["backup", "--type=full", "--backup-standby=y"];

fn fails(conf: &Conf, arguments: &[&str], code: i32, texts: &[&str]) {
    let failed = pgbr::engine().run(conf, arguments).unwrap();
    let text = failed.text();
    assert_eq!(failed.exit_code, Some(code), "{text}");
    for part in texts {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

fn wait_for_replay(primary: &Cluster, standby: &Cluster) {
    let lsn = primary.value("SELECT pg_current_wal_insert_lsn()").unwrap();
    standby.wait(&format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'"), "t", Duration::from_secs(30)).unwrap();
}

#[test]
fn bk26_which_servers_there_must_be() {
    let mut scene = Scene::new(Version::V17, 0, &[("compress-type", "lz4")]);
    let no_primary = "[056]: unable to find primary cluster - cannot proceed";
    // As the original, unless a standby is wanted and all servers are known to be one.
    fails(&scene.standby_conf, &["backup", "--type=full"], 56, &[no_primary, "backup-standby=y"]);
    fails(&scene.primary_conf, &BACKUP, 56, &["unable to find standby cluster - cannot proceed"]);
    let mut both = scene.standby_conf.clone();
    both.cluster_at(1, &scene.primary).unwrap().cluster_at(2, &scene.standby).unwrap();
    scene.primary.stop(Shutdown::Fast).unwrap();
    fails(&both, &BACKUP, 56, &["WARN: unable to check pg1", no_primary]);
    scene.primary.start().unwrap();
    // The standby is not there: its primary does.
    scene.standby.stop(Shutdown::Fast).unwrap();
    fails(&both, &BACKUP, 56, &["unable to find standby cluster - cannot proceed"]);
    let prefer = ["backup", "--type=full", "--backup-standby=prefer"];
    let preferred = pgbr::engine().ok(&both, &prefer).unwrap().stdout;
    assert!(preferred.contains("WARN: unable to find a standby to perform the backup, using primary instead"));
    assert_eq!(scene.labels(&stock::newest().engine), 1);
}

#[test]
fn bk26_replay_that_stands_still_ends_the_backup_in_time() {
    let scene = Scene::new(Version::V15, 0, &[("compress-type", "lz4")]);
    wait_for_replay(&scene.primary, &scene.standby);
    scene.standby.sql("SELECT pg_wal_replay_pause()").unwrap();
    let mut both = scene.standby_conf.clone();
    both.cluster_at(1, &scene.primary).unwrap().cluster_at(2, &scene.standby).unwrap();
    let begin = Instant::now();
    let arguments = [&BACKUP[..], &["--archive-timeout=2"]].concat();
    fails(
        &both,
        &arguments,
        82,
        &["timeout before standby replayed to ", "only reached ", "disable the 'backup-standby'"],
    );
    assert!(begin.elapsed() < Duration::from_secs(20));
    scene.standby.sql("SELECT pg_wal_replay_resume()").unwrap();
    pgbr::engine().ok(&both, &BACKUP).unwrap();
}

#[test]
fn bk26_an_idle_primary_is_waited_for_and_named() {
    let (ours, stock) = (pgbr::engine(), stock::newest());
    let scene = Scene::new(Version::V15, 0, &[("compress-type", "lz4")]);
    scene.primary.sql("CREATE TABLE last AS SELECT 1").unwrap();
    wait_for_replay(&scene.primary, &scene.standby);
    let segment = scene.primary.value("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").unwrap();
    let arguments = [&BACKUP[..], &["--archive-timeout=2"]].concat();
    let (message, hint) = (format!("WAL segment {segment} was not archived before the 2000ms"), "pg_switch_wal()");
    fails(&scene.standby_conf, &arguments, 82, &["wait for the primary to complete", &message, hint]);
    assert_eq!(stock.engine.run(&scene.primary_conf, &["info"]).unwrap().stdout.matches("full backup").count(), 0);

    // The primary comes to life while the backup waits.
    let mut command = ours.command(&scene.standby_conf, &BACKUP);
    let mut running = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("wait for the primary to complete and archive WAL segment")));
    scene.primary.sql("SELECT pg_switch_wal()").unwrap();
    let rest: Vec<String> = lines.collect();
    assert!(running.wait().unwrap().success(), "{rest:?}");
    scene.archive_all();
    verifies(stock, &scene.primary_conf);
    assert_eq!(scene.restored(&stock.engine, &[]), rows(&scene.primary));
}

/// Promoted while files are copied: no backup, and the next one works.
fn promoted_in_the_middle(alone: bool) {
    let ours = pgbr::engine();
    let mut scene = Scene::new(Version::V15, 1, &[("compress-type", "bz2"), ("compress-level", "9")]);
    let mut conf = scene.standby_conf.clone();
    if !alone {
        conf.cluster_at(2, &scene.primary).unwrap();
    }
    let arguments = [&BACKUP[..], &["--process-max=1", "--log-level-console=detail"]].concat();
    let mut running = ours.command(&conf, &arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("DETAIL: backup file ")));
    scene.standby.sql("SELECT pg_promote()").unwrap();
    let rest = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(running.wait().unwrap().code(), Some(58), "{rest}");
    assert!(rest.contains("standby is no longer in recovery"), "{rest}");
    let info = ours.ok(&scene.primary_conf, &["info"]).unwrap().stdout;
    assert!(!info.contains("full backup"), "{info}");
    scene.standby.stop(Shutdown::Immediate).unwrap();
    ours.ok(&scene.primary_conf, &["backup", "--type=full"]).unwrap();
    verifies(stock::newest(), &scene.primary_conf);
}

#[test]
fn bk10_a_standby_that_is_promoted_ends_its_backup() {
    promoted_in_the_middle(true);
}

#[test]
fn bk10_a_standby_that_is_promoted_ends_the_backup_of_its_primary() {
    promoted_in_the_middle(false);
}

#[test]
fn bk26_wal_without_full_pages_is_refused() {
    let scene = Scene::new(Version::V15, 0, &[("compress-type", "lz4")]);
    scene.primary.sql("ALTER SYSTEM SET full_page_writes = off").unwrap();
    scene.primary.sql("SELECT pg_reload_conf()").unwrap();
    scene.primary.wait("SHOW full_page_writes", "off", Duration::from_secs(10)).unwrap();
    scene.primary.sql("CHECKPOINT; CREATE TABLE last AS SELECT 1; CHECKPOINT").unwrap();
    wait_for_replay(&scene.primary, &scene.standby);
    fails(&scene.standby_conf, &BACKUP, 57, &["full_page_writes=off"]);
}

/// The standby has replayed the position where the checkpoint of the backup began, and the record of that checkpoint,
/// which it needs for one of its own, comes to it only later.
#[test]
fn bk26_a_checkpoint_that_is_replayed_late_is_waited_for() {
    let scene = Scene::new(Version::V16, 0, &[("compress-type", "lz4")]);
    // The checkpoint lasts for 6 seconds or so, and the standby follows 2 seconds behind.
    configure(
        &scene.primary,
        &["checkpoint_timeout = '30s'", "checkpoint_completion_target = 0.2", "max_wal_size = '4GB'"],
    );
    configure(&scene.standby, &["recovery_min_apply_delay = '2s'"]);
    let mut both = scene.standby_conf.clone();
    both.cluster_at(2, &scene.primary).unwrap();
    let arguments = ["backup", "--type=full", "--no-start-fast", "--backup-standby=y", "--archive-timeout=20"];
    let backed = scene.under_load(12, || pgbr::engine().ok(&both, &arguments).unwrap().stdout);
    assert!(backed.contains("replay on the standby reached"), "{backed}");
    configure(&scene.standby, &["recovery_min_apply_delay = '0'"]);
    scene.archive_all();
    verifies(stock::newest(), &scene.primary_conf);
    assert_eq!(scene.restored(&pgbr::engine(), &[]), rows(&scene.primary));
}

fn configure(cluster: &Cluster, settings: &[&str]) {
    for setting in settings {
        cluster.sql(&format!("ALTER SYSTEM SET {setting}")).unwrap();
    }
    cluster.sql("SELECT pg_reload_conf()").unwrap();
}
