//! Several calls at once, in every order that a scheduler can give them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::oneshot;

use super::world::{SEGMENT, World, kind, wal_objects};
use crate::clock::SystemClock;
use crate::command::archive::WalSource;
use crate::command::archive::get::Got;
use crate::command::archive::push::Pushed;
use crate::error::{ErrorKind, Result};
use crate::format::CompressType;
use crate::storage::fault::Call;
use crate::storage::watched::Watched;
use crate::storage::{ConditionSupport, MemoryOptions, MemoryStorage, Storage};

/// Where each of several calls is.
struct Turnstile(Mutex<Vec<Place>>);

enum Place {
    /// On its way.
    Busy,
    /// Before an operation, until it is let through.
    Waiting(oneshot::Sender<()>),
    /// It lets time pass.
    Settling,
}

impl Turnstile {
    fn put(&self, call: usize, place: Place) -> Place {
        std::mem::replace(&mut self.0.lock().unwrap()[call], place)
    }

    fn is_busy(&self, call: usize) -> bool {
        matches!(self.0.lock().unwrap()[call], Place::Busy)
    }

    /// The next step of a call that is not busy: its operation, or as much time as it waits for.
    async fn step(&self, call: usize) {
        match self.put(call, Place::Busy) {
            // A call that gave up waiting is not there any more.
            Place::Waiting(turn) => drop(turn.send(())),
            Place::Settling => tokio::time::advance(Duration::from_millis(3100)).await,
            Place::Busy => unreachable!("only calls that stand still are moved"),
        }
    }
}

/// Pushes all `sources` at once, one step of one call after the other in the order of `turns`; then the rest.
async fn interleaved(
    world: &Arc<World>,
    memory: &Arc<MemoryStorage>,
    sources: &[WalSource],
    turns: &[usize],
) -> Vec<Result<Pushed>> {
    let turnstile = Arc::new(Turnstile(Mutex::new(sources.iter().map(|_| Place::Busy).collect())));
    let calls: Vec<_> = (0..sources.len())
        .map(|number| {
            let turnstile = Arc::clone(&turnstile);
            let storage = Watched::storage(Arc::clone(memory) as Arc<dyn Storage>, move |call, _path| {
                let turn = match call {
                    Call::Read => None,
                    // The age of an object is asked for before it is given time to settle.
                    Call::Info => {
                        turnstile.put(number, Place::Settling);
                        None
                    }
                    _ => {
                        let (sender, turn) = oneshot::channel();
                        turnstile.put(number, Place::Waiting(sender));
                        Some(turn)
                    }
                };
                async move {
                    if let Some(turn) = turn {
                        drop(turn.await);
                    }
                }
            });
            let (world, source) = (Arc::clone(world), sources[number].clone());
            tokio::spawn(async move {
                let repository = world.open(1, &storage, None);
                world.push(&[repository], &source, CompressType::None).await
            })
        })
        .collect();
    let mut turns = turns.iter().copied();
    loop {
        let running: Vec<usize> = (0..calls.len()).filter(|call| !calls[*call].is_finished()).collect();
        if running.is_empty() {
            break;
        }
        if running.iter().any(|call| turnstile.is_busy(*call)) {
            // Threads are at work; the clock stands still.
            tokio::task::yield_now().await;
            std::thread::sleep(Duration::from_micros(20));
            continue;
        }
        let wanted = turns.find(|call| running.contains(call));
        turnstile.step(wanted.unwrap_or(running[0])).await;
    }
    let mut results = Vec::new();
    for call in calls {
        results.push(call.await.unwrap());
    }
    results
}

/// One where a push is at most four steps: look, write, look again, withdraw.
fn store(conditions: ConditionSupport) -> Arc<MemoryStorage> {
    let options = MemoryOptions { conditions, part_bytes: 4 * super::world::MIB, ..MemoryOptions::default() };
    Arc::new(MemoryStorage::new(Arc::new(SystemClock), options))
}

/// All ways to give `each` turns to each of two calls.
fn all_turns(each: usize) -> Vec<Vec<usize>> {
    (0..1_u32 << (2 * each))
        .filter(|bits| bits.count_ones() as usize == each)
        .map(|bits| (0..2 * each).map(|place| usize::from(bits & (1 << place) != 0)).collect())
        .collect()
}

async fn fresh(conditions: ConditionSupport) -> (Arc<World>, Arc<MemoryStorage>) {
    let world = Arc::new(World::new());
    let memory = store(conditions);
    world.stanza(1, &(Arc::clone(&memory) as Arc<dyn Storage>), None).await;
    (world, memory)
}

/// Two files of the same name in two directories.
fn rivals(world: &World) -> [WalSource; 2] {
    let first = world.segment(SEGMENT, 1);
    let other = world.folder.path().join("other");
    drop(std::fs::create_dir(&other));
    let path = other.join(SEGMENT);
    std::fs::write(&path, world.segment_bytes(SEGMENT, 2, super::world::MIB)).unwrap();
    [first, WalSource::new(&path).unwrap()]
}

#[tokio::test(start_paused = true)]
async fn pu01_of_two_contents_at_once_at_most_one_is_acknowledged() {
    for conditions in [ConditionSupport::Checked, ConditionSupport::Refused] {
        for turns in all_turns(4) {
            let (world, memory) = fresh(conditions).await;
            let sources = rivals(&world);
            let results = interleaved(&world, &memory, &sources, &turns).await;
            let acknowledged: Vec<usize> = (0..2).filter(|call| results[*call].is_ok()).collect();
            assert!(acknowledged.len() < 2, "{turns:?}: both were acknowledged");
            for error in results.into_iter().filter_map(Result::err) {
                assert_eq!(error.kind(), ErrorKind::ArchiveDuplicate, "{turns:?}: {}", error.message());
                assert!(error.message().contains(SEGMENT));
            }
            let objects = wal_objects(&memory);
            if conditions == ConditionSupport::Checked {
                assert_eq!(objects.len(), acknowledged.len(), "{turns:?}: a loser leaves nothing");
            }
            let storage = Arc::clone(&memory) as Arc<dyn Storage>;
            let got = world.get(&[world.open(1, &storage, None)], SEGMENT).await;
            match (acknowledged.first(), objects.len()) {
                (Some(winner), 1) => {
                    got.unwrap();
                    let expected = std::fs::read(&sources[*winner].path).unwrap();
                    assert!(world.delivered() == Some(expected), "{turns:?}: the acknowledged content is there");
                }
                (_, 2) => assert_eq!(kind(got), ErrorKind::ArchiveDuplicate, "{turns:?}: no choice is made"),
                _ => assert_eq!(got.unwrap(), Got::Missing { later: Vec::new() }),
            }
        }
    }
}

/// Who loses tries again, as PostgreSQL does: one content wins in the end.
#[tokio::test(start_paused = true)]
async fn pu01_after_a_draw_the_next_try_decides() {
    let (world, memory) = fresh(ConditionSupport::Checked).await;
    let sources = rivals(&world);
    let both_look_both_write = [0, 1, 0, 1, 0, 1, 0, 1];
    let results = interleaved(&world, &memory, &sources, &both_look_both_write).await;
    assert!(results.iter().all(Result::is_err), "a draw");
    let storage = Arc::clone(&memory) as Arc<dyn Storage>;
    let repository = [world.open(1, &storage, None)];
    world.push(&repository, &sources[0], CompressType::None).await.unwrap();
    assert_eq!(kind(world.push(&repository, &sources[1], CompressType::None).await), ErrorKind::ArchiveDuplicate);
}

#[tokio::test(start_paused = true)]
async fn pu02_the_same_content_at_once_is_one_object() {
    for conditions in [ConditionSupport::Checked, ConditionSupport::Refused] {
        for turns in all_turns(4) {
            let (world, memory) = fresh(conditions).await;
            let source = world.segment(SEGMENT, 1);
            let results = interleaved(&world, &memory, &[source.clone(), source], &turns).await;
            assert!(results.iter().all(Result::is_ok), "{turns:?}: {results:?}");
            assert_eq!(wal_objects(&memory).len(), 1, "{turns:?}");
        }
    }
}

fn rt() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Two calls with one content and one or two with another, in any order: what was acknowledged stays.
    #[test]
    fn pu24_withdrawing_never_takes_what_was_acknowledged(
        turns in prop::collection::vec(0..4_usize, 0..20),
        fourth: bool,
    ) {
        rt().block_on(async {
            let (world, memory) = fresh(ConditionSupport::Checked).await;
            let [one, other] = rivals(&world);
            let mut sources = vec![one.clone(), one, other.clone()];
            if fourth {
                sources.push(other);
            }
            let results = interleaved(&world, &memory, &sources, &turns).await;
            let objects = wal_objects(&memory);
            for (source, result) in sources.iter().zip(&results) {
                if result.is_ok() {
                    let content = std::fs::read(&source.path).unwrap();
                    let checksum = crate::filter::Digest::of(&content).sha1.to_string();
                    assert!(objects.iter().any(|name| name.contains(&checksum)), "{turns:?} lost it: {results:?}");
                }
            }
            let either = |range: std::ops::Range<usize>| results[range].iter().any(Result::is_ok);
            assert!(!(either(0..2) && either(2..results.len())), "{turns:?}: two contents were acknowledged");
        });
    }
}

/// The three-party case in the order that matters: the second call of the winner looks between the first one's write and
/// its second look, and the first one withdraws because of the third.
#[tokio::test(start_paused = true)]
async fn pu24_nobody_relies_on_an_object_that_its_creator_may_withdraw() {
    let (world, memory) = fresh(ConditionSupport::Checked).await;
    let [one, other] = rivals(&world);
    let content = std::fs::read(&one.path).unwrap();
    // The first and the third look, the first writes, the second finds that, the third writes, the first looks again
    // and withdraws.
    let turns = [0, 2, 0, 1, 2, 0, 0];
    let results = interleaved(&world, &memory, &[one.clone(), one, other], &turns).await;
    assert_eq!(results[0].as_ref().unwrap_err().kind(), ErrorKind::ArchiveDuplicate);
    let checksum = crate::filter::Digest::of(&content).sha1.to_string();
    let is_there = wal_objects(&memory).iter().any(|name| name.contains(&checksum));
    assert!(results[1].is_err() || is_there, "acknowledged and withdrawn: {results:?}");
}

/// A history file has one name for all contents: a call that lost must not take the winner's away.
#[tokio::test(start_paused = true)]
async fn pu04_pu24_a_history_file_is_never_withdrawn() {
    let (world, memory) = fresh(ConditionSupport::Checked).await;
    let first = world.file("00000002.history", b"1\t0/5000000\tfirst\n");
    let storage = Arc::clone(&memory) as Arc<dyn Storage>;
    let replaced = Arc::clone(&memory);
    // Somebody who overwrites, as the original does, between this call's write and its second look.
    let looks = std::sync::atomic::AtomicUsize::new(0);
    let watched = Watched::storage(storage, move |call, path| {
        let is_history = path.as_str().ends_with(".history");
        let look = (call == Call::Info && is_history).then(|| looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
        let (replaced, path) = (Arc::clone(&replaced), path.clone());
        async move {
            if look == Some(1) {
                use crate::storage::StorageExt;
                replaced.write_all(&path, bytes::Bytes::from_static(b"1\t0/7000000\tother\n")).await.unwrap();
            }
        }
    });
    let pushed = world.push(&[world.open(1, &watched, None)], &first, CompressType::None).await;
    assert_eq!(kind(pushed), ErrorKind::ArchiveDuplicate);
    assert_eq!(wal_objects(&memory), ["00000002.history"], "what the other one wrote is still there");
}
