//! Backups that the original wrote, restored by `pgbr`: byte for byte, and to running servers.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgbr_testkit::engine::Engine;
use pgbr_testkit::pgbr;
use pgbr_testkit::postgres::{Cluster, Options, Version};
use pgbr_testkit::process::Outcome;
use pgbr_testkit::samples::{Expected, Sample, Unpacked};
use pgbr_testkit::{stock, user};
use tempfile::TempDir;

const WAIT: Duration = Duration::from_secs(60);

/// A sample on disk and a place to restore it to.
struct Restore {
    dir: TempDir,
    sample: Unpacked,
}

impl Restore {
    fn of(name: &str) -> Self {
        let dir = user::scratch().unwrap();
        let sample = Sample::named(name).unwrap().unpack(&dir.path().join("sample")).unwrap();
        Self { dir, sample }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn tablespace(&self) -> PathBuf {
        self.dir.path().join("ts1")
    }

    fn expected(&self, label: &str) -> Expected {
        let mut expected = self.sample.expected(label).unwrap();
        if self.sample.sample().name().starts_with("2.45") {
            expected.leave_out("./global/pg_control");
        }
        expected
    }

    fn run_as(&self, engine: &Engine, data: &Path, arguments: &[&str]) -> Outcome {
        let [lock, spool, log] = self.sample.local_paths();
        let path = format!("--pg1-path={}", data.display());
        let map = format!("--tablespace-map=ts1={}", self.tablespace().display());
        let mut all = vec!["restore", "--process-max=2", &lock, &spool, &log, &path];
        if self.sample.sample().name().contains("tablespace") {
            all.push(&map);
        }
        all.extend(arguments);
        engine.run(&self.sample.conf(), &all).unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> Outcome {
        self.run_as(&pgbr::engine(), &self.data(), arguments).success().unwrap()
    }

    /// Restores and compares with what the original restored.
    fn restores(&self, label: &str, arguments: &[&str]) -> Outcome {
        let set = format!("--set={label}");
        let mut all = vec![set.as_str()];
        all.extend(arguments);
        let outcome = self.ok(&all);
        self.compare(label, &format!("{arguments:?}"));
        outcome
    }

    fn compare(&self, label: &str, what: &str) {
        let name = self.sample.sample().name();
        let expected = self.expected(label);
        let differences = expected.differences(&self.data()).unwrap();
        assert!(differences.is_empty(), "{name} {label} {what}: {differences:#?}");
        for tablespace in expected.tablespaces.keys() {
            let differences = expected.tablespace_differences(tablespace, &self.tablespace()).unwrap();
            assert!(differences.is_empty(), "{name} {label} {what} {tablespace}: {differences:#?}");
        }
        assert!(!self.data().join("backup.manifest").try_exists().unwrap());
        assert!(!self.data().join("global/pg_control.pgbackrest.tmp").try_exists().unwrap());
    }
}

/// Every label: fresh, over the backup before by checksum, and again after damage.
fn restores_every_label(name: &str) {
    let restore = Restore::of(name);
    user::create_dir(&restore.data()).unwrap();
    for label in restore.sample.labels().unwrap() {
        // The first is fresh, the others find the files of the one before.
        restore.restores(&label, &["--delta"]);
    }
    let label = restore.sample.labels().unwrap().pop().unwrap();
    damage(&restore.data());
    restore.restores(&label, &["--delta"]);
    let again = restore.restores(&label, &["--delta", "--log-level-console=detail"]);
    assert!(again.text().contains("exists and matches backup"), "{}", again.text());
    let by_time = restore.restores(&label, &["--delta", "--force", "--log-level-console=detail"]);
    assert!(by_time.text().contains("exists and matches size"), "{}", by_time.text());
    restore.restores(&label, &["--force"]);
    for label in restore.sample.labels().unwrap() {
        fs::remove_dir_all(restore.data()).unwrap();
        fs::remove_dir_all(restore.tablespace()).ok();
        restore.restores(&label, &[]);
    }
}

/// Changes files in every way that a delta restore has to see.
fn damage(data: &Path) {
    let files: Vec<PathBuf> = fs::read_dir(data.join("base/1")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut large: Vec<&PathBuf> = files.iter().filter(|file| fs::metadata(file).unwrap().len() >= 16384).collect();
    large.sort();
    assert!(large.len() > 8);
    for (at, file) in large.iter().enumerate() {
        let content = fs::read(file).unwrap();
        let changed = match at % 6 {
            // A byte, with size and time kept; shorter; longer; empty; gone; as it is.
            0 => {
                let mut changed = content.clone();
                changed[9000] ^= 1;
                changed
            }
            1 => content[..content.len() - 5000].to_vec(),
            2 => [&content[..], &[7; 9000]].concat(),
            3 => Vec::new(),
            4 => {
                fs::remove_file(file).unwrap();
                continue;
            }
            _ => continue,
        };
        let modified = fs::metadata(file).unwrap().modified().unwrap();
        fs::write(file, changed).unwrap();
        fs::File::options().write(true).open(file).unwrap().set_modified(modified).unwrap();
        user::own(file).unwrap();
    }
    fs::write(data.join("surplus"), "x").unwrap();
    fs::set_permissions(data.join("PG_VERSION"), fs::Permissions::from_mode(0o400)).unwrap();
}

#[test]
fn rs02_rs08_pg15_none_by_2_45() {
    restores_every_label("2.45-pg15-none");
}

#[test]
fn rs02_rs08_pg15_zst_aes_bundle_by_2_45() {
    restores_every_label("2.45-pg15-zst-aes-bundle");
}

#[test]
fn rs02_rs08_rs14_pg13_lz4_bundle_block() {
    restores_every_label("2.60-pg13-lz4-bundle-block");
}

#[test]
fn rs02_rs08_pg15_gz_tablespace() {
    restores_every_label("2.60-pg15-gz-tablespace");
}

#[test]
fn rs02_rs08_pg15_bz2_aes() {
    restores_every_label("2.60-pg15-bz2-aes");
}

#[test]
fn rs02_rs08_rs14_pg18_zst_aes_bundle_block() {
    restores_every_label("2.60-pg18-zst-aes-bundle-block");
}

#[test]
fn rs02_rs08_pg15to18_zst_bundle_upgrade() {
    restores_every_label("2.60-pg15to18-zst-bundle-upgrade");
}

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

fn server_of(name: &str) -> Version {
    match name {
        _ if name.contains("pg13") => Version::V13,
        _ if name.contains("pg18") || name.contains("to18") => Version::V18,
        _ => Version::V15,
    }
}

/// A server on the restored directory; its configuration is the sample's own.
fn start(restore: &Restore) -> Cluster {
    let mut cluster =
        Cluster::open(server_of(restore.sample.sample().name()), &restore.data(), Options::default()).unwrap();
    cluster.start().unwrap_or_else(|error| panic!("{error}"));
    cluster.wait_until_promoted(WAIT).unwrap();
    cluster
}

#[test]
fn servers_recover_to_the_end_of_the_archive() {
    for name in ["2.60-pg13-lz4-bundle-block", "2.60-pg15-gz-tablespace", "2.60-pg18-zst-aes-bundle-block"] {
        let restore = Restore::of(name);
        user::create_dir(&restore.data()).unwrap();
        restore.ok(&["--archive-mode=off"]);
        let cluster = start(&restore);
        for table in restore.sample.sample().tables().unwrap() {
            assert_eq!(cluster.sql(&table.query()).unwrap(), [table.row()], "{name}");
        }
    }
}

#[test]
fn rs12_a_server_recovers_to_a_time() {
    let restore = Restore::of("2.60-pg15-gz-tablespace");
    user::create_dir(&restore.data()).unwrap();
    let time = restore.sample.time_before_fourth().unwrap().unwrap();
    let target = format!("--target={time}");
    let outcome = restore.ok(&[
        "--type=time",
        &target,
        "--target-action=promote",
        "--archive-mode=off",
        "--log-level-console=info",
    ]);
    assert!(outcome.text().contains("restore backup set"), "{}", outcome.text());
    let cluster = start(&restore);
    let tables = restore.sample.sample().tables().unwrap();
    let rows = |cluster: &Cluster, table: &str| cluster.value(&format!("SELECT count(*) FROM {table}")).unwrap();
    let all = tables.iter().find(|table| table.name == "t").unwrap().rows;
    let at_time: u64 = rows(&cluster, "t").parse().unwrap();
    assert!(at_time < all, "{at_time} of {all} rows");
}
