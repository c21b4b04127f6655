//! A sample on disk with the engine's own view of it.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use pgbr_repo::clock::{SystemClock, SystemRandom};
use pgbr_repo::command::archive::ClusterIdentity;
use pgbr_repo::command::archive::get::{GetRequest, Got, get};
use pgbr_repo::command::restore::recovery::{RecoveryOptions, RecoveryType};
use pgbr_repo::command::restore::{DatabaseChoice, PageErrors, RestoreOptions, restore};
use pgbr_repo::command::verify::{VerifyOptions, VerifyReport, verify};
use pgbr_repo::error::Result;
use pgbr_repo::filter::{Codecs, Passphrase};
use pgbr_repo::format::{BackupInfo, BackupLabel, Stanza};
use pgbr_repo::pgdata::{LinkPolicy, MapOptions};
use pgbr_repo::postgres::{WalFileName, WalSegmentName, WalSegmentSize};
use pgbr_repo::progress::{Context, Silent};
use pgbr_repo::repository::{RepoIndex, Repository};
use pgbr_repo::storage::{LocalStorage, Storage};
use pgbr_repo::transfer::Budget;
use pgbr_testkit::samples::{STANZA, Sample, Unpacked};
use pgbr_testkit::user;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const WORKERS: usize = 2;
const READ_OVER_BYTES: u64 = 64 * 1024;

/// What the engine is given.
pub(crate) fn context() -> Context {
    Context {
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        budget: Budget::new(64 * 1024 * 1024),
        codecs: Codecs::new(WORKERS),
        cancel: CancellationToken::new(),
        reporter: Arc::new(Silent),
    }
}

pub(crate) struct World {
    dir: TempDir,
    pub(crate) sample: Unpacked,
    pub(crate) repository: Repository,
    pub(crate) context: Context,
    /// backup.info before any damage.
    pub(crate) info: BackupInfo,
    segment_size: WalSegmentSize,
    restores: AtomicU32,
}

impl World {
    pub(crate) async fn of(name: &str) -> Self {
        let dir = user::scratch().unwrap();
        let sample = Sample::named(name).unwrap().unpack(&dir.path().join("sample")).unwrap();
        let storage = Arc::new(LocalStorage::new(sample.repo()));
        let repository = repository_of(&sample, storage);
        let context = context();
        let info = repository.backup_info(&context).await.unwrap();
        let mut world = Self {
            dir,
            sample,
            repository,
            context,
            info,
            segment_size: WalSegmentSize::MIN,
            restores: AtomicU32::new(0),
        };
        // The samples were written with segments of one size each; the delivery says which.
        let start = world.info.backups()[0].archive_start.unwrap();
        for bytes in [1, 16] {
            world.segment_size = WalSegmentSize::new(bytes << 20).unwrap();
            if world.fetches(&world.info.backups()[0].label, start).await {
                return world;
            }
        }
        panic!("{name}: unknown size of segments");
    }

    /// The same repository through another storage.
    pub(crate) fn through(&self, wrap: impl FnOnce(Arc<dyn Storage>) -> Arc<dyn Storage>) -> Repository {
        repository_of(&self.sample, wrap(Arc::new(LocalStorage::new(self.sample.repo()))))
    }

    pub(crate) fn labels(&self) -> Vec<BackupLabel> {
        self.info.backups().iter().map(|backup| backup.label).collect()
    }

    pub(crate) async fn verify(&self) -> VerifyReport {
        self.verify_set(None).await
    }

    pub(crate) async fn verify_set(&self, set: Option<&str>) -> VerifyReport {
        verify(&self.repository, &options(set), &self.context).await.unwrap()
    }

    /// An empty place for a restore. Each has its own: a thread of one that failed may still write to the place before.
    pub(crate) fn next_target(&self) {
        std::fs::remove_dir_all(self.target()).ok();
        self.restores.fetch_add(1, Ordering::Relaxed);
        user::create_dir(&self.target()).unwrap();
        user::create_dir(&self.data()).unwrap();
    }

    /// Restores a backup into an empty directory.
    pub(crate) async fn restore(&self, label: BackupLabel) -> Result<()> {
        self.next_target();
        let data = self.data();
        let bytes = |path: &PathBuf| path.as_os_str().as_bytes().to_vec();
        let options = RestoreOptions {
            map: MapOptions {
                pgdata: bytes(&data),
                tablespaces: BTreeMap::new(),
                all_tablespaces: Some(bytes(&self.tablespace())),
                links: BTreeMap::new(),
                link_all: false,
            },
            set: Some(label),
            delta: false,
            force: false,
            recovery: RecoveryOptions {
                recovery_type: RecoveryType::Immediate,
                restore_command: "false".to_owned(),
                ..RecoveryOptions::default()
            },
            recovery_by_default: false,
            databases: DatabaseChoice::default(),
            page_errors: PageErrors::Refuse,
            workers: WORKERS,
            read_over_bytes: READ_OVER_BYTES,
            links: LinkPolicy::Any,
            version_force: None,
            spool: None,
            time_zone: jiff_utc(),
        };
        restore(std::slice::from_ref(&self.repository), &options, &self.context).await.map(drop)
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join(format!("target-{}", self.restores.load(Ordering::Relaxed)))
    }

    pub(crate) fn tablespace(&self) -> PathBuf {
        self.target().join("tablespaces")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.target().join("data")
    }

    /// The segments that a backup needs.
    pub(crate) fn segments(&self, label: &BackupLabel) -> Vec<WalSegmentName> {
        let entry = self.info.backup(label).unwrap();
        let (start, stop) = (entry.archive_start.unwrap(), entry.archive_stop.unwrap());
        WalSegmentName::range(start, stop, self.segment_size, 1000).unwrap().collect()
    }

    /// Whether `archive-get` delivers a segment to the cluster of this backup.
    pub(crate) async fn fetches(&self, label: &BackupLabel, segment: WalSegmentName) -> bool {
        let history_id = self.info.backup(label).unwrap().history_id;
        let generation = self.info.history().generation(history_id).unwrap();
        let cluster = ClusterIdentity { version: generation.version, system_id: generation.system_id };
        self.fetches_for(cluster, segment).await
    }

    pub(crate) async fn fetches_for(&self, cluster: ClusterIdentity, segment: WalSegmentName) -> bool {
        let name = WalFileName::Segment(segment);
        let request = GetRequest { name, cluster, segment_size: self.segment_size };
        let destination = self.dir.path().join("segment");
        std::fs::remove_file(&destination).ok();
        let got = get(std::slice::from_ref(&self.repository), request, &destination, &self.context).await;
        matches!(got, Ok(Got::Found { .. }))
    }
}

pub(crate) fn options(set: Option<&str>) -> VerifyOptions {
    VerifyOptions { set: set.map(str::to_owned), workers: WORKERS, read_over_bytes: READ_OVER_BYTES }
}

fn repository_of(sample: &Unpacked, storage: Arc<dyn Storage>) -> Repository {
    let passphrase = sample.sample().cipher_pass().unwrap().map(|pass| Passphrase::new(pass.into_bytes()).unwrap());
    Repository::new(RepoIndex::new(1).unwrap(), Stanza::parse(STANZA).unwrap(), storage, passphrase)
}

fn jiff_utc() -> jiff::tz::TimeZone {
    jiff::tz::TimeZone::UTC
}
