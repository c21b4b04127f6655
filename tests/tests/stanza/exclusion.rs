//! Who excludes whom on one host: lock files and stop files, in both directions.

use std::path::Path;
use std::time::{Duration, Instant};

use pgbr_testkit::engine::Engine;
use pgbr_testkit::running::Running;
use pgbr_testkit::{pgbr, stock, user};

use crate::both::Side;

const LIMIT: Duration = Duration::from_secs(60);

/// Well inside its work: right after it took the lock the original may be met where a signal hangs it.
const INSIDE: Duration = Duration::from_millis(50);

/// A data directory that takes its time to back up, and a stanza with one backup of another one.
struct Scene {
    dir: tempfile::TempDir,
    side: Side,
}

impl Scene {
    fn new() -> Self {
        let dir = user::scratch().unwrap();
        let data = dir.path().join("data");
        let source = pgbr_testkit::postgres::Cluster::create(
            pgbr_testkit::postgres::Version::V15,
            &data,
            pgbr_testkit::postgres::Options::default(),
        );
        drop(source.unwrap());
        let mut side = Side::new(&pgbr::engine(), dir.path().join("backrest"), &data);
        // Slow enough to be met in the middle.
        side.conf.global("compress-type", "bz2").unwrap();
        side.conf.global("compress-level", "9").unwrap();
        stock::newest().engine.ok(&side.conf, &["stanza-create", "--no-online"]).unwrap();
        stock::newest().engine.ok(&side.conf, &["backup", "--no-online", "--compress-type=none"]).unwrap();
        Self { dir, side }
    }

    /// A command of `engine` that is held in the middle, with its lock.
    fn held(&self, engine: &Engine, arguments: &[&str], lock: &str, into_it: Duration) -> Running {
        let mut running = Running::start(&mut engine.command(&self.side.conf, arguments)).unwrap();
        wait_for_lock(&self.side.path(&format!("lock/{lock}")), &mut running);
        std::thread::sleep(into_it);
        running.pause();
        std::thread::sleep(Duration::from_millis(20));
        assert!(running.is_alive(), "it ended before it was met");
        running
    }

    fn code(&self, engine: &Engine, arguments: &[&str]) -> i32 {
        engine.run(&self.side.conf, arguments).unwrap().exit_code.unwrap()
    }

    fn restore_arguments(&self) -> [String; 2] {
        let target = self.dir.path().join("restored");
        user::create_dir(&target).unwrap();
        ["restore".to_owned(), format!("--pg1-path={}", target.display())]
    }
}

fn wait_for_lock(path: &Path, running: &mut Running) {
    let deadline = Instant::now() + LIMIT;
    let pid = format!("\"pid\":{}", running.id());
    while !std::fs::read_to_string(path).is_ok_and(|content| content.contains(&pid)) {
        assert!(running.is_alive(), "it ended before it was met");
        assert!(Instant::now() < deadline, "{} does not appear", path.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Without the expiration behind it, which would be a command of its own that a stop file forbids.
const FULL: [&str; 4] = ["backup", "--no-online", "--type=full", "--no-expire-auto"];

/// What waits for whoever holds the lock of backups (repository-behaviour.md §0.2).
const BACKUP_LOCK: [&[&str]; 6] = [
    &FULL,
    &["expire"],
    &["annotate", "--set=20260101-000000F", "--annotation=a=b"],
    &["stanza-create", "--no-online"],
    &["stanza-upgrade", "--no-online"],
    &["stanza-delete"],
];

#[test]
fn tc04_ours_and_the_original_exclude_each_other_and_outlive_a_killed_holder() {
    let scene = Scene::new();
    let (ours, original) = (pgbr::engine(), stock::newest().engine.clone());
    for (holder, other) in [(&original, &ours), (&ours, &original)] {
        let running = scene.held(holder, &FULL, "demo-backup-1.lock", INSIDE);
        for arguments in BACKUP_LOCK {
            let code = scene.code(other, arguments);
            assert_eq!(code, 50, "{} {arguments:?} beside a backup of {}", other.name(), holder.name());
        }
        // Readers do not wait, and see it.
        let info = other.ok(&scene.side.conf, &["info", "--output=json"]).unwrap().stdout;
        assert!(info.contains("\"backup\":{\"held\":true"), "{info}");
        running.kill();
        // The lock file is still there, its holder is not: nothing needs to be tidied by hand. Children of the original
        // may outlive it for a moment.
        let deadline = Instant::now() + LIMIT;
        while scene.code(other, &["stanza-create", "--no-online"]) == 50 {
            assert!(Instant::now() < deadline, "a killed {} still holds its lock", holder.name());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    // And an end to the left-overs of both.
    assert_eq!(scene.code(&original, &["backup", "--no-online", "--type=full", "--compress-type=none"]), 0);
    original.ok(&scene.side.conf, &["verify"]).unwrap();
}

#[test]
fn tc04_restores_exclude_each_other_and_the_stanza_commands() {
    let scene = Scene::new();
    let (ours, original) = (pgbr::engine(), stock::newest().engine.clone());
    let arguments = scene.restore_arguments();
    let restore: Vec<&str> = arguments.iter().map(String::as_str).collect();
    for (holder, other) in [(&original, &ours), (&ours, &original)] {
        let running = scene.held(
            holder,
            &[&restore[..], &["--delta", "--force"]].concat(),
            "demo-restore-1.lock",
            Duration::ZERO,
        );
        assert_eq!(scene.code(other, &restore), 50, "{} beside {}", other.name(), holder.name());
        for arguments in &BACKUP_LOCK[3..] {
            assert_eq!(scene.code(other, arguments), 50, "{} {arguments:?} beside a restore", other.name());
        }
        running.kill();
    }
}

#[test]
fn tc04_a_stale_lock_file_with_a_living_process_in_it_is_taken_over() {
    let scene = Scene::new();
    // The number in it belongs to somebody else by now: this test.
    let content = format!("{{\"execId\":\"1-00000000\",\"pid\":{}}}", std::process::id());
    for kind in ["archive", "backup", "restore"] {
        scene.side.write(&format!("lock/demo-{kind}-1.lock"), &content);
    }
    let info = pgbr::engine().ok(&scene.side.conf, &["info", "--output=json"]).unwrap().stdout;
    assert!(info.contains("\"held\":false"), "{info}");
    assert_eq!(scene.code(&pgbr::engine(), &["stanza-create", "--no-online"]), 0);
    // Neither is it asked to end, which would end this test.
    assert_eq!(scene.code(&pgbr::engine(), &["stop", "--force"]), 0);
    assert_eq!(scene.code(&pgbr::engine(), &["start"]), 0);
}

#[test]
fn tc05_a_stop_file_lets_the_running_command_end_and_no_other_begin() {
    let scene = Scene::new();
    let (ours, original) = (pgbr::engine(), stock::newest().engine.clone());
    for (holder, other) in [(&original, &ours), (&ours, &original)] {
        let running = scene.held(holder, &FULL, "demo-backup-1.lock", INSIDE);
        assert_eq!(scene.code(other, &["stop"]), 0);
        running.go_on();
        let ended = running.finish(LIMIT).unwrap();
        assert_eq!(ended.exit_code, Some(0), "{}", ended.text());
        for arguments in [&FULL[..], &["stanza-create", "--no-online"], &["stanza-upgrade", "--no-online"], &["expire"]]
        {
            assert_eq!(scene.code(holder, arguments), 62, "{} {arguments:?}", holder.name());
            assert_eq!(scene.code(other, arguments), 62, "{} {arguments:?}", other.name());
        }
        assert_eq!(scene.code(other, &["start"]), 0);
    }
}

#[test]
fn tc05_stop_with_force_ends_the_other_ones_command() {
    let scene = Scene::new();
    let (ours, original) = (pgbr::engine(), stock::newest().engine.clone());
    for (holder, other) in [(&original, &ours), (&ours, &original)] {
        let running = scene.held(holder, &FULL, "demo-backup-1.lock", INSIDE);
        assert_eq!(scene.code(other, &["stop", "--force"]), 0);
        running.go_on();
        let ended = running.finish(LIMIT).unwrap();
        assert_eq!(ended.exit_code, Some(63), "{} was not ended: {}", holder.name(), ended.text());
        assert_eq!(scene.code(other, &["start"]), 0);
    }
    // Nothing of it is listed, and both go on.
    assert_eq!(scene.code(&original, &["backup", "--no-online", "--type=full", "--compress-type=none"]), 0);
    original.ok(&scene.side.conf, &["verify"]).unwrap();
}
