//! A small data directory and a server for it that does what a test wants at the moments that matter.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use pgbr_repo::clock::{Clock, SystemClock};
use pgbr_repo::db::{
    BackupStart, BackupStop, ControlCheckpoint, Database, DatabaseEntry, DbError, DbErrorKind, DbFuture, ServerIdentity,
};
use pgbr_repo::postgres::{ControlFile, Lsn, PgVersion, Timeline, WalSegmentName};

/// Real files of PostgreSQL 15.
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

/// A data directory at rest.
pub(crate) struct DataDirectory {
    _dir: tempfile::TempDir,
    pub(crate) path: PathBuf,
    pub(crate) control: ControlFile,
}

impl DataDirectory {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        for name in ["base/1", "global", "pg_wal/archive_status", "pg_tblspc", "pg_stat_tmp"] {
            fs::create_dir_all(path.join(name)).unwrap();
        }
        let bytes = sample("pg15-16mib.pg_control");
        let this = Self { _dir: dir, path, control: ControlFile::parse(&bytes).unwrap() };
        this.write("global/pg_control", &bytes);
        this.write("PG_VERSION", b"15\n");
        this.write("base/1/PG_VERSION", b"15\n");
        this.write("postgresql.conf", b"# nothing\n");
        for (number, length) in [(100, 8192), (101, 3 * 8192), (102, 100 * 8192), (103, 0), (104, 2 * 8192)] {
            this.write(&format!("base/1/{number}"), &noise(number, length));
        }
        this
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file that was last changed this many seconds ago.
    pub(crate) fn write_aged(&self, name: &str, bytes: &[u8], age_s: i64) {
        self.write(name, bytes);
        let time_s = u64::try_from(SystemClock.now_s() - age_s).unwrap();
        let file = fs::File::options().write(true).open(self.file(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(time_s)).unwrap();
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.file(name), bytes).unwrap();
    }

    /// All files, by name in a manifest.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut left = vec![self.path.clone()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    left.push(path);
                } else {
                    let below = path.strip_prefix(&self.path).unwrap().to_str().unwrap();
                    files.insert(format!("pg_data/{below}"), fs::read(&path).unwrap());
                }
            }
        }
        files
    }
}

/// When a test may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The files are listed, none is copied.
    Scanned,
    /// All files are copied.
    Copied,
}

/// The time of a new server: some seconds after that of every other, so that backups need not wait for a free name.
fn later_s() -> i64 {
    static LAST_S: AtomicI64 = AtomicI64::new(0);
    let now_s = SystemClock.now_s();
    let last_s = LAST_S.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last_s| Some(now_s.max(last_s + 5)));
    now_s.max(last_s.unwrap() + 5)
}

type Hook<'a> = Box<dyn Fn(Moment) + Send + Sync + 'a>;

/// The server of a data directory.
pub(crate) struct Server<'a> {
    identity: ServerIdentity,
    pub(crate) start_lsn: Lsn,
    pub(crate) stop_lsn: Lsn,
    pub(crate) start_timeline: Timeline,
    pub(crate) stop_timeline: Timeline,
    control: &'a ControlFile,
    clock_ms: AtomicI64,
    pub(crate) clock_step_ms: i64,
    time_calls: AtomicI64,
    hook: Option<Hook<'a>>,
    ping: Mutex<Option<DbError>>,
    stop: Mutex<Option<DbError>>,
}

impl std::fmt::Debug for Server<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl<'a> Server<'a> {
    pub(crate) fn new(data: &'a DataDirectory) -> Self {
        let start_lsn = data.control.checkpoint();
        Self {
            identity: ServerIdentity {
                version: PgVersion::V15,
                data_directory: data.path.to_str().unwrap().to_owned(),
                archive_mode: "on".to_owned(),
                archive_command: "pgbr archive-push %p".to_owned(),
                checkpoint_timeout: Duration::from_secs(300),
                in_recovery: false,
            },
            start_lsn,
            stop_lsn: Lsn(start_lsn.0 + 0x100),
            start_timeline: data.control.timeline(),
            stop_timeline: data.control.timeline(),
            control: &data.control,
            clock_ms: AtomicI64::new(later_s() * 1000 + 999),
            clock_step_ms: 1000,
            time_calls: AtomicI64::new(0),
            hook: None,
            ping: Mutex::new(None),
            stop: Mutex::new(None),
        }
    }

    #[must_use]
    pub(crate) fn at(mut self, hook: impl Fn(Moment) + Send + Sync + 'a) -> Self {
        self.hook = Some(Box::new(hook));
        self
    }

    pub(crate) fn fail_ping(&self, kind: DbErrorKind) {
        *self.ping.lock().unwrap() = Some(DbError::new(kind, "scripted"));
    }

    pub(crate) fn fail_stop(&self, kind: DbErrorKind) {
        *self.stop.lock().unwrap() = Some(DbError::new(kind, "scripted"));
    }

    pub(crate) fn set_clock_s(&self, time_s: i64) {
        self.clock_ms.store(time_s * 1000 + 999, Ordering::SeqCst);
    }

    pub(crate) fn clock_s(&self) -> i64 {
        self.clock_ms.load(Ordering::SeqCst) / 1000
    }

    pub(crate) fn start_segment(&self) -> WalSegmentName {
        self.start_lsn.segment(self.start_timeline, self.control.wal_segment_size())
    }

    pub(crate) fn prior_segment(&self) -> WalSegmentName {
        self.start_segment().previous(self.control.wal_segment_size()).unwrap()
    }

    fn hook(&self, moment: Moment) {
        if let Some(hook) = &self.hook {
            hook(moment);
        }
    }
}

fn answer<'a, T: Send + 'a>(value: Result<T, DbError>) -> DbFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

fn failure<T>(error: &Mutex<Option<DbError>>, value: T) -> Result<T, DbError> {
    match &*error.lock().unwrap() {
        Some(error) => Err(error.clone()),
        None => Ok(value),
    }
}

impl Database for Server<'_> {
    fn identity(&self) -> &ServerIdentity {
        &self.identity
    }

    fn databases(&self) -> DbFuture<'_, Vec<DatabaseEntry>> {
        answer(Ok(vec![DatabaseEntry { oid: 1, name: "template1".to_owned(), last_system_oid: 4 }]))
    }

    fn tablespaces(&self) -> DbFuture<'_, Vec<(u32, String)>> {
        answer(Ok(Vec::new()))
    }

    fn insert_segment(&self) -> DbFuture<'_, WalSegmentName> {
        answer(Ok(self.prior_segment()))
    }

    /// A checkpoint, as every start has one, writes pg_control.
    fn start_backup(&self, _fast: bool) -> DbFuture<'_, BackupStart> {
        let control = Path::new(&self.identity.data_directory).join("global/pg_control");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(self.clock_s()).unwrap() - 1);
        fs::File::options().write(true).open(control).unwrap().set_modified(now).unwrap();
        answer(Ok(BackupStart { lsn: self.start_lsn, segment: Some(self.start_segment()) }))
    }

    fn stop_backup(&self) -> DbFuture<'_, BackupStop> {
        self.hook(Moment::Copied);
        let stop = BackupStop {
            lsn: self.stop_lsn,
            segment: Some(self.stop_lsn.segment(self.stop_timeline, self.control.wal_segment_size())),
            backup_label: format!("START WAL LOCATION: {} (file {})\n", self.start_lsn, self.start_segment()),
            tablespace_map: None,
        };
        answer(failure(&self.stop, stop))
    }

    fn switch_wal(&self) -> DbFuture<'_, WalSegmentName> {
        answer(Ok(self.start_segment()))
    }

    fn time_ms(&self) -> DbFuture<'_, i64> {
        // The first question is for the name of the backup, the second one comes after the listing.
        if self.time_calls.fetch_add(1, Ordering::SeqCst) == 1 {
            self.hook(Moment::Scanned);
        }
        answer(Ok(self.clock_ms.fetch_add(self.clock_step_ms, Ordering::SeqCst)))
    }

    fn ping(&self) -> DbFuture<'_, ()> {
        answer(failure(&self.ping, ()))
    }

    fn checkpoint(&self) -> DbFuture<'_, ()> {
        answer(Ok(()))
    }

    fn replay_lsn(&self) -> DbFuture<'_, Option<Lsn>> {
        answer(Ok(None))
    }

    fn control_checkpoint(&self) -> DbFuture<'_, ControlCheckpoint> {
        let lsn = self.control.checkpoint();
        answer(Ok(ControlCheckpoint { lsn, redo_lsn: lsn, timeline: self.control.timeline() }))
    }
}
