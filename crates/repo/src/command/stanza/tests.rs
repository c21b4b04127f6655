//! stanza-create over what is there, and info files that cannot be used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use super::create::create;
use super::upgrade::upgrade;
use super::{StanzaCluster, delete};
use crate::clock::{SystemClock, SystemRandom};
use crate::error::{ErrorKind, Result};
use crate::filter::{Codecs, Passphrase};
use crate::format::{ArchiveInfo, DbHistory, Stanza};
use crate::postgres::{PgVersion, SystemId};
use crate::progress::{Context, Silent};
use crate::repository::{Change, RepoIndex, Repository, WritableRepository};
use crate::storage::fault::{Call, Fault, Phase, Rule, When};
use crate::storage::watched::Watched;
use crate::storage::{ErrorClass, FaultStorage, MemoryOptions, MemoryStorage, Storage, StorageExt, StoragePath};
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
    // Without archive.info; without backup.info is below.
    remove(&storage, FILES[0]).await;
    remove(&storage, FILES[1]).await;
    let before = storage.objects();
    assert_eq!(create_on(storage.clone()).await.unwrap_err().kind(), ErrorKind::FileMissing);
    assert_eq!(storage.objects(), before);
}

#[tokio::test]
async fn in09_a_stanza_made_half_is_completed_or_named() {
    for mutations in 0..4 {
        let storage = Arc::new(memory());
        let crashing = FaultStorage::new(storage.clone(), 1);
        crashing.crash_after(mutations);
        create_on(Arc::new(crashing)).await.unwrap_err();
        let before = storage.objects();
        create_on(storage.clone()).await.unwrap_or_else(|error| panic!("after {mutations} writes: {error}"));
        let made = storage.objects();
        assert_eq!(made.keys().map(String::as_str).collect::<Vec<_>>(), FILES, "after {mutations} writes");
        assert!(before.iter().all(|(name, content)| made[name] == *content), "something was written again");
        create_on(storage.clone()).await.unwrap();
        assert_eq!(storage.objects(), made);
    }
}

#[tokio::test]
async fn in09_what_may_have_lost_its_backup_info_is_not_taken_for_half_made() {
    for other in ["archive/demo/15-1/0000000100000000/x", "backup/demo/20261122-061730F/backup.manifest"] {
        let storage = Arc::new(memory());
        create_on(storage.clone()).await.unwrap();
        remove(&storage, FILES[2]).await;
        remove(&storage, FILES[3]).await;
        storage.write_all(&StoragePath::parse(other).unwrap(), "data".into()).await.unwrap();
        let before = storage.objects();
        let error = create_on(storage.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileMissing, "{error}");
        assert!(error.message().contains("backup.info is missing"), "{error}");
        assert_eq!(storage.objects(), before);
    }
    let storage = Arc::new(memory());
    create_on(storage.clone()).await.unwrap();
    remove(&storage, FILES[2]).await;
    remove(&storage, FILES[3]).await;
    let other = StanzaCluster { system_id: SystemId(1), ..cluster() };
    let refused = create(&[repository(storage, Some("sesame"))], other, &context()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::FileInvalid);
}

/// The cluster after a major upgrade.
fn upgraded_cluster() -> StanzaCluster {
    let version = PgVersion::V18;
    let catalog_version = version.facts().map_or(0, |facts| facts.catalog_version);
    StanzaCluster { version, system_id: SystemId(7_000_000_000_000_000_002), catalog_version }
}

async fn upgrade_on(storage: Arc<dyn Storage>) -> Result<()> {
    upgrade(&[repository(storage, Some("sesame"))], upgraded_cluster(), &context()).await
}

/// The archive ids of both info files, the current one last.
async fn ids(storage: Arc<dyn Storage>) -> [Vec<String>; 2] {
    let repository = repository(storage, Some("sesame"));
    let ids = |history: &DbHistory| {
        assert_eq!(history.current(), history.generations().last().unwrap());
        history.generations().iter().map(|generation| generation.archive_id().to_string()).collect()
    };
    let archive = repository.archive_info(&context()).await.unwrap();
    let backup = repository.backup_info(&context()).await.unwrap();
    [ids(archive.history()), ids(backup.history())]
}

#[tokio::test]
async fn in10_an_upgrade_that_ended_anywhere_is_finished_by_the_next() {
    for mutations in 0..4 {
        let storage = Arc::new(memory());
        create_on(storage.clone()).await.unwrap();
        let crashing = FaultStorage::new(storage.clone(), 1);
        crashing.crash_after(mutations);
        upgrade_on(Arc::new(crashing)).await.unwrap_err();
        if (1..3).contains(&mutations) {
            // In between nobody mistakes the stanza for a whole one.
            let error = create_on(storage.clone()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::FileInvalid, "after {mutations} writes: {error}");
        }
        upgrade_on(storage.clone()).await.unwrap();
        assert_eq!(ids(storage.clone()).await, [["15-1", "18-2"], ["15-1", "18-2"]], "after {mutations} writes");
        let objects = storage.objects();
        upgrade_on(storage.clone()).await.unwrap();
        assert_eq!(storage.objects(), objects, "the second run changed something");
    }
}

#[tokio::test]
async fn in12_two_upgrades_at_once_do_not_give_one_id_to_two_clusters() {
    let storage = Arc::new(memory());
    create_on(storage.clone()).await.unwrap();
    let inner = storage.clone();
    let first = AtomicBool::new(true);
    let raced = Watched::storage(storage.clone(), move |call, _| {
        let race = call == Call::Put && first.swap(false, Ordering::Relaxed);
        let inner = inner.clone();
        async move {
            if race {
                let other = StanzaCluster { system_id: SystemId(3), ..upgraded_cluster() };
                upgrade(&[repository(inner, Some("sesame"))], other, &context()).await.unwrap();
            }
        }
    });
    let error = upgrade_on(raced).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileInvalid, "{error}");
    // Run again for the cluster that is to stay, both files agree.
    upgrade_on(storage.clone()).await.unwrap();
    assert_eq!(ids(storage).await, [["15-1", "18-2", "18-3"], ["15-1", "18-2", "18-3"]]);
}

#[tokio::test]
async fn an_upgrade_of_files_that_disagree_writes_nothing() {
    let storage = Arc::new(memory());
    create_on(storage.clone()).await.unwrap();
    let repository = repository(storage.clone(), Some("sesame"));
    for id in [5, 6] {
        let change = |info: &mut ArchiveInfo| {
            info.upgrade(PgVersion::V17, SystemId(id)).unwrap();
            Ok(Change::Write)
        };
        repository.update_archive_info(&context(), change).await.unwrap();
    }
    let before = storage.objects();
    assert_eq!(upgrade_on(storage.clone()).await.unwrap_err().kind(), ErrorKind::FileInvalid);
    assert_eq!(storage.objects(), before);
}

async fn delete_on(storage: Arc<dyn Storage>) -> Result<()> {
    let repository = repository(storage, Some("sesame"));
    delete::look(&repository).await?.remove(&context()).await
}

/// A stanza with a backup and WAL.
async fn filled() -> MemoryStorage {
    let made = Arc::new(memory());
    create_on(made.clone()).await.unwrap();
    for name in ["archive/demo/15-1/0000000100000000/a", "backup/demo/20261122-061730F/backup.manifest", "other"] {
        made.write_all(&StoragePath::parse(name).unwrap(), "data".into()).await.unwrap();
    }
    made.fork()
}

#[tokio::test]
async fn in09_a_removal_that_ended_anywhere_is_finished_by_the_next() {
    for mutations in 0..=6 {
        let storage = Arc::new(filled().await);
        let crashing = FaultStorage::new(storage.clone(), 1);
        crashing.crash_after(mutations);
        let crashed = delete_on(Arc::new(crashing)).await.is_err();
        assert_eq!(crashed, mutations < 6, "after {mutations} removals");
        let left = storage.objects();
        if mutations >= 4 {
            assert!(!left.keys().any(|name| name.contains(".info")), "{:?}", left.keys());
        }
        delete_on(storage.clone()).await.unwrap();
        assert_eq!(storage.objects().into_keys().collect::<Vec<_>>(), ["other"]);
        delete_on(storage.clone()).await.unwrap();
    }
}

#[tokio::test]
async fn np05_a_stanza_that_cannot_be_listed_is_not_removed() {
    for class in [ErrorClass::Denied, ErrorClass::Transient, ErrorClass::Permanent] {
        let storage = Arc::new(filled().await);
        let before = storage.objects();
        let broken = FaultStorage::new(storage.clone(), 1);
        broken.add_rule(Rule::new(Call::ListPage, When::Nth(2), Fault::Fail(class, Phase::Before)));
        assert_eq!(delete_on(Arc::new(broken)).await.unwrap_err().storage_class(), Some(class));
        assert_eq!(storage.objects(), before);
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
        repository.update_archive_info(&context(), |_| Ok(Change::Write)).await.unwrap();
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
