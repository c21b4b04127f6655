//! `manifest`, `annotate` and `repo-rm` of the built program, beside the original.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::path::Path;

use pgbr_repo::format::BackupInfo;
use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::process::Outcome;
use pgbr_testkit::samples::Sample;
use pgbr_testkit::stock::{self, Release};
use pgbr_testkit::{pgbr, user};

fn original() -> Engine {
    stock::find(Release::V2_60).unwrap().engine
}

fn same(conf: &Conf, arguments: &[&str]) -> Outcome {
    let ours = pgbr::engine().run(conf, arguments).unwrap();
    let theirs = original().run(conf, arguments).unwrap();
    assert_eq!(ours.stdout, theirs.stdout, "{arguments:?}");
    assert_eq!(ours.exit_code, theirs.exit_code, "{arguments:?}");
    ours
}

#[test]
fn manifest_says_what_the_original_says_of_every_sample() {
    let folder = user::scratch().unwrap();
    for sample in Sample::ALL {
        let root = folder.path().join(sample.name());
        let unpacked = sample.unpack(&root).unwrap();
        let conf = unpacked.conf();
        for label in unpacked.labels().unwrap() {
            let set = format!("--set={label}");
            let quiet = ["--log-level-console=off", &set, "manifest"];
            same(&conf, &quiet);
            let json = [&quiet[..], &["--output=json"]].concat();
            for name in file_names(&same(&conf, &json).stdout) {
                let filter = format!("--filter={name}");
                same(&conf, &[&json[..], &[filter.as_str()]].concat());
                same(&conf, &[&quiet[..], &[filter.as_str()]].concat());
            }
            if label.len() > 16 {
                same(&conf, &[&quiet[..], &["--reference=latest"]].concat());
                let full = format!("--reference={}", label.get(..16).unwrap());
                same(&conf, &[&quiet[..], &[full.as_str()]].concat());
            }
        }
    }
}

/// A file with blocks, one with blocks of which this backup stores some, and one that another backup stores.
fn file_names(printed: &str) -> Vec<String> {
    let printed: serde_json::Value = serde_json::from_str(printed).unwrap();
    let files = printed["fileList"].as_array().unwrap();
    let has_blocks = |file: &&serde_json::Value| file["block"]["map"]["size"].as_u64().is_some_and(|size| size > 0);
    let is_referenced = |file: &&serde_json::Value| file.get("reference").is_some();
    let found = [
        files.iter().find(has_blocks),
        files.iter().rev().find(|file| has_blocks(file) && !is_referenced(file)),
        files.iter().rev().find(is_referenced),
    ];
    found.into_iter().flatten().map(|file| file["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn manifest_of_the_newest_backup_and_of_none() {
    let folder = user::scratch().unwrap();
    let unpacked = Sample::ALL[0].unpack(&folder.path().join("x")).unwrap();
    let newest = unpacked.labels().unwrap().pop().unwrap();
    let printed = pgbr::engine().ok(&unpacked.conf(), &["manifest"]).unwrap();
    assert!(printed.stdout.starts_with(&format!("label: {newest}\n")), "{}", printed.stdout);
    let unknown = pgbr::engine().run(&unpacked.conf(), &["--filter=pg_data/none", "manifest"]).unwrap();
    assert_eq!(unknown.exit_code, Some(55));
    let wrong = pgbr::engine().run(&unpacked.conf(), &["--set=none", "manifest"]).unwrap();
    assert_eq!(wrong.exit_code, Some(32));
}

fn info(repository: &Path) -> BackupInfo {
    let folder = fs::read_dir(repository.join("backup")).unwrap().next().unwrap().unwrap().path();
    let main = fs::read(folder.join("backup.info")).unwrap();
    assert_eq!(main, fs::read(folder.join("backup.info.copy")).unwrap());
    BackupInfo::parse(&main).unwrap()
}

#[test]
fn annotate_writes_what_the_original_writes_and_each_repository_for_itself() {
    let folder = user::scratch().unwrap();
    let sample = Sample::ALL.into_iter().find(|sample| !sample.name().contains("aes")).unwrap();
    let [ours, theirs, second] =
        ["ours", "theirs", "second"].map(|name| sample.unpack(&folder.path().join(name)).unwrap());
    let label = ours.labels().unwrap().pop().unwrap();
    let set = format!("--set={label}");
    let steps: [&[&str]; 3] = [
        &["--annotation=source=before the upgrade", "--annotation=keep=yes"],
        &["--annotation=keep="],
        &["--annotation=other=ü"],
    ];
    for step in steps {
        let arguments = [&[set.as_str()], step, &["annotate"]].concat();
        let heard = [&["--log-level-console=info"], &arguments[..]].concat();
        let own = pgbr::engine().ok(&ours.conf(), &heard).unwrap();
        original().ok(&theirs.conf(), &arguments).unwrap();
        assert!(own.stdout.contains(&format!("backup set '{label}' to annotate found in repo1")), "{}", own.stdout);
        assert_eq!(info(&ours.repo()), info(&theirs.repo()), "{step:?}");
    }
    // Two repositories: the original would write the second one's file into the first.
    let before = info(&second.repo());
    let both = ["--repo2-path", second.repo().to_str().unwrap()].join("=");
    pgbr::engine().ok(&ours.conf(), &[&both, &set, "--annotation=two=2", "annotate"]).unwrap();
    let label = pgbr_repo::format::BackupLabel::parse(&label).unwrap();
    let two = |info: &BackupInfo| info.backup(&label).unwrap().annotations.value("two").is_some();
    assert!(two(&info(&ours.repo())) && two(&info(&second.repo())));
    assert_eq!(info(&second.repo()).backup(&label).unwrap().annotations.iter().count(), 1);
    assert_eq!(info(&second.repo()).backups().len(), before.backups().len());
    for (arguments, code) in [
        (["--set=20010203-040506F", "--annotation=a=b", "annotate"], 75),
        (["--set=latest", "--annotation=a=b", "annotate"], 32),
        (["--set=20010203-040506F", "--annotation=x", "annotate"], 31),
    ] {
        let found = pgbr::engine().run(&ours.conf(), &arguments).unwrap();
        let expected = original().run(&ours.conf(), &arguments).unwrap();
        assert_eq!((found.exit_code, expected.exit_code), (Some(code), Some(code)), "{}", found.text());
    }
}

#[test]
fn repo_rm_removes_what_the_original_removes() {
    let folder = user::scratch().unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|name| Conf::create(&folder.path().join(name), "demo").unwrap());
    let tree = |name: &str| {
        let root = folder.path().join(name).join("repo");
        let mut found: Vec<String> = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let entry = entry.unwrap();
                found.push(entry.path().strip_prefix(&root).unwrap().display().to_string());
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        found.sort();
        found
    };
    for name in ["ours", "theirs"] {
        let repository = folder.path().join(name).join("repo");
        for path in ["a/one", "a/b/two", "a/c/three", "file"] {
            fs::create_dir_all(repository.join(path).parent().unwrap()).unwrap();
            fs::write(repository.join(path), "x").unwrap();
        }
        fs::create_dir_all(repository.join("empty")).unwrap();
        user::own(&repository).unwrap();
    }
    for arguments in [
        &["repo-rm", "a"][..],
        &["repo-rm", "a/one"],
        &["repo-rm", "nothing"],
        &["repo-rm", "empty"],
        &["repo-rm", "--recurse", "a/b"],
        &["repo-rm", "a//c"],
        &["repo-rm", "/etc"],
        &["repo-rm", "a", "file"],
        &["repo-rm", "file"],
        &["repo-rm", "--recurse", "a"],
    ] {
        let found = pgbr::engine().run(&ours, arguments).unwrap();
        let expected = original().run(&theirs, arguments).unwrap();
        assert_eq!(found.exit_code, expected.exit_code, "{arguments:?}: {}", found.text());
        assert_eq!(tree("ours"), tree("theirs"), "{arguments:?}");
    }
    assert!(tree("ours").is_empty());
}

#[test]
fn check_reports_the_configuration_as_the_original_does() {
    let folder = user::scratch().unwrap();
    let mut conf = Conf::create(&folder.path().join("backrest"), "demo").unwrap();
    conf.global("repo1-cipher-pass", "a \"secret\"").unwrap().global("repo1-cipher-type", "aes-256-cbc").unwrap();
    conf.global("no-such-option", "x").unwrap().global("reset-compress-type", "y").unwrap();
    conf.local("pg1-path", "/nowhere").unwrap();
    let mut text = fs::read_to_string(conf.path()).unwrap();
    text.push_str("\n[other:backup]\nexclude=a\nexclude=b\ncompress-level=3\nno-online=y\n");
    user::write_file(conf.path(), &text).unwrap();
    let run = |engine: &Engine| {
        let mut command = engine.command(&conf, &["--log-level-console=off", "check", "--report"]);
        for (name, value) in [
            ("PGBACKREST_REPO2_CIPHER_PASS", "another"),
            ("PGBACKREST_EXCLUDE", "x:y"),
            ("PGBACKREST_PROCESS_MAX", "7"),
            ("PGBACKREST_BOGUS", "1"),
            ("PGBACKREST_NO_DELTA", "y"),
        ] {
            command.env(name, value);
        }
        pgbr_testkit::process::run(&mut command, pgbr_testkit::process::DEFAULT_LIMIT).unwrap()
    };
    let (ours, theirs) = (run(&pgbr::engine()), run(&original()));
    assert_eq!(ours.exit_code, Some(0), "{}", ours.text());
    // Before it knows its options the original warns on standard output too.
    assert_eq!(ours.stdout.lines().last(), theirs.stdout.lines().last());
    assert!(!ours.text().contains("secret") && ours.stdout.contains("<repo1-cipher-pass>"), "{}", ours.text());
}
