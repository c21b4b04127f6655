//! The primary and a standby that is read instead of it, as the original does.

use pgbr_testkit::postgres::Version;
use pgbr_testkit::{pgbr, stock};

use crate::scene::{Scene, manifest, rows, verifies};

fn files_come_from_the_standby(version: Version, value: &str, standby_first: bool, options: &[(&str, &str)]) {
    let (ours, stock) = (pgbr::engine(), stock::newest());
    let scene = Scene::new(version, 0, options);
    let (first, second) =
        if standby_first { (&scene.standby, &scene.primary) } else { (&scene.primary, &scene.standby) };
    // Not the file that archiving reads.
    let mut both = scene.standby_conf.clone();
    both.cluster_at(1, first).unwrap().cluster_at(2, second).unwrap();
    let standby = format!("--backup-standby={value}");
    let backed = scene.under_load(4, || {
        ours.ok(&both, &["backup", "--type=full", &standby, "--log-level-console=detail"]).unwrap().stdout
    });
    assert!(backed.contains("INFO: wait for replay on the standby to reach "), "{backed}");
    assert!(backed.contains("INFO: replay on the standby reached "), "{backed}");
    let files: Vec<&str> =
        backed.lines().filter_map(|line| line.split_once("DETAIL: backup file ").map(|(_, rest)| rest)).collect();
    let (primary, standby) = (scene.primary.data().display(), scene.standby.data().display());
    assert!(files.len() > 500, "{backed}");
    for file in files {
        let replayed = ["base/", "global/", "pg_xact/", "pg_multixact/", "pg_tblspc/"];
        let from_standby = file.starts_with(&format!("{standby}/"));
        let below = file.strip_prefix(&format!("{standby}/")).or_else(|| file.strip_prefix(&format!("{primary}/")));
        let below = below.unwrap_or_else(|| panic!("{file}"));
        let expected =
            replayed.iter().any(|folder| below.starts_with(folder)) && !below.starts_with("global/pg_control");
        assert_eq!(from_standby, expected, "{file}");
    }
    scene.archive_all();
    let expected = rows(&scene.primary);
    verifies(stock, &scene.primary_conf);
    assert!(manifest(&scene.path("primary-host/repo")).contains("option-backup-standby=true"));
    for engine in [&ours, &stock.engine] {
        assert_eq!(scene.restored(engine, &[]), expected, "{} restored other rows", engine.name());
        scene.restored(engine, &["--type=immediate", "--target-action=promote"]);
    }
    // The original says the same of the same pair of servers.
    stock.engine.ok(&both, &["backup", "--type=full", "--backup-standby=y"]).unwrap();
}

#[test]
fn bk05_files_of_14_come_from_the_standby() {
    files_come_from_the_standby(Version::V14, "y", true, &[("compress-type", "zst")]);
}

#[test]
fn bk05_files_of_18_come_from_the_standby() {
    let bundled = [("compress-type", "lz4"), ("repo1-bundle", "y"), ("repo1-bundle-size", "1MiB")];
    files_come_from_the_standby(Version::V18, "prefer", false, &bundled);
}
