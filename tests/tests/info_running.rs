//! `info` while a backup runs: what ours and the original's say of each other's.

use std::path::Path;
use std::process::{Child, Stdio};

use pgbr_testkit::engine::Engine;
use pgbr_testkit::samples::{Sample, Unpacked};
use pgbr_testkit::{pgbr, stock, user};
use serde_json::Value;

/// A backup of a stopped cluster, slow enough to be looked at.
fn backup(engine: &Engine, sample: &Unpacked, data: &Path) -> Child {
    let path = format!("--pg1-path={}", data.display());
    let arguments = [
        "backup",
        "--type=full",
        "--no-online",
        "--compress-type=bz2",
        "--compress-level=9",
        "--log-level-file=off",
        &path,
    ];
    let mut command = engine.command(&sample.conf(), &arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn lock(engine: &Engine, sample: &Unpacked, arguments: &[&str]) -> Value {
    let mut all = vec!["info", "--output=json"];
    all.extend(arguments);
    let outcome = engine.ok(&sample.conf(), &all).unwrap();
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    report[0]["status"]["lock"].clone()
}

/// Bytes in all, and bytes done, once the backup tells them.
fn progress(lock: &Value) -> Option<(u64, u64)> {
    Some((lock["backup"]["size"].as_u64()?, lock["backup"]["size-cplt"].as_u64()?))
}

fn status_line(engine: &Engine, sample: &Unpacked) -> String {
    let outcome = engine.ok(&sample.conf(), &["info", "--detail-level=progress"]).unwrap();
    let line = outcome.stdout.lines().find(|line| line.contains("status:")).unwrap();
    line.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}

#[test]
fn a_running_backup_is_reported_as_by_the_original() {
    let (ours, theirs) = (pgbr::engine(), &stock::newest().engine);
    for runner in [theirs, &ours] {
        let dir = user::scratch().unwrap();
        let sample = Sample::named("2.45-pg15-none").unwrap().unpack(&dir.path().join("sample")).unwrap();
        let data = dir.path().join("data");
        user::create_dir(&data).unwrap();
        let path = format!("--pg1-path={}", data.display());
        let [lock_path, spool, log] = sample.local_paths();
        ours.ok(&sample.conf(), &["restore", "--type=none", &path, &lock_path, &spool, &log]).unwrap();
        let mut child = backup(runner, &sample, &data);
        let (mut seen, mut lines) = (0, 0);
        while child.try_wait().unwrap().is_none() {
            for arguments in [&[][..], &["--detail-level=progress"]] {
                let before = lock(theirs, &sample, arguments);
                let found = lock(&ours, &sample, arguments);
                let after = lock(theirs, &sample, arguments);
                if before["backup"]["held"] == true && after["backup"]["held"] == true {
                    assert_eq!(found["backup"]["held"], true, "{found}");
                }
                if let (Some(before), Some(found), Some(after)) =
                    (progress(&before), progress(&found), progress(&after))
                {
                    assert_eq!((before.0, before.0), (found.0, after.0), "the size in all");
                    assert!(before.1 <= found.1 && found.1 <= after.1, "{before:?} {found:?} {after:?}");
                    assert_eq!(lock(&ours, &sample, arguments)["restore"], after_restore());
                    seen += 1;
                }
            }
            let (one, other, again) =
                (status_line(theirs, &sample), status_line(&ours, &sample), status_line(theirs, &sample));
            // The backup may begin to tell its progress, or end, between two looks.
            if one == again && one.contains("running - ") {
                assert_eq!(one, other);
                lines += 1;
            }
        }
        assert!(child.wait().unwrap().success(), "{}", runner.name());
        assert!(seen > 0 && lines > 0, "{}: the backup was too fast to be looked at", runner.name());
        assert_eq!(lock(&ours, &sample, &[]), lock(theirs, &sample, &[]));
    }
}

fn after_restore() -> Value {
    serde_json::json!({ "held": false })
}
