//! `info`, `repo-ls` and `repo-get` of the built program, beside what the original prints for the same repository.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use pgbr_repo::clock::SystemClock;
use pgbr_repo::storage::s3::{S3Credentials, S3Endpoint, S3Options, S3Storage, UriStyle};
use pgbr_repo::storage::{StorageExt, StoragePath};
use pgbr_testkit::engine::Engine;
use pgbr_testkit::s3::S3Server;
use pgbr_testkit::samples::{Sample, Unpacked};
use pgbr_testkit::stock::{self, Release};
use pgbr_testkit::{pgbr, user};
use serde_json::Value;
use tempfile::TempDir;

const TABLESPACE: &str = "2.60-pg15-gz-tablespace";
const ENCRYPTED: &str = "2.60-pg18-zst-aes-bundle-block";
const UPGRADED: &str = "2.60-pg15to18-zst-bundle-upgrade";
const PASSPHRASE: &str = "correct-horse-battery";

fn ours() -> Engine {
    pgbr::engine()
}

fn original() -> Engine {
    stock::find(Release::V2_60).unwrap().engine
}

/// What a program prints in the zone `TZ=zone`; the configuration alone says which stanza.
fn run_in(zone: &str, engine: &Engine, config: &Path, arguments: &[&str]) -> Output {
    let mut command = user::command(engine.binary());
    command.env("TZ", zone).arg(format!("--config={}", config.display())).args(arguments);
    command.output().unwrap()
}

fn run(engine: &Engine, config: &Path, arguments: &[&str]) -> Output {
    run_in("UTC", engine, config, arguments)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Both programs print the same bytes and end with the same code; what they printed.
fn assert_same(config: &Path, arguments: &[&str]) -> String {
    let (expected, found) = (run(&original(), config, arguments), run(&ours(), config, arguments));
    assert_eq!(text(&found), text(&expected), "{arguments:?}");
    assert!(found.stdout == expected.stdout, "{arguments:?}");
    assert_eq!(found.status.code(), expected.status.code(), "{arguments:?}");
    text(&found)
}

/// The report as JSON, without the texts of errors: those are each program's own.
fn report(engine: &Engine, config: &Path, arguments: &[&str]) -> Value {
    let arguments = [&["info", "--output=json"], arguments].concat();
    let output = run(engine, config, &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let mut printed = text(&output);
    if *engine.name() != *ours().name() {
        // Of a file that was decrypted wrongly the original prints raw bytes, which no reader of JSON takes.
        printed = printed.replace(char::is_control, " ");
    }
    let mut report: Value = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    for stanza in report.as_array_mut().unwrap() {
        let repositories = stanza.get_mut("repo").and_then(Value::as_array_mut);
        for status in repositories.into_iter().flatten().map(|repository| &mut repository["status"]) {
            if status["code"] == 99 {
                status["message"] = Value::Null;
            }
        }
    }
    report
}

fn assert_same_report(config: &Path, arguments: &[&str]) -> Value {
    let found = report(&ours(), config, arguments);
    assert_eq!(found, report(&original(), config, arguments), "{arguments:?}");
    found
}

fn codes(report: &Value) -> Vec<(String, i64)> {
    let stanzas = report.as_array().unwrap().iter();
    stanzas
        .map(|stanza| (stanza["name"].as_str().unwrap().to_owned(), stanza["status"]["code"].as_i64().unwrap()))
        .collect()
}

/// A folder with samples and a configuration of several repositories.
struct Place {
    folder: TempDir,
    config: PathBuf,
}

impl Place {
    fn new(options: &str) -> Self {
        let folder = user::scratch().unwrap();
        user::create_dir(&folder.path().join("lock")).unwrap();
        let config = folder.path().join("pgbackrest.conf");
        let place = Self { folder, config };
        place.configure(options);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The configuration; `@` is the folder.
    fn configure(&self, options: &str) {
        let root = self.folder.path().display().to_string();
        let options = options.replace('@', &root);
        user::write_file(&self.config, format!("[global]\nlock-path={root}/lock\nlog-level-file=off\n{options}\n"))
            .unwrap();
    }

    fn unpack(&self, sample: &str, name: &str) -> Unpacked {
        Sample::named(sample).unwrap().unpack(&self.path(name)).unwrap()
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy_tree(&entry.path(), &target);
        } else if kind.is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn samples_are_reported_as_the_original_reported_them() {
    for sample in Sample::ALL {
        let folder = user::scratch().unwrap();
        let unpacked = sample.unpack(folder.path()).unwrap();
        let config = unpacked.conf().path().to_owned();
        for (format, ending) in [("text", "txt"), ("json", "json")] {
            // 2.45 printed no zone and knew less of locks; 2.60 was asked about its repositories afterwards.
            let expected =
                sample.text(&format!("info-2.60.{ending}")).or_else(|_| sample.text(&format!("info.{ending}")));
            let expected = expected.unwrap();
            for stanza in [&[][..], &["--stanza=demo"]] {
                let output = format!("--output={format}");
                let found = run(&ours(), &config, &[&["info", &output], stanza].concat());
                assert_eq!(text(&found), expected, "{} {format}", sample.name());
                assert_eq!(found.status.code(), Some(0));
            }
        }
    }
}

#[test]
fn selections_print_as_in_the_original() {
    for sample in Sample::ALL {
        let folder = user::scratch().unwrap();
        let unpacked = sample.unpack(folder.path()).unwrap();
        let config = unpacked.conf().path().to_owned();
        let mut selections: Vec<Vec<String>> = unpacked
            .labels()
            .unwrap()
            .into_iter()
            .map(|label| vec!["--stanza=demo".to_owned(), format!("--set={label}")])
            .collect();
        for other in [
            "--stanza=demo --set=20200101-000000F",
            "--stanza=other",
            "--type=full",
            "--type=incr",
            "--detail-level=progress",
            "--stanza=other --detail-level=progress",
        ] {
            selections.push(other.split(' ').map(str::to_owned).collect());
        }
        for selection in &selections {
            for output in ["--output=text", "--output=json"] {
                let mut arguments = vec!["info", output];
                arguments.extend(selection.iter().map(String::as_str));
                let printed = assert_same(&config, &arguments);
                assert!(!printed.is_empty());
            }
        }
    }
}

#[test]
fn several_repositories_print_as_in_the_original() {
    let place = Place::new(
        "repo1-path=@/tablespace/repo\nrepo2-path=@/encrypted/repo\nrepo2-cipher-type=aes-256-cbc\n\
         repo2-cipher-pass=correct-horse-battery\nrepo4-path=@/nothing",
    );
    place.unpack(TABLESPACE, "tablespace");
    place.unpack(ENCRYPTED, "encrypted");
    let selections: [&[&str]; 9] = [
        &[],
        &["--stanza=demo"],
        &["--repo=2"],
        &["--repo=4"],
        &["--stanza=demo", "--repo=4"],
        &["--stanza=demo", "--set=20261122-061827F"],
        &["--stanza=demo", "--set=20261122-061817F_20261122-061818D"],
        &["--stanza=demo", "--type=diff"],
        &["--detail-level=progress"],
    ];
    for selection in selections {
        for output in ["--output=text", "--output=json"] {
            assert_same(&place.config, &[&["info", output], selection].concat());
        }
    }
    assert_eq!(codes(&report(&ours(), &place.config, &[])), [("demo".to_owned(), 5)]);
}

#[test]
fn the_same_backups_in_two_repositories_are_merged_as_in_the_original() {
    let place = Place::new("repo1-path=@/one/repo\nrepo3-path=@/three/repo");
    for name in ["one", "three"] {
        place.unpack(UPGRADED, name);
    }
    for output in ["--output=text", "--output=json"] {
        assert_same(&place.config, &["info", output]);
        assert_same(&place.config, &["info", output, "--stanza=demo", "--set=20261122-061618F"]);
    }
    assert_eq!(codes(&report(&ours(), &place.config, &[])), [("demo".to_owned(), 0)]);
}

/// Stanzas in all states beside each other.
fn prepare_stanzas(place: &Place) {
    let one = place.unpack(UPGRADED, "one").repo();
    place.unpack(UPGRADED, "two");
    for name in ["alpha", "broken", "noarchive"] {
        copy_tree(&one.join("backup/demo"), &one.join("backup").join(name));
    }
    for name in ["alpha", "broken"] {
        copy_tree(&one.join("archive/demo"), &one.join("archive").join(name));
    }
    for entry in fs::read_dir(one.join("archive/alpha/15-1")).unwrap() {
        fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
    fs::create_dir(one.join("backup/empty")).unwrap();
    for name in ["backup.info", "backup.info.copy"] {
        fs::write(one.join("backup/broken").join(name), "not an info file").unwrap();
    }
    user::own(&one).unwrap();
}

#[test]
fn stanzas_that_cannot_be_read_have_the_originals_status() {
    let place = Place::new("repo1-path=@/one/repo");
    prepare_stanzas(&place);
    let states: Vec<(String, i64)> = [("alpha", 0), ("broken", 99), ("demo", 0), ("empty", 3), ("noarchive", 99)]
        .map(|(name, code)| (name.to_owned(), code))
        .to_vec();
    assert_eq!(codes(&assert_same_report(&place.config, &[])), states);
    place.configure("repo1-path=@/one/repo\nrepo2-path=@/two/repo");
    for selection in [&[][..], &["--repo=1"], &["--stanza=broken"], &["--stanza=empty"], &["--detail-level=progress"]] {
        assert_same_report(&place.config, selection);
    }
    for stanza in ["demo", "alpha", "empty", "other"] {
        for output in ["--output=text", "--output=json"] {
            assert_same(&place.config, &["info", output, &format!("--stanza={stanza}")]);
        }
    }
}

#[test]
fn the_text_of_an_error_stands_below_its_repository() {
    let place = Place::new("repo1-path=@/one/repo");
    prepare_stanzas(&place);
    let alone = text(&run(&ours(), &place.config, &["info", "--stanza=broken"]));
    let begin = "stanza: broken\n    status: error (other)\n            [ChecksumError] unable to load info file ";
    let begin_format = begin.replace("Checksum", "Format");
    assert!(alone.starts_with(begin) || alone.starts_with(&begin_format), "{alone}");
    assert!(alone.ends_with("\n    cipher: none\n"), "{alone}");
    place.configure("repo1-path=@/one/repo\nrepo2-path=@/two/repo");
    let beside = text(&run(&ours(), &place.config, &["info", "--stanza=broken"]));
    assert!(beside.contains("    status: mixed\n        repo1: error (other)\n               ["), "{beside}");
    assert!(beside.contains("\n        repo2: error (missing stanza path)\n    cipher: none\n"), "{beside}");
}

#[test]
fn cr01_a_wrong_passphrase_is_a_status_that_does_not_show_it() {
    let wrong = "CANARYPASSPHRASE";
    let place = Place::new("");
    place.unpack(TABLESPACE, "tablespace");
    place.unpack(ENCRYPTED, "encrypted");
    let encrypted = format!("repo2-path=@/encrypted/repo\nrepo2-cipher-type=aes-256-cbc\nrepo2-cipher-pass={wrong}");
    for options in [
        encrypted.clone(),
        format!("repo1-path=@/tablespace/repo\n{encrypted}"),
        "repo2-path=@/encrypted/repo".to_owned(),
        format!("repo1-path=@/tablespace/repo\nrepo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass={PASSPHRASE}"),
    ] {
        place.configure(&options);
        let report = assert_same_report(&place.config, &[]);
        assert!(report[0]["repo"].as_array().unwrap().iter().any(|repository| repository["status"]["code"] == 99));
        for output in ["--output=text", "--output=json"] {
            let printed = run(&ours(), &place.config, &["info", output]);
            assert!(!text(&printed).contains(wrong) && !String::from_utf8_lossy(&printed.stderr).contains(wrong));
        }
    }
}

#[test]
fn a_repository_that_cannot_be_listed_is_told_with_every_stanza() {
    let place = Place::new("repo1-path=@/one/repo");
    place.unpack(UPGRADED, "one");
    let closed = place.path("closed/backup");
    user::create_dir(&place.path("closed")).unwrap();
    user::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
    place.configure("repo2-path=@/closed");
    let alone = assert_same_report(&place.config, &[]);
    let alone_named = assert_same_report(&place.config, &["--stanza=demo"]);
    assert_eq!(
        (codes(&alone), codes(&alone_named)),
        (vec![("[invalid]".to_owned(), 99)], vec![("demo".to_owned(), 99)])
    );
    place.configure("repo1-path=@/one/repo\nrepo2-path=@/closed");
    for selection in
        [&[][..], &["--stanza=demo"], &["--stanza=demo", "--set=20200101-000000F"], &["--detail-level=progress"]]
    {
        assert_same_report(&place.config, selection);
    }
    // For whoever removes the folder.
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn an_empty_repository_prints_as_in_the_original() {
    let place = Place::new("repo1-path=@/nothing");
    assert_eq!(assert_same(&place.config, &["info"]), "No stanzas exist in the repository.\n");
    assert_eq!(assert_same(&place.config, &["info", "--output=json"]), "[]");
}

#[test]
fn options_that_exclude_each_other_are_refused_as_in_the_original() {
    let place = Place::new("repo1-path=@/nothing");
    for (arguments, code) in [
        (&["info", "--stanza=demo", "--set=20261122-061618F", "--detail-level=progress"][..], 31),
        (&["info", "--set=20261122-061618F"], 31),
        (&["info", "--type=other"], 32),
        (&["info", "--output=xml"], 32),
        (&["info", "extra"], 96),
    ] {
        for engine in [ours(), original()] {
            assert_eq!(
                run(&engine, &place.config, arguments).status.code(),
                Some(code),
                "{} {arguments:?}",
                engine.name()
            );
        }
    }
}

#[test]
fn running_commands_print_as_in_the_original() {
    let place = Place::new("repo1-path=@/one/repo\nrepo3-path=@/three/repo");
    for name in ["one", "three"] {
        place.unpack(UPGRADED, name);
    }
    let plain = r#"{"execId":"1-a","pid":1}"#;
    let progress = r#"{"execId":"1-a","pctCplt":1304,"pid":1,"sz":30007,"szCplt":3913}"#;
    let done = r#"{"execId":"1-a","pid":1,"sz":1000,"szCplt":1000}"#;
    let states: [&[(&str, &str)]; 6] = [
        &[("demo-backup-1", plain)],
        &[("demo-backup-3", progress)],
        &[("demo-backup-1", progress), ("demo-backup-3", done)],
        &[("demo-restore-1", progress), ("demo-restore-3", progress)],
        &[("demo-backup-1", plain), ("demo-restore-3", plain), ("demo-archive-1", plain)],
        &[("demo-backup-1", "damaged"), ("other-backup-1", plain)],
    ];
    for state in states {
        let held: Vec<File> = state.iter().map(|(name, content)| hold(&place, name, content)).collect();
        for output in ["--output=text", "--output=json"] {
            assert_same(&place.config, &["info", output]);
            assert_same(&place.config, &["info", output, "--repo=3"]);
            assert_same(&place.config, &["info", output, "--detail-level=progress"]);
        }
        drop(held);
    }
    let _held = hold(&place, "demo-backup-3", progress);
    let printed = text(&run(&ours(), &place.config, &["info", "--detail-level=progress"]));
    assert_eq!(printed, "stanza: demo\n    status: ok (backup/expire running - 13.04% complete)\n");
}

/// A lock file that another process would hold; this one holds it until the file is dropped.
fn hold(place: &Place, name: &str, content: &str) -> File {
    let path = place.path("lock").join(format!("{name}.lock"));
    user::write_file(&path, "").unwrap();
    let mut file = File::options().write(true).open(path).unwrap();
    file.lock().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

#[test]
fn times_are_local_with_the_offset_of_the_zone() {
    let folder = user::scratch().unwrap();
    let unpacked = Sample::named(UPGRADED).unwrap().unpack(folder.path()).unwrap();
    let config = unpacked.conf().path().to_owned();
    for (zone, time) in [
        ("Asia/Kolkata", "2026-11-22 11:46:15+05:30"),
        ("America/St_Johns", "2026-11-22 02:46:15-03:30"),
        ("Europe/Berlin", "2026-11-22 07:16:15+01"),
    ] {
        let found = text(&run_in(zone, &ours(), &config, &["info"]));
        assert!(found.contains(time), "{zone}: {found}");
        assert_eq!(found, text(&run_in(zone, &original(), &config, &["info"])), "{zone}");
    }
}

#[test]
fn hi19_annotations_cannot_steer_a_terminal() {
    let folder = user::scratch().unwrap();
    let unpacked = Sample::named(UPGRADED).unwrap().unpack(folder.path()).unwrap();
    let config = unpacked.conf().path().to_owned();
    let label = "20261122-061618F";
    let set = format!("--set={label}");
    let annotate = |value: &str| {
        let annotation = format!("--annotation=note={value}");
        let outcome = run(&original(), &config, &["annotate", "--stanza=demo", &set, &annotation]);
        assert_eq!(outcome.status.code(), Some(0), "{}", text(&outcome));
    };
    annotate("\"two\" \\ words é");
    for output in ["--output=text", "--output=json"] {
        let printed = assert_same(&config, &["info", output, "--stanza=demo", &set]);
        assert!(printed.contains("words é"), "{printed}");
    }
    annotate("red\u{1b}[31m\nstanza: forged");
    let printed = text(&run(&ours(), &config, &["info", "--stanza=demo", &set]));
    assert!(printed.contains("note: red\\u{1b}[31m\\nstanza: forged\n"), "{printed}");
    let json = report(&ours(), &config, &["--stanza=demo", &set]);
    assert_eq!(json[0]["backup"][0]["annotation"]["note"], "red\u{1b}[31m\nstanza: forged");
}

#[test]
fn in01_a_damaged_info_file_does_not_spoil_the_json() {
    let folder = user::scratch().unwrap();
    let unpacked = Sample::named(UPGRADED).unwrap().unpack(folder.path()).unwrap();
    let config = unpacked.conf().path().to_owned();
    let expected = report(&ours(), &config, &[]);
    user::write_file(&unpacked.repo().join("backup/demo/backup.info"), "damaged").unwrap();
    assert_eq!(report(&ours(), &config, &[]), expected);
    let printed = text(&run(&ours(), &config, &["info"]));
    assert!(printed.contains("WARN: repo1: backup.info cannot be used, its copy is"), "{printed}");
}

#[test]
fn paths_list_as_in_the_original() {
    for name in [TABLESPACE, ENCRYPTED] {
        let folder = user::scratch().unwrap();
        let unpacked = Sample::named(name).unwrap().unpack(folder.path()).unwrap();
        let config = unpacked.conf().path().to_owned();
        let base = unpacked.repo().display().to_string();
        let inside = format!("{base}/backup/demo/");
        let file = "backup/demo/backup.info";
        for path in [
            "",
            "archive",
            "backup/demo/",
            &base,
            &inside,
            "./archive",
            file,
            "nothing",
            "backup/demo/latest",
            "backup/demo/latest/pg_data",
        ] {
            for options in [
                &[][..],
                &["--output=json"],
                &["--recurse"],
                &["--recurse", "--sort=desc", "--output=json"],
                &["--recurse", "--filter=[0-9]{8}-[0-9]{6}F$", "--output=json"],
                &["--filter=^[ab]"],
                &["--filter=demo", "--output=json"],
            ] {
                let parameter = if path.is_empty() { &[][..] } else { &[path] };
                assert_same(&config, &[&["repo-ls"], options, parameter].concat());
            }
        }
    }
}

#[test]
fn hi04_paths_outside_of_the_repository_are_refused() {
    let folder = user::scratch().unwrap();
    let unpacked = Sample::named(TABLESPACE).unwrap().unpack(folder.path()).unwrap();
    let config = unpacked.conf().path().to_owned();
    for path in ["//", "backup//demo", "/etc/passwd", "..", "../pgbackrest.conf", "backup/../../pgbackrest.conf"] {
        for command in ["repo-ls", "repo-get"] {
            let output = run(&ours(), &config, &[command, path]);
            assert_eq!(output.status.code(), Some(96), "{command} {path}: {}", text(&output));
        }
    }
    for (arguments, code) in [
        (&["repo-ls", "a", "b"][..], 96),
        (&["repo-ls", "--filter=("], 29),
        (&["repo-get"], 43),
        (&["repo-get", "a", "b"], 43),
        (&["repo-get", "nothing"], 55),
        (&["repo-get", "--ignore-missing", "nothing"], 1),
        (&["repo-get", "backup"], 42),
    ] {
        for engine in [ours(), original()] {
            assert_eq!(run(&engine, &config, arguments).status.code(), Some(code), "{} {arguments:?}", engine.name());
        }
    }
}

/// The path of every file below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.file_type().unwrap().is_file() {
                found.push(entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn objects_of_every_class_are_delivered_as_by_the_original() {
    let folder = user::scratch().unwrap();
    let unpacked = Sample::named(ENCRYPTED).unwrap().unpack(folder.path()).unwrap();
    let (config, repo) = (unpacked.conf().path().to_owned(), unpacked.repo());
    // A bundle holds several encrypted files one after the other, which decrypt one by one only.
    let classes: Vec<String> = files(&repo).into_iter().filter(|file| !file.contains("/bundle/")).collect();
    assert!(classes.len() > 20, "{classes:?}");
    for file in &classes {
        assert_same(&config, &["repo-get", file]);
        let raw = run(&ours(), &config, &["repo-get", "--raw", file]);
        assert!(raw.stdout == fs::read(repo.join(file)).unwrap(), "{file}");
    }
    let absolute = repo.join("archive/demo/archive.info").display().to_string();
    assert!(assert_same(&config, &["repo-get", &absolute]).starts_with("[backrest]\n"));
    assert!(assert_same(&config, &["repo-get", "backup/demo/latest/backup.manifest"]).starts_with("[backrest]\n"));
    assert_same(&config, &["repo-get", "--stanza=demo", "backup/demo/backup.info"]);
    for (arguments, code) in [
        (&["repo-get", "--stanza=other", "backup/demo/backup.info"][..], 32),
        (&["repo-get", "other"], 32),
        (&["repo-get", "--ignore-missing", "archive/demo/nothing"], 1),
        (&["repo-get", "archive/demo/nothing"], 55),
        (&["repo-get", "backup/nothing/20261122-061817F/x"], 55),
    ] {
        for engine in [ours(), original()] {
            assert_eq!(run(&engine, &config, arguments).status.code(), Some(code), "{} {arguments:?}", engine.name());
        }
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let folder = user::scratch().unwrap();
    let unpacked = Sample::named(TABLESPACE).unwrap().unpack(folder.path()).unwrap();
    let config = format!("--config={}", unpacked.conf().path().display());
    let manifest = "backup/demo/latest/backup.manifest";
    for arguments in [&["repo-get", manifest][..], &["repo-ls", "--recurse"], &["info"]] {
        let mut command = user::command(ours().binary());
        let mut child =
            command.arg(&config).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}

/// Puts the files of a repository into the bucket, below `/repo`.
fn upload(repo: &Path, server: &S3Server) {
    let credentials = S3Credentials::Shared { key: server.key().into(), secret: server.secret().into(), token: None };
    let endpoint = S3Endpoint::parse(&server.url()).unwrap();
    let mut options = S3Options::new("bucket", endpoint, server.region(), credentials);
    options.uri_style = UriStyle::Path;
    options.path = "/repo".to_owned();
    options.ca_file = Some(server.ca_file());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let storage = S3Storage::open(&options, Arc::new(SystemClock)).unwrap();
        for file in files(repo) {
            let content = fs::read(repo.join(&file)).unwrap();
            storage.write_all(&StoragePath::parse(&file).unwrap(), content.into()).await.unwrap();
        }
    });
}

#[test]
fn a_bucket_reads_as_in_the_original() {
    let objects = tempfile::tempdir().unwrap();
    let server = S3Server::start_flat(objects.path()).unwrap();
    server.create_bucket("bucket").unwrap();
    let place = Place::new("");
    upload(&place.unpack(ENCRYPTED, "encrypted").repo(), &server);
    let ca_file = place.path("ca.pem");
    user::write_file(&ca_file, fs::read(server.ca_file()).unwrap()).unwrap();
    place.configure(&format!(
        "repo1-type=s3\nrepo1-path=/repo\nrepo1-s3-bucket=bucket\nrepo1-s3-endpoint=localhost\nrepo1-s3-region={}\n\
         repo1-s3-key={}\nrepo1-s3-key-secret={}\nrepo1-s3-uri-style=path\nrepo1-storage-port={}\n\
         repo1-storage-ca-file={}\nrepo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass={PASSPHRASE}",
        server.region(),
        server.key(),
        server.secret(),
        server.port(),
        ca_file.display()
    ));
    for arguments in [
        &["info"][..],
        &["info", "--output=json", "--stanza=demo", "--set=20261122-061817F"],
        &["info", "--stanza=other"],
        &["repo-ls"],
        &["repo-ls", "--output=json", "backup/demo"],
        &["repo-ls", "--recurse", "archive"],
        &["repo-ls", "/repo/backup/demo/backup.info"],
        &["repo-ls", "nothing"],
        &["repo-get", "backup/demo/backup.info"],
        &["repo-get", "--ignore-missing", "archive/demo/nothing"],
    ] {
        assert_same(&place.config, arguments);
    }
    place.configure(
        "repo1-type=s3\nrepo1-path=/repo\nrepo1-s3-bucket=bucket\nrepo1-s3-endpoint=localhost\n\
        repo1-s3-region=us-east-1\nrepo1-s3-key=CANARYKEY\nrepo1-s3-key-secret=CANARYSECRET\nrepo1-s3-uri-style=path\n\
        repo1-storage-ca-file=@/nothing.pem",
    );
    let report = report(&ours(), &place.config, &["--stanza=demo"]);
    assert_eq!(codes(&report), [("demo".to_owned(), 99)]);
}
