//! BK13: the process dies after every single change of the repository.

use std::sync::Arc;

use pgbr_repo::command::backup::BackupOptions;
use pgbr_repo::format::BackupType;
use pgbr_repo::storage::{FaultStorage, LocalStorage, Storage};
use pgbr_testkit::user;

use crate::fake::{Server, noise};
use crate::stage::{Stage, content, listed, memory, verifies, writable};

/// What the backups are.
#[derive(Clone, Copy)]
enum Form {
    /// Full, each file in an object of its own.
    Whole,
    /// Full, in bundles.
    Bundled,
    /// A full one, and incremental ones on top, in blocks.
    IncrementalBlocks,
}

impl Form {
    fn first(self, stage: &Stage) -> BackupOptions {
        match self {
            Self::Whole => stage.options(false),
            Self::Bundled => stage.options(true),
            Self::IncrementalBlocks => stage.blocks(BackupType::Full),
        }
    }

    fn next(self, stage: &Stage) -> BackupOptions {
        match self {
            Self::IncrementalBlocks => stage.blocks(BackupType::Incremental),
            _ => self.first(stage),
        }
    }
}

/// After a crash at change `at` of the second backup everything that is listed is whole, and the next backup works.
/// Tells whether the backup came to its end before the crash.
async fn crash(inner: Arc<dyn Storage>, at: u64, form: Form) -> bool {
    let store = Arc::new(FaultStorage::new(Arc::clone(&inner), 1));
    let stage = Stage::new(Arc::clone(&store) as Arc<dyn Storage>).await;
    let first = stage.backup(&Server::new(&stage.data), &form.first(&stage)).await.unwrap().label;
    stage.data.write("base/1/101", &noise(at, 3 * 8192));
    stage.data.write("base/1/102", &[noise(102, 99 * 8192), noise(at, 9000)].concat());
    store.crash_after(at);
    let second = stage.backup(&Server::new(&stage.data), &form.next(&stage)).await;
    let crashed = store.has_crashed();
    assert_eq!(second.is_err(), crashed, "at {at}: {second:?}");
    drop(store);

    // Another process, on what is left.
    let repository = writable(inner);
    let survivors = listed(&repository, &stage.context).await;
    assert!(survivors.starts_with(&[first]), "at {at}: {survivors:?}");
    for label in &survivors {
        content(&repository, &stage.context, label).await;
    }
    let stage = Stage { repository, ..stage };
    let third = stage.backup(&Server::new(&stage.data), &form.next(&stage)).await;
    let third = third.unwrap_or_else(|error| panic!("after a crash at {at}: {error}")).label;
    let after = stage.listed().await;
    assert_eq!((after.first(), after.last()), (Some(&first), Some(&third)), "at {at}");
    for label in &after {
        stage.content(label).await;
    }
    !crashed
}

#[tokio::test(flavor = "multi_thread")]
async fn bk13_a_crash_at_any_change_of_an_object_store_leaves_a_whole_repository() {
    for form in [Form::Whole, Form::Bundled, Form::IncrementalBlocks] {
        let mut at = 0;
        while !crash(memory(), at, form).await {
            at += 1;
        }
        assert!(at > 10, "{at} changes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bk13_the_original_goes_on_after_a_crash_at_any_change_of_a_directory() {
    let mut at = 0;
    loop {
        let dir = user::scratch().unwrap();
        let local = Arc::new(LocalStorage::new(dir.path().join("backrest/repo")));
        let finished = crash(local, at, Form::IncrementalBlocks).await;
        verifies(dir.path());
        if finished {
            break;
        }
        at += 1;
    }
    assert!(at > 10, "{at} changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn bk13_data_is_durable_before_the_manifest_says_so() {
    let store = Arc::new(FaultStorage::new(memory(), 1));
    let stage = Stage::new(Arc::clone(&store) as Arc<dyn Storage>).await;
    stage.backup(&Server::new(&stage.data), &stage.options(false)).await.unwrap();
    assert_eq!(store.unflushed().len(), 0, "{:?}", store.unflushed());
}
