//! The engine's `expire` over a store that can go wrong, with a clock of its own.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use pgbr_repo::clock::{Clock, SystemClock, SystemRandom};
use pgbr_repo::command::expire::{
    ExpireRequest, ExpiredBackups, FullUnit, RepositoryRules, Retention, TimeZone, WalRetention, expire,
};
use pgbr_repo::error::{ErrorKind, Result};
use pgbr_repo::filter::Codecs;
use pgbr_repo::format::{BackupInfo, BackupLabel, BackupType, Stanza};
use pgbr_repo::postgres::{Timeline, WalSegmentName};
use pgbr_repo::progress::{Context, Level, Progress, Reporter};
use pgbr_repo::repository::{RepoIndex, Repository, WritableRepository};
use pgbr_repo::storage::{FaultStorage, MemoryOptions, MemoryStorage, Storage, StorageExt, StoragePath};
use pgbr_repo::transfer::Budget;

use pgbr_testkit::world::{Backup, NewBackup, World, history_id, label};

pub(crate) const DAY_S: i64 = 24 * 60 * 60;
/// Noon of a day in 2026.
pub(crate) const NOW_S: i64 = 1_795_694_400;

/// Every message, and failures by their kind.
#[derive(Debug, Default)]
pub(crate) struct Log {
    lines: Mutex<Vec<(Level, String)>>,
    failures: Mutex<Vec<(ErrorKind, String)>>,
}

impl Reporter for Log {
    fn message(&self, level: Level, _worker: usize, text: &str) {
        self.lines.lock().unwrap().push((level, text.to_owned()));
    }

    fn failure(&self, kind: ErrorKind, text: &str) {
        self.failures.lock().unwrap().push((kind, text.to_owned()));
    }

    fn progress(&self, _progress: Progress) {}
}

impl Log {
    /// All that was said, in order.
    pub(crate) fn all(&self) -> Vec<(Level, String)> {
        self.lines.lock().unwrap().clone()
    }

    /// What was said at this level.
    pub(crate) fn lines(&self, level: Level) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|(own, _)| *own == level).map(|(_, text)| text.clone()).collect()
    }

    /// The only failure.
    pub(crate) fn failure(&self) -> (ErrorKind, String) {
        let failures = self.failures.lock().unwrap();
        assert_eq!(failures.len(), 1, "{failures:?}");
        failures[0].clone()
    }
}

/// A clock that stands where it was set.
#[derive(Debug)]
pub(crate) struct StandingClock(AtomicI64);

impl StandingClock {
    pub(crate) fn set(&self, now_s: i64) {
        self.0.store(now_s, Ordering::Relaxed);
    }
}

impl Clock for StandingClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed) * 1000
    }
}

/// A repository in memory, and what `expire` said over it.
pub(crate) struct Stage {
    pub(crate) store: Arc<FaultStorage>,
    pub(crate) memory: Arc<MemoryStorage>,
    pub(crate) clock: Arc<StandingClock>,
    pub(crate) log: Arc<Log>,
    pub(crate) context: Context,
}

pub(crate) fn memory() -> Arc<MemoryStorage> {
    Arc::new(MemoryStorage::new(Arc::new(SystemClock), MemoryOptions::default()))
}

impl Stage {
    /// The world in a store.
    pub(crate) async fn new(world: &World) -> Self {
        let memory = memory();
        put_world(memory.as_ref(), world).await;
        Self::over(memory)
    }

    /// Another process over the same store.
    pub(crate) fn over(memory: Arc<MemoryStorage>) -> Self {
        let store = Arc::new(FaultStorage::new(Arc::clone(&memory) as Arc<dyn Storage>, 1));
        let log = Arc::new(Log::default());
        let clock = Arc::new(StandingClock(AtomicI64::new(NOW_S)));
        let context = context(&log, &clock);
        Self { store, memory, clock, log, context }
    }

    pub(crate) async fn expire(&self, request: &ExpireRequest, rules: RepositoryRules) -> Result<()> {
        expire(&[(self.repository(1), rules)], request, &self.context).await
    }

    pub(crate) fn repository(&self, number: u32) -> WritableRepository {
        repository(number, Arc::clone(&self.store) as Arc<dyn Storage>)
    }

    /// The labels that backup.info lists.
    pub(crate) async fn listed(&self) -> Vec<BackupLabel> {
        labels(&self.info().await)
    }

    pub(crate) async fn info(&self) -> BackupInfo {
        let path = StoragePath::parse("backup/demo/backup.info").unwrap();
        BackupInfo::parse(&self.memory.read_all(&path, 1 << 20).await.unwrap()).unwrap()
    }

    pub(crate) fn objects(&self) -> BTreeSet<String> {
        self.memory.objects().into_keys().collect()
    }

    /// Every listed backup is whole; see [`assert_whole`].
    pub(crate) async fn is_whole(&self, before: &World) {
        assert_whole(&self.info().await, &self.objects(), before);
    }
}

/// Every listed backup has its manifest, the files of all that it needs, and the WAL that it had in `before`.
pub(crate) fn assert_whole(info: &BackupInfo, objects: &BTreeSet<String>, before: &World) {
    for backup in info.backups() {
        let label = backup.label;
        assert!(objects.contains(&format!("backup/demo/{label}/backup.manifest")), "{label} has no manifest");
        for needed in backup.references.iter().flatten().chain([&label]) {
            let file = format!("backup/demo/{needed}/pg_data/PG_VERSION");
            assert!(objects.contains(&file), "{label} has lost a file of {needed}");
        }
        let id = before.archive_id(backup.history_id);
        for name in wal_between(before, backup.history_id.number(), backup.archive_start, backup.archive_stop) {
            assert!(objects.contains(&format!("archive/demo/{id}/{name}")), "{label} has lost {name}");
        }
    }
}

/// The files of an archive from a segment to another.
pub(crate) fn wal_between(
    world: &World,
    cluster: u32,
    start: Option<WalSegmentName>,
    stop: Option<WalSegmentName>,
) -> Vec<String> {
    let (Some(start), Some(stop)) = (start, stop) else { return Vec::new() };
    let names = world.archives.get(&world.archive_id(history_id(cluster))).into_iter().flatten();
    let segment =
        |name: &String| name.split_once('/').and_then(|(_, name)| WalSegmentName::parse(name.get(..24)?).ok());
    names.filter(|name| segment(name).is_some_and(|segment| (start..=stop).contains(&segment))).cloned().collect()
}

pub(crate) fn labels(info: &BackupInfo) -> Vec<BackupLabel> {
    info.backups().iter().map(|backup| backup.label).collect()
}

pub(crate) async fn put_world(storage: &dyn Storage, world: &World) {
    for (path, content) in world.files() {
        put(storage, &path, content).await;
    }
}

pub(crate) async fn put(storage: &dyn Storage, path: &str, content: Vec<u8>) {
    storage.write_all(&StoragePath::parse(path).unwrap(), Bytes::from(content)).await.unwrap();
}

pub(crate) fn repository(number: u32, storage: Arc<dyn Storage>) -> WritableRepository {
    let stanza = Stanza::parse("demo").unwrap();
    WritableRepository::new(Repository::new(RepoIndex::new(number).unwrap(), stanza, storage, None))
}

pub(crate) fn context(log: &Arc<Log>, clock: &Arc<StandingClock>) -> Context {
    Context {
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        random: Arc::new(SystemRandom),
        budget: Budget::new(32 * 1024 * 1024),
        codecs: Codecs::new(1),
        cancel: Default::default(),
        reporter: Arc::clone(log) as Arc<dyn Reporter>,
    }
}

pub(crate) fn request(backups: ExpiredBackups) -> ExpireRequest {
    ExpireRequest {
        backups,
        archive_before: None,
        end_at_page_errors: true,
        dry_run: false,
        time_zone: TimeZone::UTC,
        permit: None,
    }
}

pub(crate) fn by_retention() -> ExpireRequest {
    request(ExpiredBackups::Retention)
}

/// Keeps so many full backups, and WAL for all of them.
pub(crate) fn keep_full(count: u32) -> RepositoryRules {
    let count = NonZeroU32::new(count);
    RepositoryRules {
        retention: Retention {
            full_unit: FullUnit::Count,
            full: count,
            diff: None,
            wal: WalRetention { kind: BackupType::Full, count },
            history_days: None,
        },
        symlinks: false,
        path: "/".to_owned(),
    }
}

/// Keeps full backups of so many days.
pub(crate) fn keep_days(days: u32) -> RepositoryRules {
    let mut rules = keep_full(days);
    rules.retention.full_unit = FullUnit::Days;
    rules.retention.wal.count = None;
    rules
}

pub(crate) fn segment(timeline: u32, number: u32) -> WalSegmentName {
    WalSegmentName::new(Timeline::new(timeline).unwrap(), number / 4, number % 4)
}

/// Tells a stanza's story backup by backup.
pub(crate) struct Teller {
    pub(crate) world: World,
    pub(crate) timeline: u32,
    next: u32,
    now_s: i64,
}

impl Teller {
    pub(crate) fn new() -> Self {
        Self::at(NOW_S)
    }

    /// Tells what happened up to this second.
    fn at(now_s: i64) -> Self {
        Self { world: World::new(), timeline: 1, next: 1, now_s }
    }

    /// Writes so many segments.
    pub(crate) fn wal(&mut self, count: u32) {
        for _ in 0..count {
            let segment = segment(self.timeline, self.next);
            self.world.add_wal(history_id(1), format!("{}/{segment}-{:040x}", segment.first16(), self.next));
            self.next += 1;
        }
    }

    /// A backup so many days ago, of two segments, with one before and one behind it.
    pub(crate) fn backup(&mut self, days_ago: i64, kind: BackupType, prior: Option<&Backup>) -> Backup {
        self.wal(1);
        let start = segment(self.timeline, self.next);
        self.wal(2);
        let stop = segment(self.timeline, self.next - 1);
        let start_s = self.now_s - days_ago * DAY_S;
        let backup = self.world.add(NewBackup {
            label: label(start_s, prior.map(Backup::label), kind),
            prior,
            start_s,
            stop_s: start_s + 600,
            wal: Some((start, stop)),
            history_id: history_id(1),
            page_error: false,
        });
        self.world.history.insert(backup.label());
        self.wal(1);
        backup
    }
}

/// Two sets, the older with a differential and an incremental backup, and a third full backup.
pub(crate) struct Sets {
    pub(crate) world: World,
    pub(crate) full: [BackupLabel; 3],
    pub(crate) diff: BackupLabel,
    pub(crate) incr: BackupLabel,
}

pub(crate) fn sets() -> Sets {
    sets_at(NOW_S)
}

pub(crate) fn sets_at(now_s: i64) -> Sets {
    let mut teller = Teller::at(now_s);
    let first = teller.backup(40, BackupType::Full, None);
    let diff = teller.backup(39, BackupType::Differential, Some(&first));
    let incr = teller.backup(38, BackupType::Incremental, Some(&diff));
    let second = teller.backup(20, BackupType::Full, None);
    let third = teller.backup(2, BackupType::Full, None);
    Sets {
        world: teller.world,
        full: [first.label(), second.label(), third.label()],
        diff: diff.label(),
        incr: incr.label(),
    }
}
