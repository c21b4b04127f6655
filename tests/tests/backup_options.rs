//! Options of backup whose effect is seen from outside, with the original as the judge.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use pgbr_testkit::canary;
use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::postgres::{Cluster, Options, Shutdown, Version};
use pgbr_testkit::{pgbr, stock, user};

struct Scene {
    dir: tempfile::TempDir,
    conf: Conf,
    cluster: Cluster,
}

impl Scene {
    fn new(version: Version, options: &[(&str, &str)], archive_options: &str) -> Self {
        let dir = user::scratch().unwrap();
        let mut conf = Conf::create(&dir.path().join("backrest"), "demo").unwrap();
        for (option, value) in options {
            conf.global(option, value).unwrap();
        }
        let archive_command = Some(format!("{} {archive_options}", pgbr::engine().archive_command(&conf)));
        let options = Options { archive_command, wal_segment_size_mib: 1, ..Options::default() };
        let cluster = Cluster::started(version, &dir.path().join("data"), options).unwrap();
        conf.cluster(&cluster).unwrap();
        pgbr::engine().ok(&conf, &["stanza-create"]).unwrap();
        cluster.sql("CREATE TABLE rows AS SELECT g, repeat('x', 500) AS t FROM generate_series(1, 5000) g").unwrap();
        Self { dir, conf, cluster }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn backup_dir(&self, label: &str) -> PathBuf {
        self.path("backrest/repo/backup/demo").join(label)
    }

    fn info(&self) -> serde_json::Value {
        let arguments = ["info", "--output=json", "--log-level-console=off"];
        let json = stock::newest().engine.ok(&self.conf, &arguments).unwrap().stdout;
        serde_json::from_str(&json).unwrap()
    }

    fn newest(&self) -> String {
        let info = self.info();
        info[0]["backup"].as_array().unwrap().last().unwrap()["label"].as_str().unwrap().to_owned()
    }

    fn verifies(&self) {
        let stock = stock::newest();
        let text = stock.engine.ok(&self.conf, &["verify", "--log-level-console=detail"]).unwrap().text();
        for word in ["ERROR", "invalid checksum", "missing file", "status: error"] {
            assert!(!text.contains(word), "{text}");
        }
    }

    /// Restores to the first consistent point and counts the rows.
    fn restores(&self, engine: &Engine, label: &str) {
        let data = self.path(&format!("restored{}", std::fs::read_dir(self.dir.path()).unwrap().count()));
        user::create_dir(&data).unwrap();
        let (pg_path, set) = (format!("--pg1-path={}", data.display()), format!("--set={label}"));
        let arguments = ["restore", &pg_path, &set, "--type=immediate", "--target-action=promote"];
        engine.ok(&self.conf, &arguments).unwrap();
        let overrides = vec![("archive_mode".to_owned(), "off".to_owned())];
        let mut restored =
            Cluster::open(self.cluster.version(), &data, Options { overrides, ..Options::default() }).unwrap();
        restored.start().unwrap();
        restored.wait_until_promoted(Duration::from_secs(60)).unwrap();
        assert_eq!(restored.value("SELECT count(*) FROM rows WHERE length(t) = 500").unwrap(), "5000");
        restored.stop(Shutdown::Immediate).unwrap();
    }
}

/// The names in `[target:file]`.
fn files(manifest: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(manifest).unwrap();
    let section = text.split("[target:file]\n").nth(1).unwrap();
    let lines = section.lines().take_while(|line| !line.is_empty());
    lines.map(|line| line.split("={").next().unwrap().to_owned()).collect()
}

/// Without the archive, from the WAL in the backup alone.
#[test]
fn archive_copy_makes_a_backup_that_needs_no_archive() {
    let (ours, stock) = (pgbr::engine(), stock::newest());
    for (options, archive_options) in [
        (&[("compress-type", "zst"), ("repo1-bundle", "y")][..], "--compress-type=lz4"),
        (
            &[("compress-type", "gz"), ("repo1-cipher-type", "aes-256-cbc"), ("repo1-cipher-pass", canary::PASSPHRASE)],
            "--compress-type=gz",
        ),
    ] {
        let scene = Scene::new(Version::V17, options, archive_options);
        let mut labels = Vec::new();
        for engine in [&ours, &stock.engine] {
            engine.ok(&scene.conf, &["backup", "--type=full", "--archive-copy"]).unwrap();
            labels.push(scene.newest());
        }
        scene.verifies();
        let stored = std::fs::read_dir(scene.backup_dir(&labels[0]).join("pg_data/pg_wal")).unwrap().count();
        assert!(stored > 0);
        let archive = scene.path("backrest/repo/archive/demo/17-1");
        std::fs::rename(&archive, scene.path("away")).unwrap();
        for label in &labels {
            for engine in [&ours, &stock.engine] {
                scene.restores(engine, label);
            }
        }
    }
}

#[test]
fn exclude_and_annotation_and_links_are_as_with_the_original() {
    let (ours, stock) = (pgbr::engine(), stock::newest());
    let scene = Scene::new(Version::V15, &[("compress-type", "none")], "");
    let space = scene.path("space");
    user::create_dir(&space).unwrap();
    scene.cluster.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", space.display())).unwrap();
    scene.cluster.sql("CREATE TABLE spaced TABLESPACE space AS SELECT 1").unwrap();
    for name in ["junk/a", "junk/b", "keep/c", "lone"] {
        let path = scene.cluster.data().join(name);
        user::create_dir(path.parent().unwrap()).unwrap();
        user::write_file(&path, name).unwrap();
    }
    let arguments = ["backup", "--type=full", "--exclude=junk/", "--exclude=lone", "--annotation=by=somebody"];
    let mut trees = Vec::new();
    for engine in [&ours, &stock.engine] {
        let told = engine.ok(&scene.conf, &arguments).unwrap().stdout;
        assert!(told.contains("exclude contents of") && told.contains("exclude '"), "{told}");
        let label = scene.newest();
        let dir = scene.backup_dir(&label);
        assert_eq!(std::fs::read_link(scene.backup_dir("latest")).unwrap(), PathBuf::from(&label));
        let link = std::fs::read_dir(dir.join("pg_data/pg_tblspc")).unwrap().next().unwrap().unwrap().path();
        assert!(link.metadata().unwrap().is_dir(), "{} leads nowhere", link.display());
        let info = scene.info();
        let backup = info[0]["backup"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(backup["annotation"]["by"], "somebody");
        let files = files(&dir.join("backup.manifest"));
        let own = |name: &str| files.contains(&format!("pg_data/{name}"));
        assert!(!own("junk/a") && !own("lone") && own("keep/c"));
        assert!(dir.join("pg_data/junk").is_dir());
        // What a running server makes and removes at any time.
        let is_stable = |name: &&String| !name.contains("/pg_logical/") && !name.contains("/pg_stat/");
        trees.push(files.iter().filter(is_stable).cloned().collect::<BTreeSet<_>>());
    }
    assert_eq!(trees[0], trees[1]);
}

#[test]
fn hardlinks_make_an_incremental_a_whole_directory() {
    let (ours, stock) = (pgbr::engine(), stock::newest());
    let scene = Scene::new(Version::V15, &[("compress-type", "lz4"), ("repo1-hardlink", "y")], "");
    ours.ok(&scene.conf, &["backup", "--type=full"]).unwrap();
    let full = scene.newest();
    for engine in [&ours, &stock.engine] {
        scene.cluster.sql("INSERT INTO rows SELECT 0, 'short' FROM generate_series(1, 10)").unwrap();
        let told = engine.ok(&scene.conf, &["backup", "--type=incr", "--log-level-console=detail"]).unwrap().stdout;
        let incremental = scene.newest();
        assert!(told.contains(&format!("hardlink pg_data/PG_VERSION to {full}")), "{told}");
        let dir = scene.backup_dir(&incremental);
        for name in files(&dir.join("backup.manifest")) {
            assert!(dir.join(format!("{name}.lz4")).is_file(), "{} of {}: {name}", engine.name(), incremental);
        }
        let inode = |label: &str| scene.backup_dir(label).join("pg_data/PG_VERSION.lz4").metadata().unwrap().ino();
        assert_eq!(inode(&full), inode(&incremental));
        assert!(dir.join("pg_data/pg_notify").is_dir());
    }
    scene.verifies();
    for engine in [&ours, &stock.engine] {
        scene.restores(engine, &scene.newest());
    }
}

#[test]
fn progress_is_in_the_lock_file() {
    let (ours, stock) = (pgbr::engine(), stock::newest());
    let scene = Scene::new(Version::V15, &[("compress-type", "bz2")], "");
    let arguments = ["backup", "--type=full", "--process-max=1", "--log-level-console=detail"];
    let mut running = ours.command(&scene.conf, &arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("DETAIL: backup file ")));
    let info = scene.info();
    let lock = &info[0]["status"]["lock"]["backup"];
    assert_eq!(lock["held"], true, "{info}");
    assert!(lock["size"].as_u64().unwrap() > 1_000_000 && lock["size-cplt"].as_u64().unwrap() > 0, "{info}");
    // One backup of a stanza at a time, whoever makes it.
    let refused = stock.engine.run(&scene.conf, &["backup", "--type=full"]).unwrap();
    assert_eq!(refused.exit_code, Some(50), "{}", refused.text());
    lines.for_each(drop);
    assert!(running.wait().unwrap().success());
}

#[test]
fn a_backup_goes_to_the_repository_that_is_named() {
    let (ours, stock) = (pgbr::engine(), stock::newest());
    let mut scene = Scene::new(Version::V15, &[("compress-type", "lz4")], "");
    let second = scene.path("backrest/second");
    user::create_dir(&second).unwrap();
    scene.conf.global("repo2-path", &second.display().to_string()).unwrap();
    ours.ok(&scene.conf, &["stanza-create"]).unwrap();
    let told = ours.ok(&scene.conf, &["backup", "--type=full"]).unwrap().stdout;
    assert!(told.contains("repo option not specified, defaulting to repo1"), "{told}");
    assert!(told.contains("requested immediate checkpoint"), "{told}");
    let told =
        ours.ok(&scene.conf, &["backup", "--type=full", "--repo=2", "--no-start-fast", "--stop-auto"]).unwrap().stdout;
    assert!(told.contains("next regular checkpoint") && told.contains("option 'stop-auto' is deprecated"), "{told}");
    let info = scene.info();
    let repositories: Vec<_> =
        info[0]["backup"].as_array().unwrap().iter().map(|backup| backup["database"]["repo-key"].as_u64()).collect();
    assert_eq!(repositories, [Some(1), Some(2)]);
    let verified = stock.engine.ok(&scene.conf, &["verify", "--repo=2", "--log-level-console=detail"]).unwrap().text();
    assert!(!verified.contains("status: error"), "{verified}");
}

/// The original, killed in the middle, has saved what it knew; ours goes on with it. And the reverse.
#[test]
fn bk14_each_resumes_what_the_other_left() {
    let (ours, stock) = (pgbr::engine(), stock::newest());
    for (first, second, signal) in
        [(&stock.engine, &ours, "-KILL"), (&ours, &stock.engine, "-KILL"), (&ours, &ours, "-TERM")]
    {
        let options = [
            ("compress-type", "zst"),
            ("repo1-cipher-type", "aes-256-cbc"),
            ("repo1-cipher-pass", canary::PASSPHRASE),
            ("manifest-save-threshold", "1B"),
        ];
        let scene = Scene::new(Version::V15, &options, "");
        let arguments =
            ["backup", "--type=full", "--process-max=1", "--compress-level=12", "--log-level-console=detail"];
        let mut running = first.command(&scene.conf, &arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(running.stdout.take().unwrap()).lines().map(Result::unwrap);
        let seen = lines.filter(|line| line.contains("DETAIL: backup file ")).take(30).count();
        assert_eq!(seen, 30);
        let sent = user::command("kill").args([signal, &running.id().to_string()]).status().unwrap();
        assert!(sent.success());
        running.wait().unwrap();
        let told = loop {
            let told = second.run(&scene.conf, &["backup", "--type=full", "--log-level-console=detail"]).unwrap();
            // The workers of the original hold its lock a little longer.
            if told.exit_code != Some(50) {
                break told.success().unwrap().stdout;
            }
            std::thread::sleep(Duration::from_millis(500));
        };
        assert!(told.contains("resumable backup "), "{} after {}: {told}", second.name(), first.name());
        assert!(told.contains("checksum resumed file "), "{} after {}: {told}", second.name(), first.name());
        scene.verifies();
        let other = if second.name() == "pgbr" { &stock.engine } else { &ours };
        scene.restores(other, &scene.newest());
    }
}

/// With `archive_mode=always` a standby archives too, which wants a repository of its own.
#[test]
fn a_server_that_always_archives_is_refused_unless_that_is_wanted() {
    let (ours, stock) = (pgbr::engine(), stock::newest());
    let mut scene = Scene::new(Version::V15, &[("compress-type", "lz4")], "");
    scene.cluster.append_conf("archive_mode = always").unwrap();
    scene.cluster.stop(Shutdown::Fast).unwrap();
    scene.cluster.start().unwrap();
    for engine in [&ours, &stock.engine] {
        let refused = engine.run(&scene.conf, &["backup", "--type=full"]).unwrap();
        assert_eq!(refused.exit_code, Some(67), "{}: {}", engine.name(), refused.text());
        engine.ok(&scene.conf, &["backup", "--type=full", "--no-archive-mode-check"]).unwrap();
    }
}

/// A segment that was damaged in the archive does not become a part of a backup.
#[test]
fn an_archived_segment_with_another_checksum_is_not_copied() {
    let ours = pgbr::engine();
    let options = [("compress-type", "none"), ("archive-copy", "y"), ("archive-check", "y")];
    let scene = Scene::new(Version::V15, &options, "");
    // Damaged before it has its name, so that the backup cannot see it whole. The name of the program is what archive-check
    // looks for.
    let archive = scene.path("backrest/repo/archive/demo/15-1").display().to_string();
    let command = format!(
        "case %f in *.*) exit 0;; esac; d={archive}/`echo %f | cut -c1-16`; s=`sha1sum < %p | cut -c1-40`; mkdir -p $d && \
         cp %p $d/t && echo X | dd of=$d/t bs=1 count=1 seek=100000 conv=notrunc && mv $d/t $d/%f-$s # pgbr"
    );
    scene.cluster.set_archive_command(&command).unwrap();
    let refused = ours.run(&scene.conf, &["backup", "--type=full"]).unwrap();
    assert_eq!(refused.exit_code, Some(26), "{}", refused.text());
    let info = scene.info();
    assert_eq!(info[0]["backup"].as_array().map(Vec::len), Some(0), "{info}");
}
