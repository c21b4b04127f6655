//! I-KILL: the real program, killed at many moments, on a directory and on S3. What is listed is whole at each of them,
//! and the original goes on with what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use pgbr_repo::clock::{Clock, SystemClock};
use pgbr_repo::format::BackupInfo;
use pgbr_testkit::conf::Conf;
use pgbr_testkit::s3::S3Server;
use pgbr_testkit::{pgbr, stock, user};

use crate::stage::{assert_whole, sets_at};
use pgbr_testkit::world::{World, tree};

/// Moments at which the program is killed, over the time that it needs.
const KILLS: u32 = 12;

/// A repository somewhere, seen as a directory.
struct Place {
    conf: Conf,
    directory: PathBuf,
    is_bucket: bool,
}

impl Place {
    fn local(folder: &Path) -> Self {
        let conf = Conf::create(folder, "demo").unwrap();
        Self { conf: ruled(conf), directory: folder.join("repo"), is_bucket: false }
    }

    fn s3(folder: &Path, name: &str, server: &S3Server, bucket: &Path) -> Self {
        let mut conf = Conf::create(folder, "demo").unwrap();
        for (option, value) in [
            ("repo1-type", "s3"),
            ("repo1-path", &format!("/{name}")),
            ("repo1-s3-bucket", "bucket"),
            ("repo1-s3-endpoint", "localhost"),
            ("repo1-s3-uri-style", "path"),
            ("repo1-s3-region", server.region()),
            ("repo1-s3-key", server.key()),
            ("repo1-s3-key-secret", server.secret()),
            ("repo1-storage-port", &server.port().to_string()),
            ("repo1-storage-verify-tls", "n"),
        ] {
            conf.global(option, value).unwrap();
        }
        Self { conf: ruled(conf), directory: bucket.join(name), is_bucket: true }
    }

    fn fill(&self, world: &World) {
        match self.is_bucket {
            true => world.write_objects(&self.directory),
            false => world.write(&self.directory),
        }
    }

    /// Runs to its end, or is killed after a while; how long it took.
    fn run(&self, killed_after: Option<Duration>) -> Duration {
        let mut command = pgbr::engine().command(&self.conf, &["expire"]);
        let started = Instant::now();
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        if let Some(wait) = killed_after {
            std::thread::sleep(wait);
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        assert!(killed_after.is_some() || status.success(), "{status}");
        started.elapsed()
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let files = tree(&self.directory);
        // What an object store has no directories for, and what a killed write leaves until it is a day old.
        files.into_iter().filter(|(name, _)| !name.ends_with('/') && !name.ends_with(".pgbackrest.tmp")).collect()
    }
}

fn ruled(mut conf: Conf) -> Conf {
    conf.global("repo1-retention-full", "1").unwrap();
    conf.global("repo1-retention-history", "10").unwrap();
    conf
}

fn listed(files: &BTreeMap<String, Vec<u8>>) -> BackupInfo {
    BackupInfo::parse(&files["backup/demo/backup.info"]).unwrap()
}

fn names(files: &BTreeMap<String, Vec<u8>>) -> BTreeSet<&String> {
    files.keys().filter(|name| *name != "backup/demo/latest").collect()
}

/// Kills at moments spread over a whole run; each time the next run, by the original, ends where an undisturbed one does.
fn kill_at_many_moments(world: &World, place: impl Fn(&str) -> Place) {
    let finished = place("finished");
    finished.fill(world);
    let whole_run = finished.run(None);
    let end = finished.files();
    for kill in 0..KILLS {
        let killed = place(&format!("killed-{kill}"));
        killed.fill(world);
        killed.run(Some(whole_run * kill / (KILLS - 1)));
        let left = killed.files();
        assert_whole(&listed(&left), &left.keys().cloned().collect(), world);
        stock::newest().engine.ok(&killed.conf, &["expire"]).unwrap();
        assert_eq!(names(&killed.files()), names(&end), "killed at {kill} of {KILLS}");
        assert_eq!(listed(&killed.files()).backups(), listed(&end).backups());
    }
}

#[test]
fn ex02_ex03_the_original_goes_on_after_a_kill_on_a_directory() {
    let folder = user::scratch().unwrap();
    let world = sets_at(SystemClock.now_s()).world;
    kill_at_many_moments(&world, |name| Place::local(&folder.path().join(name)));
}

#[test]
fn ex02_ex03_the_original_goes_on_after_a_kill_on_s3() {
    let folder = user::scratch().unwrap();
    let server = S3Server::start(&folder.path().join("s3")).unwrap();
    let bucket = server.create_bucket("bucket").unwrap();
    server.delay(Duration::from_millis(3));
    let world = sets_at(SystemClock.now_s()).world;
    kill_at_many_moments(&world, |name| Place::s3(&folder.path().join(name), name, &server, &bucket));
}
