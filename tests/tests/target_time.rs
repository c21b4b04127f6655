//! `repo-target-time`: the repository as it was at a time, over a bucket that keeps versions, as the original sees it.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use jiff::Timestamp;
use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::postgres::{Cluster, Options, Shutdown, Version};
use pgbr_testkit::process::Outcome;
use pgbr_testkit::s3::{Bucket, S3Operation};
use pgbr_testkit::stock::{self, Release};
use pgbr_testkit::{pgbr, user};

const WAIT: Duration = Duration::from_secs(60);

fn original() -> Engine {
    stock::find(Release::V2_60).unwrap().engine
}

/// The current second, which is over afterwards: what happened before is not later, what happens next is.
fn moment() -> String {
    let now = Timestamp::now();
    let rest_ms = 1000 - u64::try_from(now.subsec_millisecond()).unwrap();
    sleep(Duration::from_millis(rest_ms + 5));
    now.strftime("%Y-%m-%d %H:%M:%S+00").to_string()
}

/// The same answer of both programs.
fn same(conf: &Conf, at: &str, arguments: &[&str]) -> Outcome {
    let at = format!("--repo-target-time={at}");
    let all = [&["--log-level-console=off", "--repo=1", at.as_str()][..], arguments].concat();
    let ours = pgbr::engine().run(conf, &all).unwrap();
    let theirs = original().run(conf, &all).unwrap();
    assert_eq!(without_times(&ours.stdout), without_times(&theirs.stdout), "{all:?}");
    assert_eq!(ours.exit_code, theirs.exit_code, "{all:?}: {} {}", ours.text(), theirs.text());
    ours
}

/// A listing without times: the original gives an object the time of a version before the one that it names.
fn without_times(printed: &str) -> String {
    let mut pieces = printed.split("\"time\":");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| text + piece.trim_start_matches(|digit: char| digit.is_ascii_digit()))
}

/// Every file below a folder.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    pgbr_testkit::world::tree(folder)
}

/// Restores with one program; the settings apart, in which each names itself.
fn restored(engine: &Engine, conf: &Conf, dir: &Path, at: &str, set: &str) -> (BTreeMap<String, Vec<u8>>, String) {
    let data = dir.join("restored");
    user::create_dir(&data).unwrap();
    let (at, set) = (format!("--repo-target-time={at}"), format!("--set={set}"));
    let path = format!("--pg1-path={}", data.display());
    engine.ok(conf, &["--repo=1", &at, &set, &path, "--type=immediate", "restore"]).unwrap();
    let mut files = tree(&data);
    let settings = String::from_utf8(files.remove("postgresql.auto.conf").unwrap()).unwrap();
    fs::remove_dir_all(&data).unwrap();
    (files, settings)
}

struct World {
    dir: tempfile::TempDir,
    bucket: Bucket,
    conf: Conf,
}

impl World {
    fn new() -> Self {
        let dir = user::scratch().unwrap();
        let bucket = Bucket::start_versioned(dir.path()).unwrap();
        let mut conf = Conf::create(&dir.path().join("backrest"), "demo").unwrap();
        for (option, value) in bucket.options(1) {
            conf.global(&option, &value).unwrap();
        }
        for (option, value) in [("compress-type", "zst"), ("repo1-bundle", "y"), ("start-fast", "y")] {
            conf.global(option, value).unwrap();
        }
        Self { dir, bucket, conf }
    }

    fn label(&self) -> String {
        let info = pgbr::engine().ok(&self.conf, &["--output=json", "info"]).unwrap().stdout;
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        info[0]["backup"].as_array().unwrap().last().unwrap()["label"].as_str().unwrap().to_owned()
    }
}

#[test]
fn the_past_of_a_repository_is_what_the_original_sees() {
    let mut world = World::new();
    let data = world.dir.path().join("data");
    let options = Options { archive_command: Some(pgbr::engine().archive_command(&world.conf)), ..Options::default() };
    let mut cluster = Cluster::started(Version::V15, &data, options).unwrap();
    world.conf.cluster(&cluster).unwrap();
    let (ours, theirs, conf) = (pgbr::engine(), original(), world.conf.clone());

    let before = moment();
    ours.ok(&conf, &["stanza-create"]).unwrap();
    ours.ok(&conf, &["--type=full", "backup"]).unwrap();
    let full = world.label();
    let segment = cluster.archive_current_segment(WAIT).unwrap();
    let first = moment();
    cluster.sql("create table later as select generate_series(1, 1000)").unwrap();
    theirs.ok(&conf, &["--type=incr", "backup"]).unwrap();
    let incremental = world.label();
    ours.ok(&conf, &["--set", &full, "--annotation=why=because", "annotate"]).unwrap();
    let second = moment();
    cluster.stop(Shutdown::Fast).unwrap();
    ours.ok(&conf, &["--set", &incremental, "expire"]).unwrap();
    let expired = moment();
    ours.ok(&conf, &["stop"]).unwrap();
    ours.ok(&conf, &["--force", "stanza-delete"]).unwrap();
    ours.ok(&conf, &["start"]).unwrap();
    let deleted = moment();
    ours.ok(&conf, &["--no-online", "stanza-create"]).unwrap();
    let anew = moment();

    let listing = |outcome: &Outcome| outcome.stdout.matches("\"type\":\"file\"").count();
    let mut files = Vec::new();
    for at in [&before, &first, &second, &expired, &deleted, &anew] {
        same(&conf, at, &["--output=json", "info"]);
        same(&conf, at, &["info"]);
        let all = same(&conf, at, &["--output=json", "--recurse", "repo-ls"]);
        files.push(listing(&all));
        same(&conf, at, &["--output=json", "repo-ls", "backup/demo/backup.info"]);
        same(&conf, at, &["repo-get", "backup/demo/backup.info"]);
        same(&conf, at, &["repo-get", "--ignore-missing", "archive/demo/archive.info"]);
        same(&conf, at, &["--set", &full, "manifest"]);
        same(&conf, at, &["--set", &incremental, "manifest"]);
        let target = world.dir.path().join("segment");
        same(&conf, at, &["archive-get", &segment, target.to_str().unwrap()]);
        assert_eq!(target.is_file(), at == &first || at == &second || at == &expired, "{at}");
        fs::remove_file(&target).ok();
    }
    assert_eq!((files[0], files[4]), (0, 0), "{files:?}");
    assert!(files[1] > 8 && files[2] > files[1] && files[3] < files[2] && files[5] == 4, "{files:?}");

    let mut last = BTreeMap::new();
    for (at, label) in [(&first, &full), (&second, &incremental)] {
        let (our_files, our_settings) = restored(&ours, &conf, world.dir.path(), at, label);
        let (their_files, their_settings) = restored(&theirs, &conf, world.dir.path(), at, label);
        assert_eq!(our_files.keys().collect::<Vec<_>>(), their_files.keys().collect::<Vec<_>>());
        assert!(our_files == their_files, "{at} {label}");
        for settings in [&our_settings, &their_settings] {
            // The WAL of the recovery comes from the same time.
            let line = settings.lines().find(|line| line.starts_with("restore_command")).unwrap();
            assert!(line.contains(at.as_str()) && line.contains("--repo=1"), "{line}");
        }
        last = their_files;
    }
    // Gone by then, for both.
    let missing = format!("--pg1-path={}", world.dir.path().join("nowhere").display());
    same(&conf, &deleted, &[&missing, "restore"]);
    assert_eq!(
        ours.run(&conf, &["--repo=1", &format!("--repo-target-time={second}"), "verify"]).unwrap().exit_code,
        Some(0)
    );

    // Pages of a few versions each, which the original does not follow.
    let plain = same(&conf, &second, &["--output=json", "--recurse", "repo-ls"]).stdout;
    world.bucket.server().limit_version_pages(2);
    let before_count = world.bucket.server().count(S3Operation::ListObjectVersions);
    let at = format!("--repo-target-time={second}");
    let paged = ours.ok(&conf, &["--repo=1", &at, "--output=json", "--recurse", "repo-ls"]).unwrap();
    assert_eq!(paged.stdout, plain);
    assert!(world.bucket.server().count(S3Operation::ListObjectVersions) > before_count + 10);
    let (paged, _) = restored(&ours, &conf, world.dir.path(), &second, &incremental);
    assert!(paged == last);
}

#[test]
fn a_time_is_refused_where_the_original_refuses_it() {
    let dir = user::scratch().unwrap();
    let mut conf = Conf::create(&dir.path().join("backrest"), "demo").unwrap();
    conf.global("repo1-path", &dir.path().join("repo").display().to_string()).unwrap();
    conf.local("pg1-path", &dir.path().join("data").display().to_string()).unwrap();
    let bucket = Bucket::start(dir.path()).unwrap();
    let mut in_bucket = Conf::create(&dir.path().join("in-bucket"), "demo").unwrap();
    for (option, value) in bucket.options(1) {
        in_bucket.global(&option, &value).unwrap();
    }
    in_bucket.local("pg1-path", &dir.path().join("data").display().to_string()).unwrap();
    let time = "--repo-target-time=2026-01-01 00:00:00+00";
    for (conf, arguments) in [
        (&conf, &[time, "repo-ls"][..]),
        (&conf, &["--repo=1", time, "backup"]),
        (&in_bucket, &["--repo=1", "--repo-target-time=2026-01-01", "repo-ls"]),
        (&in_bucket, &["--repo=1", "--repo-target-time=2026-13-01 00:00:00", "repo-ls"]),
        (&in_bucket, &["--repo=1", "--repo-target-time=2026-01-01 00:00:00+00", "stanza-create"]),
    ] {
        let ours = pgbr::engine().run(conf, arguments).unwrap();
        let theirs = original().run(conf, arguments).unwrap();
        assert_eq!(ours.exit_code, theirs.exit_code, "{arguments:?}: {} {}", ours.text(), theirs.text());
    }
    // The original shows the present of a directory.
    for command in ["repo-ls", "info", "restore", "verify"] {
        let outcome = pgbr::engine().run(&conf, &["--repo=1", time, command]).unwrap();
        assert_eq!(outcome.exit_code, Some(31), "{command}: {}", outcome.text());
        assert!(outcome.text().contains("repo-target-time"), "{command}: {}", outcome.text());
    }
    // A store without versions says so; nothing is taken for missing.
    let outcome = pgbr::engine().run(&in_bucket, &["--repo=1", time, "repo-ls"]).unwrap();
    assert!(outcome.exit_code != Some(0) && outcome.text().contains("NotImplemented"), "{}", outcome.text());
}

/// A full backup, without bundles, of four directories with so many files each; then the backup is removed.
struct Removed {
    world: World,
    data: PathBuf,
    at: String,
    label: String,
}

impl Removed {
    fn new(files: usize) -> Self {
        let mut world = World::new();
        let data = world.dir.path().join("data");
        for name in ["base/1", "base/2", "base/3", "global", "pg_wal/archive_status", "pg_tblspc"] {
            fs::create_dir_all(data.join(name)).unwrap();
        }
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../formats/samples/postgres");
        fs::copy(samples.join("pg15-1mib.pg_control"), data.join("global/pg_control")).unwrap();
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        for directory in ["base/1", "base/2", "base/3", "global"] {
            for number in 0..files {
                fs::write(data.join(directory).join((1000 + number).to_string()), format!("{directory} {number}"))
                    .unwrap();
            }
        }
        user::own(&data).unwrap();
        world.conf.local("pg1-path", &data.display().to_string()).unwrap();
        world.conf.global("repo1-bundle", "n").unwrap();
        let ours = pgbr::engine();
        ours.ok(&world.conf, &["stanza-create", "--no-online"]).unwrap();
        ours.ok(&world.conf, &["--no-online", "--type=full", "backup"]).unwrap();
        let (label, at) = (world.label(), moment());
        ours.ok(&world.conf, &["--no-online", "--type=full", "--repo1-retention-full=1", "backup"]).unwrap();
        assert_ne!(world.label(), label);
        ours.ok(&world.conf, &["--repo1-retention-full=1", "expire"]).unwrap();
        Self { world, data, at, label }
    }

    /// Listings of versions that a command takes.
    fn listings(&self, arguments: &[&str]) -> u64 {
        let count = || self.world.bucket.server().count(S3Operation::ListObjectVersions);
        let (before, at) = (count(), format!("--repo-target-time={}", self.at));
        let all = [&["--repo=1", at.as_str()][..], arguments].concat();
        pgbr::engine().ok(&self.world.conf, &all).unwrap();
        count() - before
    }
}

/// The original lists a directory once. So does this, and goes on where a directory has several pages.
#[test]
fn listings_go_with_the_directories_and_not_with_the_files() {
    let mut counts = Vec::new();
    for files in [10, 60] {
        let removed = Removed::new(files);
        let verify = removed.listings(&["verify"]);
        let (restored, _) =
            restored(&pgbr::engine(), &removed.world.conf, removed.world.dir.path(), &removed.at, &removed.label);
        let files_of = |tree: &BTreeMap<String, Vec<u8>>| tree.keys().filter(|name| name.starts_with("base/")).count();
        assert_eq!(files_of(&restored), 3 * files);
        assert!(tree(&removed.data).iter().all(|(name, content)| restored.get(name) == Some(content)));
        counts.push(verify);
        if files == 60 {
            removed.world.bucket.server().limit_version_pages(20);
            let paged = removed.listings(&["verify"]);
            // Some 245 files in thirteen pages, each of which tells of several files.
            assert!(verify < paged && paged <= verify + 30, "{verify} {paged}");
        }
    }
    assert!(counts[0] == counts[1] && counts[0] <= 24, "{counts:?}");
}
