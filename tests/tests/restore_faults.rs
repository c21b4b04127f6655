//! Restores of damaged and hostile repositories, into directories in every state (the rows RS, HI and NP of the faults).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgbr_repo::format::{FormatError, ManifestReader};
use pgbr_testkit::process::{self, Outcome};
use pgbr_testkit::samples::{Sample, Unpacked};
use pgbr_testkit::{pgbr, user};
use tempfile::TempDir;

const PLAIN: &str = "2.45-pg15-none";
const GZ: &str = "2.60-pg15-gz-tablespace";
const BLOCKS: &str = "2.60-pg13-lz4-bundle-block";
const BUNDLES: &str = "2.60-pg15to18-zst-bundle-upgrade";

/// A sample to damage, a place to restore it to, and a canary that nothing may touch.
struct Bench {
    dir: TempDir,
    sample: Unpacked,
}

impl Bench {
    fn of(name: &str) -> Self {
        let dir = user::scratch().unwrap();
        let sample = Sample::named(name).unwrap().unpack(&dir.path().join("sample")).unwrap();
        let bench = Self { dir, sample };
        user::create_dir(&bench.data()).unwrap();
        user::create_dir(&bench.canary()).unwrap();
        user::write_file(&bench.canary().join("kept"), "kept").unwrap();
        bench
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn canary(&self) -> PathBuf {
        self.dir.path().join("canary")
    }

    fn labels(&self) -> Vec<String> {
        self.sample.labels().unwrap()
    }

    fn full(&self) -> String {
        self.labels().into_iter().next().unwrap()
    }

    fn last(&self) -> String {
        self.labels().pop().unwrap()
    }

    fn backup(&self, label: &str) -> PathBuf {
        self.sample.repo().join("backup/demo").join(label)
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = vec!["restore".to_owned(), "--process-max=2".to_owned()];
        all.extend(self.sample.local_paths());
        all.push(format!("--pg1-path={}", self.data().display()));
        if self.sample.sample().name() == GZ && !more.iter().any(|argument| argument.starts_with("--tablespace-map")) {
            all.push(format!("--tablespace-map=ts1={}", self.dir.path().join("ts1").display()));
        }
        all.extend(
            more.iter().filter(|argument| **argument != "--tablespace-map").map(|argument| (*argument).to_owned()),
        );
        all
    }

    fn run(&self, more: &[&str]) -> Outcome {
        let arguments = self.arguments(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        pgbr::engine().run(&self.sample.conf(), &arguments).unwrap()
    }

    fn ok(&self, more: &[&str]) -> Outcome {
        self.run(more).success().unwrap()
    }

    /// Restores, and must end with this code and these words.
    fn fails(&self, code: i32, words: &[&str], more: &[&str]) -> Outcome {
        let outcome = self.run(more);
        assert_eq!(outcome.exit_code, Some(code), "{more:?}: {}", outcome.text());
        for word in words {
            assert!(outcome.text().contains(word), "'{word}' is not in {}", outcome.text());
        }
        assert!(!self.data().join("global/pg_control").try_exists().unwrap(), "a server could start");
        assert_eq!(names(&self.canary()), ["kept"], "the canary was touched");
        assert_eq!(fs::read(self.canary().join("kept")).unwrap(), b"kept");
        outcome
    }

    fn is_untouched(&self) {
        assert_eq!(names(&self.data()), [""; 0]);
    }

    fn compare(&self, label: &str) {
        let mut expected = self.sample.expected(label).unwrap();
        expected.leave_out("./global/pg_control");
        let differences = expected.differences(&self.data()).unwrap();
        assert!(differences.is_empty(), "{label}: {differences:#?}");
    }

    /// Changes the manifest of a backup and gives it the checksum that it then has.
    fn edit_manifest(&self, label: &str, edit: impl Fn(String) -> String) {
        let path = self.backup(label).join("backup.manifest");
        let before = fs::read_to_string(&path).unwrap();
        let after = edit(before.clone());
        assert_ne!(before, after, "nothing was changed");
        let after = resealed(&after);
        for name in ["backup.manifest", "backup.manifest.copy"] {
            user::write_file(&self.backup(label).join(name), &after).unwrap();
        }
    }

    /// Names of files of a backup with their rows, from the manifest.
    fn rows(&self, label: &str) -> Vec<(String, serde_json::Value)> {
        let text = fs::read_to_string(self.backup(label).join("backup.manifest")).unwrap();
        let section = text.split("[target:file]\n").nth(1).unwrap().split("\n\n").next().unwrap();
        section
            .lines()
            .map(|line| {
                let (name, value) = line.split_once('=').unwrap();
                (name.to_owned(), serde_json::from_str(value).unwrap())
            })
            .collect()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn resealed(text: &str) -> String {
    let (content, _) = text.rsplit_once("backrest-checksum=").unwrap();
    let with = |checksum: &str| format!("{content}backrest-checksum=\"{checksum}\"\n");
    let mut reader = ManifestReader::new();
    match reader.feed(with("").as_bytes()).and_then(|()| reader.finish().map(drop)) {
        Err(FormatError::ChecksumMismatch { actual, .. }) => with(&actual),
        _ => with("0000000000000000000000000000000000000000"),
    }
}

fn flip(file: &Path, at: u64) {
    let mut byte = [0];
    let open = fs::File::options().read(true).write(true).open(file).unwrap();
    open.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 0x10;
    open.write_all_at(&byte, at).unwrap();
}

#[test]
fn rs01_a_full_disk_names_the_file_and_a_rerun_completes() {
    let bench = Bench::of(PLAIN);
    let program = pgbr::engine();
    // A limit on the size of files fails at a random point of the larger ones, as a full disk does.
    for blocks in [16, 40, 700] {
        let mut command = user::command("/bin/sh");
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        command.args(["-c", &script]).arg(program.binary());
        command.arg(bench.sample.conf().config_option()).arg(bench.sample.conf().stanza_option());
        command.args(bench.arguments(&["--delta", "--log-level-file=off"]));
        let outcome = process::run(&mut command, Duration::from_secs(60)).unwrap();
        assert_eq!(outcome.exit_code, Some(64), "{}", outcome.text());
        assert!(outcome.text().contains(&bench.data().display().to_string()), "{}", outcome.text());
        assert!(!bench.data().join("global/pg_control").try_exists().unwrap());
    }
    bench.ok(&["--delta"]);
    bench.compare(&bench.last());
}

#[test]
fn rs02_rs17_a_kill_at_any_point_leaves_what_cannot_start_and_can_be_finished() {
    for name in [PLAIN, BLOCKS] {
        let bench = Bench::of(name);
        let label = bench.last();
        let program = pgbr::engine();
        let mut delay = Duration::from_millis(20);
        let mut interrupted = 0;
        for round in 0..12 {
            let arguments = bench.arguments(&[if round % 3 == 2 { "--force" } else { "--delta" }]);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let mut child = program.command(&bench.sample.conf(), &arguments);
            let mut child =
                child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
            std::thread::sleep(delay);
            child.kill().unwrap();
            let killed = !child.wait().unwrap().success();
            // pg_control is there exactly when everything else is.
            if bench.data().join("global/pg_control").try_exists().unwrap() {
                bench.compare(&label);
                if killed {
                    delay = Duration::from_millis(15);
                }
            } else {
                interrupted += 1;
            }
            delay = delay * 3 / 2;
        }
        assert!(interrupted > 2, "no restore was interrupted");
        bench.ok(&["--delta"]);
        bench.compare(&label);
    }
}

#[test]
fn rs03_a_directory_that_is_no_data_directory_stays_as_it_is() {
    let bench = Bench::of(PLAIN);
    user::create_dir(&bench.data().join("photos")).unwrap();
    user::write_file(&bench.data().join("photos/one"), "1").unwrap();
    for arguments in [&[][..], &["--delta"], &["--force"], &["--delta", "--force"]] {
        bench.fails(40, &["because it contains files"], arguments);
        assert_eq!(names(&bench.data()), ["photos"]);
        assert_eq!(fs::read(bench.data().join("photos/one")).unwrap(), b"1");
    }
    let warned = bench.run(&["--delta"]);
    assert!(warned.text().contains("unable to find 'PG_VERSION'"), "{}", warned.text());
    // A directory that cannot be a data directory at all.
    let outcome = bench.run(&["--delta", "--pg1-path=/"]);
    assert!(!matches!(outcome.exit_code, Some(0) | None), "{}", outcome.text());
}

#[test]
fn rs04_a_running_server_is_left_alone() {
    let bench = Bench::of(PLAIN);
    user::write_file(&bench.data().join("postmaster.pid"), "1").unwrap();
    bench.fails(38, &["HINT", "postmaster.pid"], &["--delta"]);
    assert_eq!(names(&bench.data()), ["postmaster.pid"]);
}

#[test]
fn rs05_a_flipped_byte_names_file_backup_and_object() {
    let bench = Bench::of(PLAIN);
    let label = bench.full();
    flip(&bench.backup(&label).join("pg_data/base/1/1255"), 5000);
    let set = format!("--set={label}");
    bench.fails(26, &["base/1/1255", &label, "pg_data/base/1/1255'", "do not match"], &[&set]);
    assert!(bench.data().join("backup.manifest").try_exists().unwrap(), "the marker of an unfinished restore");
    flip(&bench.backup(&label).join("pg_data/base/1/1255"), 5000);
    bench.ok(&[&set, "--delta"]);
    bench.compare(&label);

    let bench = Bench::of(BUNDLES);
    let label = bench.last();
    let bundle = bench.backup(&label).join("bundle/1");
    flip(&bundle, fs::metadata(&bundle).unwrap().len() / 2);
    let set = format!("--set={label}");
    let outcome = bench.run(&[&set]);
    assert!(matches!(outcome.exit_code, Some(26 | 29)), "{}", outcome.text());
    assert!(outcome.text().contains("bundle/1'") && outcome.text().contains(&label), "{}", outcome.text());
    assert!(!bench.data().join("global/pg_control").try_exists().unwrap());
}

#[test]
fn rs06_every_missing_object_is_named_before_anything_is_touched() {
    // Two files of the full that the incremental refers to.
    let bench = Bench::of(PLAIN);
    let (full, last) = (bench.full(), bench.last());
    for name in ["pg_data/base/1/1255", "pg_data/base/1/2618"] {
        fs::remove_file(bench.backup(&full).join(name)).unwrap();
    }
    let set = format!("--set={last}");
    bench.fails(55, &["base/1/1255", "base/1/2618", &full, "missing", "HINT"], &[&set]);
    bench.is_untouched();
    // A bundle.
    let bench = Bench::of(BLOCKS);
    let (full, last) = (bench.full(), bench.last());
    fs::remove_file(bench.backup(&full).join("bundle/1")).unwrap();
    bench.fails(55, &["bundle/1", &full], &[&format!("--set={last}")]);
    bench.is_untouched();
    // A bundle that is cut.
    let bench = Bench::of(BLOCKS);
    let bundle = bench.backup(&bench.full()).join("bundle/1");
    fs::File::options().write(true).open(&bundle).unwrap().set_len(1000).unwrap();
    bench.fails(42, &["bundle/1", "1000 bytes"], &[]);
    bench.is_untouched();
    // A file stored as blocks.
    let bench = Bench::of(BLOCKS);
    let full = bench.full();
    let row = bench.rows(&full).into_iter().find(|(_, row)| row.get("bim").is_some() && row.get("bni").is_none());
    if let Some((name, _)) = row {
        fs::remove_file(bench.backup(&full).join(format!("{name}.pgbi"))).unwrap();
        bench.fails(55, &[&format!("{name}.pgbi"), &full], &[&format!("--set={full}")]);
        bench.is_untouched();
    }
}

#[test]
fn rs07_one_good_manifest_is_enough_and_a_renamed_backup_is_refused() {
    let bench = Bench::of(PLAIN);
    let (full, last) = (bench.full(), bench.last());
    let main = bench.backup(&last).join("backup.manifest");
    flip(&main, 300);
    let outcome = bench.ok(&[]);
    assert!(outcome.text().contains("its copy is"), "{}", outcome.text());
    bench.compare(&last);
    flip(&main, 300);
    flip(&bench.backup(&last).join("backup.manifest.copy"), 300);
    bench.ok(&["--delta"]);
    bench.compare(&last);
    flip(&main, 300);
    fs::remove_dir_all(bench.data()).unwrap();
    user::create_dir(&bench.data()).unwrap();
    let outcome = bench.run(&[]);
    assert!(matches!(outcome.exit_code, Some(26 | 29)), "{}", outcome.text());
    bench.is_untouched();
    for name in ["backup.manifest", "backup.manifest.copy"] {
        fs::copy(bench.backup(&full).join("backup.manifest"), bench.backup(&last).join(name)).unwrap();
    }
    bench.fails(29, &["do not match", "HINT"], &[]);
    bench.is_untouched();
}

#[test]
fn rs08_content_counts_and_time_only_where_it_is_asked_for() {
    let bench = Bench::of(PLAIN);
    bench.ok(&[]);
    let file = bench.data().join("base/1/1255");
    let modified = fs::metadata(&file).unwrap().modified().unwrap();
    flip(&file, 100);
    fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    let changed = fs::read(&file).unwrap();
    bench.ok(&["--delta", "--force"]);
    assert!(fs::read(&file).unwrap() == changed, "size and time are trusted with --delta --force");
    bench.ok(&["--delta"]);
    bench.compare(&bench.last());
}

#[test]
fn rs09_rs18_what_does_not_belong_there_is_removed() {
    let bench = Bench::of(PLAIN);
    bench.ok(&["--type=time", "--target=2030-01-01 00:00:00+00"]);
    let data = bench.data();
    for file in [
        "base/1/99999",
        "pg_wal/000000010000000000000001",
        "pg_wal/archive_status/000000010000000000000001.ready",
        "recovery.signal",
        "standby.signal",
        "recovery.done",
        "base/77/1",
    ] {
        user::create_dir(data.join(file).parent().unwrap()).unwrap();
        user::write_file(&data.join(file), "planted").unwrap();
    }
    symlink(bench.canary(), data.join("base/link")).unwrap();
    symlink(bench.canary().join("kept"), data.join("base/1/77777")).unwrap();
    rustix_fifo(&data.join("base/fifo"));
    user::own(&data).unwrap();
    bench.ok(&["--delta", "--type=none"]);
    bench.compare(&bench.last());
    assert_eq!(names(&bench.canary()), ["kept"]);
    for signal in ["recovery.signal", "standby.signal"] {
        assert!(!data.join(signal).try_exists().unwrap(), "{signal}");
    }
    // Exactly one recovery configuration: the target of the restore before is in no line that counts.
    bench.ok(&["--delta", "--type=standby"]);
    let settings = fs::read_to_string(data.join("postgresql.auto.conf")).unwrap();
    assert!(!settings.lines().any(|line| line.starts_with("recovery_target")), "{settings}");
    assert!(data.join("standby.signal").try_exists().unwrap() && !data.join("recovery.signal").try_exists().unwrap());
    // The files of the restore before are kept with preserve, and nothing is added.
    user::write_file(&data.join("postgresql.auto.conf"), "work_mem = '1MB'\n").unwrap();
    bench.ok(&["--delta", "--type=preserve"]);
    assert_eq!(fs::read_to_string(data.join("postgresql.auto.conf")).unwrap(), "work_mem = '1MB'\n");
    assert!(data.join("standby.signal").try_exists().unwrap());
}

fn rustix_fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

#[test]
fn rs10_sec18_destinations_are_all_checked_before_anything_is_written() {
    let bench = Bench::of(GZ);
    let at = |name: &str| bench.dir.path().join(name).display().to_string();
    let map = |path: &str| format!("--tablespace-map=ts1={path}");
    user::create_dir(Path::new(&at("full/PG_15_202209061"))).unwrap();
    user::write_file(Path::new(&at("full/PG_15_202209061/1")), "live").unwrap();
    let below = format!("{}/pg_tblspc/here", bench.data().display());
    let file = at("canary/kept/ts");
    for (code, arguments) in [
        (40, vec![map(&at("full"))]),
        (70, vec![map(&below)]),
        (76, vec![map("relative")]),
        (76, vec!["--tablespace-map=other=/tmp/x".to_owned()]),
        (76, vec![map(&at("a")), format!("--tablespace-map=16384={}", at("b"))]),
        (78, vec![map(&at("ts1")), "--link-map=nothing=/tmp/x".to_owned()]),
        (78, vec![map(&at("ts1")), "--link-map=pg_tblspc/16384=/tmp/x".to_owned()]),
        (70, vec![map(&at("ts1")), format!("--link-map=pg_wal={}", at("ts1"))]),
        (70, vec![map(&at("ts1")), format!("--link-map=pg_wal={}/base", bench.data().display())]),
        (40, vec![map(&at("ts1")), format!("--link-map=pg_wal={}", at("canary"))]),
        (93, vec![map(&at("ts1")), format!("--link-map=postgresql.conf={}", at("canary/kept"))]),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        bench.fails(code, &[], &arguments);
        bench.is_untouched();
        assert!(!Path::new(&at("ts1")).try_exists().unwrap());
    }
    // Not creatable: found when it is to be made.
    let outcome = bench.run(&[&map(&file)]);
    assert!(!matches!(outcome.exit_code, Some(0) | None), "{}", outcome.text());
    assert_eq!(fs::read(at("full/PG_15_202209061/1")).unwrap(), b"live");
}

#[test]
fn rs10_links_are_made_as_mapped() {
    let bench = Bench::of(GZ);
    let wal = bench.dir.path().join("wal");
    let conf = bench.dir.path().join("etc/pg.conf");
    let (wal_map, conf_map) =
        (format!("--link-map=pg_wal={}", wal.display()), format!("--link-map=postgresql.conf={}", conf.display()));
    bench.ok(&[&wal_map, &conf_map]);
    assert_eq!(fs::read_link(bench.data().join("pg_wal")).unwrap(), wal);
    assert_eq!(fs::read_link(bench.data().join("postgresql.conf")).unwrap(), conf);
    assert!(wal.join("archive_status").is_dir() && fs::metadata(&conf).unwrap().len() > 0);
    // Without the maps everything is in its place again.
    bench.ok(&["--delta"]);
    bench.compare(&bench.last());
}

/// WAL on a volume of its own: killed anywhere, the next restore ends in the right state, and a link that leads elsewhere
/// is not followed.
#[test]
fn rs16_a_wal_volume_of_its_own_survives_kills_and_stray_links() {
    let bench = Bench::of(PLAIN);
    let wal = bench.dir.path().join("volume/wal");
    let map = format!("--link-map=pg_wal={}", wal.display());
    let elsewhere = bench.canary();
    let mut delay = Duration::from_millis(30);
    for _ in 0..6 {
        let arguments = bench.arguments(&["--delta", &map]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut child = pgbr::engine().command(&bench.sample.conf(), &arguments);
        let mut child = child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(delay);
        child.kill().unwrap();
        child.wait().unwrap();
        delay = delay * 3 / 2;
        let link = bench.data().join("pg_wal");
        if let Ok(found) = fs::read_link(&link) {
            assert_eq!(found, wal);
        }
    }
    bench.ok(&["--delta", &map]);
    assert_eq!(fs::read_link(bench.data().join("pg_wal")).unwrap(), wal);
    // Somebody else's link in its place.
    fs::remove_file(bench.data().join("pg_wal")).unwrap();
    symlink(&elsewhere, bench.data().join("pg_wal")).unwrap();
    user::own(&bench.data()).unwrap();
    bench.ok(&["--delta", &map]);
    assert_eq!(fs::read_link(bench.data().join("pg_wal")).unwrap(), wal);
    assert_eq!(names(&elsewhere), ["kept"], "the link was followed");
    let mut expected = bench.sample.expected(&bench.last()).unwrap();
    expected.leave_out("./global/pg_control");
    let differences = expected.differences(&bench.data()).unwrap();
    // The expectation has a directory where the link is.
    assert!(differences.iter().all(|difference| difference.starts_with("./pg_wal")), "{differences:#?}");
}

#[test]
fn np09_the_tablespaces_of_the_live_cluster_are_left_alone() {
    let bench = Bench::of(GZ);
    let live = bench.dir.path().join("live");
    user::create_dir(&live.join("PG_15_202209061/5")).unwrap();
    user::write_file(&live.join("PG_15_202209061/5/1"), "live").unwrap();
    for label in bench.labels() {
        bench.edit_manifest(&label, |text| text.replace("/tmp/fx/f4/ts1", &live.display().to_string()));
    }
    bench.fails(40, &["PG_15_202209061"], &["--tablespace-map"]);
    bench.is_untouched();
    // A drill beside the original that was restored with a map before.
    bench.ok(&[]);
    let outcome = bench.run(&["--tablespace-map", "--delta"]);
    assert_eq!(outcome.exit_code, Some(40), "{}", outcome.text());
    assert!(bench.data().join("global/pg_control").try_exists().unwrap(), "it was refused before the first change");
    assert_eq!(fs::read(live.join("PG_15_202209061/5/1")).unwrap(), b"live");
    assert_eq!(names(&live.join("PG_15_202209061")), ["5"]);
}

/// Puts a history file into the archive of the plain sample.
fn plant_history(bench: &Bench, timeline: u32, content: &str) {
    let path = bench.sample.repo().join(format!("archive/demo/15-1/{timeline:08X}.history"));
    user::write_file(&path, content).unwrap();
}

#[test]
fn rs11_a_backup_off_the_way_to_the_target_timeline_is_refused() {
    let bench = Bench::of(PLAIN);
    let labels = bench.labels();
    // The backups begin at 0/A00028, 0/C00028 and 0/E00028 of timeline 1.
    plant_history(&bench, 2, "1\t0/D00000\tno reason\n");
    let outcome = bench.fails(58, &["forked from backup timeline 1 at 0/D00000", "HINT"], &[]);
    assert!(outcome.text().contains("0/E00028"), "{}", outcome.text());
    bench.fails(58, &["forked"], &["--type=none"]);
    bench.is_untouched();
    bench.ok(&[&format!("--set={}", labels[1]), "--type=none"]);
    bench.compare(&labels[1]);
}

#[test]
fn rs11_the_chosen_backup_is_on_the_way() {
    let bench = Bench::of(PLAIN);
    let labels = bench.labels();
    plant_history(&bench, 2, "1\t0/D00000\tno reason\n");
    let info = |text: &str, label: &str| text.contains(&format!("restore backup set {label},"));
    let time = ["--type=time", "--target=2030-01-01 00:00:00+00", "--log-level-console=info"];
    let outcome = bench.ok(&time);
    assert!(info(&outcome.text(), &labels[1]), "{}", outcome.text());
    assert!(outcome.text().contains("is passed over"), "{}", outcome.text());
    bench.compare(&labels[1]);
    let current = [&time[..], &["--delta", "--target-timeline=current"]].concat();
    let outcome = bench.ok(&current);
    assert!(info(&outcome.text(), &labels[2]), "{}", outcome.text());
    // An orphan: no backup is on its way.
    plant_history(&bench, 5, "4\t0/B00000\tno reason\n");
    let orphan = bench.run(&[&time[..], &["--delta"]].concat());
    assert_eq!(orphan.exit_code, Some(58), "{}", orphan.text());
    assert!(orphan.text().contains("is not in the history of target timeline 5"), "{}", orphan.text());
    let asked = bench.run(&["--delta", "--target-timeline=9"]);
    assert_eq!(asked.exit_code, Some(55), "{}", asked.text());
    assert!(asked.text().contains("00000009.history"), "{}", asked.text());
    let wrong = bench.run(&["--delta", "--target-timeline=x"]);
    assert!(matches!(wrong.exit_code, Some(58 | 32)), "{}", wrong.text());
    assert!(
        bench.data().join("global/pg_control").try_exists().unwrap(),
        "all were refused before anything was touched"
    );
    bench.ok(&["--delta", "--target-timeline=1"]);
    bench.compare(&labels[2]);
}

#[test]
fn rs12_the_target_time_chooses_the_backup() {
    let bench = Bench::of(PLAIN);
    let labels = bench.labels();
    let set = |target: &str, zone: &str| {
        let arguments =
            bench.arguments(&["--type=time", &format!("--target={target}"), "--delta", "--log-level-console=info"]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = pgbr::engine().command(&bench.sample.conf(), &arguments);
        process::run(command.env("TZ", zone), Duration::from_secs(60)).unwrap()
    };
    let chosen = |outcome: Outcome| {
        let text = outcome.success().unwrap().text();
        let at = text.find("restore backup set ").unwrap() + "restore backup set ".len();
        text[at..].split([',', '\n']).next().unwrap().to_owned()
    };
    // They stopped at 1795328255, 1795328257 and 1795328259: 06:17:35, :37 and :39 UTC. Before means before.
    assert_eq!(chosen(set("2026-11-22 06:17:36+00", "UTC")), labels[0]);
    assert_eq!(chosen(set("2026-11-22 06:17:37.9+00", "UTC")), labels[0]);
    assert_eq!(chosen(set("2026-11-22 06:17:38", "UTC")), labels[1]);
    assert_eq!(chosen(set("2026-11-22 06:17:40+00", "UTC")), labels[2]);
    assert_eq!(chosen(set("2026-11-22 01:17:38", "EST5EDT,M3.2.0,M11.1.0")), labels[1]);
    let early = set("2026-11-22 06:17:35+00", "UTC");
    assert_eq!(early.exit_code, Some(75), "{}", early.text());
    assert!(early.text().contains("unable to find backup set with stop time less than '2026-11-22 06:17:35+00'"));
    for wrong in ["2026-11-22", "yesterday", "2026-11-22 06:17:35 CET"] {
        let outcome = set(wrong, "UTC");
        assert_eq!(outcome.exit_code, Some(29), "{wrong}: {}", outcome.text());
        assert!(outcome.text().contains("time format must be"), "{}", outcome.text());
    }
    let lsn =
        |target: &str| bench.run(&["--type=lsn", &format!("--target={target}"), "--delta", "--log-level-console=info"]);
    assert_eq!(chosen(lsn("0/C00100")), labels[1]);
    assert_eq!(chosen(lsn("0/C000FF")), labels[0]);
    assert_eq!(lsn("0/A000FF").exit_code, Some(75));
    assert!(lsn("x").exit_code.is_some_and(|code| code != 0));
    let unknown = bench.run(&["--set=20200101-000000F", "--delta"]);
    assert_eq!(unknown.exit_code, Some(75), "{}", unknown.text());
    assert!(unknown.text().contains("backup set 20200101-000000F is not valid"), "{}", unknown.text());
}

/// Adds lines to sections of a manifest, and what sorts where is the caller's care.
fn insert_before(text: &str, line: &str, new: &str) -> String {
    assert!(text.contains(line), "'{line}' is not in the manifest");
    text.replacen(line, &format!("{new}{line}"), 1)
}

const ROW: &str = r#"={"checksum":"587b596f04f7db9c2cad3d6b87dd2b3a05de4f35","size":3,"timestamp":1795328248}"#;

#[test]
fn hi01_sec08_names_that_lead_elsewhere_are_refused() {
    for name in ["pg_data/../../canary/x", "pg_data/base/../../x", "pg_data//x", "pg_data/./x", "/etc/x", "pg_data/x/"]
    {
        let bench = Bench::of(PLAIN);
        let last = bench.last();
        bench.edit_manifest(&last, |text| insert_before(&text, "pg_data/PG_VERSION=", &format!("{name}{ROW}\n")));
        bench.fails(29, &[], &[]);
        bench.is_untouched();
        assert_eq!(names(bench.dir.path()), ["canary", "data", "sample"]);
    }
}

#[test]
fn hi02_sec08_nothing_is_written_through_a_link_that_is_no_target() {
    // The manifest has a link and a file behind it, but the link is no target.
    let bench = Bench::of(PLAIN);
    let last = bench.last();
    let canary = bench.canary().display().to_string();
    let evil = |text: String| {
        let text = insert_before(&text, "pg_data/PG_VERSION=", &format!("pg_data/A/owned{ROW}\n"));
        let text = insert_before(&text, "pg_data/base={", "pg_data/A={}\n");
        insert_before(
            &text,
            "[target:path]",
            &format!(
                "[target:link]\npg_data/A={{\"destination\":\"{canary}\"}}\n\n[target:link:default]\ngroup=\"postgres\"\nuser=\"postgres\"\n\n"
            ),
        )
    };
    bench.edit_manifest(&last, evil);
    for arguments in [&[][..], &["--link-all"]] {
        let outcome = bench.run(arguments);
        assert_ne!(outcome.exit_code, Some(0), "{}", outcome.text());
        assert_eq!(names(&bench.canary()), ["kept"], "{}", outcome.text());
        assert!(!bench.data().join("global/pg_control").try_exists().unwrap());
        fs::remove_dir_all(bench.data()).unwrap();
        user::create_dir(&bench.data()).unwrap();
    }
    // A real target: without --link-all its files are restored in place.
    let bench = Bench::of(PLAIN);
    let canary = bench.canary().display().to_string();
    bench.edit_manifest(&bench.last(), |text| {
        let text = insert_before(&text, "pg_data/PG_VERSION=", &format!("pg_data/A/owned{ROW}\n"));
        let text = insert_before(&text, "pg_data/base={", "pg_data/A={}\n");
        let text = insert_before(&text, "\n[db]", &format!("pg_data/A={{\"path\":\"{canary}\",\"type\":\"link\"}}\n"));
        insert_before(
            &text,
            "[target:path]",
            &format!("[target:link]\npg_data/A={{\"destination\":\"{canary}\"}}\n\n[target:link:default]\ngroup=\"postgres\"\nuser=\"postgres\"\n\n"),
        )
    });
    let outcome = bench.run(&[]);
    assert_eq!(names(&bench.canary()), ["kept"], "{}", outcome.text());
}

#[test]
fn hi03_sec08_a_link_planted_while_we_work_is_not_followed() {
    let bench = Bench::of(PLAIN);
    bench.ok(&[]);
    let stop = Arc::new(AtomicBool::new(false));
    let (data, canary, stopped) = (bench.data(), bench.canary(), Arc::clone(&stop));
    let swapper = std::thread::spawn(move || {
        let (real, aside) = (data.join("base"), data.join("aside"));
        while !stopped.load(Ordering::Relaxed) {
            // Whichever of the two is in place when somebody looks.
            if fs::rename(&real, &aside).is_ok() {
                symlink(&canary, &real).ok();
                std::thread::sleep(Duration::from_micros(300));
                fs::remove_file(&real).ok();
                fs::rename(&aside, &real).ok();
            }
            std::thread::sleep(Duration::from_micros(700));
        }
    });
    for _ in 0..4 {
        let outcome = bench.run(&["--force"]);
        assert!(outcome.exit_code.is_some(), "{}", outcome.text());
        assert_eq!(names(&bench.canary()), ["kept"], "{}", outcome.text());
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    assert_eq!(fs::read(bench.canary().join("kept")).unwrap(), b"kept");
    assert_eq!(fs::metadata(bench.canary()).unwrap().mode() & 0o777, 0o755);
}

#[test]
fn hi05_sec10_a_bomb_stops_at_the_size_of_the_manifest() {
    let bench = Bench::of(GZ);
    let full = bench.full();
    let bomb = bench.dir.path().join("zeros");
    let made = std::process::Command::new("sh")
        .args(["-c", "head -c 300000000 /dev/zero | gzip -1 > \"$0\""])
        .arg(&bomb)
        .status()
        .unwrap();
    assert!(made.success());
    user::own(&bomb).unwrap();
    fs::copy(&bomb, bench.backup(&full).join("pg_data/base/1/112.gz")).unwrap();
    bench.fails(29, &["base/1/112", "larger than"], &[&format!("--set={full}")]);
    let written = fs::metadata(bench.data().join("base/1/112")).unwrap().len();
    assert!(written <= 8192, "{written} bytes were written");
}

/// Changes numbers of one row of a manifest.
fn edit_row(text: &str, name: &str, edit: impl Fn(&mut serde_json::Value)) -> String {
    let lines = text.lines().map(|line| match line.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
        Some(value) if value.starts_with('{') => {
            let mut value: serde_json::Value = serde_json::from_str(value).unwrap();
            edit(&mut value);
            format!("{name}={value}\n")
        }
        _ => format!("{line}\n"),
    });
    lines.collect()
}

#[test]
fn hi08_a_place_in_a_bundle_that_cannot_be_is_an_error() {
    let sample = Bench::of(BLOCKS);
    let full = sample.full();
    let whole = |row: &serde_json::Value| {
        row.get("bni").is_some() && row.get("bim").is_none() && row["size"].as_u64() > Some(100)
    };
    let rows: BTreeMap<String, serde_json::Value> =
        sample.rows(&full).into_iter().filter(|(_, row)| whole(row)).collect();
    let (name, _) = rows.iter().next().unwrap();
    let other = rows.values().nth(20).unwrap().clone();
    drop(sample);
    type Edit<'a> = &'a dyn Fn(&mut serde_json::Value);
    let beyond: [(&[i32], Edit<'_>); 6] = [
        (&[42, 29], &|row| row["bno"] = (1_u64 << 40).into()),
        (&[42, 29], &|row| row["bno"] = u64::MAX.into()),
        (&[42, 29], &|row| row["repo-size"] = (i64::MAX as u64).into()),
        (&[29, 26], &|row| row["repo-size"] = 0.into()),
        (&[55, 29], &|row| row["bni"] = 4_000_000_000_u64.into()),
        // Another file's bytes.
        (&[26, 29], &|row| {
            row["bno"] = other["bno"].clone();
            row["repo-size"] = other["repo-size"].clone();
        }),
    ];
    for (codes, edit) in beyond {
        let bench = Bench::of(BLOCKS);
        bench.edit_manifest(&full, |text| edit_row(&text, name, edit));
        let outcome = bench.run(&[&format!("--set={full}")]);
        assert!(outcome.exit_code.is_some_and(|code| codes.contains(&code)), "{codes:?}: {}", outcome.text());
        assert!(!bench.data().join("global/pg_control").try_exists().unwrap());
    }
}

#[test]
fn hi09_an_evil_block_map_writes_nothing_beyond_the_file() {
    let bench = Bench::of(BLOCKS);
    let full = bench.full();
    let (name, row) = bench
        .rows(&full)
        .into_iter()
        .filter(|(_, row)| row.get("bim").is_some() && row.get("bni").is_some())
        .max_by_key(|(_, row)| row["bim"].as_u64())
        .unwrap();
    let number = |key: &str| row[key].as_u64().unwrap();
    let bundle = bench.backup(&full).join(format!("bundle/{}", number("bni")));
    let map = number("bno") + number("repo-size") - number("bim");
    let original = fs::read(&bundle).unwrap();
    let written = bench.data().join(name.strip_prefix("pg_data/").unwrap());
    let set = format!("--set={full}");
    for (round, value) in [0x00_u8, 0xFF, 0x80, 0x7F, 0x01, 0x55].into_iter().enumerate() {
        let mut bytes = original.clone();
        let at = usize::try_from(map).unwrap() + round * 3;
        let end = if round % 2 == 0 { at + 1 } else { (at + 12).min(usize::try_from(map + number("bim")).unwrap()) };
        let same = bytes[at..end].iter().all(|byte| *byte == value);
        bytes[at..end].fill(value);
        fs::write(&bundle, &bytes).unwrap();
        let outcome = bench.run(&[&set, "--force"]);
        if same {
            continue;
        }
        assert!(matches!(outcome.exit_code, Some(26 | 29 | 42 | 55)), "{value:02x} at {}: {}", at, outcome.text());
        assert!(outcome.text().contains(written.to_str().unwrap()), "{}", outcome.text());
        let length = fs::metadata(&written).map_or(0, |info| info.len());
        assert!(length <= number("size"), "{length} bytes");
        assert!(!bench.data().join("global/pg_control").try_exists().unwrap());
    }
    fs::write(&bundle, &original).unwrap();
    bench.ok(&[&set, "--delta"]);
    bench.compare(&full);
    // Sizes of the map itself.
    for edit in [
        &(|row: &mut serde_json::Value| row["bim"] = (1_u64 << 50).into()) as &dyn Fn(&mut serde_json::Value),
        &|row| row["bim"] = 1.into(),
        &|row| row["bi"] = 100_000.into(),
        &|row| row["size"] = (1_u64 << 40).into(),
    ] {
        let bench = Bench::of(BLOCKS);
        bench.edit_manifest(&full, |text| edit_row(&text, &name, edit));
        let outcome = bench.run(&[&set]);
        assert!(matches!(outcome.exit_code, Some(26 | 29)), "{}", outcome.text());
        assert!(!bench.data().join("global/pg_control").try_exists().unwrap());
    }
}

#[test]
fn hi11_modes_and_owners_are_limited() {
    let bench = Bench::of(PLAIN);
    let last = bench.last();
    bench.edit_manifest(&last, |text| {
        let text = edit_row(&text, "pg_data/PG_VERSION", |row| row["mode"] = "4777".into());
        let text = edit_row(&text, "pg_data/base/1/112", |row| {
            row["mode"] = "0000".into();
            row["user"] = "root".into();
            row["group"] = "nobody-knows".into();
        });
        edit_row(&text, "pg_data/base", |row| row["mode"] = "1777".into())
    });
    let outcome = bench.ok(&[]);
    assert!(
        outcome.text().contains("unknown user 'root' in backup manifest mapped to current user"),
        "{}",
        outcome.text()
    );
    let info = |name: &str| fs::metadata(bench.data().join(name)).unwrap();
    assert_eq!(info("PG_VERSION").mode() & 0o7777, 0o775);
    assert_eq!(info("base/1/112").mode() & 0o7777, 0o400);
    assert_eq!(info("base").mode() & 0o7777, 0o775);
    assert_eq!(info("base/1/112").uid(), info("PG_VERSION").uid());
    // And such a file can be restored again.
    bench.ok(&["--force"]);
    bench.ok(&["--delta"]);
}

#[test]
fn np05_metadata_that_cannot_be_read_stops_the_restore() {
    let bench = Bench::of(PLAIN);
    let last = bench.last();
    let locked: Vec<PathBuf> =
        ["backup.manifest", "backup.manifest.copy"].map(|name| bench.backup(&last).join(name)).into();
    for file in &locked {
        fs::set_permissions(file, fs::Permissions::from_mode(0o000)).unwrap();
    }
    let outcome = bench.run(&[]);
    assert!(!matches!(outcome.exit_code, Some(0 | 55) | None), "{}", outcome.text());
    bench.is_untouched();
}

#[test]
fn selective_restore_empties_other_databases() {
    let bench = Bench::of(PLAIN);
    bench.fails(80, &["database to include 'nothing' does not exist"], &["--db-include=nothing"]);
    bench.fails(80, &["database to exclude '99999' does not exist"], &["--db-exclude=99999"]);
    bench.fails(81, &["included by default"], &["--db-include=postgres"]);
    bench.is_untouched();
    let outcome = bench.ok(&["--db-exclude=template1", "--log-level-console=detail"]);
    assert!(outcome.text().contains("restore zeroed file"), "{}", outcome.text());
    let file = fs::read(bench.data().join("base/1/1255")).unwrap();
    assert!(file.len() > 8192 && file.iter().all(|byte| *byte == 0));
    assert_eq!(fs::read(bench.data().join("base/1/PG_VERSION")).unwrap(), b"15\n");
    assert!(fs::read(bench.data().join("base/5/1255")).unwrap().iter().any(|byte| *byte != 0));
}

#[test]
fn invalid_pages_are_refused_or_warned_about() {
    let bench = Bench::of(PLAIN);
    let last = bench.last();
    bench.edit_manifest(&last, |text| {
        edit_row(&text, "pg_data/base/1/1255", |row| {
            row["checksum-page"] = false.into();
            row["checksum-page-error"] = serde_json::json!([1]);
        })
    });
    bench.fails(26, &["base/1/1255", "invalid page checksums"], &[]);
    bench.is_untouched();
    let outcome = bench.ok(&["--no-checksum-page-error"]);
    assert!(outcome.text().contains("base/1/1255"), "{}", outcome.text());
    bench.compare(&last);
}
