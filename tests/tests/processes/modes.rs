//! Whom the files that are made belong to, whatever the umask and whoever was there before.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use pgbr_testkit::user;

use crate::scene::{Scene, assert_code, limited, ours};

/// Everything below a folder; links are not followed.
fn all_below(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
            found.insert(entry.path());
        }
    }
    found
}

/// With a umask that takes nothing away nobody else may read or write what is made: repository, spool, logs, locks, stop
/// files, and what is restored.
#[test]
fn sec15_a_careless_umask_opens_nothing() {
    let mut scene = Scene::new(3, 8192);
    let root = scene.dir.path().join("backrest");
    for folder in ["repo", "lock", "spool", "log"] {
        fs::remove_dir_all(root.join(folder)).unwrap();
    }
    scene.conf.global("log-level-file", "detail").unwrap();
    let before = all_below(scene.dir.path());
    let segment = scene.segment("pg_wal", 5, 1);
    fs::write(scene.data.join("pg_wal/archive_status").join(segment.file_name().unwrap()).with_extension("ready"), "")
        .unwrap();
    let segment_path = segment.display().to_string();
    let restored = scene.dir.path().join("restored");
    let to_restored = format!("--pg1-path={}", restored.display());
    let run = |arguments: &[&str]| {
        assert_code(&limited("umask 000", &ours().command(&scene.conf, arguments)), 0);
    };
    user::create_dir(&restored).unwrap();
    run(&["stanza-create", "--no-online"]);
    run(&["--archive-async", "archive-push", &segment_path]);
    run(&["--no-online", "--type=full", "--repo1-bundle", "backup"]);
    run(&["--no-online", "--type=full", "backup"]);
    run(&["--repo1-retention-full=1", "expire"]);
    run(&[&to_restored, "--type=none", "restore"]);
    run(&["stop"]);
    let made: Vec<PathBuf> = all_below(scene.dir.path()).difference(&before).cloned().collect();
    for part in ["repo/archive", "repo/backup", "spool/archive", "log/demo-backup.log", "lock/demo.stop"] {
        assert!(made.iter().any(|path| path.starts_with(root.join(part))), "nothing in {part}");
    }
    for path in &made {
        let metadata = fs::symlink_metadata(path).unwrap();
        if metadata.is_symlink() || *path == segment || path.starts_with(scene.data.join("pg_wal/archive_status")) {
            continue;
        }
        let mode = metadata.mode() & 0o7777;
        // The directory of locks is shared with the original, which gives it to the group.
        let most = match (metadata.is_dir(), path.starts_with(root.join("lock"))) {
            (true, true) => 0o770,
            (true, false) => 0o750,
            (false, _) => 0o640,
        };
        // PGDATA has the modes of the backup.
        let most = if path.starts_with(&restored) { 0o755 } else { most };
        assert_eq!(mode & !most, 0, "{mode:o} {}", path.display());
        assert!(!path.starts_with(&restored) || mode & 0o022 == 0, "{mode:o} {}", path.display());
    }
}

/// Links that somebody planted where something is going to be written lead nowhere.
#[test]
fn sec15_nothing_is_written_through_a_planted_link() {
    let scene = Scene::new(3, 8192);
    let root = scene.dir.path().join("backrest");
    let victim = scene.dir.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    user::own(&victim).unwrap();
    let segment = scene.segment("pg_wal", 5, 1);
    let name = segment.file_name().unwrap().to_str().unwrap();
    fs::write(scene.data.join(format!("pg_wal/archive_status/{name}.ready")), "").unwrap();
    let spool = root.join("spool/archive/demo/out");
    user::create_dir(&root.join("spool/archive")).unwrap();
    user::create_dir(&root.join("spool/archive/demo")).unwrap();
    user::create_dir(&spool).unwrap();
    let is_untouched = |what: &str| {
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched", "{what}");
    };
    // The spool: the marker cannot be written, and the segment is in the archive or the push has failed.
    for file in [format!("{name}.ok"), format!("{name}.ok.pgbackrest.tmp"), format!("{name}.error.pgbackrest.tmp")] {
        symlink(&victim, spool.join(file)).unwrap();
    }
    drop(scene.run(&["--archive-async", "--archive-timeout=3", "archive-push", &segment.display().to_string()]));
    is_untouched("the spool");
    // The repository: whatever has the name is replaced, and a link to it is no object.
    for file in ["archive.info", "archive.info.copy"] {
        let path = root.join("repo/archive/demo").join(file);
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(scene.dir.path().join(file), content).unwrap();
        symlink(&victim, &path).unwrap();
    }
    drop(scene.run(&["stanza-create", "--no-online"]));
    is_untouched("archive.info");
    for file in ["archive.info", "archive.info.copy"] {
        let path = root.join("repo/archive/demo").join(file);
        drop(fs::remove_file(&path));
        fs::copy(scene.dir.path().join(file), &path).unwrap();
        user::own(&path).unwrap();
    }
    for file in ["backup.info", "backup.info.copy"] {
        let path = root.join("repo/backup/demo").join(file);
        fs::rename(&path, scene.dir.path().join(file)).unwrap();
        symlink(scene.dir.path().join(file), &path).unwrap();
    }
    let listed = fs::read(scene.dir.path().join("backup.info")).unwrap();
    drop(scene.run(&["--no-online", "--type=full", "backup"]));
    assert_eq!(fs::read(scene.dir.path().join("backup.info")).unwrap(), listed, "backup.info");
    // A lock: the command does not run.
    let lock = root.join("lock/demo-backup-1.lock");
    drop(fs::remove_file(&lock));
    symlink(&victim, &lock).unwrap();
    assert_code(&scene.run(&["--no-online", "--type=full", "backup"]), 50);
    is_untouched("the lock");
    // A stop file.
    symlink(&victim, root.join("lock/demo.stop")).unwrap();
    drop(scene.run(&["stop"]));
    is_untouched("the stop file");
}
