//! The same backup restored by the original and by us.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use pgbr_testkit::{pgbr, stock, user};

use crate::place::Restore;

/// Every path with kind, mode, size, time, link text and content.
fn snapshot(folder: &Path) -> BTreeMap<String, (u32, u64, i64, String)> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let info = fs::symlink_metadata(&path).unwrap();
            let content = if info.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else if info.is_dir() {
                open.push(path.clone());
                String::new()
            } else {
                format!("{:?}", fs::read(&path).unwrap())
            };
            let (size, time) = if info.is_file() { (info.len(), info.mtime()) } else { (0, 0) };
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            found.insert(name, (info.mode(), size, time, content));
        }
    }
    found
}

/// The same repository restored by the original and by us.
#[test]
fn the_original_restores_the_same() {
    for name in ["2.60-pg15-gz-tablespace", "2.60-pg18-zst-aes-bundle-block"] {
        for arguments in [
            &["--type=default"][..],
            &["--type=immediate", "--target-action=promote"],
            &["--type=standby", "--recovery-option=primary-conninfo=host=x"],
            &["--type=none"],
            &["--type=name", "--target=it", "--target-timeline=current", "--archive-mode=off"],
        ] {
            let restore = Restore::of(name);
            let data = restore.data();
            user::create_dir(&data).unwrap();
            restore.run_as(&stock::newest().engine, &data, arguments).success().unwrap();
            let mut theirs = snapshot(&data);
            fs::remove_dir_all(&data).unwrap();
            fs::remove_dir_all(restore.tablespace()).ok();
            user::create_dir(&data).unwrap();
            restore.run_as(&pgbr::engine(), &data, arguments).success().unwrap();
            let mut ours = snapshot(&data);
            let settings = |tree: &mut BTreeMap<String, (u32, u64, i64, String)>| {
                let entry = tree.remove("postgresql.auto.conf").unwrap();
                tree.remove("recovery.signal");
                tree.remove("standby.signal");
                entry.0
            };
            let text = fs::read_to_string(data.join("postgresql.auto.conf")).unwrap();
            assert_eq!(settings(&mut theirs), settings(&mut ours));
            let names = |tree: &BTreeMap<String, _>| tree.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&theirs), names(&ours), "{name} {arguments:?}");
            for (path, entry) in &theirs {
                assert_eq!((entry.0, entry.1, entry.2), (ours[path].0, ours[path].1, ours[path].2), "{name} {path}");
                assert!(entry.3 == ours[path].3, "{name} {path}: other content");
            }
            assert!(text.contains("restore on") || arguments == ["--type=none"], "{text}");
        }
    }
}

/// Settings by the original and by us, with what must differ made equal.
#[test]
fn rs18_settings_are_those_of_the_original() {
    let restore = Restore::of("2.60-pg15-gz-tablespace");
    let data = restore.data();
    for arguments in [
        &["--type=default"][..],
        &["--type=immediate", "--target-action=promote"],
        &["--type=standby", "--recovery-option=primary-conninfo=host=x"],
        &["--type=none"],
        &["--type=xid", "--target=7", "--target-exclusive", "--target-action=shutdown"],
        &["--type=name", "--target=it", "--target-timeline=1", "--archive-mode=off"],
    ] {
        let mut texts = Vec::new();
        for engine in [&stock::newest().engine, &pgbr::engine()] {
            fs::remove_dir_all(&data).ok();
            fs::remove_dir_all(restore.tablespace()).ok();
            user::create_dir(&data).unwrap();
            restore.run_as(engine, &data, arguments).success().unwrap();
            let signals = ["recovery.signal", "standby.signal"].map(|name| data.join(name).try_exists().unwrap());
            let text = fs::read_to_string(data.join("postgresql.auto.conf")).unwrap();
            let program = engine.binary().display().to_string();
            // The original writes an option that its archive-get refuses, which would end recovery at once.
            let spool = format!(" {}", restore.sample.local_paths()[1]);
            let text = text.replace(&spool, "");
            let text: Vec<String> = text
                .lines()
                .map(|line| match line.find("restore on ") {
                    Some(at) => format!("{}{}", &line[..at], line.get(at + 30..).unwrap_or("")),
                    None => line.replace(&program, "PROGRAM").replace("/usr/bin/pgbackrest", "PROGRAM"),
                })
                .collect();
            texts.push((text, signals));
        }
        assert_eq!(texts[0], texts[1], "{arguments:?}");
    }
}
