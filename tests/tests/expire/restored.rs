//! A backup that expires while another process restores it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use pgbr_testkit::samples::Sample;
use pgbr_testkit::{pgbr, user};

/// Moments at which the backup expires, over the time that its restore needs.
const MOMENTS: u32 = 6;

/// Restores the newest backup of a sample and expires it after a while; how long the restore took.
fn expire_after(wait: Option<Duration>) -> Duration {
    let folder = user::scratch().unwrap();
    let sample = Sample::named("2.60-pg13-lz4-bundle-block").unwrap();
    let sample = sample.unpack(&folder.path().join("sample")).unwrap();
    let (label, data) = (sample.labels().unwrap().pop().unwrap(), folder.path().join("data"));
    let (set, path) = (format!("--set={label}"), format!("--pg1-path={}", data.display()));
    let [lock, spool, log] = sample.local_paths();
    let mut restore = pgbr::engine().command(&sample.conf(), &["restore", &set, &path, &lock, &spool, &log]);
    let started = Instant::now();
    let mut restore = restore.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    if let Some(wait) = wait {
        std::thread::sleep(wait);
        pgbr::engine().ok(&sample.conf(), &["expire", &set, &lock, &log]).unwrap();
    }
    let status = restore.wait().unwrap();
    let taken = started.elapsed();
    if status.success() {
        let differences = sample.expected(&label).unwrap().differences(&data).unwrap();
        assert!(differences.is_empty(), "expired after {wait:?}: {differences:#?}");
    } else {
        assert!(wait.is_some(), "{status}");
        // 55 for a file that is gone, 75 for a backup that is not listed any more.
        assert!(matches!(status.code(), Some(55 | 75)), "expired after {wait:?}: {status}");
        let control = data.join("global/pg_control");
        assert!(!control.try_exists().unwrap(), "expired after {wait:?}: half a cluster can be started");
    }
    taken
}

#[test]
fn ex12_a_backup_that_expires_while_it_is_restored_comes_back_whole_or_not_at_all() {
    let whole = expire_after(None);
    for moment in 0..MOMENTS {
        _ = expire_after(Some(whole * moment / MOMENTS));
    }
}
