//! Signals in any number and order, and readers that go away.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::scene::{Scene, assert_code, code, noise, ours, until};

#[test]
fn tc07_a_storm_of_signals_is_one_orderly_end() {
    let scene = Scene::new(50, 1 << 20);
    let mut ends = std::collections::BTreeMap::new();
    for round in 0..8_u64 {
        let mut command = scene.backup();
        command.arg("--compress-type=gz");
        let child = scene.begun(command);
        for roll in noise(round, 12) {
            // Those that ask for an end, and those that a program in a pipe line or with children gets.
            let signals = [Signal::HUP, Signal::INT, Signal::TERM, Signal::PIPE, Signal::CHILD];
            // It may be gone already.
            kill_process(Pid::from_child(&child), signals[usize::from(roll) % 5]).ok();
            std::thread::sleep(Duration::from_micros(u64::from(roll) * 20));
        }
        *ends.entry(code(child)).or_insert(0) += 1;
        assert!(
            !scene.dir.path().join("backrest/lock/demo-backup-1.lock").try_exists().unwrap(),
            "the lock is given back"
        );
    }
    assert!(ends.keys().all(|code| [0, 63].contains(code)), "{ends:?}");
    assert!(ends.contains_key(&63), "{ends:?}");
    assert_eq!(scene.listed().len(), ends.get(&0).copied().unwrap_or(0));
    std::thread::sleep(Duration::from_millis(1100));
    assert_code(&scene.run(&["--no-online", "--type=full", "backup"]), 0);
    scene.verifies();
}

/// Signals that ask for nothing change nothing; neither does a reader of the log that has gone.
#[test]
fn tc07_a_closed_pipe_does_not_change_the_result() {
    let scene = Scene::new(50, 100_000);
    let arguments = ["--no-online", "--type=full", "--log-level-console=detail", "--log-level-stderr=detail", "backup"];
    let mut command = ours().command(&scene.conf, &arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    // Before it has begun, the signals would end it as they would any program.
    until("the backup begins", || !scene.directories().is_empty());
    for signal in [Signal::PIPE, Signal::CHILD, Signal::PIPE] {
        kill_process(Pid::from_child(&child), signal).ok();
    }
    assert_eq!(code(child), 0);
    assert_eq!(scene.listed().len(), 1);
    scene.verifies();
}
