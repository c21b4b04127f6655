//! Who holds what: suspended holders, what dead ones left, and stop files.

use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;

use pgbr_testkit::engine::Engine;
use pgbr_testkit::{stock, user};
use rustix::process::Signal;

use crate::scene::{Scene, assert_code, code, ours, segment_name, signal};

const BACKUP: [&str; 3] = ["--no-online", "--type=full", "backup"];

/// A host that is suspended in the middle of a backup keeps its lock. Another host takes what it left for the left-over of
/// a dead one; when the first goes on, it must not list half a backup.
#[test]
fn tc03_a_backup_that_was_suspended_gives_up_when_another_host_went_on() {
    let scene = Scene::new(60, 1 << 20);
    let mut suspended = scene.backup();
    suspended.arg("--compress-type=gz");
    let suspended = scene.begun(suspended);
    signal(&suspended, Signal::STOP);
    assert_code(&scene.run(&BACKUP), 50);
    assert_code(&stock::newest().engine.run(&scene.conf, &BACKUP).unwrap(), 50);
    let elsewhere = scene.other_host();
    // In the next second, so that the names differ by more than luck.
    std::thread::sleep(Duration::from_millis(1100));
    ours().ok(&elsewhere, &BACKUP).unwrap();
    let listed = scene.listed();
    assert_eq!(listed.len(), 1);
    signal(&suspended, Signal::CONT);
    let gave_up = code(suspended);
    assert!([47, 55, 64].contains(&gave_up), "it ended with {gave_up}");
    assert_eq!(scene.listed(), listed, "what the suspended one had begun is not listed");
    assert_code(&scene.run(&BACKUP), 0);
    // Files that it wrote after its directory was removed are no backup; expire takes them away.
    scene.run(&["--repo1-retention-full=5", "expire"]).success().unwrap();
    assert_eq!(scene.directories().len(), 2, "{:?}", scene.directories());
    scene.verifies();
}

/// A host that is suspended in the middle of a push, at any moment of it, while another one pushes another content.
#[test]
fn tc03_of_a_suspended_push_and_its_rival_at_most_one_is_acknowledged() {
    let scene = Scene::new(1, 8192);
    user::create_dir(&scene.data.join("rival")).unwrap();
    let mut outcomes = std::collections::BTreeSet::new();
    for round in 0..12 {
        let (own, rival) = (scene.segment("pg_wal", 10 + round, 1), scene.segment("rival", 10 + round, 2));
        let own_path = own.display().to_string();
        let mut push = ours().command(&scene.conf, &["archive-push", &own_path]);
        let child = push.stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(round * 4));
        signal(&child, Signal::STOP);
        let rival_code = scene.run(&["archive-push", &rival.display().to_string()]).exit_code.unwrap();
        signal(&child, Signal::CONT);
        let own_code = code(child);
        outcomes.insert((own_code, rival_code));
        assert!([0, 45].contains(&own_code) && [0, 45].contains(&rival_code), "{own_code} {rival_code}");
        assert!(own_code != 0 || rival_code != 0, "round {round}: both contents were acknowledged");
        let destination = scene.data.join("RECOVERYXLOG");
        let got = scene.run(&["archive-get", &segment_name(&own), &destination.display().to_string()]);
        if own_code == 0 || rival_code == 0 {
            assert_code(&got, 0);
            let winner = if own_code == 0 { &own } else { &rival };
            assert!(fs::read(&destination).unwrap() == fs::read(winner).unwrap(), "round {round}");
        }
    }
    assert!(outcomes.contains(&(45, 0)) || outcomes.contains(&(0, 45)), "{outcomes:?}");
}

/// A lock file says nothing by being there, whatever it holds; only its holder counts.
#[test]
fn tc04_what_a_dead_holder_left_keeps_nobody_out() {
    let scene = Scene::new(40, 1 << 20);
    let lock = scene.dir.path().join("backrest/lock/demo-backup-1.lock");
    // The number of a process that lives and has nothing to do with it, half a file, nothing, and no JSON at all.
    let reused = format!("{{\"execId\":\"1-2\",\"pid\":{}}}", std::process::id());
    for left in [reused.as_str(), "{\"execId\":\"9", "", "\u{0}\u{1}"] {
        user::write_file(&lock, left).unwrap();
        let info = scene.run(&["info"]).success().unwrap().text();
        assert!(!info.contains("backup/expire running"), "{info}");
        std::thread::sleep(Duration::from_millis(1000));
        assert_code(&scene.run(&BACKUP), 0);
        assert!(!lock.try_exists().unwrap());
    }
    // One that was killed.
    let mut slow = scene.backup();
    slow.arg("--compress-type=gz");
    let mut killed = scene.begun(slow);
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(lock.try_exists().unwrap());
    stock::newest().engine.ok(&scene.conf, &BACKUP).unwrap();
    assert_code(&scene.run(&BACKUP), 0);
    scene.verifies();
    // While somebody holds it, nobody else gets it, however often they try.
    let held = fs::File::create(&lock).unwrap();
    user::own(&lock).unwrap();
    rustix::fs::flock(held.as_fd(), rustix::fs::FlockOperation::LockExclusive).unwrap();
    for _ in 0..3 {
        assert_code(&scene.run(&BACKUP), 50);
    }
    drop(held);
    assert_code(&scene.run(&BACKUP), 0);
}

/// Of several that start together one gets the lock.
#[test]
fn tc04_never_two_holders() {
    let scene = Scene::new(20, 1 << 20);
    let children: Vec<_> = (0..6)
        .map(|_| {
            let mut command = ours().command(&scene.conf, &BACKUP);
            command.arg("--compress-type=gz");
            command.stdout(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    let codes: Vec<i32> = children.into_iter().map(code).collect();
    let done = codes.iter().filter(|code| **code == 0).count();
    assert!(done >= 1 && codes.iter().all(|code| [0, 50].contains(code)), "{codes:?}");
    assert_eq!(scene.listed().len(), done);
    scene.verifies();
}

#[test]
fn tc05_a_stop_file_lets_nothing_begin_and_with_force_ends_what_runs() {
    let scene = Scene::new(60, 1 << 20);
    let slow = |engine: &Engine| {
        let mut command = engine.command(&scene.conf, &BACKUP);
        command.args(["--compress-type=gz", "--compress-level=9", "--no-expire-auto"]);
        command
    };
    let segment = scene.segment("pg_wal", 10, 1).display().to_string();
    let original = &stock::newest().engine;
    for (done, engine) in [ours(), original].into_iter().enumerate() {
        // What runs goes on, as with the original.
        let running = scene.begun(slow(engine));
        scene.run(&["stop"]).success().unwrap();
        assert_code(&scene.run(&["archive-push", &segment]), 62);
        assert_eq!(code(running), 0, "{}", engine.name());
        for engine in [ours(), original] {
            assert_code(&engine.run(&scene.conf, &BACKUP).unwrap(), 62);
        }
        scene.run(&["start"]).success().unwrap();
        assert_code(&scene.run(&["archive-push", &segment]), 0);
        assert_eq!(scene.listed().len(), done + 1);
    }

    let running = scene.begun(slow(ours()));
    let stopped = scene.run(&["stop", "--force"]).success().unwrap().text();
    assert!(stopped.contains("sent term signal to process"), "{stopped}");
    assert_eq!(code(running), 63);
    scene.run(&["start"]).success().unwrap();
    assert_eq!(scene.listed().len(), 2);
    assert_code(&scene.run(&BACKUP), 0);
    scene.verifies();
}
