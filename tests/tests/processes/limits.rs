//! Few descriptors, few threads, full disks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use pgbr_testkit::s3::S3Server;
use pgbr_testkit::user;

use crate::scene::{Scene, assert_code, limited, ours, segment_name};

/// The repository of a scene in a store.
pub(crate) fn into_s3(scene: &mut Scene, server: &S3Server) {
    let ca_file = scene.dir.path().join("ca.pem");
    user::write_file(&ca_file, fs::read(server.ca_file()).unwrap()).unwrap();
    for (option, value) in [
        ("repo1-type", "s3".to_owned()),
        ("repo1-path", "/r".to_owned()),
        ("repo1-s3-bucket", "bucket".to_owned()),
        ("repo1-s3-endpoint", "localhost".to_owned()),
        ("repo1-storage-port", server.port().to_string()),
        ("repo1-s3-region", server.region().to_owned()),
        ("repo1-s3-key", server.key().to_owned()),
        ("repo1-s3-key-secret", server.secret().to_owned()),
        ("repo1-s3-uri-style", "path".to_owned()),
        ("repo1-storage-ca-file", ca_file.display().to_string()),
    ] {
        scene.conf.global(option, &value).unwrap();
    }
    ours().ok(&scene.conf, &["stanza-create", "--no-online"]).unwrap();
}

fn every_command(scene: &Scene, limit: &str, expected: &[i32]) {
    let restored = scene.dir.path().join("restored");
    let segment = scene.segment("pg_wal", 10, 1);
    let (path, name) = (segment.display().to_string(), segment_name(&segment));
    let destination = scene.dir.path().join("RECOVERYXLOG").display().to_string();
    let pg_path = format!("--pg1-path={}", restored.display());
    fs::remove_dir_all(&restored).ok();
    user::create_dir(&restored).unwrap();
    for arguments in [
        &["--no-online", "--type=full", "--process-max=8", "backup"][..],
        &["archive-push", &path],
        &["archive-get", &name, &destination],
        &["--process-max=8", &pg_path, "--type=none", "restore"],
        &["info"],
    ] {
        let outcome = limited(limit, &ours().command(&scene.conf, arguments));
        let code = outcome.exit_code.unwrap_or_else(|| panic!("{}\n{}", outcome.status, outcome.text()));
        assert!(expected.contains(&code), "{limit}: {}: {code}\n{}", outcome.command, outcome.text());
        if code != 0 {
            assert!(outcome.text().contains("ERROR: ["), "{limit}: {}", outcome.text());
        }
    }
}

#[test]
fn re04_sixty_four_descriptors_are_enough() {
    let scene = Scene::new(300, 20_000);
    every_command(&scene, "ulimit -n 64", &[0]);
    let store = user::scratch().unwrap();
    let server = S3Server::start(store.path()).unwrap();
    server.create_bucket("bucket").unwrap();
    let mut scene = Scene::new(300, 20_000);
    into_s3(&mut scene, &server);
    every_command(&scene, "ulimit -n 64", &[0]);
}

/// What cannot be done is said, with the limit, and never in a panic or for ever.
#[test]
fn re04_without_room_for_a_thread_or_a_descriptor_each_command_says_so() {
    let scene = Scene::new(3, 8192);
    assert_code(&scene.run(&["--no-online", "--type=full", "backup"]), 0);
    let codes = [41, 42, 50, 53, 64, 98, 100, 103, 104];
    for limit in [6, 20, 31] {
        every_command(&scene, &format!("ulimit -n {limit}"), &codes);
    }
    every_command(&scene, "ulimit -n 32", &[&[0], &codes[..]].concat());
    if user::is_root() {
        // Nobody runs more processes than none: only the first thread is there.
        every_command(&scene, "ulimit -u 0", &[100]);
    }
}

/// A small file system; `None` where the system does not allow one.
struct Full {
    path: PathBuf,
}

impl Full {
    fn mount(path: PathBuf, options: &str) -> Option<Self> {
        user::create_dir(&path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&path).status();
        if !mounted.is_ok_and(|status| status.success()) {
            return None;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        Some(Self { path })
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.path).status());
    }
}

fn fill(path: &Path) {
    let mut number = 0;
    while fs::write(path.join(format!("filler{number}")), [0; 4096]).is_ok() {
        number += 1;
        assert!(number < 10_000);
    }
}

/// A full log directory costs the log; a full directory for locks, or for WAL that is fetched, is named.
#[test]
fn re06_full_file_systems_stop_only_what_needs_them() {
    let mut scene = Scene::new(3, 8192);
    let segment = scene.segment("pg_wal", 10, 1);
    let (path, name) = (segment.display().to_string(), segment_name(&segment));
    for (round, options) in ["size=64k", "size=1m,nr_inodes=6"].into_iter().enumerate() {
        let Some(full) = Full::mount(scene.dir.path().join(format!("full{round}")), options) else {
            // Without that right a limit on the size of files stands for it: the system refuses the write all the same.
            let got = limited("ulimit -f 100", &ours().command(&scene.conf, &["archive-get", &name, "/dev/null/no"]));
            assert_ne!(got.exit_code, Some(0));
            continue;
        };
        fill(&full.path);
        let place = full.path.display().to_string();
        let log = [format!("--log-path={place}"), "--log-level-file=detail".to_owned()];
        assert_code(&scene.run(&["archive-push", &path, &log[0], &log[1]]), 0);
        let backup = scene.run(&["--no-online", "--type=full", "backup", &log[0], &log[1]]);
        assert_code(&backup, 0);

        let destination = full.path.join("RECOVERYXLOG");
        let got = scene.run(&["archive-get", &name, &destination.display().to_string()]);
        assert!([41, 64].contains(&got.exit_code.unwrap()), "{}", got.text());
        assert!(got.text().contains("RECOVERYXLOG"), "{}", got.text());
        let left = fs::read_dir(&full.path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(left.filter(|name| !name.starts_with("filler") && !name.ends_with(".log")).count(), 0);

        scene.conf.global("lock-path", &place).unwrap();
        let backup = scene.run(&["--no-online", "--type=full", "backup"]);
        assert!([50, 64].contains(&backup.exit_code.unwrap()), "{}", backup.text());
        assert!(backup.text().contains(&place), "{}", backup.text());
        // Archiving needs no lock.
        assert_code(&scene.run(&["archive-push", &path]), 0);
        scene.conf.global("lock-path", &scene.dir.path().join("backrest/lock").display().to_string()).unwrap();
    }
    scene.verifies();
}
