//! A host: its clock, its way to the store, its data directory, and the commands that run on it.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgbr_repo::clock::{Clock, Random, RandomUnavailable};
use pgbr_repo::command::archive::WalSource;
use pgbr_repo::command::archive::get::{GetRequest, Got, get};
use pgbr_repo::command::archive::push::{PushOptions, push};
use pgbr_repo::command::backup::{
    ArchiveCheck, BackupOptions, BundleOptions, PageOptions, RecordedOptions, Servers, TimeZone, backup,
};
use pgbr_repo::command::expire::{
    ExpireRequest, ExpiredBackups, FullUnit, RepositoryRules, Retention, WalRetention, expire,
};
use pgbr_repo::command::restore::recovery::RecoveryOptions;
use pgbr_repo::command::restore::{DatabaseChoice, PageErrors, RestoreOptions, restore};
use pgbr_repo::error::Result;
use pgbr_repo::filter::{Codecs, Compression};
use pgbr_repo::format::{Annotations, BackupLabel, BackupType, CompressType, Stanza};
use pgbr_repo::pgdata::{LinkPolicy, MapOptions};
use pgbr_repo::postgres::page::PageHeaderCheck;
use pgbr_repo::postgres::{WalFileName, WalSegmentName};
use pgbr_repo::progress::{Context, Level, Progress, Reporter};
use pgbr_repo::repository::{ManifestFile, RepoIndex, Repository, WritableRepository};
use pgbr_repo::storage::{ListOptions, Storage, StorageExt, StoragePath};
use pgbr_repo::transfer::Budget;

use crate::cluster::{self, Data, Server, Wal};

/// Full backups that `expire` keeps.
pub(crate) const KEPT: u32 = 2;

/// The time of the run, milliseconds since the Unix epoch; every clock goes by it.
#[derive(Debug, Clone)]
pub(crate) struct Time(pub(crate) Arc<AtomicI64>);

impl Time {
    pub(crate) fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    /// The clock of somebody who is never wrong.
    pub(crate) fn clock(&self) -> Arc<HostClock> {
        Arc::new(HostClock { time: self.clone(), skew_ms: AtomicI64::new(0) })
    }
}

#[derive(Debug)]
pub(crate) struct HostClock {
    time: Time,
    pub(crate) skew_ms: AtomicI64,
}

impl Clock for HostClock {
    fn now_ms(&self) -> i64 {
        self.time.now_ms() + self.skew_ms.load(Ordering::SeqCst)
    }
}

/// Bytes that are always the same: which thread asks first depends on no seed.
#[derive(Debug)]
pub(crate) struct SameBytes(pub(crate) u8);

impl Random for SameBytes {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomUnavailable> {
        buffer.fill(self.0);
        Ok(())
    }
}

/// All that happened, for who looks at a run that failed.
#[derive(Debug, Default)]
pub(crate) struct Trace(Mutex<Vec<String>>);

impl Trace {
    pub(crate) fn add(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Messages come from threads in no certain order, so they are kept apart from what a seed decides.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) name: String,
    pub(crate) log: Arc<Trace>,
}

impl Reporter for Heard {
    fn message(&self, level: Level, _worker: usize, text: &str) {
        self.log.add(format!("{} {level:?}: {text}", self.name));
    }

    fn progress(&self, progress: Progress) {
        assert!(progress.done_bytes <= progress.total_bytes, "{progress:?}");
    }
}

pub(crate) fn context(clock: Arc<dyn Clock>, reporter: Arc<dyn Reporter>) -> Context {
    Context {
        clock,
        random: Arc::new(SameBytes(0x5a)),
        budget: Budget::new(64 * 1024 * 1024),
        // The turnstile sees the runtime's threads only.
        codecs: Codecs::with_cores(2, 1),
        cancel: Default::default(),
        reporter,
    }
}

pub(crate) fn repository(storage: Arc<dyn Storage>) -> WritableRepository {
    let stanza = Stanza::parse("demo").unwrap();
    WritableRepository::new(Repository::new(RepoIndex::new(1).unwrap(), stanza, storage, None))
}

/// What a command needs, to be moved into its task.
#[derive(Debug, Clone)]
pub(crate) struct Hands {
    pub(crate) repository: WritableRepository,
    pub(crate) context: Context,
    pub(crate) data: Arc<Data>,
    pub(crate) wal: Arc<Mutex<Option<Wal>>>,
}

impl Hands {
    pub(crate) async fn push(&self, path: PathBuf, compress: CompressType) -> Result<()> {
        let options = PushOptions {
            header_check: true,
            mode_check: true,
            compress: Compression::with_default_level(compress),
            cluster: Some(cluster::identity()),
        };
        let source = WalSource::new(&path)?;
        push(std::slice::from_ref(&self.repository), &source, &options, &self.context).await.map(drop)
    }

    /// `None` is the positive answer that there is no such file.
    pub(crate) async fn get(&self, name: &str, destination: &Path) -> Result<Option<Vec<u8>>> {
        drop(std::fs::remove_file(destination));
        let request = GetRequest {
            name: WalFileName::parse(name).unwrap(),
            cluster: cluster::identity(),
            segment_size: cluster::SIZE,
        };
        let got = get(&[(*self.repository).clone()], request, destination, &self.context).await;
        let delivered = std::fs::read(destination).ok();
        match got? {
            Got::Found { .. } => Ok(Some(delivered.expect("what was found is there"))),
            Got::Missing { .. } => {
                assert_eq!(delivered, None, "{name} was delivered and called missing");
                Ok(None)
            }
        }
    }

    pub(crate) async fn backup(&self, kind: BackupType, bundled: bool, compress: CompressType) -> Result<BackupLabel> {
        let server = Server::new(&self.data, &self.wal, &self.context.clock);
        let options = BackupOptions {
            backup_type: kind,
            pg_path: self.data.path.clone(),
            version_force: None,
            force: false,
            start_fast: true,
            db_timeout: Duration::from_secs(1800),
            archive_check: Some(ArchiveCheck { refuse_always: true, copy: false }),
            archive_timeout: Duration::from_secs(30),
            pages: PageOptions { check: Some(false), header_check: PageHeaderCheck::Upper, end_at_error: false },
            exclude: Vec::new(),
            links: LinkPolicy::Any,
            compress: Compression::with_default_level(compress),
            bundle: bundled.then_some(BundleOptions { size_bytes: 64 * 1024, limit_bytes: 64 * 1024 }),
            block: None,
            delta: false,
            manifest_save_threshold_bytes: 1 << 30,
            resume: true,
            symlinks: true,
            annotations: Annotations::default(),
            time_zone: TimeZone::UTC,
            process_max: 2,
            recorded: RecordedOptions { buffer_size_bytes: 1024 * 1024, compress_level_network: 1, hardlink: false },
        };
        let outcome = backup(&self.repository, Servers::Primary(&server), &options, &self.context).await?;
        Ok(outcome.label)
    }

    /// All complete backups, listed or not, each with the first segment that it needs.
    pub(crate) async fn complete_backups(&self) -> Vec<(BackupLabel, WalSegmentName)> {
        let stanza = StoragePath::parse("backup/demo").unwrap();
        let entries = self.repository.storage().list_all(&stanza, &ListOptions::default()).await.unwrap();
        let mut complete = Vec::new();
        for label in entries.iter().filter_map(|entry| BackupLabel::parse(entry.name.trim_end_matches('/')).ok()) {
            if let Ok(manifest) = self.repository.manifest_file(&label, ManifestFile::Main, None, &self.context).await {
                complete.push((label, manifest.backup_entry().unwrap().archive_start.unwrap()));
            }
        }
        complete
    }

    /// Keeps the newest [`KEPT`] full backups, and WAL from the older one of them on.
    pub(crate) async fn expire(&self) -> Result<()> {
        let request = ExpireRequest {
            backups: ExpiredBackups::Retention,
            archive_before: None,
            end_at_page_errors: true,
            dry_run: false,
            time_zone: TimeZone::UTC,
            permit: None,
        };
        let count = NonZeroU32::new(KEPT);
        let rules = RepositoryRules {
            retention: Retention {
                full_unit: FullUnit::Count,
                full: count,
                diff: None,
                wal: WalRetention { kind: BackupType::Full, count },
                history_days: None,
            },
            symlinks: true,
            path: "/repo".to_owned(),
        };
        expire(&[(self.repository.clone(), rules)], &request, &self.context).await
    }

    /// Restores into an empty directory.
    pub(crate) async fn restore(&self, label: BackupLabel, path: &Path) -> Result<()> {
        drop(std::fs::remove_dir_all(path));
        std::fs::create_dir(path).unwrap();
        let options = RestoreOptions {
            map: MapOptions { pgdata: path.to_str().unwrap().into(), ..MapOptions::default() },
            set: Some(label),
            delta: false,
            force: false,
            // A primary that was left behind goes on on its old timeline, from which the latest cannot be reached.
            recovery: RecoveryOptions {
                target_timeline: Some("current".to_owned()),
                restore_command: "pgbr archive-get %f %p".to_owned(),
                ..Default::default()
            },
            recovery_by_default: true,
            databases: DatabaseChoice::default(),
            page_errors: PageErrors::Refuse,
            workers: 2,
            read_over_bytes: 64 * 1024,
            links: LinkPolicy::Any,
            version_force: None,
            spool: None,
            time_zone: TimeZone::UTC,
        };
        restore(&[(*self.repository).clone()], &options, &self.context).await.map(drop)
    }
}
