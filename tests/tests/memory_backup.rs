//! The memory of backup and restore is a number, whatever the cluster's files are: far larger than the budget, random,
//! sparse, or very many (the bars of peak memory and of address space).
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgbr_testkit::canary;
use pgbr_testkit::conf::Conf;
use pgbr_testkit::postgres::{Cluster, Options, Version};
use pgbr_testkit::process::{self, Peak};
use pgbr_testkit::s3::Bucket;
use pgbr_testkit::samples::sha256;
use pgbr_testkit::{pgbr, user};
use tempfile::TempDir;

/// The bar of resident memory at `process-max=2`.
const RESIDENT_MAX_KIB: u64 = 64 * 1024;

/// The bar of address space: the process gets no more.
const ADDRESS_MAX_KIB: u64 = 300 * 1024;

const LIMIT: Duration = Duration::from_secs(300);

/// A cluster at rest, and a repository for it.
struct Scene {
    dir: TempDir,
    conf: Conf,
    // Serves until the end.
    _bucket: Option<Bucket>,
}

impl Scene {
    fn new(s3: bool, options: &[(&str, &str)]) -> Self {
        let dir = user::scratch().unwrap();
        let mut conf = Conf::create(&dir.path().join("backrest"), "demo").unwrap();
        let bucket = s3.then(|| Bucket::start(dir.path()).unwrap());
        for (option, value) in bucket.iter().flat_map(|bucket| bucket.options(1)) {
            conf.global(&option, &value).unwrap();
        }
        for (option, value) in options {
            conf.global(option, value).unwrap();
        }
        conf.global("process-max", "2").unwrap();
        let data = dir.path().join("data");
        drop(Cluster::create(Version::V15, &data, Options { checksums: false, ..Options::default() }).unwrap());
        conf.local("pg1-path", &data.display().to_string()).unwrap();
        user::create_dir(&data.join("base/77777")).unwrap();
        pgbr::engine().ok(&conf, &["stanza-create", "--no-online"]).unwrap();
        Self { dir, conf, _bucket: bucket }
    }

    fn relation(&self, root: &str, number: u32) -> PathBuf {
        self.dir.path().join(root).join("base/77777").join(number.to_string())
    }

    /// Runs a command in the address space of the bar and checks what it held of it.
    fn bounded(&self, what: &str, arguments: &[&str]) -> Peak {
        let engine = pgbr::engine();
        let mut command = user::command("/bin/sh");
        command.args(["-c", &format!("ulimit -v {ADDRESS_MAX_KIB}; exec \"$0\" \"$@\"")]).arg(engine.binary());
        command.arg(self.conf.config_option()).arg(self.conf.stanza_option()).args(arguments);
        let (outcome, peak) = process::run_watched(&mut command, "pgbr", LIMIT).unwrap();
        outcome.success().unwrap();
        assert!(peak.resident_kib <= RESIDENT_MAX_KIB, "{what} {arguments:?}: {peak:?}");
        assert!(peak.address_kib <= ADDRESS_MAX_KIB, "{what} {arguments:?}: {peak:?}");
        peak
    }

    fn backs_up_and_restores(&self, what: &str) {
        let backup = self.bounded(what, &["backup", "--type=full", "--no-online"]);
        let target = self.dir.path().join("restored");
        user::create_dir(&target).unwrap();
        let pg_path = format!("--pg1-path={}", target.display());
        let restore = self.bounded(what, &["restore", &pg_path, "--type=none"]);
        let delta = self.bounded(what, &["restore", &pg_path, "--type=none", "--delta"]);
        println!("{what}: backup {backup:?}, restore {restore:?}, delta {delta:?}");
        for entry in fs::read_dir(self.dir.path().join("data/base/77777")).unwrap() {
            let path = entry.unwrap().path();
            let restored = target.join("base/77777").join(path.file_name().unwrap());
            assert_eq!(sha256(&path).unwrap(), sha256(&restored).unwrap(), "{what} {}", path.display());
        }
    }
}

/// A file that is a hole but for a few pages.
fn sparse(path: &Path, size_bytes: u64) {
    let file = fs::File::create(path).unwrap();
    file.set_len(size_bytes).unwrap();
    for at in (0..size_bytes).step_by(64 * 1024 * 1024) {
        file.write_all_at(&[7; 8192], at).unwrap();
    }
    user::own(path).unwrap();
}

fn random(path: &Path, size_bytes: u64) {
    let mut source = fs::File::open("/dev/urandom").unwrap().take(size_bytes);
    std::io::copy(&mut source, &mut fs::File::create(path).unwrap()).unwrap();
    user::own(path).unwrap();
}

const MIB: u64 = 1024 * 1024;

const CIPHER: [(&str, &str); 2] = [("repo1-cipher-type", "aes-256-cbc"), ("repo1-cipher-pass", canary::PASSPHRASE)];

/// Two workers with a file each that is larger than the budget many times over; `PGBR_MEMORY=large` makes them larger.
fn large_files(scene: &Scene) {
    let times = if std::env::var("PGBR_MEMORY").as_deref() == Ok("large") { 4 } else { 1 };
    for number in [1, 2] {
        sparse(&scene.relation("data", number), times * 300 * MIB);
    }
    for number in [3, 4] {
        random(&scene.relation("data", number), times * 60 * MIB);
    }
}

#[test]
fn re01_large_files_on_s3_stay_within_the_bound() {
    let scene = Scene::new(true, &[("compress-type", "zst"), ("repo1-bundle", "y"), CIPHER[0], CIPHER[1]]);
    large_files(&scene);
    scene.backs_up_and_restores("zst, cipher, bundle, S3");
}

#[test]
fn re01_large_files_in_a_directory_stay_within_the_bound() {
    let scene = Scene::new(false, &[("compress-type", "lz4")]);
    large_files(&scene);
    scene.backs_up_and_restores("lz4, directory");
}

/// Files just below the limit of bundles, in bundles larger than the budget, by the hungriest encoders.
#[test]
fn re01_large_bundles_stay_within_the_bound() {
    for (s3, options) in [
        (true, [("compress-type", "gz"), CIPHER[0], CIPHER[1]]),
        (false, [("compress-type", "bz2"), CIPHER[0], CIPHER[1]]),
        (true, [("compress-type", "none"), CIPHER[0], CIPHER[1]]),
    ] {
        let sizes = [("repo1-bundle", "y"), ("repo1-bundle-size", "64MiB"), ("repo1-bundle-limit", "8MiB")];
        let scene = Scene::new(s3, &[&options[..], &sizes].concat());
        for number in 1..12 {
            random(&scene.relation("data", number), 6 * MIB);
        }
        scene.backs_up_and_restores(&format!("{options:?}, large bundles"));
    }
}

/// Many more files than a small cluster has: only their rows in the manifest may grow.
#[test]
fn re01_many_small_files_stay_within_the_bound() {
    let scene = Scene::new(true, &[("compress-type", "zst"), ("repo1-bundle", "y"), CIPHER[0], CIPHER[1]]);
    for number in 1..10_000 {
        fs::write(scene.relation("data", number), number.to_string().repeat(100)).unwrap();
    }
    user::own(&scene.dir.path().join("data/base/77777")).unwrap();
    scene.backs_up_and_restores("10,000 files");
}
