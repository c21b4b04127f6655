//! A clone of a live cluster that archives into the same stanza (row RS13 of the faults): what its source has archived
//! stays as it is, and goes on.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use pgbr_testkit::conf::Conf;
use pgbr_testkit::postgres::{Cluster, Options, Shutdown, Version};
use pgbr_testkit::samples::sha256;
use pgbr_testkit::{pgbr, user};

const WAIT: Duration = Duration::from_secs(60);

/// Every file of the archive with its checksum.
fn archived(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(archived(&path));
        } else if !path.file_name().unwrap().to_string_lossy().starts_with("archive.info") {
            found.insert(path.display().to_string(), sha256(&path).unwrap());
        }
    }
    found
}

/// Which timelines of others a clone sees when it chooses its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sees {
    /// Those in the archive.
    Others,
    /// None: it was promoted in the moment in which another one was.
    Nobody,
}

/// Restores beside the source and starts: the clone has its source's archive_command, and ends on a new timeline.
fn clone(conf: &Conf, data: &Path, sees: Sees) -> Cluster {
    user::create_dir(data).unwrap();
    let pg_path = format!("--pg1-path={}", data.display());
    pgbr::engine().ok(conf, &["restore", &pg_path, "--target-timeline=current"]).unwrap();
    // Its command names its own directory, as a careless copy of the configuration does.
    let command = format!("{} {pg_path}", pgbr::engine().archive_command(conf).replace(" archive-push %p", ""));
    let mut overrides = vec![("archive_command".to_owned(), format!("{command} archive-push %p"))];
    if sees == Sees::Nobody {
        let blind = format!("case %f in *.history) exit 1 ;; esac; {command} archive-get %f %p");
        overrides.push(("restore_command".to_owned(), blind));
    }
    let mut cluster = Cluster::open(Version::V15, data, Options { overrides, ..Options::default() }).unwrap();
    cluster.start().unwrap();
    cluster.wait_until_promoted(WAIT).unwrap();
    cluster
}

#[test]
fn rs13_a_clone_cannot_change_what_its_source_archived() {
    let dir = user::scratch().unwrap();
    let mut conf = Conf::create(&dir.path().join("backrest"), "demo").unwrap();
    let ours = pgbr::engine();
    let options = Options { archive_command: Some(ours.archive_command(&conf)), ..Options::default() };
    let mut source = Cluster::started(Version::V15, &dir.path().join("data"), options).unwrap();
    conf.cluster(&source).unwrap();
    ours.ok(&conf, &["stanza-create"]).unwrap();
    source.sql("CREATE TABLE t AS SELECT 1 AS who").unwrap();
    ours.ok(&conf, &["backup", "--type=full"]).unwrap();
    source.archive_current_segment(WAIT).unwrap();
    let archive = dir.path().join("backrest/repo/archive/demo");
    let before = archived(&archive);

    // The first clone becomes timeline 2, and archives there.
    let first = clone(&conf, &dir.path().join("first"), Sees::Others);
    first.sql("INSERT INTO t VALUES (2)").unwrap();
    let segment = first.archive_current_segment(WAIT).unwrap();
    assert!(segment.starts_with("00000002"), "{segment}");
    let with_first = archived(&archive);
    assert!(before.iter().all(|(path, sum)| with_first.get(path) == Some(sum)), "the source's archive changed");
    assert!(with_first.len() > before.len());

    // The source goes on, on its own timeline.
    source.sql("INSERT INTO t VALUES (1)").unwrap();
    let segment = source.archive_current_segment(WAIT).unwrap();
    assert!(segment.starts_with("00000001"), "{segment}");
    let with_source = archived(&archive);

    // A second clone becomes timeline 2 as well: its history is another one, and is refused, as is all that follows.
    let second = clone(&conf, &dir.path().join("second"), Sees::Nobody);
    second.sql("INSERT INTO t VALUES (3); SELECT pg_switch_wal()").unwrap();
    second.wait("SELECT failed_count > 0 AND archived_count = 0 FROM pg_stat_archiver", "t", WAIT).unwrap();
    assert_eq!(archived(&archive), with_source, "the second clone changed the archive");

    // With archiving off a clone does not even try.
    let mut quiet = clone_quietly(&conf, &dir.path().join("quiet"));
    assert_eq!(quiet.value("SHOW archive_mode").unwrap(), "off");
    quiet.stop(Shutdown::Immediate).unwrap();
    assert_eq!(archived(&archive), with_source);
    source.stop(Shutdown::Immediate).unwrap();
}

fn clone_quietly(conf: &Conf, data: &Path) -> Cluster {
    user::create_dir(data).unwrap();
    let pg_path = format!("--pg1-path={}", data.display());
    pgbr::engine().ok(conf, &["restore", &pg_path, "--archive-mode=off", "--target-timeline=current"]).unwrap();
    let mut cluster = Cluster::open(Version::V15, data, Options::default()).unwrap();
    cluster.start().unwrap();
    cluster.wait_until_promoted(WAIT).unwrap();
    cluster
}
