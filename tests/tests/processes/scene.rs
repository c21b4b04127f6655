//! A cluster at rest, a repository in a directory, and `pgbr` over both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pgbr_repo::postgres::{Lsn, WalSegmentName, WalSegmentSize};
use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::process::{self, Outcome};
use pgbr_testkit::{pgbr, stock, user};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) const WAIT: Duration = Duration::from_secs(120);

pub(crate) fn ours() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(pgbr::engine)
}

pub(crate) fn sample(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../formats/samples/postgres").join(name)).unwrap()
}

/// Bytes that do not compress, another run of them for each seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

pub(crate) struct Scene {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) conf: Conf,
    pub(crate) data: PathBuf,
}

impl Scene {
    /// A cluster of `files` files of `size_bytes` each, and a stanza for it.
    pub(crate) fn new(files: u64, size_bytes: usize) -> Self {
        let dir = user::scratch().unwrap();
        let data = dir.path().join("data");
        for name in ["base/1", "global", "pg_wal/archive_status", "pg_tblspc"] {
            fs::create_dir_all(data.join(name)).unwrap();
        }
        fs::write(data.join("global/pg_control"), sample("pg15-1mib.pg_control")).unwrap();
        for name in ["PG_VERSION", "base/1/PG_VERSION"] {
            fs::write(data.join(name), "15\n").unwrap();
        }
        for number in 0..files {
            fs::write(data.join(format!("base/1/{}", 100 + number)), noise(number, size_bytes)).unwrap();
        }
        let mut conf = Conf::create(&dir.path().join("backrest"), "demo").unwrap();
        conf.local("pg1-path", &data.display().to_string()).unwrap();
        conf.global("compress-type", "none").unwrap();
        user::own(dir.path()).unwrap();
        ours().ok(&conf, &["stanza-create", "--no-online"]).unwrap();
        Self { dir, conf, data }
    }

    /// Another host over the same repository and cluster: locks of its own.
    pub(crate) fn other_host(&self) -> Conf {
        let mut conf = Conf::create(&self.dir.path().join("elsewhere"), "demo").unwrap();
        conf.global("repo1-path", &self.repo().display().to_string()).unwrap();
        conf.global("compress-type", "none").unwrap();
        conf.local("pg1-path", &self.data.display().to_string()).unwrap();
        conf
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.dir.path().join("backrest/repo")
    }

    pub(crate) fn backup(&self) -> Command {
        ours().command(&self.conf, &["--no-online", "--type=full", "backup"])
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        ours().run(&self.conf, arguments).unwrap()
    }

    /// Writes a segment of this cluster into its WAL directory.
    pub(crate) fn segment(&self, folder: &str, number: u64, seed: u64) -> PathBuf {
        let size = WalSegmentSize::MIN;
        let lsn = Lsn(number << 20);
        let name = lsn.segment(pgbr_repo::postgres::Timeline::FIRST, size);
        let mut bytes = noise(seed, 1 << 20);
        bytes[..40].copy_from_slice(&sample("pg15-1mib-00000001000000000000000A.wal")[..40]);
        bytes[8..16].copy_from_slice(&lsn.0.to_le_bytes());
        let path = self.data.join(folder).join(name.to_string());
        user::write_file(&path, bytes).unwrap();
        path
    }

    /// The labels that info lists.
    pub(crate) fn listed(&self) -> Vec<String> {
        let text = self.run(&["info", "--output=json"]).success().unwrap().stdout;
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let backups = json[0]["backup"].as_array().unwrap();
        backups.iter().map(|backup| backup["label"].as_str().unwrap().to_owned()).collect()
    }

    /// The directories of backups, complete or not.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.repo().join("backup/demo")) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.is_dir() && !path.is_symlink() && path.file_name().unwrap() != "backup.history")
            .collect()
    }

    /// A backup that has begun to copy.
    pub(crate) fn begun(&self, mut command: Command) -> Child {
        let before = self.directories();
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("a backup begins to copy", || {
            let mut new = self.directories().into_iter().filter(|path| !before.contains(path));
            new.any(|path| path.join("pg_data").try_exists().unwrap())
        });
        child
    }

    /// The original finds nothing wrong.
    pub(crate) fn verifies(&self) {
        let stock = &stock::newest().engine;
        let text = stock.ok(&self.conf, &["verify", "--log-level-console=detail"]).unwrap().text();
        for word in ["ERROR", "invalid checksum", "missing file", "status: error"] {
            assert!(!text.contains(word), "{text}");
        }
        stock.ok(&self.conf, &["info"]).unwrap();
    }
}

pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < WAIT, "{what} has not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// The exit code of a process that ends by itself.
pub(crate) fn code(mut child: Child) -> i32 {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or_else(|| panic!("{status}"));
        }
        if begin.elapsed() > WAIT {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
pub(crate) fn assert_code(outcome: &Outcome, expected: i32) {
    assert_eq!(outcome.exit_code, Some(expected), "{}\n{}", outcome.command, outcome.text());
}

/// The same command below a shell that limits it first.
pub(crate) fn limited(limit: &str, command: &Command) -> Outcome {
    let mut shell = user::command("bash");
    shell.args(["-c", &format!("{limit} && exec \"$@\""), "bash"]).arg(command.get_program()).args(command.get_args());
    process::run(&mut shell, WAIT).unwrap()
}

/// The name of a segment file.
pub(crate) fn segment_name(path: &Path) -> String {
    WalSegmentName::parse(path.file_name().unwrap().to_str().unwrap()).unwrap().to_string()
}
