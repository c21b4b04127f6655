//! A standby on its own: the primary is not asked and not read.

use std::time::Duration;

use pgbr_repo::postgres::ControlFile;
use pgbr_testkit::canary;
use pgbr_testkit::postgres::{Cluster, Version};
use pgbr_testkit::watch::Watch;
use pgbr_testkit::{pgbr, stock};

use crate::scene::{Scene, manifest, rows, verifies};

/// Nobody can reach the primary while this lives: its socket is somewhere else, and who opens a file of a database that
/// no client uses is seen. Sessions that are open go on.
struct OutOfReach {
    socket_dir: std::path::PathBuf,
    away: std::path::PathBuf,
    watches: Vec<Watch>,
}

impl OutOfReach {
    fn of(primary: &Cluster) -> Self {
        let socket_dir = primary.socket_dir().to_owned();
        let away = socket_dir.with_extension("away");
        std::fs::rename(&socket_dir, &away).unwrap();
        let template0 = std::fs::read_dir(primary.data().join("base")).unwrap().map(|entry| entry.unwrap().path());
        // template0 has the second number, whatever the version.
        let number = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().parse::<u32>().ok();
        let mut databases: Vec<_> = template0.filter(|path| number(path).is_some()).collect();
        databases.sort_by_key(number);
        let folders = [databases[1].clone(), primary.data().join("pg_logical"), primary.data().to_owned()];
        let watches = folders.iter().map(|folder| Watch::on(folder).unwrap()).collect();
        Self { socket_dir, away, watches }
    }

    /// What was opened since, but for the files that the running server itself looks at.
    fn opened(&self) -> Vec<String> {
        let own = ["", "postmaster.pid", "base", "global", "pg_wal", "pg_stat_tmp", "pg_tblspc", "pg_xact"];
        let names = self.watches.iter().flat_map(|watch| watch.opened().unwrap());
        names.filter(|name| !own.contains(&name.as_str())).collect()
    }
}

impl Drop for OutOfReach {
    fn drop(&mut self) {
        std::fs::rename(&self.away, &self.socket_dir).unwrap();
    }
}

fn a_standby_is_backed_up_on_its_own(version: Version, options: &[(&str, &str)]) {
    let (ours, stock) = (pgbr::engine(), stock::newest());
    let scene = Scene::new(version, 1, options);
    let sessions_before = scene.primary.log_end().matches("application_name=pgBackRest").count();
    scene.under_load(6, || {
        let away = OutOfReach::of(&scene.primary);
        let backed = ours.ok(&scene.standby_conf, &["backup", "--type=full", "--backup-standby=y"]).unwrap();
        assert!(backed.stdout.contains("backup of the standby begins after the requested immediate restartpoint"));
        assert_eq!(away.opened(), [] as [String; 0], "somebody read the primary's data directory");
    });
    let sessions = scene.primary.log_end().matches("application_name=pgBackRest").count();
    assert_eq!(sessions, sessions_before, "{}", scene.primary.log_end());
    scene.archive_all();
    let expected = rows(&scene.primary);

    verifies(stock, &scene.primary_conf);
    let newest = scene.newest(&stock.engine);
    assert_eq!((&newest["type"], &newest["error"]), (&"full".into(), &false.into()));
    if !options.iter().any(|(name, _)| *name == "repo1-cipher-type") {
        assert!(manifest(&scene.path("primary-host/repo")).contains("option-backup-standby=true"));
    }
    for engine in [&ours, &stock.engine] {
        assert_eq!(scene.restored(engine, &[]), expected, "{} restored other rows", engine.name());
        // With no more WAL than the backup says it needs.
        scene.restored(engine, &["--type=immediate", "--target-action=promote"]);
    }
    // The original goes on from the primary.
    stock.engine.ok(&scene.primary_conf, &["backup", "--type=incr"]).unwrap();
    let prior = newest["label"].as_str().unwrap();
    assert_eq!(scene.newest(&stock.engine)["prior"].as_str(), Some(prior));
    verifies(stock, &scene.primary_conf);
    assert_eq!(scene.restored(&stock.engine, &[]), expected);
    minimum_recovery_is_what_the_server_says(&scene.standby);
}

fn minimum_recovery_is_what_the_server_says(standby: &Cluster) {
    let told = || {
        let row = standby.sql("SELECT min_recovery_end_lsn, min_recovery_end_timeline FROM pg_control_recovery()");
        row.unwrap().remove(0)
    };
    loop {
        let before = told();
        let bytes = std::fs::read(standby.data().join("global/pg_control")).unwrap();
        if before != told() {
            continue;
        }
        let control = ControlFile::parse(&bytes).unwrap();
        assert!(control.is_in_archive_recovery());
        let found = control.minimum_recovery();
        assert_eq!([found.lsn.to_string(), found.timeline.unwrap().to_string()].as_slice(), before);
        return;
    }
}

#[test]
fn a_standby_of_13_alone() {
    a_standby_is_backed_up_on_its_own(Version::V13, &[("compress-type", "lz4")]);
}

#[test]
fn a_standby_of_15_alone() {
    a_standby_is_backed_up_on_its_own(
        Version::V15,
        &[
            ("compress-type", "zst"),
            ("repo1-bundle", "y"),
            ("repo1-cipher-type", "aes-256-cbc"),
            ("repo1-cipher-pass", canary::PASSPHRASE),
        ],
    );
}

#[test]
fn a_standby_of_17_alone() {
    a_standby_is_backed_up_on_its_own(Version::V17, &[("compress-type", "zst"), ("repo1-bundle", "y")]);
}

#[test]
fn a_standby_of_18_alone() {
    a_standby_is_backed_up_on_its_own(Version::V18, &[("compress-type", "none")]);
}

/// A cluster that was promoted before: its second timeline is backed up from a standby and recovered.
#[test]
fn a_standby_on_a_later_timeline() {
    let (ours, stock) = (pgbr::engine(), stock::newest());
    let mut scene = Scene::new(Version::V17, 1, &[("compress-type", "lz4"), ("repo1-bundle", "y")]);
    let limit = Duration::from_secs(30);
    scene.archive_all();
    scene.primary.stop(pgbr_testkit::postgres::Shutdown::Fast).unwrap();
    scene.standby.sql("SELECT pg_promote()").unwrap();
    scene.standby.wait_until_promoted(limit).unwrap();
    scene.primary_conf.cluster(&scene.standby).unwrap();
    std::mem::swap(&mut scene.primary, &mut scene.standby);
    scene.primary.archive_current_segment(limit).unwrap();
    scene.standby = scene.primary.replica(&scene.path("third"), Default::default()).unwrap();
    scene.standby_conf.cluster(&scene.standby).unwrap();
    scene.under_load(4, || {
        ours.ok(&scene.standby_conf, &["backup", "--type=full", "--backup-standby=prefer"]).unwrap();
    });
    scene.archive_all();
    let expected = rows(&scene.primary);
    verifies(stock, &scene.primary_conf);
    assert!(scene.newest(&stock.engine)["archive"]["start"].as_str().unwrap().starts_with("00000002"));
    for engine in [&ours, &stock.engine] {
        assert_eq!(scene.restored(engine, &[]), expected, "{} restored other rows", engine.name());
    }
}
