//! The rows EX and OS of the fault matrix, over stores that go wrong.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use pgbr_repo::command::expire::{ExpireRequest, ExpiredBackups, FullUnit, HOLD, Permit, expire};
use pgbr_repo::error::{Error, ErrorKind};
use pgbr_repo::format::{ArchiveInfo, BackupType};
use pgbr_repo::progress::Level;
use pgbr_repo::storage::fault::{Call, Fault, KeyPattern, Phase, Rule, When};
use pgbr_repo::storage::{Durability, ErrorClass, Storage, StoragePath};

use crate::random;
use crate::stage::{
    DAY_S, NOW_S, Stage, Teller, by_retention, keep_days, keep_full, labels, put, request, segment, sets, wal_between,
};
use pgbr_testkit::world::{NewBackup, World, history_id, label};

fn kind(result: pgbr_repo::error::Result<()>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[tokio::test]
async fn ex01_a_backup_that_completes_meanwhile_is_neither_dropped_nor_deleted() {
    let sets = sets();
    let third = sets.world.backups[&sets.full[2]].clone();
    let start_s = NOW_S - DAY_S;
    let new = NewBackup {
        label: label(start_s, Some(third.label()), BackupType::Incremental),
        prior: Some(&third),
        start_s,
        stop_s: start_s + 60,
        wal: Some((segment(1, 30), segment(1, 31))),
        history_id: history_id(1),
        page_error: false,
    };
    let mut later = sets.world.clone();
    later.add(new);
    // The reads and listings of a quiet run, one by one: the other host completes its backup before each of them.
    let quiet = Stage::new(&sets.world).await;
    quiet.expire(&by_retention(), keep_full(1)).await.unwrap();
    let moments: Vec<(Call, u64)> = [Call::Read, Call::ListPage, Call::Put, Call::RemoveMany, Call::RemoveTree]
        .into_iter()
        .flat_map(|call| (1..=quiet.store.requests_of(call)).map(move |nth| (call, nth)))
        .collect();
    for (call, nth) in moments {
        let mut running = sets.world.clone();
        running.add_unfinished(new, true);
        let stage = Stage::new(&running).await;
        stage.store.add_rule(Rule::new(call, When::Nth(nth), Fault::Delay(Duration::from_millis(120))));
        let other_host = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            let manifest = format!("backup/demo/{}/backup.manifest", new.label);
            put(stage.memory.as_ref(), &manifest, later.files()[&manifest].clone()).await;
            let mut info = stage.info().await;
            info.add(later.backups[&new.label].entry.clone()).unwrap();
            for copy in ["", ".copy"] {
                put(stage.memory.as_ref(), &format!("backup/demo/backup.info{copy}"), info.write()).await;
            }
        };
        let request = by_retention();
        let (outcome, ()) = tokio::join!(stage.expire(&request, keep_full(1)), other_host);
        outcome.unwrap();
        let objects = stage.objects();
        assert!(objects.contains(&format!("backup/demo/{}/pg_data/PG_VERSION", new.label)), "{call:?} {nth}");
        // Between the last look at backup.info and its writing there is no moment for others in one process; a store
        // with conditions refuses the write then.
        if call != Call::Put {
            assert_eq!(stage.listed().await, [sets.full[2], new.label], "{call:?} {nth}");
        }
    }
}

#[tokio::test]
async fn ex02_ex03_a_crash_at_any_change_leaves_every_listed_backup_whole() {
    let sets = sets();
    let finished = Stage::new(&sets.world).await;
    let mut rules = keep_full(1);
    rules.retention.history_days = Some(10);
    finished.expire(&by_retention(), rules.clone()).await.unwrap();
    let changes = finished.store.mutations();
    assert!(changes > 30, "{changes}");
    for at in 0..changes {
        let stage = Stage::new(&sets.world).await;
        stage.store.crash_after(at);
        drop(stage.expire(&by_retention(), rules.clone()).await);
        assert!(stage.store.has_crashed(), "{at}");
        stage.is_whole(&sets.world).await;
        // Another process goes on.
        let next = Stage::over(Arc::clone(&stage.memory));
        next.expire(&by_retention(), rules.clone()).await.unwrap_or_else(|error| {
            panic!("after a crash at {at}: {error}: {:?}", next.log.failure());
        });
        assert_eq!(next.objects(), finished.objects(), "after a crash at {at}");
        assert_eq!(next.listed().await, [sets.full[2]]);
    }
}

#[tokio::test]
async fn ex04_no_wal_of_a_listed_backup_goes_and_none_from_the_oldest_promised_one_on() {
    for number in 1..150 {
        let world = random::case(number, NOW_S).world;
        let stage = Stage::new(&world).await;
        let keep = u32::try_from(number % 3 + 1).unwrap();
        let mut rules = keep_full(keep);
        if number % 2 == 0 {
            rules.retention.wal.count = std::num::NonZeroU32::new(1);
        }
        if number % 5 == 0 {
            rules.retention.wal.kind = BackupType::Incremental;
        }
        let wal = rules.retention.wal;
        let mut request = by_retention();
        request.end_at_page_errors = false;
        stage.expire(&request, rules).await.unwrap_or_else(|error| {
            panic!("{number}: {error}: {:?}", stage.log.failure());
        });
        let (info, objects) = (stage.info().await, stage.objects());
        let counted: Vec<_> = info.backups().iter().filter(|backup| backup.backup_type() <= wal.kind).collect();
        let promised = counted.len().checked_sub(usize::try_from(wal.count.unwrap().get()).unwrap());
        for (at, backup) in counted.iter().enumerate() {
            let cluster = backup.history_id.number();
            let stays = promised.is_none_or(|promised| at >= promised);
            let to = if stays { Some(segment(9, u32::MAX)) } else { backup.archive_stop };
            for name in wal_between(&world, cluster, backup.archive_start, to) {
                let id = world.archive_id(backup.history_id);
                assert!(objects.contains(&format!("archive/demo/{id}/{name}")), "{number}: {name}");
            }
        }
        for backup in info.backups() {
            let cluster = backup.history_id.number();
            for name in wal_between(&world, cluster, backup.archive_start, backup.archive_stop) {
                let id = world.archive_id(backup.history_id);
                assert!(objects.contains(&format!("archive/demo/{id}/{name}")), "{number}: {name}");
            }
        }
    }
}

#[tokio::test]
async fn ex05_a_newer_backup_on_a_lower_timeline_keeps_its_wal_and_history() {
    let mut teller = Teller::new();
    teller.backup(30, BackupType::Full, None);
    teller.timeline = 3;
    teller.world.add_wal(history_id(1), "00000002.history".to_owned());
    teller.world.add_wal(history_id(1), "00000003.history".to_owned());
    let third = teller.backup(20, BackupType::Full, None);
    // Timeline 3 was a test; production went on from 2.
    teller.timeline = 2;
    let second = teller.backup(10, BackupType::Full, None);
    teller.wal(3);
    let world = teller.world;
    let stage = Stage::new(&world).await;
    stage.expire(&by_retention(), keep_full(2)).await.unwrap();
    assert_eq!(stage.listed().await, [third.label(), second.label()]);
    stage.is_whole(&world).await;
    let objects = stage.objects();
    for name in wal_between(&world, 1, second.entry.archive_start, Some(segment(2, 1000))) {
        assert!(objects.contains(&format!("archive/demo/13-1/{name}")), "{name}");
    }
    assert!(objects.contains("archive/demo/13-1/00000002.history"));
    assert!(!objects.iter().any(|name| name.starts_with("archive/demo/13-1/00000001")), "{objects:?}");
}

#[tokio::test]
async fn ex06_nothing_goes_by_age_when_the_clock_cannot_be_right() {
    let sets = sets();
    for (now_s, rules) in [
        (NOW_S + 3653 * DAY_S, keep_days(10)),
        (NOW_S - 100 * DAY_S, {
            let mut rules = keep_full(9);
            rules.retention.history_days = Some(0);
            rules
        }),
    ] {
        let mut world = sets.world.clone();
        world.history.insert(label(NOW_S - 400 * DAY_S, None, BackupType::Full));
        let stage = Stage::new(&world).await;
        let before = stage.objects();
        stage.clock.set(now_s);
        assert_eq!(kind(stage.expire(&by_retention(), rules).await), ErrorKind::Command);
        assert_eq!(stage.log.failure().0, ErrorKind::Clock);
        assert_eq!(stage.objects(), before);
    }
    // The clock is right: one full backup that is older than the limit stays.
    let stage = Stage::new(&sets.world).await;
    stage.expire(&by_retention(), keep_days(10)).await.unwrap();
    assert_eq!(stage.listed().await, sets.full[1..]);
    // Retention by number does not ask for the time.
    let stage = Stage::new(&sets.world).await;
    stage.clock.set(NOW_S + 3653 * DAY_S);
    stage.expire(&by_retention(), keep_full(1)).await.unwrap();
    assert_eq!(stage.listed().await, [sets.full[2]]);
}

#[tokio::test]
async fn ex07_a_directory_with_a_manifest_is_never_removed_because_it_is_not_listed() {
    let sets = sets();
    let stage = Stage::new(&sets.world).await;
    // backup.info of a stanza that was made anew: another cluster, no backups.
    let mut other = World::new();
    other.upgrade();
    other.clusters.remove(0);
    for copy in ["", ".copy"] {
        let name = format!("backup/demo/backup.info{copy}");
        put(stage.memory.as_ref(), &name, other.files()[&name].clone()).await;
    }
    let before = stage.objects();
    assert_eq!(kind(stage.expire(&by_retention(), keep_full(1)).await), ErrorKind::Command);
    let (kind, text) = stage.log.failure();
    assert_eq!(kind, ErrorKind::BackupSetInvalid);
    assert!(text.contains("5 objects could not be removed"), "{text}");
    assert_eq!(stage.objects(), before);
}

#[tokio::test]
async fn ex08_nothing_is_removed_when_the_histories_contradict_each_other() {
    let sets = sets();
    let stage = Stage::new(&sets.world).await;
    let cluster = &sets.world.clusters[0];
    let other = pgbr_repo::postgres::SystemId(cluster.system_id.0 + 77);
    let info = ArchiveInfo::new(None, cluster.version, other).write();
    for copy in ["", ".copy"] {
        put(stage.memory.as_ref(), &format!("archive/demo/archive.info{copy}"), info.clone()).await;
    }
    let before = stage.memory.objects();
    assert_eq!(kind(stage.expire(&by_retention(), keep_full(1)).await), ErrorKind::Command);
    assert_eq!(stage.log.failure().0, ErrorKind::Format);
    assert_eq!(stage.memory.objects(), before);
}

#[tokio::test]
async fn ex10_the_last_clean_backup_does_not_go_for_a_damaged_one() {
    let mut sets = sets();
    sets.world.backups.get_mut(&sets.full[2]).unwrap().entry.error = Some(true);
    let stage = Stage::new(&sets.world).await;
    let before = stage.memory.objects();
    assert_eq!(kind(stage.expire(&by_retention(), keep_full(1)).await), ErrorKind::Command);
    let (kind, text) = stage.log.failure();
    assert_eq!(kind, ErrorKind::Checksum);
    assert!(text.contains(sets.full[2].as_str()) && text.contains(sets.full[1].as_str()), "{text}");
    assert_eq!(stage.memory.objects(), before);
    // Told to, it goes on and warns.
    let forced = ExpireRequest { end_at_page_errors: false, ..by_retention() };
    stage.expire(&forced, keep_full(1)).await.unwrap();
    assert_eq!(stage.listed().await, [sets.full[2]]);
    assert!(stage.log.lines(Level::Warn).iter().any(|line| line.contains("invalid page checksum")));
}

/// Says yes so many times.
#[derive(Debug)]
struct Times(AtomicI64);

impl Permit for Times {
    fn confirm(&self) -> BoxFuture<'_, Result<(), Error>> {
        let left = self.0.fetch_sub(1, Ordering::SeqCst);
        let refused = || Err(Error::new(ErrorKind::LockAcquire, "somebody else works here"));
        Box::pin(async move { if left > 0 { Ok(()) } else { refused() } })
    }
}

/// Who is not let in any more removes nothing more, wherever that is; what is left is whole, and the next run completes it.
#[tokio::test]
async fn nothing_is_removed_without_the_permit() {
    let sets = sets();
    let mut rules = keep_full(1);
    rules.retention.history_days = Some(0);
    let finished = Stage::new(&sets.world).await;
    finished.expire(&by_retention(), rules.clone()).await.unwrap();
    let mut refused = 0;
    for times in 0.. {
        let stage = Stage::new(&sets.world).await;
        let before = stage.memory.objects();
        let permit = Some(Arc::new(Times(AtomicI64::new(times))) as Arc<dyn Permit>);
        let request = ExpireRequest { permit, ..by_retention() };
        let Err(error) = stage.expire(&request, rules.clone()).await else { break };
        assert_eq!(error.kind(), ErrorKind::Command);
        assert_eq!(stage.log.failure().0, ErrorKind::LockAcquire);
        if times == 0 {
            assert_eq!(stage.memory.objects(), before);
        }
        stage.is_whole(&sets.world).await;
        stage.expire(&by_retention(), rules.clone()).await.unwrap();
        assert_eq!(stage.objects(), finished.objects(), "after {times}");
        refused = times;
    }
    // backup.info, each manifest, each directory, WAL, the history, left-overs.
    assert!(refused >= 8, "only {refused} questions");
}

#[tokio::test]
async fn ex11_what_cannot_be_removed_is_counted_and_the_rest_goes() {
    let sets = sets();
    let mut rules = keep_full(1);
    rules.retention.history_days = Some(0);
    let finished = Stage::new(&sets.world).await;
    finished.expire(&by_retention(), rules.clone()).await.unwrap();
    for pattern in [
        KeyPattern::Contains(format!("{}/backup.manifest", sets.diff)),
        KeyPattern::Suffix(sets.full[0].to_string()),
        KeyPattern::Contains("archive/demo/13-1/0000000100000001".to_owned()),
        KeyPattern::Contains("backup.history/2026/".to_owned()),
    ] {
        let stage = Stage::new(&sets.world).await;
        for call in [Call::RemoveMany, Call::RemoveTree, Call::Remove] {
            let fault = Fault::Fail(ErrorClass::Denied, Phase::Before);
            stage.store.add_rule(Rule::new(call, When::Always, fault).on(pattern.clone()));
        }
        assert_eq!(kind(stage.expire(&by_retention(), rules.clone()).await), ErrorKind::Command, "{pattern:?}");
        stage.is_whole(&sets.world).await;
        let left: BTreeSet<_> = stage.objects().difference(&finished.objects()).cloned().collect();
        assert!(!left.is_empty(), "{pattern:?}");
        let touched = |name: &String| match &pattern {
            // What is below a backup that could not be unmade stays with it, and with what it needs.
            KeyPattern::Contains(text) if text.contains("manifest") => name.starts_with("backup/demo/20"),
            KeyPattern::Suffix(label) => name.contains(label),
            pattern => pattern.matches(name),
        };
        assert!(left.iter().all(touched), "{pattern:?}: {left:?}");
        // The next run, on a store that is well again, does the rest.
        stage.store.heal();
        let next = Stage::over(Arc::clone(&stage.memory));
        next.expire(&by_retention(), rules.clone()).await.unwrap();
        assert_eq!(next.objects(), finished.objects(), "{pattern:?}");
    }
}

#[tokio::test]
async fn ex13_a_held_backup_stays_with_all_that_it_needs() {
    for by_age in [false, true] {
        let mut sets = sets();
        let incr = &mut sets.world.backups.get_mut(&sets.incr).unwrap().entry;
        incr.annotations.set(HOLD, "audit").unwrap();
        let stage = Stage::new(&sets.world).await;
        let rules = if by_age { keep_days(1) } else { keep_full(1) };
        stage.expire(&by_retention(), rules).await.unwrap();
        assert_eq!(stage.listed().await, [sets.full[0], sets.diff, sets.incr, sets.full[2]], "{by_age}");
        stage.is_whole(&sets.world).await;
        let named = stage.expire(&request(ExpiredBackups::Set(sets.diff)), keep_full(1)).await;
        assert_eq!((kind(named), stage.log.failure().0), (ErrorKind::Command, ErrorKind::BackupSetInvalid));
    }
}

#[tokio::test]
async fn ex14_a_set_goes_together_and_the_only_full_backup_does_not() {
    let sets = sets();
    let stage = Stage::new(&sets.world).await;
    stage.expire(&request(ExpiredBackups::Set(sets.diff)), keep_full(9)).await.unwrap();
    assert_eq!(stage.listed().await, sets.full);
    stage.expire(&request(ExpiredBackups::Set(sets.full[0])), keep_full(9)).await.unwrap();
    stage.expire(&request(ExpiredBackups::Set(sets.full[2])), keep_full(9)).await.unwrap();
    assert!(stage.log.lines(Level::Warn).iter().any(|line| line.contains("expiring latest backup")));
    assert_eq!(stage.listed().await, [sets.full[1]]);
    let before = stage.memory.objects();
    let only = stage.expire(&request(ExpiredBackups::Set(sets.full[1])), keep_full(9)).await;
    assert_eq!((kind(only), stage.log.failure().0), (ErrorKind::Command, ErrorKind::BackupSetInvalid));
    assert_eq!(stage.memory.objects(), before);
    let unknown = label(1_000_000_000, None, BackupType::Full);
    let next = Stage::over(Arc::clone(&stage.memory));
    next.expire(&request(ExpiredBackups::Set(unknown)), keep_full(9)).await.unwrap();
    assert!(next.log.lines(Level::Warn).iter().any(|line| line.contains("does not exist")));
    // No backup at all: the original fell over this once.
    let empty = Stage::new(&World::new()).await;
    empty.expire(&request(ExpiredBackups::Set(unknown)), keep_full(1)).await.unwrap();
}

#[tokio::test]
async fn ex15_a_dry_run_changes_nothing_and_says_what_a_real_run_says() {
    for number in 1..60 {
        let world = random::case(number, NOW_S).world;
        let mut rules = keep_full(u32::try_from(number % 3 + 1).unwrap());
        rules.retention.history_days = Some(30);
        let real = ExpireRequest { end_at_page_errors: false, ..by_retention() };
        let dry = Stage::new(&world).await;
        dry.expire(&ExpireRequest { dry_run: true, ..real.clone() }, rules.clone()).await.unwrap();
        let requests = dry.store.requests();
        assert!(requests.keys().all(|call| !call.is_mutating()), "{requests:?}");
        let stage = Stage::new(&world).await;
        stage.expire(&real, rules).await.unwrap();
        for level in [Level::Info, Level::Detail] {
            assert_eq!(dry.log.lines(level), stage.log.lines(level), "{number}");
        }
    }
}

#[tokio::test]
async fn ex16_each_repository_has_its_own_rules_and_one_that_fails_stops_no_other() {
    let sets = sets();
    let (first, second, third) =
        (Stage::new(&sets.world).await, Stage::new(&sets.world).await, Stage::new(&sets.world).await);
    second.store.add_rule(Rule::any(When::Always, Fault::Fail(ErrorClass::Denied, Phase::Before)));
    let targets = [
        (first.repository(1), keep_full(1)),
        (second.repository(2), keep_full(1)),
        (third.repository(3), keep_full(2)),
    ];
    let error = expire(&targets, &by_retention(), &first.context).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Command);
    assert!(error.message().contains("1 error(s)"), "{error}");
    assert!(first.log.failure().1.starts_with("repo2: "));
    assert_eq!(first.listed().await, [sets.full[2]]);
    assert_eq!(third.listed().await, sets.full[1..]);
    assert_eq!(labels(&second.info().await).len(), 5);
}

#[tokio::test]
async fn os12_a_listing_that_lags_deletes_nothing_and_forgets_nothing() {
    let sets = sets();
    let stage = Stage::new(&sets.world).await;
    let hide = Fault::Hide(KeyPattern::Contains(sets.full[2].to_string()));
    stage.store.add_rule(Rule::new(Call::ListPage, When::Always, hide));
    stage.expire(&by_retention(), keep_full(2)).await.unwrap();
    assert_eq!(stage.listed().await, sets.full[1..]);
    stage.is_whole(&sets.world).await;
    // A manifest that is listed and cannot be found is a contradiction, and no answer.
    let stage = Stage::new(&sets.world).await;
    let missing = Fault::Fail(ErrorClass::Missing, Phase::Before);
    let on = KeyPattern::Contains(format!("{}/backup.manifest", sets.incr));
    stage.store.add_rule(Rule::new(Call::Info, When::Always, missing).on(on));
    let before = stage.memory.objects();
    assert_eq!(kind(stage.expire(&by_retention(), keep_full(2)).await), ErrorKind::Command);
    assert_eq!(stage.log.failure().0, ErrorKind::Service);
    assert_eq!(stage.memory.objects(), before);
}

#[tokio::test]
async fn os13_a_listing_that_shows_what_is_gone_is_no_obstacle() {
    let sets = sets();
    let stage = Stage::new(&sets.world).await;
    stage.store.add_rule(Rule::new(Call::ListPage, When::Always, Fault::Ghosts { calls: 1000 }));
    stage.expire(&by_retention(), keep_full(2)).await.unwrap();
    stage.expire(&by_retention(), keep_full(1)).await.unwrap();
    assert_eq!(stage.listed().await, [sets.full[2]]);
    stage.is_whole(&sets.world).await;
}

#[tokio::test]
async fn os16_backups_that_disappear_stop_the_run_and_a_person_can_name_them() {
    let sets = sets();
    for gone in [vec![sets.full[2]], vec![sets.full[0], sets.full[1]], vec![sets.diff], vec![sets.incr, sets.full[1]]] {
        let mut world = sets.world.clone();
        world.lost.extend(&gone);
        let stage = Stage::new(&world).await;
        let before = stage.memory.objects();
        assert_eq!(kind(stage.expire(&by_retention(), keep_full(1)).await), ErrorKind::Command);
        let (kind, text) = stage.log.failure();
        assert_eq!(kind, ErrorKind::FileMissing);
        assert!(gone.iter().all(|label| text.contains(label.as_str())), "{text}");
        assert_eq!(stage.memory.objects(), before);
    }
    // One that nothing depends on is what an interrupted expire leaves.
    let mut world = sets.world.clone();
    world.lost.insert(sets.incr);
    let stage = Stage::new(&world).await;
    stage.expire(&by_retention(), keep_full(3)).await.unwrap();
    assert_eq!(stage.listed().await, [sets.full[0], sets.diff, sets.full[1], sets.full[2]]);
    // The original was killed between the manifests of a set and backup.info.
    world.lost.insert(sets.diff);
    let stage = Stage::new(&world).await;
    assert!(stage.expire(&by_retention(), keep_full(3)).await.is_err());
    let named = request(ExpiredBackups::Set(sets.full[0]));
    stage.expire(&named, keep_full(3)).await.unwrap();
    assert_eq!(stage.listed().await, sets.full[1..]);
    assert!(!stage.objects().iter().any(|name| name.contains(&format!("{}/pg_data", sets.diff))));
}

#[tokio::test]
async fn os29_old_unfinished_uploads_of_this_stanza_go_and_no_others() {
    let sets = sets();
    let stage = Stage::new(&sets.world).await;
    let begin = async |name: &str| {
        let path = StoragePath::parse(name).unwrap();
        stage.memory.upload_create(&path, Durability::Now).await.unwrap()
    };
    for name in ["backup/demo/x", "archive/demo/13-1/x", "backup/other/x"] {
        begin(name).await;
    }
    let below = StoragePath::root();
    stage.expire(&by_retention(), keep_full(3)).await.unwrap();
    // They are not a day old by the clock of the run, which stands in the past of the store's.
    assert_eq!(stage.memory.remove_stale_uploads(&below, 0).await.unwrap(), 0);
    stage.clock.set(pgbr_repo::clock::Clock::now_s(&pgbr_repo::clock::SystemClock) + 2 * DAY_S);
    stage.expire(&by_retention(), keep_full(3)).await.unwrap();
    assert_eq!(stage.memory.remove_stale_uploads(&below, i64::MAX).await.unwrap(), 1, "that of the other stanza");
}

#[tokio::test]
async fn time_based_retention_without_an_old_enough_full_backup_removes_nothing() {
    let sets = sets();
    let stage = Stage::new(&sets.world).await;
    let before = stage.objects();
    let rules = keep_days(100);
    assert_eq!(rules.retention.full_unit, FullUnit::Days);
    stage.expire(&by_retention(), rules).await.unwrap();
    assert_eq!(stage.objects(), before);
    assert!(stage.log.lines(Level::Info).iter().any(|line| line.contains("time-based archive retention not met")));
}
