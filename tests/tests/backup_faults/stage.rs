//! A repository for a data directory, and what is in it after a backup.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use pgbr_repo::clock::{SystemClock, SystemRandom};
use pgbr_repo::command::backup::{
    ArchiveCheck, BackupOptions, BackupOutcome, BlockOptions, BlockRules, BundleOptions, PageOptions, RecordedOptions,
    Servers, backup,
};
use pgbr_repo::command::stanza::StanzaCluster;
use pgbr_repo::command::stanza::create::create;
use pgbr_repo::db::Database;
use pgbr_repo::error::Result;
use pgbr_repo::filter::{Codecs, Compression, Digest};
use pgbr_repo::format::block_map::BlockMapFacts;
use pgbr_repo::format::manifest::{FileLocation, FileRow};
use pgbr_repo::format::path::{BundleId, StoredFile};
use pgbr_repo::format::{Annotations, BackupLabel, BackupType, Manifest, Stanza, path};
use pgbr_repo::pgdata::LinkPolicy;
use pgbr_repo::postgres::WalSegmentName;
use pgbr_repo::postgres::page::PageHeaderCheck;
use pgbr_repo::progress::{Context, Level, Progress, Reporter};
use pgbr_repo::repository::{RepoIndex, Repository, WritableRepository, backup_file, decode_block_map};
use pgbr_repo::storage::{
    ByteRange, ListOptions, LocalStorage, MemoryOptions, MemoryStorage, Storage, StorageExt, StoragePath,
};
use pgbr_repo::transfer::Budget;
use pgbr_testkit::conf::Conf;
use pgbr_testkit::{stock, user};

use crate::fake::DataDirectory;

/// Every message.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<Vec<(Level, String)>>);

impl Reporter for Log {
    fn message(&self, level: Level, _worker: usize, text: &str) {
        self.0.lock().unwrap().push((level, text.to_owned()));
    }

    fn progress(&self, progress: Progress) {
        assert!(progress.done_bytes <= progress.total_bytes, "{progress:?}");
    }
}

impl Log {
    pub(crate) fn lines(&self, level: Level) -> Vec<String> {
        let log = self.0.lock().unwrap();
        log.iter().filter(|(own, _)| *own == level).map(|(_, text)| text.clone()).collect()
    }
}

pub(crate) struct Stage {
    pub(crate) data: DataDirectory,
    pub(crate) repository: WritableRepository,
    pub(crate) context: Context,
    pub(crate) log: Arc<Log>,
}

pub(crate) fn memory() -> Arc<MemoryStorage> {
    Arc::new(MemoryStorage::new(Arc::new(SystemClock), MemoryOptions::default()))
}

impl Stage {
    pub(crate) async fn new(storage: Arc<dyn Storage>) -> Self {
        Self::over(storage, DataDirectory::new()).await
    }

    pub(crate) async fn over(storage: Arc<dyn Storage>, data: DataDirectory) -> Self {
        let log = Arc::new(Log::default());
        let context = Context {
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            budget: Budget::new(32 * 1024 * 1024),
            codecs: Codecs::new(2),
            cancel: Default::default(),
            reporter: Arc::clone(&log) as Arc<dyn Reporter>,
        };
        let repository = writable(storage);
        let cluster = StanzaCluster {
            version: data.control.version(),
            system_id: data.control.system_id(),
            catalog_version: data.control.catalog_version(),
        };
        create(std::slice::from_ref(&repository), cluster, &context).await.unwrap();
        Self { data, repository, context, log }
    }

    /// Bundled or not; otherwise plain.
    pub(crate) fn options(&self, bundled: bool) -> BackupOptions {
        BackupOptions {
            backup_type: BackupType::Full,
            pg_path: self.data.path.clone(),
            version_force: None,
            force: false,
            start_fast: true,
            db_timeout: Duration::from_secs(1800),
            archive_check: None,
            archive_timeout: Duration::from_millis(300),
            pages: PageOptions { check: Some(false), header_check: PageHeaderCheck::Upper, end_at_error: false },
            exclude: Vec::new(),
            links: LinkPolicy::Any,
            compress: Compression::NONE,
            bundle: bundled.then_some(BundleOptions { size_bytes: 64 * 1024, limit_bytes: 256 * 1024 }),
            block: None,
            delta: false,
            resume: true,
            manifest_save_threshold_bytes: 1,
            symlinks: true,
            annotations: Annotations::default(),
            time_zone: jiff_utc(),
            process_max: 2,
            recorded: RecordedOptions { buffer_size_bytes: 1024 * 1024, compress_level_network: 1, hardlink: false },
        }
    }

    /// An incremental backup in small blocks.
    pub(crate) fn blocks(&self, backup_type: BackupType) -> BackupOptions {
        let rules = BlockRules::default().with_sizes(vec![(8192, 8192)]).unwrap();
        let block = BlockOptions { rules, size_super_full_bytes: 32 * 1024, size_super_bytes: 16 * 1024 };
        BackupOptions { backup_type, block: Some(block), ..self.options(true) }
    }

    pub(crate) fn checked(&self, bundled: bool) -> BackupOptions {
        let check = ArchiveCheck { refuse_always: true, copy: false };
        BackupOptions { archive_check: Some(check), ..self.options(bundled) }
    }

    pub(crate) async fn backup(&self, server: &dyn Database, options: &BackupOptions) -> Result<BackupOutcome> {
        backup(&self.repository, Servers::Primary(server), options, &self.context).await
    }

    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        self.repository.storage()
    }

    /// The labels that backup.info lists.
    pub(crate) async fn listed(&self) -> Vec<BackupLabel> {
        listed(&self.repository, &self.context).await
    }

    pub(crate) async fn manifest(&self, label: &BackupLabel) -> Manifest {
        self.repository.manifest(label, None, &self.context).await.unwrap()
    }

    /// Every file of a plain backup, by name; each has the checksum that the manifest says.
    pub(crate) async fn content(&self, label: &BackupLabel) -> BTreeMap<String, Vec<u8>> {
        content(&self.repository, &self.context, label).await
    }

    /// All objects below the backups, relative to the stanza.
    pub(crate) async fn objects(&self) -> Vec<String> {
        let all = ListOptions { recurse: true, name_prefix: None };
        let stanza = path::backup_stanza(self.repository.stanza());
        let entries = self.storage().list_all(&stanza, &all).await.unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }

    /// Stores a segment in the archive.
    pub(crate) async fn archive(&self, segment: WalSegmentName) {
        let name = format!("archive/demo/15-1/{}/{segment}-{:040x}", segment.first16(), 7);
        let path = StoragePath::parse(&name).unwrap();
        self.storage().write_all(&path, Bytes::from_static(b"wal")).await.unwrap();
    }
}

pub(crate) fn writable(storage: Arc<dyn Storage>) -> WritableRepository {
    let stanza = Stanza::parse("demo").unwrap();
    WritableRepository::new(Repository::new(RepoIndex::new(1).unwrap(), stanza, storage, None))
}

fn jiff_utc() -> pgbr_repo::command::backup::TimeZone {
    pgbr_repo::command::backup::TimeZone::UTC
}

pub(crate) async fn listed(repository: &Repository, context: &Context) -> Vec<BackupLabel> {
    let info = repository.backup_info(context).await.unwrap();
    info.backups().iter().map(|entry| entry.label).collect()
}

pub(crate) async fn content(
    repository: &Repository,
    context: &Context,
    label: &BackupLabel,
) -> BTreeMap<String, Vec<u8>> {
    let manifest = repository.manifest(label, None, context).await.unwrap();
    let mut content = BTreeMap::new();
    for file in manifest.files() {
        let (path, range) = match manifest.location(file) {
            FileLocation::Nowhere => {
                content.insert(file.name().to_string(), Vec::new());
                continue;
            }
            _ if file.is_block_incremental() => {
                let bytes = from_blocks(repository, &manifest, file).await;
                assert_eq!(Some(Digest::of(&bytes).sha1), file.checksum, "{}", file.name());
                content.insert(file.name().to_string(), bytes);
                continue;
            }
            FileLocation::Bundle { label, place } => (
                path::bundle(repository.stanza(), &label, place.id),
                ByteRange { offset: place.offset_bytes, length: Some(file.size_repo_bytes) },
            ),
            FileLocation::Object { label, stored } => {
                (path::file(repository.stanza(), &label, file.name(), stored).unwrap(), ByteRange::ALL)
            }
        };
        let whole = repository.storage().read_all(&path, 64 << 20).await.unwrap_or_else(|error| panic!("{error}"));
        let start = usize::try_from(range.offset).unwrap();
        let end = range.length.map_or(whole.len(), |length| start + usize::try_from(length).unwrap());
        let bytes = whole[start..end].to_vec();
        assert_eq!(bytes.len() as u64, file.size_bytes, "{}", file.name());
        assert_eq!(Some(Digest::of(&bytes).sha1), file.checksum, "{}", file.name());
        content.insert(file.name().to_string(), bytes);
    }
    content
}

/// A file put together from its map: super blocks of a plain backup are the blocks one behind the other.
async fn from_blocks(repository: &Repository, manifest: &Manifest, file: &FileRow) -> Vec<u8> {
    let place = repository.block_map_place(manifest, file).unwrap();
    let size = usize::try_from(place.size_bytes).unwrap();
    let stored = repository.storage().read_range(&place.object, place.offset, size).await.unwrap();
    let facts = BlockMapFacts {
        geometry: backup_file::geometry(file).unwrap(),
        file_size_bytes: file.size_bytes,
        reference_count: manifest.references().len(),
    };
    let map = decode_block_map("map", &stored, facts, None, &Codecs::new(1)).unwrap();
    let mut bytes = Vec::new();
    for (index, item) in (0..).zip(map.items()) {
        let label = manifest.references()[usize::try_from(item.reference).unwrap()];
        let object = match BundleId::new(item.bundle) {
            Some(id) => path::bundle(repository.stanza(), &label, id),
            None => path::file(repository.stanza(), &label, file.name(), StoredFile::BlockIncremental).unwrap(),
        };
        let offset = item.offset + item.block * facts.geometry.block_size_bytes();
        let length = facts.geometry.block_bytes(index, file.size_bytes);
        let block = repository.storage().read_range(&object, offset, usize::try_from(length).unwrap()).await;
        bytes.extend_from_slice(&block.unwrap_or_else(|error| panic!("{error}")));
    }
    bytes
}

/// A stage whose repository is a directory that the original can look at.
pub(crate) async fn local() -> (tempfile::TempDir, Stage) {
    let dir = user::scratch().unwrap();
    let storage = Arc::new(LocalStorage::new(dir.path().join("backrest/repo")));
    let stage = Stage::new(storage).await;
    (dir, stage)
}

/// The original finds nothing wrong with the repository.
pub(crate) fn verifies(dir: &Path) {
    let conf = Conf::create(&dir.join("backrest"), "demo").unwrap();
    user::own(dir).unwrap();
    let stock = stock::newest();
    let text = stock.engine.ok(&conf, &["verify", "--log-level-console=detail"]).unwrap().text();
    for word in ["ERROR", "invalid checksum", "missing file", "status: error"] {
        assert!(!text.contains(word), "{text}");
    }
    stock.engine.ok(&conf, &["info"]).unwrap();
}
