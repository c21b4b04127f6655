use std::time::Duration;

use futures_util::StreamExt;

use crate::clock::SystemClock;
use crate::storage::{ConditionSupport, MemoryOptions, MemoryStorage, conformance};

use super::*;

fn memory() -> Arc<MemoryStorage> {
    Arc::new(MemoryStorage::new(Arc::new(SystemClock), MemoryOptions { page_entries: 7, ..MemoryOptions::default() }))
}

fn over(memory: &Arc<MemoryStorage>, seed: u64) -> FaultStorage {
    FaultStorage::new(Arc::clone(memory) as Arc<dyn Storage>, seed)
}

fn path(text: &str) -> StoragePath {
    StoragePath::parse(text).unwrap()
}

async fn names(storage: &FaultStorage, directory: &str) -> Vec<String> {
    let entries = storage.list_all(&path(directory), &ListOptions::default()).await.unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

#[tokio::test]
async fn without_a_plan_nothing_goes_wrong() {
    let storage = Arc::new(over(&memory(), 1));
    conformance::run(Arc::clone(&storage) as Arc<dyn Storage>, &path("root")).await.unwrap();
    assert!(storage.requests_of(Call::Put) > 1_000);
}

#[tokio::test]
async fn os12_a_lagging_listing_hides_what_can_be_read() {
    let storage = over(&memory(), 1);
    storage.write_all(&path("d/old"), Bytes::new()).await.unwrap();
    for _ in 0..10 {
        storage.exists(&path("d/old")).await.unwrap();
    }
    storage.add_rule(Rule::new(Call::ListPage, When::Always, Fault::HideRecent { calls: 5 }));
    storage.write_all(&path("d/new"), Bytes::new()).await.unwrap();
    storage.write_all(&path("e/new"), Bytes::new()).await.unwrap();
    assert_eq!(names(&storage, "d").await, ["old"]);
    assert_eq!(names(&storage, "").await, ["d"]);
    // What decides about an object asks for the object.
    assert!(storage.exists(&path("d/new")).await.unwrap());
    for _ in 0..5 {
        storage.exists(&path("d/old")).await.unwrap();
    }
    assert_eq!(names(&storage, "d").await, ["new", "old"]);
    assert_eq!(names(&storage, "").await, ["d", "e"]);
}

#[tokio::test]
async fn os13_a_ghost_can_be_removed_and_is_missing() {
    let storage = over(&memory(), 1);
    storage.write_all(&path("d/ghost"), Bytes::new()).await.unwrap();
    storage.add_rule(Rule::new(Call::ListPage, When::Always, Fault::Ghosts { calls: 3 }));
    storage.remove(&path("d/ghost")).await.unwrap();
    assert_eq!(names(&storage, "d").await, ["ghost"]);
    assert!(storage.read_all_optional(&path("d/ghost"), 10).await.unwrap().is_none());
    storage.remove(&path("d/ghost")).await.unwrap();
    for _ in 0..4 {
        storage.exists(&path("d/ghost")).await.unwrap();
    }
    assert!(names(&storage, "d").await.is_empty());
}

#[tokio::test]
async fn os14_a_listing_in_a_circle_ends_with_an_error() {
    let storage = over(&memory(), 1);
    for number in 0..20 {
        storage.write_all(&path(&format!("d/{number:02}")), Bytes::new()).await.unwrap();
    }
    assert_eq!(names(&storage, "d").await.len(), 20, "seven a page");
    assert_eq!(storage.requests_of(Call::ListPage), 3);
    // A page comes twice: the set is the true one.
    storage.add_rule(Rule::new(Call::ListPage, When::Nth(1), Fault::RepeatPage));
    assert_eq!(names(&storage, "d").await.len(), 20);
    storage.set_rules(vec![Rule::new(Call::ListPage, When::Always, Fault::RepeatPage)]);
    let error = storage.list_all(&path("d"), &ListOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("unable to list 'd': the store sent the same page token twice"), "{error}");
    assert_eq!(storage.remove_tree_by_listing(&path("d")).await.unwrap_err().class(), ErrorClass::Permanent);
}

#[tokio::test]
async fn os16_hidden_objects_come_back() {
    let storage = over(&memory(), 1);
    storage.write_all(&path("backup/a/backup.manifest"), Bytes::new()).await.unwrap();
    let hidden = KeyPattern::Suffix("backup.manifest".to_owned());
    storage.set_rules(vec![
        Rule::new(Call::ListPage, When::Always, Fault::Hide(hidden.clone())),
        Rule::new(Call::Info, When::Always, Fault::Fail(ErrorClass::Missing, Phase::Before)).on(hidden),
    ]);
    assert!(names(&storage, "backup/a").await.is_empty());
    assert!(!storage.exists(&path("backup/a/backup.manifest")).await.unwrap());
    storage.heal();
    assert!(storage.exists(&path("backup/a/backup.manifest")).await.unwrap());
}

#[tokio::test]
async fn os35_the_probe_tells_checked_from_ignored_and_refused() {
    for (conditions, expected) in
        [(ConditionSupport::Checked, true), (ConditionSupport::Ignored, false), (ConditionSupport::Refused, false)]
    {
        let options = MemoryOptions { conditions, ..MemoryOptions::default() };
        let storage = MemoryStorage::new(Arc::new(SystemClock), options);
        let scratch = path("scratch");
        assert_eq!(storage.probe_conditional_put(&scratch).await.unwrap(), expected, "{conditions:?}");
        assert_eq!(storage.capabilities().conditional_put, expected);
        assert!(storage.objects().is_empty());
    }
    let storage = over(&memory(), 1);
    storage.add_rule(Rule::new(Call::Put, When::Nth(2), Fault::Fail(ErrorClass::Transient, Phase::Before)));
    storage.probe_conditional_put(&path("scratch")).await.unwrap_err();
}

#[tokio::test]
async fn os06_a_shortened_write_reports_success_and_shows_in_the_size() {
    let storage = over(&memory(), 1);
    storage.add_rule(Rule::new(Call::Put, When::Always, Fault::Truncate { keep_bytes: 3 }));
    storage.write_all(&path("a"), Bytes::from_static(b"123456")).await.unwrap();
    assert_eq!(storage.info(&path("a")).await.unwrap().size_bytes, 3);
}

#[tokio::test]
async fn os11_a_flipped_bit_is_one_bit() {
    let storage = over(&memory(), 1);
    storage.write_all(&path("a"), Bytes::from(vec![0; 200_000])).await.unwrap();
    storage.add_rule(Rule::new(Call::Read, When::Nth(1), Fault::FlipBit { byte: 150_000, bit: 3 }));
    let found = storage.read_all(&path("a"), 200_000).await.unwrap();
    assert_eq!(found.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    assert_eq!(found[150_000], 8);
    assert!(storage.read_all(&path("a"), 200_000).await.unwrap().iter().all(|byte| *byte == 0));
}

/// What a small command does: writes, an upload, removals.
async fn command(storage: &FaultStorage) -> Result<(), StorageError> {
    for name in ["d/1", "d/2", "d/3"] {
        storage.write_all(&path(name), Bytes::from_static(b"x")).await?;
    }
    let upload = storage.upload_create(&path("u"), Durability::Now).await?;
    let part = UploadPart { number: 1, offset: 0, body: Bytes::from_static(b"part") };
    let tag = storage.upload_part(&path("u"), &upload, part).await?;
    storage.upload_complete(&path("u"), &upload, &[tag], Condition::None).await?;
    storage.remove_many(&[path("d/1"), path("d/2")]).await?;
    storage.write_all(&path("e/4"), Bytes::new()).await?;
    storage.remove_tree(&path("d")).await
}

#[tokio::test]
async fn a_crash_falls_between_any_two_changes() {
    let whole = memory();
    let storage = over(&whole, 1);
    command(&storage).await.unwrap();
    let changes = storage.mutations();
    assert_eq!(changes, 10);

    let mut images = Vec::new();
    for after in 0..=changes {
        let memory = memory();
        let storage = over(&memory, 1);
        storage.crash_after(after);
        assert_eq!(command(&storage).await.is_ok(), after == changes);
        assert_eq!(storage.has_crashed(), after < changes);
        if storage.has_crashed() {
            assert_eq!(storage.exists(&path("u")).await.unwrap_err().class(), ErrorClass::Permanent);
        }
        images.push(memory.objects().into_keys().collect::<Vec<_>>().join(" "));
        storage.heal();
        command(&storage).await.unwrap();
        assert_eq!(memory.objects(), whole.objects(), "a second run after a crash at {after}");
    }
    images.dedup();
    let expected = ["", "d/1", "d/1 d/2", "d/1 d/2 d/3", "d/1 d/2 d/3 u", "d/2 d/3 u", "d/3 u", "d/3 e/4 u", "e/4 u"];
    assert_eq!(images, expected);
}

#[tokio::test(start_paused = true)]
async fn a_seed_is_a_run() {
    let run = async |seed| {
        let storage = over(&memory(), seed);
        storage.set_rules(vec![
            Rule::any(When::Chance { per_mille: 300 }, Fault::Fail(ErrorClass::Transient, Phase::Before)),
            Rule::new(Call::Read, When::Chance { per_mille: 500 }, Fault::CutBody { after_bytes: None }),
        ]);
        let mut log = Vec::new();
        for number in 0..100 {
            let path = path(&format!("{}", number % 10));
            log.push(storage.write_all(&path, Bytes::from(vec![1; 1_000])).await.is_ok().to_string());
            if let Ok(mut opened) = storage.read(&path, ByteRange::ALL, None).await {
                let mut found = 0;
                while let Some(Ok(piece)) = opened.body.next().await {
                    found += piece.len();
                }
                log.push(found.to_string());
            }
        }
        log
    };
    assert_eq!(run(7).await, run(7).await);
    assert_ne!(run(7).await, run(8).await);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_flushed_is_known() {
    let storage = over(&memory(), 1);
    let put = |name: &'static str, durability| {
        let storage = &storage;
        async move { storage.put(&path(name), Bytes::new(), Condition::None, durability).await.unwrap() }
    };
    put("a", Durability::Deferred).await;
    put("b", Durability::Now).await;
    put("c", Durability::Deferred).await;
    put("c", Durability::Now).await;
    assert_eq!(storage.unflushed().into_iter().collect::<Vec<_>>(), ["a"]);
    storage.add_rule(Rule::new(Call::Flush, When::Nth(1), Fault::Delay(Duration::from_secs(1))));
    storage.flush().await.unwrap();
    assert!(storage.unflushed().is_empty());
}
