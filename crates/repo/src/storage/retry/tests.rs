use std::fmt::Debug;

use futures_util::StreamExt;
use tokio::time::{Instant, sleep};

use crate::clock::{RandomUnavailable, SystemClock};
use crate::storage::fault::{Call, Fault, FaultStorage, KeyPattern, Phase, Rule, When, rough_weather};
use crate::storage::{MemoryOptions, MemoryStorage, Uploader, conformance};

use super::*;

/// Counts up, so that jitter differs from try to try and a run repeats.
#[derive(Debug, Default)]
struct Counting(std::sync::atomic::AtomicU16);

impl Random for Counting {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomUnavailable> {
        let next = self.0.fetch_add(7_919, std::sync::atomic::Ordering::Relaxed).to_le_bytes();
        buffer.iter_mut().zip(next).for_each(|(byte, next)| *byte = next);
        Ok(())
    }
}

struct Stack {
    memory: Arc<MemoryStorage>,
    fault: Arc<FaultStorage>,
    retry: Arc<RetryStorage>,
}

fn stack(rules: Vec<Rule>) -> Stack {
    let options = MemoryOptions { part_bytes: 10_000, piece_bytes: 1_000, ..MemoryOptions::default() };
    stack_with(options, RetryPolicy::default(), rules)
}

fn stack_with(options: MemoryOptions, policy: RetryPolicy, rules: Vec<Rule>) -> Stack {
    let memory = Arc::new(MemoryStorage::new(Arc::new(SystemClock), options));
    let fault = Arc::new(FaultStorage::new(Arc::clone(&memory) as Arc<dyn Storage>, 1));
    fault.set_rules(rules);
    let inner = Arc::clone(&fault) as Arc<dyn Storage>;
    let retry = Arc::new(RetryStorage::new(inner, policy, Arc::new(Counting::default())));
    Stack { memory, fault, retry }
}

fn path(text: &str) -> StoragePath {
    StoragePath::parse(text).unwrap()
}

fn bytes(length: usize) -> Bytes {
    (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

fn class<T: Debug>(outcome: Result<T, StorageError>) -> ErrorClass {
    outcome.unwrap_err().class()
}

const LIMIT: usize = 100_000_000;

#[tokio::test(start_paused = true)]
async fn os01_slow_down_is_waited_out_as_long_as_the_store_asks() {
    let slow = Fault::SlowDown { retry_after: Some(Duration::from_secs(2)) };
    let stack = stack(vec![Rule::any(When::Chance { per_mille: 700 }, slow)]);
    let fault = Arc::clone(&stack.fault);
    tokio::spawn(async move {
        sleep(Duration::from_secs(40)).await;
        fault.heal();
    });
    for number in 0..20 {
        let path = path(&format!("object{number}"));
        let begun = Instant::now();
        stack.retry.write_all(&path, bytes(10)).await.unwrap();
        assert_eq!(stack.retry.read_all(&path, LIMIT).await.unwrap(), bytes(10));
        assert!(stack.retry.exists(&path).await.unwrap());
        assert_eq!(
            stack.retry.list_all(&StoragePath::root(), &ListOptions::default()).await.unwrap().len(),
            number + 1
        );
        // Each failed try waited two seconds at least.
        let tries: u64 = stack.fault.requests().values().sum();
        assert!(tries >= 4 && begun.elapsed() <= Duration::from_secs(4 * 60));
    }
}

#[tokio::test(start_paused = true)]
async fn os01_the_budget_ends_and_the_error_lists_what_was_tried() {
    let stack = stack(vec![Rule::any(When::Always, Fault::SlowDown { retry_after: None })]);
    let begun = Instant::now();
    let error = stack.retry.write_all(&path("a/object"), bytes(10)).await.unwrap_err();
    assert!(begun.elapsed() <= Duration::from_secs(60), "{:?}", begun.elapsed());
    assert!(begun.elapsed() >= Duration::from_secs(45), "gave up after {:?}", begun.elapsed());
    assert_eq!(error.class(), ErrorClass::Throttled);
    assert!(error.to_string().contains("unable to write 'a/object': slow down"), "{error}");
    let times: Vec<_> = error.attempts().iter().map(|attempt| attempt.after).collect();
    assert!(times.len() >= 5 && times.is_sorted());
    let waits: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits[3] > waits[1] && waits[5] > waits[3], "the waits do not grow: {waits:?}");
    assert!(stack.memory.objects().is_empty());
}

#[tokio::test(start_paused = true)]
async fn os01_a_store_that_asks_for_an_hour_is_not_waited_for() {
    let slow = Fault::SlowDown { retry_after: Some(Duration::from_secs(3_600)) };
    let stack = stack(vec![Rule::any(When::Always, slow)]);
    let begun = Instant::now();
    assert_eq!(class(stack.retry.info(&path("a")).await), ErrorClass::Throttled);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn os04_a_lost_answer_to_a_completion_is_settled_by_the_content() {
    let lost = Fault::Fail(ErrorClass::Transient, Phase::After);
    let stack = stack(vec![Rule::new(Call::UploadComplete, When::First(1), lost)]);
    let storage = Arc::clone(&stack.retry) as Arc<dyn Storage>;
    let mut uploader = Uploader::new(storage, path("object"), Condition::None, Durability::Now);
    uploader.write(&bytes(35_000)).await.unwrap();
    let info = uploader.finish().await.unwrap();
    assert_eq!(info.size_bytes, 35_000);
    assert_eq!(stack.memory.objects().len(), 1);
    assert_eq!(stack.memory.objects()["object"], bytes(35_000));
    assert_eq!(stack.fault.requests_of(Call::UploadComplete), 2);
}

#[tokio::test(start_paused = true)]
async fn os04_an_upload_that_vanished_is_no_success() {
    // The same name holds other bytes of the same size: only the digest tells.
    for other in [None, Some(vec![0; 35_000]), Some(vec![0; 10])] {
        let stack = stack(Vec::new());
        if let Some(other) = &other {
            stack.retry.write_all(&path("object"), Bytes::from(other.clone())).await.unwrap();
        }
        let lost = Fault::Fail(ErrorClass::Transient, Phase::Before);
        stack.fault.add_rule(Rule::new(Call::UploadComplete, When::First(1), lost));
        let storage = Arc::clone(&stack.retry) as Arc<dyn Storage>;
        let mut uploader = Uploader::new(storage, path("object"), Condition::None, Durability::Now);
        uploader.write(&bytes(35_000)).await.unwrap();
        let memory = Arc::clone(&stack.memory);
        let finish = tokio::spawn(uploader.finish());
        // Between the two tries somebody removes the upload.
        sleep(Duration::from_millis(10)).await;
        assert_eq!(memory.remove_stale_uploads(&StoragePath::root(), i64::MAX).await.unwrap(), 1);
        assert_eq!(class(finish.await.unwrap()), ErrorClass::Transient);
        assert_eq!(stack.memory.objects().get("object").map(|body| body.to_vec()), other);
    }
}

#[tokio::test(start_paused = true)]
async fn os05_a_lost_answer_to_a_put_on_condition_is_settled_by_the_content() {
    for conditional in [Condition::Absent, Condition::None] {
        let lost = Fault::Fail(ErrorClass::Transient, Phase::After);
        let stack = stack(vec![Rule::new(Call::Put, When::First(1), lost)]);
        let put = stack.retry.put(&path("object"), bytes(5_000), conditional, Durability::Now).await;
        assert_eq!(put.unwrap().version, stack.memory.info(&path("object")).await.unwrap().version);
        assert_eq!(stack.fault.requests_of(Call::Put), 2);
        assert_eq!(stack.memory.objects()["object"], bytes(5_000));
    }
}

#[tokio::test(start_paused = true)]
async fn os05_other_content_is_a_conflict() {
    let stack = stack(Vec::new());
    // The first try is lost before it arrives; by the second somebody else has written.
    stack.fault.set_rules(vec![
        Rule::new(Call::Put, When::Nth(1), Fault::Fail(ErrorClass::Transient, Phase::Before)),
        Rule::new(Call::Put, When::Nth(2), Fault::Swap(Bytes::from(vec![1; 5_000]))),
    ]);
    let put = stack.retry.put(&path("object"), bytes(5_000), Condition::Absent, Durability::Now).await;
    let error = put.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Conflict);
    assert_eq!(error.attempts().len(), 1);
    assert_eq!(stack.memory.objects()["object"], vec![1; 5_000]);
}

#[tokio::test(start_paused = true)]
async fn os05_a_conflict_at_the_first_try_is_one_even_with_the_same_content() {
    let stack = stack(Vec::new());
    stack.retry.write_all(&path("object"), bytes(10)).await.unwrap();
    let put = stack.retry.put(&path("object"), bytes(10), Condition::Absent, Durability::Now).await;
    assert_eq!(class(put), ErrorClass::Conflict);
    assert_eq!(stack.fault.requests_of(Call::Put), 2);
}

#[tokio::test(start_paused = true)]
async fn os07_a_body_cut_anywhere_goes_on_where_it_broke() {
    let body = bytes(10_000);
    for after_bytes in [0, 1, 999, 1_000, 5_000, 9_999] {
        for cut in [Fault::CutBody { after_bytes: Some(after_bytes) }, Fault::EndBody { after_bytes }] {
            let stack = stack(Vec::new());
            stack.retry.write_all(&path("object"), body.clone()).await.unwrap();
            stack.fault.add_rule(Rule::new(Call::Read, When::First(1), cut));
            assert_eq!(stack.retry.read_all(&path("object"), LIMIT).await.unwrap(), body, "cut at {after_bytes}");
            assert_eq!(stack.fault.requests_of(Call::Read), 2);

            let range = ByteRange { offset: 100, length: Some(9_900) };
            stack.fault.add_rule(Rule::new(Call::Read, When::First(1), Fault::CutBody { after_bytes: Some(7) }));
            let mut opened = stack.retry.read(&path("object"), range, None).await.unwrap();
            let mut found = Vec::new();
            while let Some(piece) = opened.body.next().await {
                found.extend_from_slice(&piece.unwrap());
            }
            assert_eq!(found, body[100..]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn os07_a_body_that_always_breaks_names_what_arrived() {
    let stack = stack(Vec::new());
    stack.retry.write_all(&path("object"), bytes(10_000)).await.unwrap();
    stack.fault.add_rule(Rule::new(Call::Read, When::Always, Fault::EndBody { after_bytes: 0 }));
    let error = stack.retry.read_all(&path("object"), LIMIT).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Transient);
    assert!(error.to_string().contains("'object': it ended at byte 0 of 10000"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn os10_an_object_replaced_in_the_middle_is_a_conflict() {
    let stack = stack(Vec::new());
    stack.retry.write_all(&path("object"), bytes(10_000)).await.unwrap();
    stack.fault.set_rules(vec![
        Rule::new(Call::Read, When::Nth(1), Fault::CutBody { after_bytes: Some(5_000) }),
        Rule::new(Call::Read, When::Nth(2), Fault::Swap(Bytes::from(vec![0; 10_000]))),
    ]);
    let error = stack.retry.read_all(&path("object"), LIMIT).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Conflict);
    assert!(error.to_string().contains("'object'"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn os10_an_object_removed_in_the_middle_is_a_conflict_not_missing() {
    let stack = stack(Vec::new());
    stack.retry.write_all(&path("object"), bytes(10_000)).await.unwrap();
    stack.fault.set_rules(vec![
        Rule::new(Call::Read, When::Nth(1), Fault::CutBody { after_bytes: Some(5_000) }),
        Rule::new(Call::Read, When::Nth(2), Fault::Fail(ErrorClass::Missing, Phase::Before)),
    ]);
    assert_eq!(class(stack.retry.read_all_optional(&path("object"), LIMIT).await), ErrorClass::Conflict);
}

#[tokio::test(start_paused = true)]
async fn os17_what_cannot_pass_is_not_tried_again() {
    let lasting =
        [ErrorClass::Missing, ErrorClass::Denied, ErrorClass::NoSpace, ErrorClass::Conflict, ErrorClass::Permanent];
    for expected in lasting {
        let stack = stack(vec![Rule::any(When::Always, Fault::Fail(expected, Phase::Before))]);
        let (storage, object) = (&stack.retry, path("object"));
        assert_eq!(class(storage.read(&object, ByteRange::ALL, None).await), expected);
        assert_eq!(class(storage.info(&object).await), expected);
        assert_eq!(class(storage.list_all(&object, &ListOptions::default()).await), expected);
        assert_eq!(class(storage.write_all(&object, bytes(1)).await), expected);
        assert_eq!(class(storage.upload_create(&object, Durability::Now).await), expected);
        assert_eq!(class(storage.remove(&object).await), expected);
        assert_eq!(class(storage.remove_many(&[]).await), expected);
        assert!(stack.fault.requests().values().all(|count| *count == 1), "{:?}", stack.fault.requests());
        if expected != ErrorClass::Missing {
            assert_eq!(class(storage.exists(&object).await), expected);
            assert_eq!(class(storage.read_all_optional(&object, LIMIT).await), expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn os18_each_object_that_failed_is_tried_by_itself() {
    let stack = stack(Vec::new());
    let paths: Vec<_> = (0..100).map(|number| path(&format!("d/{number:03}"))).collect();
    for path in &paths {
        stack.retry.write_all(path, bytes(1)).await.unwrap();
    }
    let key = |name: &str| KeyPattern::Exact(name.to_owned());
    let fail = |class, when, name| Rule::new(Call::Remove, when, Fault::Fail(class, Phase::Before)).on(key(name));
    stack.fault.set_rules(vec![
        fail(ErrorClass::Transient, When::First(1), "d/007"),
        fail(ErrorClass::Throttled, When::First(3), "d/008"),
        fail(ErrorClass::Denied, When::Always, "d/009"),
    ]);
    let failed = stack.retry.remove_many(&paths).await.unwrap();
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0].location(), failed[0].class()), ("d/009", ErrorClass::Denied));
    assert_eq!(stack.memory.objects().into_keys().collect::<Vec<_>>(), ["d/009"]);
    // 100 at first, then two, then one and one.
    assert_eq!(stack.fault.requests_of(Call::Remove), 104);

    stack.fault.set_rules(vec![fail(ErrorClass::Transient, When::Always, "d/009")]);
    let failed = stack.retry.remove_many(&paths).await.unwrap();
    assert_eq!(failed.len(), 1);
    assert!(!failed[0].attempts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn os24_silence_ends_a_try() {
    let stack = stack(Vec::new());
    stack.retry.write_all(&path("object"), bytes(10_000)).await.unwrap();
    stack.fault.set_rules(vec![
        Rule::new(Call::Read, When::Nth(1), Fault::Hang),
        Rule::new(Call::Read, When::Nth(2), Fault::StallBody { after_bytes: 5_000 }),
        Rule::new(Call::Put, When::Nth(1), Fault::Hang),
    ]);
    let begun = Instant::now();
    assert_eq!(stack.retry.read_all(&path("object"), LIMIT).await.unwrap(), bytes(10_000));
    assert!(begun.elapsed() < Duration::from_secs(125), "{:?}", begun.elapsed());
    stack.retry.write_all(&path("object"), bytes(5)).await.unwrap();

    stack.fault.set_rules(vec![Rule::any(When::Always, Fault::Hang)]);
    let begun = Instant::now();
    let error = stack.retry.info(&path("object")).await.unwrap_err();
    assert!(error.to_string().contains("no answer within 60000 ms"), "{error}");
    // One try uses up the time; two more are owed, and no more than these are made.
    assert!(begun.elapsed() < Duration::from_secs(185), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn os25_a_trickling_body_is_opened_again() {
    let stack = stack(Vec::new());
    stack.retry.write_all(&path("object"), bytes(50_000)).await.unwrap();
    let slow = Fault::SlowBody { piece_bytes: 1, every: Duration::from_secs(1) };
    stack.fault.add_rule(Rule::new(Call::Read, When::First(1), slow.clone()));
    let begun = Instant::now();
    assert_eq!(stack.retry.read_all(&path("object"), LIMIT).await.unwrap(), bytes(50_000));
    assert!(begun.elapsed() < Duration::from_secs(62), "{:?}", begun.elapsed());
    assert_eq!(stack.fault.requests_of(Call::Read), 2);

    stack.fault.set_rules(vec![Rule::new(Call::Read, When::Always, slow)]);
    let error = stack.retry.read_all(&path("object"), LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("only 60 bytes in 60000 ms"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn os25_a_slow_reader_is_not_taken_for_a_slow_store() {
    let stack = stack(Vec::new());
    stack.retry.write_all(&path("object"), bytes(10_000)).await.unwrap();
    let mut opened = stack.retry.read(&path("object"), ByteRange::ALL, None).await.unwrap();
    while let Some(piece) = opened.body.next().await {
        piece.unwrap();
        sleep(Duration::from_secs(1_000)).await;
    }
    assert_eq!(stack.fault.requests_of(Call::Read), 1);
}

#[tokio::test(start_paused = true)]
async fn np04_a_body_has_no_deadline_while_bytes_come() {
    let options = MemoryOptions { piece_bytes: 64 * 1024, ..MemoryOptions::default() };
    let stack = stack_with(options, RetryPolicy::default(), Vec::new());
    let body = bytes(13_000_000);
    stack.retry.write_all(&path("object"), body.clone()).await.unwrap();
    stack.fault.set_rules(vec![
        Rule::new(Call::Read, When::Always, Fault::SlowBody { piece_bytes: 64 * 1024, every: Duration::from_secs(3) }),
        Rule::new(Call::Read, When::Always, Fault::CutBody { after_bytes: Some(1024 * 1024) }),
    ]);
    let begun = Instant::now();
    assert_eq!(stack.retry.read_all(&path("object"), LIMIT).await.unwrap(), body);
    assert!(begun.elapsed() > Duration::from_secs(590), "{:?}", begun.elapsed());
    assert_eq!(stack.fault.requests_of(Call::Read), 13);
}

#[tokio::test(start_paused = true)]
async fn os33_a_full_store_leaves_the_old_object_and_takes_the_new_one_later() {
    let stack = stack(Vec::new());
    stack.retry.write_all(&path("object"), bytes(10)).await.unwrap();
    let full = Fault::Fail(ErrorClass::NoSpace, Phase::Before);
    stack.fault.set_rules(vec![Rule::new(Call::UploadPart, When::From(2), full)]);
    let write = async || {
        let storage = Arc::clone(&stack.retry) as Arc<dyn Storage>;
        let mut uploader = Uploader::new(storage, path("object"), Condition::None, Durability::Now);
        for piece in bytes(45_000).chunks(7_000) {
            uploader.write(piece).await?;
        }
        uploader.finish().await
    };
    let error = write().await.unwrap_err();
    assert_eq!((error.class(), error.location()), (ErrorClass::NoSpace, "object"));
    assert_eq!(stack.memory.objects()["object"], bytes(10));
    assert_eq!(stack.memory.unfinished_uploads(), 0);
    stack.fault.heal();
    write().await.unwrap();
    assert_eq!(stack.memory.objects()["object"], bytes(45_000));
}

#[tokio::test(start_paused = true)]
async fn a_tree_is_removed_request_by_request() {
    let stack = stack(Vec::new());
    for number in 0..30 {
        stack.retry.write_all(&path(&format!("d/{number}")), bytes(1)).await.unwrap();
    }
    stack.retry.write_all(&path("e"), bytes(1)).await.unwrap();
    let fail = Fault::Fail(ErrorClass::Transient, Phase::After);
    stack.fault.set_rules(vec![Rule::any(When::First(2), fail)]);
    stack.retry.remove_tree(&path("d")).await.unwrap();
    assert_eq!(stack.memory.objects().into_keys().collect::<Vec<_>>(), ["e"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_flush_is_not_tried_again() {
    let fail = Fault::Fail(ErrorClass::Transient, Phase::Before);
    let stack = stack(vec![Rule::new(Call::Flush, When::First(1), fail)]);
    stack.retry.flush().await.unwrap_err();
    assert_eq!(stack.fault.requests_of(Call::Flush), 1);
}

#[tokio::test(start_paused = true)]
async fn the_suite_passes_in_rough_weather() {
    for seed in 0..4 {
        let memory = Arc::new(MemoryStorage::new(Arc::new(SystemClock), MemoryOptions::default()));
        let fault = Arc::new(FaultStorage::new(memory, seed));
        // A lost answer to these two leaves an upload, or its number, that the suite counts; flush is not tried again.
        let counted = [Some(Call::UploadCreate), Some(Call::RemoveStaleUploads)];
        let mut rules = rough_weather(15);
        rules.retain(|rule| !counted.contains(&rule.call));
        for rule in rules.iter_mut().filter(|rule| rule.call.is_none()) {
            rule.key = KeyPattern::Contains("/".to_owned());
        }
        fault.set_rules(rules);
        let inner = Arc::clone(&fault) as Arc<dyn Storage>;
        let policy = RetryPolicy { elapsed_max: Duration::from_secs(3_600), ..RetryPolicy::default() };
        let retry = RetryStorage::new(inner, policy, Arc::new(Counting::default()));
        if let Err(failures) = conformance::run(Arc::new(retry), &path("root")).await {
            panic!("seed {seed}: {failures}");
        }
    }
}
