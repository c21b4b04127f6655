//! A restored copy of a cluster beside its source.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pgbr_testkit::conf::Conf;
use pgbr_testkit::postgres::{Cluster, Options, Version};
use pgbr_testkit::user;

use crate::scene::{WAIT, ours};

fn objects(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => left.push(path),
                false => drop(found.insert(path.display().to_string(), fs::read(&path).unwrap())),
            }
        }
    }
    found
}

/// A copy is promoted while its source lives. With archiving off it leaves the archive alone; with it on, and with its
/// source's configuration, it is refused, and keeps its WAL.
#[test]
fn rs13_a_restored_clone_changes_nothing_in_the_archive_of_its_source() {
    let dir = user::scratch().unwrap();
    let mut conf = Conf::create(&dir.path().join("backrest"), "demo").unwrap();
    let options = Options { wal_segment_size_mib: 1, ..Options::default() };
    let source = Cluster::started(Version::V15, &dir.path().join("source"), options.clone()).unwrap();
    conf.cluster(&source).unwrap();
    ours().ok(&conf, &["stanza-create"]).unwrap();
    source.set_archive_command(&ours().archive_command(&conf)).unwrap();
    source.sql("CREATE TABLE t AS SELECT 1 AS a").unwrap();
    ours().ok(&conf, &["--type=full", "backup"]).unwrap();
    source.sql("INSERT INTO t SELECT 2").unwrap();
    source.archive_current_segment(WAIT).unwrap();
    let archive = dir.path().join("backrest/repo/archive");
    let before = objects(&archive);

    for archive_mode in ["off", "preserve"] {
        let data = dir.path().join(format!("clone-{archive_mode}"));
        user::create_dir(&data).unwrap();
        let path = format!("--pg1-path={}", data.display());
        let mode = format!("--archive-mode={archive_mode}");
        ours().ok(&conf, &[&path, &mode, "--type=immediate", "--target-action=promote", "restore"]).unwrap();
        let mut clone = Cluster::open(Version::V15, &data, options.clone()).unwrap();
        clone.start().unwrap();
        clone.wait_until_promoted(WAIT).unwrap();
        clone.sql("INSERT INTO t SELECT 3").unwrap();
        if archive_mode == "off" {
            assert_eq!(clone.value("SHOW archive_mode").unwrap(), "off");
            clone.value("SELECT pg_switch_wal()").unwrap();
            assert_eq!(objects(&archive), before);
            continue;
        }
        let refused = "SELECT failed_count > 0 AND last_failed_wal = '00000002.history' FROM pg_stat_archiver";
        clone.value("SELECT pg_switch_wal()").unwrap();
        clone.wait(refused, "t", WAIT).unwrap();
        assert_eq!(clone.value("SELECT archived_count FROM pg_stat_archiver").unwrap(), "0");
        assert!(clone.log_end().contains("is not the same as option pg1-path"), "{}", clone.log_end());
        assert_eq!(objects(&archive), before);
    }
    // The source goes on as if nothing had happened.
    source.archive_current_segment(WAIT).unwrap();
}
