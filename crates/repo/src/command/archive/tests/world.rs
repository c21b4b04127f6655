//! A cluster's WAL directory and repositories in memory.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::clock::{SystemClock, SystemRandom};
use crate::command::archive::get::{self, GetRequest, Got};
use crate::command::archive::push::{self, PushOptions, Pushed};
use crate::command::archive::{ClusterIdentity, WalSource};
use crate::error::{ErrorKind, Result};
use crate::filter::order::{self, StoreSpec};
use crate::filter::{Codecs, Compression, Form, Passphrase};
use crate::format::{ArchiveInfo, CipherPass, CompressType, Stanza, path};
use crate::postgres::{PgVersion, SystemId, WalFileName, WalSegmentName, WalSegmentSize};
use crate::progress::{Context, Level, Progress, Reporter};
use crate::repository::{Change, RepoIndex, Repository, WritableRepository};
use crate::storage::{MemoryOptions, MemoryStorage, Storage, StorageExt, StoragePath};
use crate::transfer::Budget;

pub(super) const MIB: usize = 1024 * 1024;

/// The segment that most tests push.
pub(super) const SEGMENT: &str = "00000001000000000000000A";

/// PostgreSQL 15 with segments of 1 MiB.
pub(super) struct World {
    pub(super) folder: tempfile::TempDir,
    pub(super) cluster: ClusterIdentity,
    pub(super) context: Context,
    pub(super) heard: Arc<Heard>,
}

/// What was reported.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<Vec<String>>);

impl Heard {
    pub(super) fn all(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

impl Reporter for Heard {
    fn message(&self, level: Level, _worker: usize, text: &str) {
        self.0.lock().unwrap().push(format!("{level:?}: {text}"));
    }

    fn progress(&self, _progress: Progress) {}
}

impl World {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("pg_wal/archive_status")).unwrap();
        let heard = Arc::new(Heard::default());
        let context = Context {
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            budget: Budget::new(64 * MIB),
            codecs: Codecs::new(2),
            cancel: tokio_util::sync::CancellationToken::new(),
            reporter: Arc::clone(&heard) as Arc<dyn Reporter>,
        };
        let header = crate::postgres::WalHeader::parse(&sample("pg15-1mib-00000001000000000000000A.wal")).unwrap();
        let cluster = ClusterIdentity { version: header.version, system_id: header.system_id };
        Self { folder, cluster, context, heard }
    }

    /// Writes a file into the WAL directory.
    pub(super) fn file(&self, name: &str, content: &[u8]) -> WalSource {
        let path = self.wal_path(name);
        fs::write(&path, content).unwrap();
        WalSource::new(&path).unwrap()
    }

    pub(super) fn wal_path(&self, name: &str) -> PathBuf {
        self.folder.path().join("pg_wal").join(name)
    }

    /// Writes a segment of this cluster whose content depends on `seed`.
    pub(super) fn segment(&self, name: &str, seed: u8) -> WalSource {
        self.file(name, &self.segment_bytes(name, seed, MIB))
    }

    pub(super) fn segment_bytes(&self, name: &str, seed: u8, size_bytes: usize) -> Vec<u8> {
        segment_of(self.cluster, name, seed, size_bytes)
    }

    /// A stanza of this cluster in `storage`.
    pub(super) async fn stanza(
        &self,
        number: u32,
        storage: &Arc<dyn Storage>,
        pass: Option<&str>,
    ) -> WritableRepository {
        let repository = self.open(number, storage, pass);
        let inner = pass.map(|_| CipherPass::new(b"inner passphrase".to_vec()));
        let info = ArchiveInfo::new(inner, self.cluster.version, self.cluster.system_id);
        repository.create_archive_info(&info, &self.context).await.unwrap();
        repository
    }

    /// Makes another cluster the stanza's current one.
    pub(super) async fn upgrade(&self, repository: &WritableRepository, cluster: ClusterIdentity) {
        let change = |info: &mut ArchiveInfo| {
            info.upgrade(cluster.version, cluster.system_id).unwrap();
            Ok(Change::Write)
        };
        repository.update_archive_info(&self.context, change).await.unwrap();
    }

    /// The same without writing.
    pub(super) fn open(&self, number: u32, storage: &Arc<dyn Storage>, pass: Option<&str>) -> WritableRepository {
        let passphrase = pass.map(|pass| Passphrase::new(pass.as_bytes()).unwrap());
        let stanza = Stanza::parse("demo").unwrap();
        let index = RepoIndex::new(number).unwrap();
        WritableRepository::new(Repository::new(index, stanza, Arc::clone(storage), passphrase))
    }

    pub(super) async fn push(
        &self,
        repositories: &[WritableRepository],
        source: &WalSource,
        compress: CompressType,
    ) -> Result<Pushed> {
        push::push(repositories, source, &self.options(compress), &self.context).await
    }

    pub(super) fn options(&self, compress: CompressType) -> PushOptions {
        PushOptions {
            header_check: true,
            mode_check: true,
            compress: Compression::with_default_level(compress),
            cluster: Some(self.cluster),
        }
    }

    pub(super) async fn get(&self, repositories: &[WritableRepository], name: &str) -> Result<Got> {
        let repositories: Vec<Repository> = repositories.iter().map(|repository| (**repository).clone()).collect();
        let request = GetRequest {
            name: WalFileName::parse(name).unwrap(),
            cluster: self.cluster,
            segment_size: WalSegmentSize::MIN,
        };
        get::get(&repositories, request, &self.destination(), &self.context).await
    }

    pub(super) fn destination(&self) -> PathBuf {
        self.folder.path().join("pg_wal/RECOVERYXLOG")
    }

    /// What was delivered, if anything, taken away again. Nothing else may be there.
    pub(super) fn delivered(&self) -> Option<Vec<u8>> {
        let content = fs::read(self.destination()).ok();
        drop(fs::remove_file(self.destination()));
        for entry in fs::read_dir(self.folder.path().join("pg_wal")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.contains("tmp"), "{name} was left");
        }
        content
    }
}

/// The kind of an error that must be one.
pub(super) fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

pub(super) fn memory() -> Arc<MemoryStorage> {
    Arc::new(MemoryStorage::new(Arc::new(SystemClock), MemoryOptions::default()))
}

pub(super) fn storage(memory: &Arc<MemoryStorage>) -> Arc<dyn Storage> {
    Arc::clone(memory) as Arc<dyn Storage>
}

/// The names of all WAL objects, without their directories.
pub(super) fn wal_objects(memory: &MemoryStorage) -> Vec<String> {
    let names = memory.objects().into_keys();
    let names = names.filter(|name| !name.contains("archive.info"));
    names.map(|name| name.rsplit('/').next().unwrap().to_owned()).collect()
}

/// The path of the only WAL object.
pub(super) fn only_object(memory: &MemoryStorage) -> StoragePath {
    let mut names = memory.objects().into_keys().filter(|name| !name.contains("archive.info"));
    let path = StoragePath::parse(&names.next().unwrap()).unwrap();
    assert_eq!(names.next(), None);
    path
}

/// Changes an object where it lies.
pub(super) async fn damage(memory: &MemoryStorage, path: &StoragePath, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = memory.read_all(path, 64 * MIB).await.unwrap().to_vec();
    change(&mut bytes);
    memory.write_all(path, Bytes::from(bytes)).await.unwrap();
}

pub(super) fn info_paths() -> [StoragePath; 2] {
    let main = path::archive_info(&Stanza::parse("demo").unwrap());
    let copy = path::copy_of(&main);
    [main, copy]
}

/// A segment as its name says, filled with bytes that hardly compress.
pub(super) fn segment_of(cluster: ClusterIdentity, name: &str, seed: u8, size_bytes: usize) -> Vec<u8> {
    let mut bytes = vec![0; size_bytes];
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for chunk in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    let header = sample("pg15-1mib-00000001000000000000000A.wal");
    bytes[..40].copy_from_slice(&header[..40]);
    let size = WalSegmentSize::new(u32::try_from(size_bytes).unwrap()).unwrap();
    let plain_name = name.get(..24).unwrap();
    let lsn = WalSegmentName::parse(plain_name).unwrap().start_lsn(size).unwrap();
    bytes[8..16].copy_from_slice(&lsn.0.to_le_bytes());
    bytes[24..32].copy_from_slice(&cluster.system_id.0.to_le_bytes());
    bytes[32..36].copy_from_slice(&size.bytes().to_le_bytes());
    bytes
}

pub(super) fn other_cluster(cluster: ClusterIdentity) -> ClusterIdentity {
    ClusterIdentity { version: cluster.version, system_id: SystemId(cluster.system_id.0 + 1) }
}

pub(super) fn other_version(cluster: ClusterIdentity) -> ClusterIdentity {
    ClusterIdentity { version: PgVersion::parse("14").unwrap(), ..cluster }
}

/// A real file of `formats/samples/postgres`.
fn sample(name: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../formats/samples/postgres");
    fs::read(folder.join(name)).unwrap()
}

/// The stored bytes of a file in a repository with this passphrase.
pub(super) fn encode(world: &World, plain: &[u8], compress: CompressType, passphrase: Option<&Passphrase>) -> Bytes {
    let compress = Compression::with_default_level(compress);
    let spec = StoreSpec { compress, cipher: passphrase, form: Form::Standard, pages: None };
    let mut stored = Vec::new();
    let mut sink = |piece: &[u8]| {
        stored.extend_from_slice(piece);
        Ok(())
    };
    let mut chain = order::store(&spec, &world.context.codecs, world.context.random.as_ref()).unwrap();
    chain.write(plain, &mut sink).unwrap();
    chain.finish(&mut sink).unwrap();
    stored.into()
}
