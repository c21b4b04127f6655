//! On whole repositories `verify` says what the original says.

use pgbr_testkit::engine::Engine;
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
