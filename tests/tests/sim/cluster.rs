//! A cluster that is none: WAL whose content follows from its name and its writer, a data directory, and a server that
//! starts and stops backups.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use pgbr_repo::clock::Clock;
use pgbr_repo::command::archive::ClusterIdentity;
use pgbr_repo::db::{BackupStart, BackupStop, ControlCheckpoint, Database, DatabaseEntry, DbFuture, ServerIdentity};
use pgbr_repo::postgres::{ControlFile, Lsn, PgVersion, Timeline, WalFileName, WalSegmentName, WalSegmentSize};

use crate::dice::{Dice, noise};

/// The smallest there are.
pub(crate) const SIZE: WalSegmentSize = WalSegmentSize::MIN;
const SEGMENT_BYTES: u64 = 1024 * 1024;

fn sample(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../formats/samples/postgres").join(name)).unwrap()
}

pub(crate) fn identity() -> ClusterIdentity {
    let control = ControlFile::parse(&sample("pg15-1mib.pg_control")).unwrap();
    ClusterIdentity { version: control.version(), system_id: control.system_id() }
}

pub(crate) fn catalog_version() -> u32 {
    ControlFile::parse(&sample("pg15-1mib.pg_control")).unwrap().catalog_version()
}

/// One course of WAL. Two hosts that take themselves for the primary of one timeline have two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Branch {
    /// A number of its own in the lowest 16 bits, above it where it begins.
    pub(crate) id: u64,
    pub(crate) timeline: u32,
    /// Where it leaves the timeline before it.
    pub(crate) begin: u64,
}

impl Branch {
    pub(crate) fn segment(self, number: u64) -> WalSegmentName {
        Lsn(number * SEGMENT_BYTES).segment(Timeline::new(self.timeline).unwrap(), SIZE)
    }

    pub(crate) fn history_name(self) -> String {
        Timeline::new(self.timeline).unwrap().history_file_name()
    }
}

/// What a file of this branch holds.
pub(crate) fn content(name: &str, branch: u64) -> Vec<u8> {
    match WalFileName::parse(name).unwrap() {
        WalFileName::Segment(segment) => {
            let mut bytes = vec![0; usize::try_from(SEGMENT_BYTES).unwrap()];
            let header = sample_header();
            bytes[..40].copy_from_slice(&header);
            bytes[4..8].copy_from_slice(&segment.timeline().number().to_le_bytes());
            bytes[8..16].copy_from_slice(&segment.start_lsn(SIZE).unwrap().0.to_le_bytes());
            let seed = u64::from(segment.log()) << 32 | u64::from(segment.segment());
            bytes[40..140].copy_from_slice(&noise(seed ^ branch.rotate_left(40), 100));
            bytes
        }
        name => {
            let (parent, begin) = (name.timeline().number() - 1, Lsn((branch >> 16) * SEGMENT_BYTES));
            format!("{parent}\t{begin}\tbranch {branch}\n").into_bytes()
        }
    }
}

fn sample_header() -> [u8; 40] {
    static HEADER: std::sync::OnceLock<[u8; 40]> = std::sync::OnceLock::new();
    *HEADER.get_or_init(|| sample("pg15-1mib-00000001000000000000000A.wal")[..40].try_into().unwrap())
}

/// Where a primary is, and what it has to archive.
#[derive(Debug, Clone)]
pub(crate) struct Wal {
    pub(crate) branch: Branch,
    /// The segment that is being written.
    pub(crate) number: u64,
    /// Complete and not acknowledged.
    pub(crate) pending: VecDeque<String>,
}

impl Wal {
    pub(crate) fn current(&self) -> WalSegmentName {
        self.branch.segment(self.number)
    }

    pub(crate) fn switch(&mut self) -> WalSegmentName {
        let complete = self.current();
        self.pending.push_back(complete.to_string());
        self.number += 1;
        complete
    }
}

/// The data directory of a host.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) path: PathBuf,
}

impl Data {
    pub(crate) fn create(path: PathBuf, time_ms: i64) -> Self {
        for name in ["base/1", "base/5", "global", "pg_wal/archive_status", "pg_tblspc"] {
            fs::create_dir_all(path.join(name)).unwrap();
        }
        let data = Self { path };
        data.write("PG_VERSION", b"15\n", time_ms);
        data.write("base/1/PG_VERSION", b"15\n", time_ms);
        data.write("postgresql.conf", b"# nothing\n", time_ms);
        for (number, length) in [(100, 8192), (101, 3 * 8192), (102, 12 * 8192), (103, 0), (104, 100)] {
            data.write(&format!("base/1/{number}"), &noise(number, length), time_ms);
        }
        data.control(1, Lsn(SEGMENT_BYTES), time_ms);
        data
    }

    /// Writes a file with the time of the run.
    fn write(&self, name: &str, bytes: &[u8], time_ms: i64) {
        let mut file = File::create(self.path.join(name)).unwrap();
        file.write_all(bytes).unwrap();
        let time = Duration::from_millis(u64::try_from(time_ms).unwrap());
        file.set_modified(SystemTime::UNIX_EPOCH + time).unwrap();
    }

    /// What the server does between two backups.
    pub(crate) fn change(&self, dice: &mut Dice, time_ms: i64) {
        for _ in 0..1 + dice.below(3) {
            let name = format!("base/{}/{}", [1, 5][dice.below(2)], 100 + dice.below(12));
            match dice.below(5) {
                0 => drop(fs::remove_file(self.path.join(name))),
                1 => self.write(&name, &[], time_ms),
                _ => {
                    let length = [17, 8192, 5 * 8192, 20 * 8192][dice.below(4)];
                    self.write(&name, &noise(dice.roll(), length), time_ms);
                }
            }
        }
    }

    /// Writes pg_control as a checkpoint leaves it.
    pub(crate) fn control(&self, timeline: u32, checkpoint: Lsn, time_ms: i64) {
        let mut bytes = sample("pg15-1mib.pg_control");
        bytes.resize(ControlFile::FILE_SIZE_BYTES, 0);
        let offsets = PgVersion::V15.facts().unwrap().control;
        bytes[32..40].copy_from_slice(&checkpoint.0.to_le_bytes());
        bytes[offsets.timeline..offsets.timeline + 4].copy_from_slice(&timeline.to_le_bytes());
        let crc = crc32c(&bytes[..offsets.crc]);
        bytes[offsets.crc..offsets.crc + 4].copy_from_slice(&crc.to_le_bytes());
        self.write("global/pg_control", &bytes, time_ms);
    }

    pub(crate) fn wal_file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path.join("pg_wal").join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |mut crc, byte| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (0_u32.wrapping_sub(crc & 1)));
        }
        crc
    })
}

/// The files of a data directory that a backup must bring back.
pub(crate) fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![path.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap().path();
            if entry.is_dir() {
                left.push(entry);
            } else {
                let name = entry.strip_prefix(path).unwrap().to_str().unwrap().to_owned();
                let made = ["backup_label", "recovery.signal", "postgresql.auto.conf", "global/pg_control"];
                if !name.starts_with("pg_wal/") && !made.contains(&&*name) {
                    found.insert(name, fs::read(&entry).unwrap());
                }
            }
        }
    }
    found
}

/// The server of a primary.
#[derive(Debug)]
pub(crate) struct Server {
    identity: ServerIdentity,
    data: Arc<Data>,
    wal: Arc<Mutex<Option<Wal>>>,
    clock: Arc<dyn Clock>,
    started: Mutex<Option<Lsn>>,
}

impl Server {
    pub(crate) fn new(data: &Arc<Data>, wal: &Arc<Mutex<Option<Wal>>>, clock: &Arc<dyn Clock>) -> Self {
        Self {
            identity: ServerIdentity {
                version: PgVersion::V15,
                data_directory: data.path.to_str().unwrap().to_owned(),
                archive_mode: "on".to_owned(),
                archive_command: "pgbr archive-push %p".to_owned(),
                checkpoint_timeout: Duration::from_secs(300),
                in_recovery: false,
            },
            data: Arc::clone(data),
            wal: Arc::clone(wal),
            clock: Arc::clone(clock),
            started: Mutex::default(),
        }
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Wal) -> T) -> T {
        use_it(self.wal.lock().unwrap().as_mut().expect("a primary"))
    }
}

fn answer<'a, T: Send + 'a>(value: T) -> DbFuture<'a, T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl Database for Server {
    fn identity(&self) -> &ServerIdentity {
        &self.identity
    }

    fn databases(&self) -> DbFuture<'_, Vec<DatabaseEntry>> {
        answer(vec![DatabaseEntry { oid: 1, name: "template1".to_owned(), last_system_oid: 4 }])
    }

    fn tablespaces(&self) -> DbFuture<'_, Vec<(u32, String)>> {
        answer(Vec::new())
    }

    fn insert_segment(&self) -> DbFuture<'_, WalSegmentName> {
        answer(self.with(|wal| wal.current()))
    }

    fn start_backup(&self, _fast: bool) -> DbFuture<'_, BackupStart> {
        let (lsn, segment) = self.with(|wal| (Lsn(wal.number * SEGMENT_BYTES + 0x28), wal.current()));
        self.data.control(segment.timeline().number(), lsn, self.clock.now_ms());
        *self.started.lock().unwrap() = Some(lsn);
        answer(BackupStart { lsn, segment: Some(segment) })
    }

    fn stop_backup(&self) -> DbFuture<'_, BackupStop> {
        let started = self.started.lock().unwrap().take().expect("a backup was started");
        let (lsn, segment) = self.with(|wal| (Lsn(wal.number * SEGMENT_BYTES + 0x100), wal.switch()));
        let backup_label = format!("START WAL LOCATION: {started} (file {segment})\n");
        answer(BackupStop { lsn, segment: Some(segment), backup_label, tablespace_map: None })
    }

    fn switch_wal(&self) -> DbFuture<'_, WalSegmentName> {
        answer(self.with(Wal::switch))
    }

    fn time_ms(&self) -> DbFuture<'_, i64> {
        answer(self.clock.now_ms())
    }

    fn ping(&self) -> DbFuture<'_, ()> {
        answer(())
    }

    fn checkpoint(&self) -> DbFuture<'_, ()> {
        answer(())
    }

    fn replay_lsn(&self) -> DbFuture<'_, Option<Lsn>> {
        answer(None)
    }

    fn control_checkpoint(&self) -> DbFuture<'_, ControlCheckpoint> {
        let (lsn, segment) = self.with(|wal| (Lsn(wal.number * SEGMENT_BYTES + 0x28), wal.current()));
        answer(ControlCheckpoint { lsn, redo_lsn: lsn, timeline: segment.timeline() })
    }
}
