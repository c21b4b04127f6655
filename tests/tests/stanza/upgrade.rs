//! A major upgrade with real servers: archive ids before and after, by ours and by the original.

use std::path::Path;
use std::time::Duration;

use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::postgres::{Cluster, Options, Shutdown, Version};
use pgbr_testkit::{pgbr, stock, user};

const LIMIT: Duration = Duration::from_secs(60);

fn started(version: Version, data: &Path, archive_command: String) -> Cluster {
    Cluster::started(version, data, Options { archive_command: Some(archive_command), ..Options::default() }).unwrap()
}

/// Restores a set, recovers it with WAL from its own archive id, and says what is in the table.
fn recovered(engine: &Engine, conf: &Conf, version: Version, target: &Path, arguments: &[&str]) -> String {
    user::create_dir(target).unwrap();
    let path = format!("--pg1-path={}", target.display());
    engine.ok(conf, &[&["restore", &path], arguments].concat()).unwrap();
    let overrides = vec![("archive_mode".to_owned(), "off".to_owned())];
    let mut cluster = Cluster::open(version, target, Options { overrides, ..Options::default() }).unwrap();
    cluster.start().unwrap();
    cluster.wait_until_promoted(LIMIT).unwrap();
    let rows = cluster.value("SELECT string_agg(t, ',' ORDER BY t) FROM told").unwrap();
    cluster.stop(Shutdown::Immediate).unwrap();
    rows
}

fn label(engine: &Engine, conf: &Conf) -> String {
    let info = engine.ok(conf, &["info", "--output=json", "--log-level-console=off"]).unwrap().stdout;
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    info[0]["backup"].as_array().unwrap().last().unwrap()["label"].as_str().unwrap().to_owned()
}

#[test]
fn archive_ids_across_an_upgrade_belong_to_their_clusters() {
    let dir = user::scratch().unwrap();
    let (ours, original) = (pgbr::engine(), stock::newest().engine.clone());
    let mut conf = Conf::create(&dir.path().join("backrest"), "demo").unwrap();
    conf.global("compress-type", "zst").unwrap().global("archive-timeout", "20").unwrap();

    let mut old = started(Version::V15, &dir.path().join("pg15"), ours.archive_command(&conf));
    conf.cluster(&old).unwrap();
    ours.ok(&conf, &["stanza-create"]).unwrap();
    old.sql("CREATE TABLE told AS SELECT 'old' AS t").unwrap();
    ours.ok(&conf, &["backup", "--type=full"]).unwrap();
    old.sql("INSERT INTO told VALUES ('old wal')").unwrap();
    old.archive_current_segment(LIMIT).unwrap();
    old.stop(Shutdown::Fast).unwrap();
    let old_label = label(&ours, &conf);

    // The new cluster begins before the upgrade: its WAL and its backups are refused, and wait.
    let new = started(Version::V18, &dir.path().join("pg18"), ours.archive_command(&conf));
    conf.cluster(&new).unwrap();
    new.sql("CREATE TABLE told AS SELECT 'new' AS t").unwrap();
    for engine in [&ours, &original] {
        assert_eq!(engine.run(&conf, &["check"]).unwrap().exit_code, Some(28), "{}", engine.name());
        assert_eq!(engine.run(&conf, &["backup"]).unwrap().exit_code, Some(51), "{}", engine.name());
    }
    ours.ok(&conf, &["stanza-upgrade"]).unwrap();
    for engine in [&ours, &original] {
        engine.ok(&conf, &["check"]).unwrap();
        // The newest backup is not one of this cluster.
        let target = dir.path().join("none");
        user::create_dir(&target).unwrap();
        let path = format!("--pg1-path={}", target.display());
        assert_eq!(engine.run(&conf, &["restore", &path]).unwrap().exit_code, Some(75), "{}", engine.name());
    }
    let ids = |name: &str| dir.path().join("backrest/repo/archive/demo").join(name).is_dir();
    assert!(ids("15-1") && ids("18-2"));

    ours.ok(&conf, &["backup", "--type=full"]).unwrap();
    original.ok(&conf, &["backup", "--type=incr"]).unwrap();
    new.sql("INSERT INTO told VALUES ('new wal')").unwrap();
    new.archive_current_segment(LIMIT).unwrap();
    let info = |engine: &Engine| engine.ok(&conf, &["info", "--log-level-console=off"]).unwrap().stdout;
    assert_eq!(info(&ours), info(&original));
    assert!(info(&ours).contains("wal archive min/max (15)") && info(&ours).contains("wal archive min/max (18)"));
    assert!(!original.ok(&conf, &["verify"]).unwrap().text().contains("status: error"));

    for (number, engine) in [&ours, &original].into_iter().enumerate() {
        let target = |name: &str| dir.path().join(format!("{name}{number}"));
        let set = format!("--set={old_label}");
        let rows = recovered(engine, &conf, Version::V15, &target("old"), &[&set]);
        assert_eq!(rows, "old,old wal", "{}", engine.name());
        let rows = recovered(engine, &conf, Version::V18, &target("new"), &[]);
        assert_eq!(rows, "new,new wal", "{}", engine.name());
    }
}
