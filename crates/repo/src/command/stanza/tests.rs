//! stanza-create over what is there, and info files that cannot be used.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::StanzaCluster;
use super::create::create;
use crate::clock::{SystemClock, SystemRandom};
use crate::error::{ErrorKind, Result};
use crate::filter::{Codecs, Passphrase};
use crate::format::Stanza;
use crate::postgres::{PgVersion, SystemId};
use crate::progress::{Context, Silent};
use crate::repository::{RepoIndex, Repository, WritableRepository};
use crate::storage::{FaultStorage, MemoryOptions, MemoryStorage, Storage, StorageExt, StoragePath};
use crate::transfer::Budget;

const FILES: [&str; 4] = [
    "archive/demo/archive.info",
    "archive/demo/archive.info.copy",
    "backup/demo/backup.info",
    "backup/demo/backup.info.copy",
];

fn context() -> Context {
    Context {
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        budget: Budget::new(32 * 1024 * 1024),
        codecs: Codecs::new(1),
        cancel: CancellationToken::new(),
        reporter: Arc::new(Silent),
    }
}

fn cluster() -> StanzaCluster {
    let version = PgVersion::V15;
    let catalog_version = version.facts().map_or(0, |facts| facts.catalog_version);
    StanzaCluster { version, system_id: SystemId(7_000_000_000_000_000_001), catalog_version }
}

fn memory() -> MemoryStorage {
    MemoryStorage::new(Arc::new(SystemClock), MemoryOptions::default())
}

fn repository(storage: Arc<dyn Storage>, pass: Option<&str>) -> WritableRepository {
    let pass = pass.map(|pass| Passphrase::new(pass.as_bytes()).unwrap());
    let stanza = Stanza::parse("demo").unwrap();
    WritableRepository::new(Repository::new(RepoIndex::new(1).unwrap(), stanza, storage, pass))
}

async fn create_on(storage: Arc<dyn Storage>) -> Result<()> {
    create(&[repository(storage, Some("sesame"))], cluster(), &context()).await
}

async fn remove(storage: &MemoryStorage, name: &str) {
    storage.remove(&StoragePath::parse(name).unwrap()).await.unwrap();
}

async fn damage(storage: &MemoryStorage, name: &str) {
    let path = StoragePath::parse(name).unwrap();
    let mut bytes = storage.read_all(&path, 1 << 20).await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    storage.write_all(&path, bytes.into()).await.unwrap();
}

#[tokio::test]
async fn a_new_stanza_has_its_four_files_and_can_be_made_again() {
    let storage = Arc::new(memory());
    create_on(storage.clone()).await.unwrap();
    let made = storage.objects();
    assert_eq!(made.keys().map(String::as_str).collect::<Vec<_>>(), FILES);
    assert_eq!(made[FILES[0]], made[FILES[1]]);
    assert_eq!(made[FILES[2]], made[FILES[3]]);
    create_on(storage.clone()).await.unwrap();
    assert_eq!(storage.objects(), made, "the second run changed something");
}

#[tokio::test]
async fn in09_a_stanza_is_never_made_over_data() {
    for name in ["archive/demo/15-1/00000001.history", "backup/demo/20261122-061730F/backup.manifest"] {
        let storage = Arc::new(memory());
        storage.write_all(&StoragePath::parse(name).unwrap(), "data".into()).await.unwrap();
        let before = storage.objects();
        assert_eq!(create_on(storage.clone()).await.unwrap_err().kind(), ErrorKind::PathNotEmpty, "{name}");
        assert_eq!(storage.objects(), before);
    }
}

#[tokio::test]
async fn in09_another_cluster_is_refused() {
    let storage = Arc::new(memory());
    create_on(storage.clone()).await.unwrap();
    let before = storage.objects();
    let other = StanzaCluster { system_id: SystemId(1), ..cluster() };
    let refused = create(&[repository(storage.clone(), Some("sesame"))], other, &context()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::FileInvalid);
    assert_eq!(storage.objects(), before);
}

#[tokio::test]
async fn in09_one_missing_kind_is_named_and_a_missing_copy_comes_back() {
    let storage = Arc::new(memory());
    create_on(storage.clone()).await.unwrap();
    let whole = storage.objects();
    for name in FILES {
        remove(&storage, name).await;
        create_on(storage.clone()).await.unwrap();
        assert_eq!(storage.objects(), whole, "{name} did not come back");
    }
    for pair in [&FILES[..2], &FILES[2..]] {
        let storage = Arc::new(storage.fork());
        for name in pair {
            remove(&storage, name).await;
        }
        let before = storage.objects();
        assert_eq!(create_on(storage.clone()).await.unwrap_err().kind(), ErrorKind::FileMissing);
        assert_eq!(storage.objects(), before);
    }
}

#[tokio::test]
async fn in09_a_stanza_made_half_is_completed_or_named() {
    for mutations in 0..4 {
        let storage = Arc::new(memory());
        let crashing = FaultStorage::new(storage.clone(), 1);
        crashing.crash_after(mutations);
        create_on(Arc::new(crashing)).await.unwrap_err();
        match create_on(storage.clone()).await {
            // Nothing or both kinds were there.
            Ok(()) => assert_eq!(storage.objects().len(), 4, "after {mutations} writes"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::FileMissing, "after {mutations} writes: {error}");
                assert!(error.message().contains("backup.info is missing"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn in01_a_damaged_or_missing_file_is_replaced_by_its_copy() {
    let storage = Arc::new(memory());
    create_on(storage.clone()).await.unwrap();
    let repository = repository(storage.clone(), Some("sesame"));
    let info = repository.archive_info(&context()).await.unwrap();
    for damaged in [true, false] {
        match damaged {
            true => damage(&storage, FILES[0]).await,
            false => remove(&storage, FILES[0]).await,
        }
        assert_eq!(repository.archive_info(&context()).await.unwrap(), info);
        repository.save_archive_info(&info, &context()).await.unwrap();
        assert_eq!(storage.objects()[FILES[0]], storage.objects()[FILES[1]], "the next save repairs both");
    }
}

#[tokio::test]
async fn in02_two_bad_files_are_both_named_and_nothing_is_made_anew() {
    let storage = Arc::new(memory());
    create_on(storage.clone()).await.unwrap();
    damage(&storage, FILES[0]).await;
    remove(&storage, FILES[1]).await;
    let before = storage.objects();
    let repository = repository(storage.clone(), Some("sesame"));
    let error = repository.archive_info(&context()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Checksum | ErrorKind::Format | ErrorKind::Crypto), "{error}");
    assert!(error.message().contains("FileMissingError"), "the missing copy is not named: {error}");
    create_on(storage.clone()).await.unwrap_err();
    assert_eq!(storage.objects(), before);
}

#[tokio::test]
async fn cr01_cr05_a_wrong_key_or_a_plain_file_is_refused() {
    let storage = Arc::new(memory());
    create_on(storage.clone()).await.unwrap();
    let wrong = repository(storage.clone(), Some("another")).archive_info(&context()).await.unwrap_err();
    assert!(matches!(wrong.kind(), ErrorKind::Crypto | ErrorKind::Format | ErrorKind::Checksum), "{wrong}");
    assert!(!wrong.message().contains("another"), "the passphrase is shown");
    assert!(repository(storage.clone(), None).archive_info(&context()).await.is_err());

    let plain = Arc::new(memory());
    create(&[repository(plain.clone(), None)], cluster(), &context()).await.unwrap();
    let downgraded = repository(plain, Some("sesame")).archive_info(&context()).await.unwrap_err();
    assert_eq!(downgraded.kind(), ErrorKind::Crypto, "{downgraded}");
}
