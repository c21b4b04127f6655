//! `plan`: what a recovery takes, against what the repositories hold and what a restore chooses.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use jiff::Timestamp;
use pgbr_testkit::process::Outcome;
use pgbr_testkit::s3::{Bucket, Fault, Rule, S3Operation};
use pgbr_testkit::samples::{Sample, Unpacked};
use pgbr_testkit::{pgbr, user};
use serde_json::Value;
use tempfile::TempDir;

const UPGRADE: &str = "2.60-pg15to18-zst-bundle-upgrade";
const GZ: &str = "2.60-pg15-gz-tablespace";

struct World {
    dir: TempDir,
    sample: Unpacked,
}

impl World {
    fn of(name: &str) -> Self {
        let dir = user::scratch().unwrap();
        let sample = Sample::named(name).unwrap().unpack(&dir.path().join("sample")).unwrap();
        Self { dir, sample }
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let mut all = vec!["plan"];
        all.extend(arguments);
        pgbr::engine().run(&self.sample.conf(), &all).unwrap()
    }

    /// The plan, and whether the exit code says the same.
    fn plan(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.push("--output=json");
        let outcome = self.run(&all);
        let plan: Value = serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{}", outcome.text()));
        assert_eq!(outcome.exit_code, Some(if plan["reachable"] == true { 0 } else { 1 }), "{plan}");
        plan
    }

    fn archived(&self, id: &str, segment: &str) -> PathBuf {
        archived(&self.sample.repo(), id, segment)
    }

    /// What a restore with the same options says that it restores.
    fn restored(&self, arguments: &[&str]) -> Option<String> {
        let target = tempfile::tempdir_in(self.sample.root()).unwrap();
        let data = target.path().join("data");
        user::own(target.path()).unwrap();
        user::create_dir(&data).unwrap();
        let path = format!("--pg1-path={}", data.display());
        let map = format!("--tablespace-map-all={}", target.path().join("ts").display());
        let [lock, spool, log] = self.sample.local_paths();
        let mut all = vec!["restore", &lock, &spool, &log, "--log-level-console=info", &path, &map];
        all.extend(arguments);
        let outcome = pgbr::engine().run(&self.sample.conf(), &all).unwrap();
        let line = outcome.stdout.lines().find_map(|line| Some(line.split_once("restore backup set ")?.1.to_owned()));
        line.map(|rest| rest.split(',').next().unwrap().to_owned())
    }
}

fn archived(repo: &Path, id: &str, segment: &str) -> PathBuf {
    let folder = repo.join("archive/demo").join(id).join(&segment[..16]);
    let mut names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    // Beside it may be its backup history file and a part of it.
    let begin = format!("{segment}-");
    names.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&begin)).unwrap()
}

fn ranges(plan: &Value) -> Vec<(u64, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let ranges = plan["wal"]["range"].as_array().unwrap();
    ranges.iter().map(|run| (run["timeline"].as_u64().unwrap(), text(&run["start"]), text(&run["stop"]))).collect()
}

#[test]
fn the_end_of_the_archive_is_reached_over_timelines() {
    let world = World::of(UPGRADE);
    let labels = world.sample.labels().unwrap();
    let plan = world.plan(&[]);
    assert_eq!(plan["backup"]["label"], labels[2].as_str(), "{plan}");
    assert_eq!(plan["backup"]["reference"], serde_json::json!([labels[1]]));
    assert_eq!(plan["wal"]["last"], "00000002000000000000000F");
    // From the full backup on timeline 1 the way leads through the segment in which that was left.
    let set = format!("--set={}", labels[1]);
    let plan = world.plan(&[&set]);
    let names = |one: &str, other: &str| (one.to_owned(), other.to_owned());
    let found: Vec<_> = ranges(&plan).into_iter().map(|(timeline, start, stop)| (timeline, (start, stop))).collect();
    assert_eq!(
        found,
        [
            (1, names("00000001000000000000000A", "00000001000000000000000A")),
            (2, names("00000002000000000000000B", "00000002000000000000000F")),
        ],
        "{plan}"
    );
    let plan = world.plan(&[&set, "--target-timeline=current"]);
    assert_eq!(ranges(&plan), [(1, "00000001000000000000000A".to_owned(), "00000001000000000000000C".to_owned())]);
    let plan = world.plan(&[&set, "--type=immediate"]);
    assert_eq!(plan["wal"]["last"], "00000001000000000000000A", "{plan}");
    let text = world.run(&[&set]).stdout;
    assert!(text.starts_with("target: end of the archive\nreachable: yes\nbackup: "), "{text}");
}

#[test]
fn missing_wal_is_named_and_refused() {
    let world = World::of(UPGRADE);
    let labels = world.sample.labels().unwrap();
    let set = format!("--set={}", labels[1]);
    fs::remove_file(world.archived("18-2", "00000002000000000000000D")).unwrap();
    let plan = world.plan(&[&set]);
    assert_eq!(plan["reachable"], false);
    assert_eq!(plan["wal"]["missing"][0]["start"], "00000002000000000000000D", "{plan}");
    assert_eq!(plan["wal"]["last"], "00000002000000000000000C");
    // A target before the gap is not touched by it, one behind the archive is not there.
    let reachable = |arguments: &[&str]| world.plan(arguments)["reachable"] == true;
    assert!(reachable(&[&set, "--type=lsn", "--target=0/C80000"]));
    assert!(!reachable(&[&set, "--type=lsn", "--target=0/E00028"]));
    assert!(!reachable(&[&set, "--type=lsn", "--target=FFFFFFFF/F0000000"]));
    assert!(reachable(&[&set, "--type=immediate"]));
    let text = world.run(&[&set]).stdout;
    assert!(text.contains("reachable: no\n    WAL on the way to the target is missing"), "{text}");
    assert!(text.contains("    missing: 00000002000000000000000D\n"), "{text}");
}

#[test]
fn targets_without_a_backup_or_a_timeline_are_refused() {
    let world = World::of(UPGRADE);
    for arguments in [
        &["--set=20200101-000000F"][..],
        &["--type=time", "--target=2001-01-01 00:00:00+00"],
        &["--type=lsn", "--target=0/1"],
        &["--target-timeline=7"],
    ] {
        let plan = world.plan(arguments);
        assert_eq!(plan["reachable"], false, "{arguments:?} {plan}");
        assert!(!plan["obstacle"].as_array().unwrap().is_empty());
    }
    // What cannot be read is not taken for missing.
    for name in ["backup.info", "backup.info.copy"] {
        fs::write(world.sample.repo().join("backup/demo").join(name), "damaged").unwrap();
    }
    let outcome = world.run(&[]);
    assert!(outcome.exit_code.is_some_and(|code| code > 1), "{}", outcome.text());
}

#[test]
fn ge12_rs11_an_orphaned_timeline_is_no_way_but_the_backups_own_is() {
    let world = World::of(GZ);
    let history = world.sample.repo().join("archive/demo/15-1/00000005.history");
    fs::write(&history, "1\t0/100028\tfailed promotion\n").unwrap();
    user::own(&history).unwrap();
    let plan = world.plan(&[]);
    assert_eq!(plan["reachable"], false, "{plan}");
    assert!(plan["obstacle"][0].as_str().unwrap().contains("forked from backup timeline 1"), "{plan}");
    assert_eq!(world.plan(&["--target-timeline=current"])["reachable"], true);
}

#[test]
fn the_backup_is_the_one_that_a_restore_chooses() {
    let world = World::of(GZ);
    let time = world.sample.time_before_fourth().unwrap().unwrap();
    let target = format!("--target={time}");
    for arguments in [
        &["--type=time", &target][..],
        &["--type=lsn", "--target=0/700000"],
        &["--type=name", "--target=it"],
        &["--type=xid", "--target=800"],
        &["--type=standby"],
        &["--type=immediate"],
        &[],
    ] {
        let plan = world.plan(arguments);
        let chosen = plan["backup"]["label"].as_str().map(str::to_owned);
        assert_eq!(chosen, world.restored(arguments), "{arguments:?} {plan}");
        if !arguments.contains(&"--type=time") {
            assert_eq!(plan["reachable"], chosen.is_some(), "{arguments:?} {plan}");
        }
    }
}

/// A bucket has the same plan as a directory, names the same gap, and a store that does not answer is no gap.
#[test]
fn a_bucket_has_the_plan_of_a_directory() {
    let world = World::of(UPGRADE);
    let labels = world.sample.labels().unwrap();
    let set = format!("--set={}", labels[1]);
    let all: [&[&str]; 4] = [&[], &[&set], &[&set, "--type=lsn", "--target=0/C80000"], &["--set=20200101-000000F"]];
    let gap = [set.as_str()];
    // The objects are younger than the files.
    let planned = |arguments: &[&str]| {
        let mut plan = world.plan(arguments);
        plan["wal"].as_object_mut().map(|wal| wal.remove("last-archived"));
        plan
    };
    let whole = all.map(planned);
    let removed = world.archived("18-2", "00000002000000000000000D");
    let content = fs::read(&removed).unwrap();
    fs::remove_file(&removed).unwrap();
    let with_gap = planned(&gap);
    user::write_file(&removed, content).unwrap();

    let bucket = Bucket::start(world.dir.path()).unwrap();
    world.sample.move_to(&bucket).unwrap();
    assert_eq!(all.map(planned), whole);
    bucket.server().inject(Rule::always(Fault::error(403, "AccessDenied"), |request| {
        request.operation == S3Operation::ListObjects && request.query.contains("archive%2Fdemo%2F18-2")
    }));
    let refused = world.run(&gap);
    assert!(refused.exit_code.is_some_and(|code| code > 1), "{}", refused.text());
    bucket.server().heal();
    fs::remove_file(archived(&bucket.repo(), "18-2", "00000002000000000000000D")).unwrap();
    let plan = planned(&gap);
    assert_eq!(plan["wal"]["missing"][0]["start"], "00000002000000000000000D", "{plan}");
    assert_eq!(plan, with_gap);
}

/// What it costs is what is stored.
#[test]
fn the_bytes_are_those_of_the_objects() {
    let world = World::of(UPGRADE);
    let labels = world.sample.labels().unwrap();
    let info = pgbr::engine().ok(&world.sample.conf(), &["info", "--output=json"]).unwrap().stdout;
    let info: Value = serde_json::from_str(&info).unwrap();
    let backups = info[0]["backup"].as_array().unwrap();
    for label in &labels[1..] {
        let listed = backups.iter().find(|backup| backup["label"] == label.as_str()).unwrap();
        let plan = world.plan(&[&format!("--set={label}")]);
        assert_eq!(plan["backup"]["size"], listed["info"]["size"], "{plan}");
        assert_eq!(plan["backup"]["stop"], listed["timestamp"]["stop"]);
        let mut fetched = plan["backup"]["size-repo"].as_u64().unwrap();
        let stored: u64 = listed["info"]["repository"]["size"].as_u64().unwrap();
        assert_eq!(fetched, stored, "{plan}");
        for range in plan["wal"]["range"].as_array().unwrap() {
            let (start, stop) = (range["start"].as_str().unwrap(), range["stop"].as_str().unwrap());
            let mut segments = Vec::new();
            files_below(&world.sample.repo().join("archive/demo/18-2"), &mut segments);
            let within = |path: &PathBuf| {
                let name = path.file_name().unwrap().to_str().unwrap();
                name.contains('-') && (start..=stop).contains(&&name[..24])
            };
            let sizes: Vec<u64> =
                segments.iter().filter(|path| within(path)).map(|path| fs::metadata(path).unwrap().len()).collect();
            assert_eq!(range["count"], sizes.len(), "{plan}");
            assert_eq!(range["size-repo"], sizes.iter().sum::<u64>(), "{plan}");
            fetched += sizes.iter().sum::<u64>();
        }
        assert_eq!(plan["repo"], serde_json::json!([{ "key": 1, "size": fetched }]));
    }
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

/// archive-get asks every repository for each segment, and delivers none that has two contents.
#[test]
fn what_one_repository_lacks_another_has_and_two_contents_are_none() {
    let world = World::of(UPGRADE);
    let set = format!("--set={}", world.sample.labels().unwrap()[1]);
    let second = world.dir.path().join("second");
    let copy = std::process::Command::new("cp").arg("-a").arg(world.sample.repo()).arg(&second).status();
    assert!(copy.unwrap().success());
    let lost = "00000002000000000000000D";
    let both = [set.as_str(), &format!("--repo2-path={}", second.display())];
    assert!(ranges(&world.plan(&both)).len() == 2);
    fs::remove_file(world.archived("18-2", lost)).unwrap();
    let plan = world.plan(&both);
    assert_eq!(plan["reachable"], true, "{plan}");
    let keys: Vec<_> = plan["wal"]["range"].as_array().unwrap().iter().map(|range| &range["repo-key"]).collect();
    assert_eq!(keys, [1, 1, 2, 1], "{plan}");
    let other = archived(&second, "18-2", lost);
    assert_eq!(plan["repo"][1], serde_json::json!({ "key": 2, "size": fs::metadata(&other).unwrap().len() }));
    // Another content under the name, in the same repository or in the other one.
    let name = other.file_name().unwrap().to_str().unwrap();
    let digit = if name.as_bytes()[25] == b'0' { "1" } else { "0" };
    let rival = format!("{}{digit}{}", &name[..25], &name[26..]);
    let first = world.sample.repo().join("archive/demo/18-2/0000000200000000");
    for folder in [&first, other.parent().unwrap()] {
        fs::copy(&other, folder.join(&rival)).unwrap();
        user::own(&folder.join(&rival)).unwrap();
        let plan = world.plan(&both);
        assert_eq!(plan["reachable"], false, "{plan}");
        assert_eq!(plan["wal"]["missing"], serde_json::json!([{ "start": lost, "stop": lost }]), "{plan}");
        fs::remove_file(folder.join(&rival)).unwrap();
    }
    let plan = world.plan(&both);
    assert_eq!((&plan["reachable"], &plan["note"]), (&Value::from(true), &serde_json::json!([])), "{plan}");

    // Without it the other one is needed; with it, it is only told that nobody could ask there.
    let info = second.join("archive/demo/archive.info");
    for name in [&info, &info.with_extension("info.copy")] {
        fs::write(name, "damaged").unwrap();
    }
    let mut needed = vec!["plan"];
    needed.extend(both);
    let outcome = pgbr::engine().run(&world.sample.conf(), &needed).unwrap();
    assert!(outcome.exit_code.is_some_and(|code| code > 1), "{}", outcome.text());
    // Nor is a backup nowhere that the first does not have.
    for name in ["backup.info", "backup.info.copy"] {
        fs::write(second.join("backup/demo").join(name), "damaged").unwrap();
    }
    let outcome = pgbr::engine().run(&world.sample.conf(), &["plan", "--set=20200101-000000F", both[1]]).unwrap();
    assert!(outcome.exit_code.is_some_and(|code| code > 1), "{}", outcome.text());
    fs::copy(&other, first.join(name)).unwrap();
    user::own(&first.join(name)).unwrap();
    let plan = world.plan(&both);
    assert_eq!(plan["reachable"], true, "{plan}");
    assert!(plan["note"][0].as_str().unwrap().starts_with("repo2 could not be asked for WAL"), "{plan}");
}

/// A time is reached in the first segment that was archived after it; what lies behind that does not matter.
#[test]
fn a_time_is_reached_in_the_first_segment_archived_after_it() {
    let world = World::of(UPGRADE);
    let set = format!("--set={}", world.sample.labels().unwrap()[1]);
    let stop_s = world.plan(&[&set])["backup"]["stop"].as_i64().unwrap();
    let way = [
        "00000001000000000000000A",
        "00000002000000000000000B",
        "00000002000000000000000C",
        "00000002000000000000000D",
        "00000002000000000000000E",
        "00000002000000000000000F",
    ];
    for (place, segment) in (1..).zip(way) {
        let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(stop_s).unwrap() + 100 * place);
        fs::File::open(world.archived("18-2", segment)).unwrap().set_modified(at).unwrap();
    }
    let plan = |after_s: i64| {
        let at = Timestamp::from_second(stop_s + after_s).unwrap().strftime("%Y-%m-%d %H:%M:%S+00").to_string();
        world.plan(&[&set, "--type=time", &format!("--target={at}")])
    };
    // The backup needs its own segment whatever the time.
    for (after_s, last) in [(1, way[0]), (99, way[0]), (100, way[1]), (299, way[2]), (300, way[3]), (599, way[5])] {
        let plan = plan(after_s);
        assert_eq!((&plan["reachable"], &plan["wal"]["last"]), (&Value::from(true), &Value::from(last)), "{plan}");
        assert_eq!(plan["note"].as_array().unwrap().len(), 1);
    }
    for after_s in [600, 100_000] {
        let plan = plan(after_s);
        assert_eq!(plan["reachable"], false, "{plan}");
        assert_eq!(plan["obstacle"], serde_json::json!(["the archive ends before the target"]));
    }
    for after_s in [-1, 0] {
        let plan = plan(after_s);
        assert!(plan["obstacle"][0].as_str().unwrap().ends_with("ended after the target"), "{plan}");
    }
    fs::remove_file(world.archived("18-2", way[4])).unwrap();
    assert_eq!(plan(300)["reachable"], true);
    let gap = plan(400);
    assert_eq!((&gap["reachable"], &gap["wal"]["missing"][0]["start"]), (&Value::from(false), &Value::from(way[4])));
}
