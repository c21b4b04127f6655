//! On whole repositories `verify` says what the original says.

use std::fs;
use std::os::unix::fs::FileExt;

use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::postgres::{Cluster, Options, Version};
use pgbr_testkit::samples::{Sample, Unpacked};
use pgbr_testkit::{pgbr, stock, user};

/// What a run prints; the line that begins a run names its number and its options.
fn printed(engine: &Engine, sample: &Unpacked, arguments: &[&str]) -> Vec<String> {
    let mut all = vec!["verify", "--log-level-file=off", "--no-log-timestamp"];
    all.extend(arguments);
    let outcome = engine.run(&sample.conf(), &all).unwrap().success().unwrap();
    outcome.text().lines().filter(|line| !line.contains("command begin")).map(str::to_owned).collect()
}

#[test]
fn text_and_log_of_whole_repositories_are_those_of_the_original() {
    for sample in Sample::ALL {
        let dir = user::scratch().unwrap();
        let unpacked = sample.unpack(&dir.path().join("sample")).unwrap();
        let label = unpacked.labels().unwrap().pop().unwrap();
        let set = format!("--set={label}");
        for arguments in [
            &["--verbose", "--output=text", "--log-level-console=detail"][..],
            &["--output=text"],
            &["--verbose", "--output=text", &set],
        ] {
            let theirs = printed(&stock::newest().engine, &unpacked, arguments);
            let ours = printed(&pgbr::engine(), &unpacked, arguments);
            assert_eq!(ours, theirs, "{} {arguments:?}", sample.name());
        }
    }
}

#[test]
fn sets_that_are_not_there_are_told_as_the_original_does() {
    let dir = user::scratch().unwrap();
    let unpacked = Sample::named("2.60-pg13-lz4-bundle-block").unwrap().unpack(&dir.path().join("sample")).unwrap();
    for set in ["--set=latest", "--set=20200101-000000F"] {
        let arguments = [set, "--output=text", "--log-level-console=info"];
        let theirs = printed(&stock::newest().engine, &unpacked, &arguments);
        assert_eq!(printed(&pgbr::engine(), &unpacked, &arguments), theirs, "{set}");
    }
}

/// A backup is what the cluster was, damaged pages included: nothing of it is wrong, and a restore wants to be told.
#[test]
fn page_errors_that_a_restore_refuses_have_a_line() {
    let dir = user::scratch().unwrap();
    let data = dir.path().join("data");
    drop(Cluster::create(Version::V15, &data, Options::default()).unwrap());
    let mut files: Vec<_> = fs::read_dir(data.join("base/1")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().bytes().all(|byte| byte.is_ascii_digit()));
    let largest = files.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    fs::OpenOptions::new().write(true).open(largest).unwrap().write_all_at(&[0xAB; 64], 8192 + 4000).unwrap();

    let mut conf = Conf::create(&dir.path().join("backrest"), "demo").unwrap();
    conf.local("pg1-path", &data.display().to_string()).unwrap();
    let (ours, theirs) = (pgbr::engine(), stock::newest().engine.clone());
    ours.ok(&conf, &["--no-online", "stanza-create"]).unwrap();
    ours.ok(&conf, &["--no-online", "--checksum-page", "--type=full", "backup"]).unwrap();
    let line = "page checksums were invalid when it was made: 1 file(s), restored only with --no-checksum-page-error";
    for arguments in [&["--output=text", "verify"][..], &["--output=text", "--verbose", "verify"]] {
        let said = ours.ok(&conf, &[&["--log-level-console=off"], arguments].concat()).unwrap().stdout;
        assert!(said.contains("status: ok") && said.matches(line).count() == 1, "{said}");
    }
    let json = ours.ok(&conf, &["--output=json", "verify"]).unwrap().stdout;
    assert!(json.contains("\"page-error\":1,") && json.contains("\"status\":\"ok\""), "{json}");
    let verbose = ["--output=text", "--verbose", "verify"];
    assert!(theirs.ok(&conf, &verbose).unwrap().stdout.contains("status: valid"));

    let target = dir.path().join("restored");
    user::create_dir(&target).unwrap();
    let path = format!("--pg1-path={}", target.display());
    assert_eq!(ours.run(&conf, &[&path, "restore"]).unwrap().exit_code, Some(26));
    ours.ok(&conf, &[&path, "--no-checksum-page-error", "restore"]).unwrap();
    assert!(fs::read(target.join(largest.strip_prefix(&data).unwrap())).unwrap() == fs::read(largest).unwrap());
}
