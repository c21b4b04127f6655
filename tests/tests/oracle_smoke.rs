//! The harness itself: servers start, and every release of the original backs up and restores a cluster.
//!
//! When this fails, nothing that other tests compare with the original means anything.

use std::time::Duration;

use pgbr_testkit::conf::Conf;
use pgbr_testkit::postgres::{Cluster, Options, Shutdown, Version};
use pgbr_testkit::samples::Sample;
use pgbr_testkit::stock::{self, Release, Stock};
use pgbr_testkit::user;

const WAIT: Duration = Duration::from_secs(60);

#[test]
fn the_oldest_and_newest_servers_start_with_the_asked_options() {
    for (version, checksums) in [(Version::V13, true), (Version::V15, false), (Version::V18, false)] {
        let dir = user::scratch().unwrap();
        let options = Options { checksums, wal_segment_size_mib: 1, ..Options::default() };
        let mut cluster = Cluster::started(version, &dir.path().join("data"), options).unwrap();
        let answer = cluster.value("SELECT current_setting('server_version_num')::int / 10000").unwrap();
        assert_eq!(answer, version.to_string());
        assert_eq!(cluster.value("SHOW data_checksums").unwrap(), if checksums { "on" } else { "off" });
        assert_eq!(cluster.value("SHOW wal_segment_size").unwrap(), "1MB");
        assert_eq!(cluster.sql("SELECT 1, NULL UNION ALL SELECT 2, 'x'").unwrap(), [["1", ""], ["2", "x"]]);
        cluster.stop(Shutdown::Fast).unwrap();
        assert!(!cluster.is_running());
        cluster.start().unwrap();
        cluster.stop(Shutdown::Immediate).unwrap();
    }
}

#[test]
fn a_server_ends_with_its_handle() {
    let dir = user::scratch().unwrap();
    let data = dir.path().join("data");
    let cluster = Cluster::started(Version::V18, &data, Options::default()).unwrap();
    let pid = std::fs::read_to_string(data.join("postmaster.pid")).unwrap().lines().next().unwrap().to_owned();
    let process = std::path::PathBuf::from("/proc").join(pid);
    assert!(process.is_dir());
    drop(cluster);
    assert!(!process.is_dir());
}

#[test]
fn every_release_of_the_original_backs_up_and_restores() {
    for (stock, version) in stock::all().iter().zip([Version::V15, Version::V18, Version::V17]) {
        // 2.45 came before PostgreSQL 16.
        let version = if stock.release == Release::V2_45 { Version::V15 } else { version };
        back_up_and_restore(stock, version);
    }
}

fn back_up_and_restore(stock: &Stock, version: Version) {
    let dir = user::scratch().unwrap();
    let mut conf = Conf::create(&dir.path().join("backrest"), "demo").unwrap();
    let data = dir.path().join("data");
    let options = Options { archive_command: Some(stock.engine.archive_command(&conf)), ..Options::default() };
    let mut cluster = Cluster::started(version, &data, options.clone()).unwrap();
    conf.cluster(&cluster).unwrap().global("compress-type", "zst").unwrap();
    stock.engine.ok(&conf, &["stanza-create"]).unwrap();
    cluster.sql("CREATE TABLE kept AS SELECT g FROM generate_series(1, 1000) g").unwrap();
    let backup = stock.engine.ok(&conf, &["backup", "--type=full"]).unwrap();
    assert!(backup.text().contains("new backup label"), "{}", backup.text());
    cluster.sql("INSERT INTO kept SELECT g FROM generate_series(1001, 1500) g").unwrap();
    cluster.archive_current_segment(WAIT).unwrap();
    cluster.stop(Shutdown::Fast).unwrap();
    drop(cluster);

    std::fs::remove_dir_all(&data).unwrap();
    stock.engine.ok(&conf, &["restore"]).unwrap();
    let mut restored = Cluster::open(version, &data, options).unwrap();
    restored.start().unwrap();
    restored.wait_until_promoted(WAIT).unwrap();
    assert_eq!(restored.value("SELECT count(*) FROM kept").unwrap(), "1500", "{}", stock.engine.name());
}

#[test]
fn the_original_restores_the_samples_as_they_are_expected() {
    let all = stock::all();
    for sample in Sample::ALL {
        // The newest release marks the checkpoint in pg_control as invalid until recovery has begun, 2.45 did not.
        let stock = if sample.name().starts_with("2.45") { all.first() } else { all.last() }.unwrap();
        let dir = user::scratch().unwrap();
        let unpacked = sample.unpack(&dir.path().join("sample")).unwrap();
        let [lock, spool, log] = unpacked.local_paths();
        let data = dir.path().join("data");
        let tablespace = dir.path().join("ts1");
        let path_option = format!("--pg1-path={}", data.display());
        let map_option = format!("--tablespace-map=ts1={}", tablespace.display());
        let label = unpacked.labels().unwrap().pop().unwrap();
        let expected = unpacked.expected(&label).unwrap();
        let set = format!("--set={label}");
        let mut arguments = vec!["restore", &lock, &spool, &log, &path_option, &set];
        if !expected.tablespaces.is_empty() {
            arguments.push(&map_option);
        }
        user::create_dir(&data).unwrap();
        stock.engine.ok(&unpacked.conf(), &arguments).unwrap();
        let differences = expected.differences(&data).unwrap();
        assert!(differences.is_empty(), "{} {label}: {differences:#?}", sample.name());
        for name in expected.tablespaces.keys() {
            let differences = expected.tablespace_differences(name, &tablespace).unwrap();
            assert!(differences.is_empty(), "{} {label} {name}: {differences:#?}", sample.name());
        }
    }
}
