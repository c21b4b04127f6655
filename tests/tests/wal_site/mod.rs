//! A cluster's WAL and a stanza for it, for the suites about archiving.

#![allow(dead_code, reason = "each suite uses a part")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::postgres::{Cluster, Options, Shutdown, Version};
use pgbr_testkit::process::Outcome;
use pgbr_testkit::s3::S3Server;
use pgbr_testkit::{pgbr, user};

/// The exit code of `archive-get` for "no repository has it".
pub(crate) const MISSING: i32 = 1;

pub(crate) fn ours() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(pgbr::engine)
}

/// A cluster that is down, with a few segments in its WAL directory, and a stanza for it.
pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) conf: Conf,
    pub(crate) data: PathBuf,
    pub(crate) segments: Vec<String>,
}

impl Site {
    pub(crate) fn new(segment_size_mib: u32) -> Self {
        let folder = user::scratch().unwrap();
        let data = folder.path().join("data");
        let options = Options { wal_segment_size_mib: segment_size_mib, ..Options::default() };
        let mut cluster = Cluster::started(Version::V15, &data, options).unwrap();
        let mut segments = Vec::new();
        for _ in 0..3 {
            cluster.sql("CREATE TABLE IF NOT EXISTS t AS SELECT 1 AS a; INSERT INTO t SELECT 2").unwrap();
            segments.push(cluster.value("SELECT pg_walfile_name(pg_switch_wal())").unwrap());
        }
        let mut conf = Conf::create(&folder.path().join("backrest"), "demo").unwrap();
        conf.local("pg1-path", &data.display().to_string()).unwrap();
        cluster.stop(Shutdown::Fast).unwrap();
        Self { folder, conf, data, segments }
    }

    pub(crate) fn with_stanza(segment_size_mib: u32) -> Self {
        let site = Self::new(segment_size_mib);
        ours().ok(&site.conf, &["stanza-create", "--no-online"]).unwrap();
        site
    }

    pub(crate) fn wal(&self, name: &str) -> PathBuf {
        self.data.join("pg_wal").join(name)
    }

    pub(crate) fn first(&self) -> &str {
        &self.segments[0]
    }

    pub(crate) fn push(&self, engine: &Engine, name: &str, more: &[&str]) -> Outcome {
        let path = self.wal(name).display().to_string();
        engine.run(&self.conf, &[more, &["archive-push", &path]].concat()).unwrap()
    }

    /// Fetches to a file beside the cluster.
    pub(crate) fn get(&self, engine: &Engine, name: &str, more: &[&str]) -> (Outcome, Option<Vec<u8>>) {
        let destination = self.folder.path().join("RECOVERYXLOG");
        drop(fs::remove_file(&destination));
        let text = destination.display().to_string();
        let arguments = [more, &["archive-get", name, &text]].concat();
        let outcome = engine.run(&self.conf, &arguments).unwrap();
        (outcome, fs::read(&destination).ok())
    }

    /// The objects of the archive, by file name, without the info files.
    pub(crate) fn objects(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        files_below(&self.folder.path().join("backrest/repo/archive/demo"), &mut found);
        found.retain(|path| !path.file_name().unwrap().to_string_lossy().starts_with("archive.info"));
        found.sort();
        found
    }
}

pub(crate) fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[track_caller]
pub(crate) fn assert_code(outcome: &Outcome, expected: i32) {
    assert_eq!(outcome.exit_code, Some(expected), "{}\n{}", outcome.command, outcome.text());
}

/// A segment of any size whose bytes do not compress, with the header of this cluster.
pub(crate) fn random_segment(path: &Path, header_of: &Path, size_bytes: usize) {
    let mut header = fs::read(header_of).unwrap();
    header.truncate(64);
    header[32..36].copy_from_slice(&u32::try_from(size_bytes).unwrap().to_le_bytes());
    user::write_file(path, &header).unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    let mut random = std::io::Read::take(fs::File::open("/dev/urandom").unwrap(), (size_bytes - header.len()) as u64);
    std::io::copy(&mut random, &mut file).unwrap();
    file.flush().unwrap();
}

/// The stanza of a site in a store.
pub(crate) fn into_s3(site: &mut Site, server: &S3Server) {
    let ca_file = site.folder.path().join("ca.pem");
    user::write_file(&ca_file, fs::read(server.ca_file()).unwrap()).unwrap();
    for (option, value) in [
        ("repo1-type", "s3".to_owned()),
        ("repo1-path", "/r".to_owned()),
        ("repo1-s3-bucket", "bucket".to_owned()),
        ("repo1-s3-endpoint", "localhost".to_owned()),
        ("repo1-storage-port", server.port().to_string()),
        ("repo1-s3-region", server.region().to_owned()),
        ("repo1-s3-key", server.key().to_owned()),
        ("repo1-s3-key-secret", server.secret().to_owned()),
        ("repo1-s3-uri-style", "path".to_owned()),
        ("repo1-storage-ca-file", ca_file.display().to_string()),
        ("io-timeout", "1".to_owned()),
    ] {
        site.conf.global(option, &value).unwrap();
    }
    ours().ok(&site.conf, &["stanza-create", "--no-online"]).unwrap();
}
