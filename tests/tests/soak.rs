//! RE02: what a process that lives for long keeps of each operation: nothing. A program of its own, since it looks at all of
//! its memory. `PGBR_SOAK=n` makes n times as many rounds.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pgbr_repo::clock::{SystemClock, SystemRandom};
use pgbr_repo::command::archive::get::{GetRequest, Got, get};
use pgbr_repo::command::archive::push::{PushOptions, push};
use pgbr_repo::command::archive::{ClusterIdentity, WalSource};
use pgbr_repo::filter::{Codecs, Compression, Passphrase};
use pgbr_repo::format::{ArchiveInfo, CipherPass, CompressType, Stanza};
use pgbr_repo::postgres::{ControlFile, Lsn, Timeline, WalSegmentSize};
use pgbr_repo::progress::{Context, Silent};
use pgbr_repo::repository::{RepoIndex, Repository, WritableRepository};
use pgbr_repo::storage::retry::RetryPolicy;
use pgbr_repo::storage::{LocalStorage, RetryStorage, Storage};
use pgbr_repo::transfer::Budget;

/// Rounds until everything has its size, and rounds that are watched.
const WARM_UP: u64 = 100;
const WATCHED: u64 = 400;

fn sample(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../formats/samples/postgres").join(name)).unwrap()
}

/// Resident bytes, descriptors and threads of this process.
fn held() -> (u64, usize, usize) {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    let count = |name: &str| fs::read_dir(format!("/proc/self/{name}")).unwrap().count();
    (pages * 4096, count("fd"), count("task"))
}

#[tokio::test]
async fn re02_memory_descriptors_and_threads_stay_as_they_are() {
    // In memory where the system has a place for that: each round waits for the disk otherwise.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let control = ControlFile::parse(&sample("pg15-1mib.pg_control")).unwrap();
    let cluster = ClusterIdentity { version: control.version(), system_id: control.system_id() };
    let context = Context {
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        budget: Budget::new(24 << 20),
        codecs: Codecs::new(2),
        cancel: Default::default(),
        reporter: Arc::new(Silent),
    };
    let local = Arc::new(LocalStorage::new(dir.path().join("repo")));
    let storage: Arc<dyn Storage> = Arc::new(RetryStorage::new(local, RetryPolicy::default(), Arc::new(SystemRandom)));
    let (index, stanza) = (RepoIndex::new(1).unwrap(), Stanza::parse("demo").unwrap());
    let pass = Some(Passphrase::new(b"geheim").unwrap());
    let repository = WritableRepository::new(Repository::new(index, stanza, storage, pass));
    let info = ArchiveInfo::new(Some(CipherPass::new(b"inner".to_vec())), cluster.version, cluster.system_id);
    repository.save_archive_info(&info, &context).await.unwrap();

    let mut bytes = vec![7; 1 << 20];
    bytes[..40].copy_from_slice(&sample("pg15-1mib-00000001000000000000000A.wal")[..40]);
    let destination = dir.path().join("RECOVERYXLOG");
    let watched = WATCHED * std::env::var("PGBR_SOAK").map_or(1, |text| text.parse::<u64>().unwrap());
    let mut before = held();
    for round in 0..WARM_UP + watched {
        if round == WARM_UP {
            before = held();
        }
        let lsn = Lsn((round + 1) << 20);
        let path = dir.path().join(lsn.segment(Timeline::FIRST, WalSegmentSize::MIN).to_string());
        bytes[8..16].copy_from_slice(&lsn.0.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        let kinds = [CompressType::None, CompressType::Zst, CompressType::Gz, CompressType::Lz4];
        let compress = Compression::with_default_level(kinds[usize::try_from(round % 4).unwrap()]);
        let options = PushOptions { header_check: true, mode_check: true, compress, cluster: Some(cluster) };
        let source = WalSource::new(&path).unwrap();
        push(std::slice::from_ref(&repository), &source, &options, &context).await.unwrap();
        let request = GetRequest { name: source.name, cluster, segment_size: WalSegmentSize::MIN };
        let got = get(&[(*repository).clone()], request, &destination, &context).await.unwrap();
        assert!(matches!(got, Got::Found { .. }));
        fs::remove_file(&path).unwrap();
        for entry in fs::read_dir(dir.path().join("repo/archive/demo/15-1/0000000100000000")).into_iter().flatten() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
    let after = held();
    assert!(after.0 <= before.0 + before.0 / 20 + (1 << 20), "{} MiB, then {} MiB", before.0 >> 20, after.0 >> 20);
    assert!(after.1 <= before.1 + 1, "descriptors: {} and {}", before.1, after.1);
    assert!(after.2 <= before.2 + 1, "threads: {} and {}", before.2, after.2);
}
