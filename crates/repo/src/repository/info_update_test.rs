//! Info files with other writers about, on stores of every personality.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::{SystemClock, SystemRandom};
use crate::filter::Codecs;
use crate::format::Stanza;
use crate::postgres::{PgVersion, SystemId};
use crate::progress::Silent;
use crate::repository::{RepoIndex, Repository};
use crate::storage::fault::{Call, Fault, FaultStorage, KeyPattern, Phase, Rule, When};
use crate::storage::watched::Watched;
use crate::storage::{ConditionSupport, LocalStorage, MemoryOptions, MemoryStorage, Storage};
use crate::transfer::Budget;

const MAIN: &str = "archive/demo/archive.info";
const COPY: &str = "archive/demo/archive.info.copy";

const PERSONALITIES: [ConditionSupport; 4] =
    [ConditionSupport::Checked, ConditionSupport::Unproven, ConditionSupport::Ignored, ConditionSupport::Refused];

/// What a write to the main file costs beyond the write: the attempt that a store refuses whatever is there.
fn refused_puts(conditions: ConditionSupport) -> u64 {
    u64::from(matches!(conditions, ConditionSupport::Unproven | ConditionSupport::Refused))
}

/// The look at the main file after the pair was written.
fn look_after(conditions: ConditionSupport) -> (Call, u32) {
    match conditions {
        ConditionSupport::Checked => (Call::Info, 1),
        ConditionSupport::Unproven => (Call::Info, 2),
        ConditionSupport::Ignored | ConditionSupport::Refused => (Call::Read, 2),
    }
}

fn context() -> Context {
    Context {
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        budget: Budget::new(1024 * 1024),
        codecs: Codecs::new(1),
        cancel: CancellationToken::new(),
        reporter: Arc::new(Silent),
    }
}

fn repository(storage: Arc<dyn Storage>) -> WritableRepository {
    let stanza = Stanza::parse("demo").unwrap();
    WritableRepository::new(Repository::new(RepoIndex::new(1).unwrap(), stanza, storage, None))
}

/// A store with an archive.info of one cluster.
async fn store(conditions: ConditionSupport) -> Arc<MemoryStorage> {
    let storage =
        Arc::new(MemoryStorage::new(Arc::new(SystemClock), MemoryOptions { conditions, ..MemoryOptions::default() }));
    let info = ArchiveInfo::new(None, PgVersion::V15, SystemId(1));
    repository(storage.clone()).create_archive_info(&info, &context()).await.unwrap();
    storage
}

/// Makes a cluster of the history, if it is not there yet.
async fn adopt(repository: &WritableRepository, id: u64) -> Result<ArchiveInfo> {
    let change = |info: &mut ArchiveInfo| {
        if clusters(info).contains(&id) {
            return Ok(Change::Nothing);
        }
        info.upgrade(PgVersion::V15, SystemId(id)).unwrap();
        Ok(Change::Write)
    };
    repository.update_archive_info(&context(), change).await
}

fn clusters(info: &ArchiveInfo) -> Vec<u64> {
    info.history().generations().iter().map(|generation| generation.system_id.0).collect()
}

fn stored(storage: &MemoryStorage, name: &str) -> Vec<u64> {
    clusters(&ArchiveInfo::parse(&storage.objects()[name]).unwrap())
}

/// Calls `interfere` before the `nth` call of this kind for the main file.
fn interrupted<P>(
    storage: &Arc<MemoryStorage>,
    call: Call,
    nth: u32,
    interfere: impl Fn(Arc<MemoryStorage>) -> P + Send + Sync + 'static,
) -> WritableRepository
where
    P: Future<Output = ()> + Send + 'static,
{
    let (count, inner) = (AtomicU32::new(0), storage.clone());
    let interfere = Arc::new(interfere);
    repository(Watched::storage(storage.clone(), move |seen, path| {
        let is_due = seen == call && path.as_str() == MAIN && count.fetch_add(1, Ordering::Relaxed) + 1 == nth;
        let interference = is_due.then(|| interfere(inner.clone()));
        async move {
            if let Some(interference) = interference {
                interference.await;
            }
        }
    }))
}

#[tokio::test]
async fn np08_in12_every_kind_of_store_can_be_written_to() {
    for conditions in PERSONALITIES {
        let storage = store(conditions).await;
        let counted = Arc::new(FaultStorage::new(storage.clone(), 1));
        adopt(&repository(counted.clone()), 2).await.unwrap();
        assert_eq!((stored(&storage, MAIN), stored(&storage, COPY)), (vec![1, 2], vec![1, 2]), "{conditions:?}");
        let puts = 2 + refused_puts(conditions);
        assert_eq!(counted.requests_of(Call::Put), puts, "{conditions:?}");
        // A second time there is nothing to do.
        adopt(&repository(counted.clone()), 2).await.unwrap();
        assert_eq!(counted.requests_of(Call::Put), puts, "{conditions:?}");
    }
}

#[tokio::test]
async fn np08_a_store_that_checks_is_recognised_by_the_write() {
    let storage = store(ConditionSupport::Unproven).await;
    let puts = Arc::new(AtomicU32::new(0));
    let inner = storage.clone();
    let ours = repository(Watched::storage(storage.clone(), move |call, path| {
        // The other writer comes after the look and after the attempt that shows that conditions are checked.
        let race = call == Call::Put && path.as_str() == MAIN && puts.fetch_add(1, Ordering::Relaxed) == 1;
        let inner = inner.clone();
        async move {
            if race {
                write_blindly(&inner, &other_history()).await;
            }
        }
    }));
    let info = adopt(&ours, 2).await.unwrap();
    assert_eq!(clusters(&info), [1, 3, 2]);
    assert_eq!((stored(&storage, MAIN), stored(&storage, COPY)), (vec![1, 3, 2], vec![1, 3, 2]));
}

#[tokio::test]
async fn in12_a_change_between_read_and_write_is_kept() {
    for conditions in PERSONALITIES {
        // Before the look that a store without conditions gets, or before the write itself.
        let call = if conditions == ConditionSupport::Checked { Call::Put } else { Call::Info };
        let storage = store(conditions).await;
        let ours = interrupted(&storage, call, 1, async |inner| {
            adopt(&repository(inner), 3).await.unwrap();
        });
        let info = adopt(&ours, 2).await.unwrap();
        assert_eq!(clusters(&info), [1, 3, 2], "{conditions:?}");
        assert_eq!((stored(&storage, MAIN), stored(&storage, COPY)), (vec![1, 3, 2], vec![1, 3, 2]), "{conditions:?}");
    }
}

/// As the original does it: no look before, none after.
async fn write_blindly(storage: &MemoryStorage, info: &ArchiveInfo) {
    for name in [MAIN, COPY] {
        storage.write_all(&StoragePath::parse(name).unwrap(), info.write().into()).await.unwrap();
    }
}

/// The first cluster, and another that we did not know of.
fn other_history() -> ArchiveInfo {
    let mut other = ArchiveInfo::new(None, PgVersion::V15, SystemId(1));
    other.upgrade(PgVersion::V18, SystemId(3)).unwrap();
    other
}

#[tokio::test]
async fn in12_a_change_that_is_written_over_is_made_again() {
    for conditions in PERSONALITIES {
        let storage = store(conditions).await;
        // Read before us, written after us: ours is gone.
        let (call, nth) = look_after(conditions);
        let ours = interrupted(&storage, call, nth, async |inner| {
            write_blindly(&inner, &other_history()).await;
        });
        let info = adopt(&ours, 2).await.unwrap();
        assert_eq!(clusters(&info), [1, 3, 2], "{conditions:?}");
        assert_eq!((stored(&storage, MAIN), stored(&storage, COPY)), (vec![1, 3, 2], vec![1, 3, 2]), "{conditions:?}");
    }
}

#[tokio::test]
async fn in12_a_change_that_vanished_is_made_again() {
    for conditions in PERSONALITIES {
        let storage = store(conditions).await;
        let (call, nth) = look_after(conditions);
        let ours = interrupted(&storage, call, nth, async |inner| {
            inner.remove(&StoragePath::parse(MAIN).unwrap()).await.unwrap();
        });
        // The copy, which has the change, is what there is to start over from.
        adopt(&ours, 2).await.unwrap();
        assert_eq!((stored(&storage, MAIN), stored(&storage, COPY)), (vec![1, 2], vec![1, 2]), "{conditions:?}");
    }
}

#[tokio::test]
async fn in12_writers_at_once_are_all_kept() {
    let storage = store(ConditionSupport::Checked).await;
    let writers = (2..10).map(|id| {
        // Every call gives way to the others.
        let ours = repository(Watched::storage(storage.clone(), |_, _| tokio::task::yield_now()));
        async move { adopt(&ours, id).await.unwrap() }
    });
    futures_util::future::join_all(writers).await;
    let mut found = stored(&storage, MAIN);
    found.sort_unstable();
    assert_eq!(found, (1..10).collect::<Vec<_>>());
    assert_eq!(storage.objects()[MAIN], storage.objects()[COPY], "the copy is another one");
}

#[tokio::test]
async fn in12_others_that_are_always_faster_end_the_change() {
    let storage = store(ConditionSupport::Checked).await;
    let count = Arc::new(AtomicU32::new(100));
    let inner = storage.clone();
    let ours = repository(Watched::storage(storage.clone(), move |call, path| {
        let race = call == Call::Put && path.as_str() == MAIN;
        let (inner, count) = (inner.clone(), count.clone());
        async move {
            if race {
                adopt(&repository(inner), count.fetch_add(1, Ordering::Relaxed).into()).await.unwrap();
            }
        }
    }));
    let error = adopt(&ours, 2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockAcquire, "{error}");
    assert!(!stored(&storage, MAIN).contains(&2));
}

#[tokio::test]
async fn in12_two_that_create_at_once_do_not_mix() {
    for conditions in [ConditionSupport::Checked, ConditionSupport::Refused] {
        let storage = Arc::new(MemoryStorage::new(
            Arc::new(SystemClock),
            MemoryOptions { conditions, ..MemoryOptions::default() },
        ));
        let call = if conditions == ConditionSupport::Checked { Call::Put } else { Call::Info };
        let ours = interrupted(&storage, call, 1, async |inner| {
            let other = ArchiveInfo::new(None, PgVersion::V18, SystemId(7));
            repository(inner).create_archive_info(&other, &context()).await.unwrap();
        });
        let info = ArchiveInfo::new(None, PgVersion::V15, SystemId(1));
        let error = ours.create_archive_info(&info, &context()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileExists, "{conditions:?}: {error}");
        assert_eq!((stored(&storage, MAIN), stored(&storage, COPY)), (vec![7], vec![7]), "{conditions:?}");
    }
}

#[tokio::test]
async fn in03_a_crash_leaves_one_of_the_two_versions_and_the_next_save_heals() {
    for conditions in PERSONALITIES {
        for mutations in 0..2 {
            let storage = store(conditions).await;
            let crashing = Arc::new(FaultStorage::new(storage.clone(), 1));
            // Refused attempts count, too.
            crashing.crash_after(mutations + refused_puts(conditions));
            adopt(&repository(crashing), 2).await.unwrap_err();
            let main = if mutations == 0 { vec![1] } else { vec![1, 2] };
            assert_eq!((stored(&storage, MAIN), stored(&storage, COPY)), (main.clone(), vec![1]), "{conditions:?}");
            // The older copy is not preferred.
            let loaded = repository(storage.clone()).archive_info(&context()).await.unwrap();
            assert_eq!(clusters(&loaded), main);
            adopt(&repository(storage.clone()), 3).await.unwrap();
            assert_eq!(storage.objects()[MAIN], storage.objects()[COPY]);
        }
    }
}

#[tokio::test]
async fn np01_a_main_file_that_cannot_be_read_is_not_replaced_by_its_copy() {
    let storage = store(ConditionSupport::Checked).await;
    for class in [ErrorClass::Denied, ErrorClass::Transient, ErrorClass::Throttled, ErrorClass::Permanent] {
        let broken = Arc::new(FaultStorage::new(storage.clone(), 1));
        let rule = Rule::new(Call::Read, When::Always, Fault::Fail(class, Phase::Before));
        broken.add_rule(rule.on(KeyPattern::Exact(MAIN.to_owned())));
        let error = adopt(&repository(broken), 2).await.unwrap_err();
        assert_eq!(error.storage_class(), Some(class), "{error}");
        assert_eq!((stored(&storage, MAIN), stored(&storage, COPY)), (vec![1], vec![1]));
    }
}

#[tokio::test]
async fn in01_a_damaged_main_file_is_replaced_on_condition_too() {
    for conditions in PERSONALITIES {
        let storage = store(conditions).await;
        storage.write_all(&StoragePath::parse(MAIN).unwrap(), "damaged".into()).await.unwrap();
        adopt(&repository(storage.clone()), 2).await.unwrap();
        assert_eq!((stored(&storage, MAIN), stored(&storage, COPY)), (vec![1, 2], vec![1, 2]), "{conditions:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in05_a_reader_sees_one_whole_version_while_it_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let local: Arc<dyn Storage> = Arc::new(LocalStorage::new(directory.path().to_owned()));
    let info = ArchiveInfo::new(None, PgVersion::V15, SystemId(1));
    repository(local.clone()).create_archive_info(&info, &context()).await.unwrap();
    let done = CancellationToken::new();
    let (storage, ended) = (local.clone(), done.clone());
    let reader = tokio::spawn(async move {
        let (mut reads, mut newest) = (0_u32, 1);
        while !ended.is_cancelled() {
            // The main file itself: a fall back to the copy would hide what this looks for.
            let bytes = storage.read_all(&StoragePath::parse(MAIN).unwrap(), 1 << 20).await;
            match bytes {
                Ok(bytes) => {
                    let seen = clusters(&ArchiveInfo::parse(&bytes).unwrap()).len();
                    assert!(seen >= newest, "an older version came back");
                    newest = seen;
                    reads += 1;
                }
                // It was replaced while it was read: said, not mixed up.
                Err(error) => assert_eq!(error.class(), ErrorClass::Conflict, "{error}"),
            }
        }
        reads
    });
    for id in 2..150 {
        adopt(&repository(local.clone()), id).await.unwrap();
    }
    done.cancel();
    assert!(reader.await.unwrap() > 20, "the reader hardly came to read");
}
