//! Servers on restored directories, recovered to the end of the archive and to a moment before its last change.

use std::time::Duration;

use pgbr_testkit::postgres::{Cluster, Options, Version};
use pgbr_testkit::samples::Sample;
use pgbr_testkit::user;

use crate::place::Restore;

const WAIT: Duration = Duration::from_secs(60);

/// Rows of the table `t` before the last change, and after it; the samples' README says so.
const ROWS_BEFORE: u64 = 4100;
const ROWS_AFTER: u64 = 4150;

fn server_of(name: &str) -> Version {
    match name {
        _ if name.contains("pg13") => Version::V13,
        _ if name.contains("pg18") || name.contains("to18") => Version::V18,
        _ => Version::V15,
    }
}

/// A server on the restored directory; its configuration is the sample's own.
fn start(restore: &Restore) -> Cluster {
    let mut cluster =
        Cluster::open(server_of(restore.sample.sample().name()), &restore.data(), Options::default()).unwrap();
    cluster.start().unwrap_or_else(|error| panic!("{error}"));
    cluster.wait_until_promoted(WAIT).unwrap();
    cluster
}

/// To the end of the archive: all rows that the writer noted.
fn recovers_to_the_end(restore: &Restore) {
    let name = restore.sample.sample().name();
    user::create_dir(&restore.data()).unwrap();
    restore.ok(&["--archive-mode=off"]);
    let cluster = start(restore);
    let tables = restore.sample.sample().tables().unwrap();
    assert!(!tables.is_empty());
    for table in tables {
        assert_eq!(cluster.sql(&table.query()).unwrap(), [table.row()], "{name}");
    }
}

/// To the moment before the last change: all tables are there, and `t` without the last rows.
fn recovers_to_the_time(restore: &Restore) {
    let name = restore.sample.sample().name();
    let time = restore.sample.time_before_fourth().unwrap().unwrap();
    user::create_dir(&restore.data()).unwrap();
    let target = format!("--target={time}");
    let arguments = ["--type=time", &target, "--target-action=promote", "--archive-mode=off"];
    let outcome = restore.ok(&[&arguments[..], &["--log-level-console=info"]].concat());
    assert!(outcome.text().contains("restore backup set"), "{}", outcome.text());
    let cluster = start(restore);
    let rows =
        |table: &str| -> u64 { cluster.value(&format!("SELECT count(*) FROM {table}")).unwrap().parse().unwrap() };
    assert_eq!(rows("t"), ROWS_BEFORE, "{name}");
    for table in restore.sample.sample().tables().unwrap() {
        match table.name.as_str() {
            "t" => assert_eq!(table.rows, ROWS_AFTER, "{name}"),
            // Nothing happened to the others after that moment.
            _ => assert_eq!(cluster.sql(&table.query()).unwrap(), [table.row()], "{name}"),
        }
    }
}

/// Two at a time: servers wait for their disks and for each other's clients.
fn each(names: &[&str], work: impl Fn(&str) + Sync) {
    std::thread::scope(|scope| {
        for half in 0..2 {
            let work = &work;
            scope.spawn(move || names.iter().skip(half).step_by(2).for_each(|name| work(name)));
        }
    });
}

/// One sample for each version of the server: 13, 15, 18.
const EACH_VERSION: [&str; 3] =
    ["2.60-pg13-lz4-bundle-block", "2.60-pg15-gz-tablespace", "2.60-pg18-zst-aes-bundle-block"];

#[test]
fn servers_recover_to_the_end_of_the_archive() {
    let names = Sample::ALL.map(|sample| sample.name());
    each(&names, |name| recovers_to_the_end(&Restore::of(name)));
}

#[test]
fn rs12_servers_recover_to_a_time() {
    let names: Vec<&str> = Sample::ALL.iter().map(Sample::name).filter(|name| !name.contains("upgrade")).collect();
    each(&names, |name| recovers_to_the_time(&Restore::of(name)));
}

#[test]
fn servers_recover_from_s3_to_the_end_and_to_a_time() {
    each(&EACH_VERSION, |name| recovers_to_the_end(&Restore::from_s3(name)));
    each(&EACH_VERSION, |name| recovers_to_the_time(&Restore::from_s3(name)));
}
