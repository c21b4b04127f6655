//! Two backups at once, uploads that fail, and stores that do not show what they have.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgbr_repo::clock::{Clock, SystemClock, SystemRandom};
use pgbr_repo::error::ErrorKind;
use pgbr_repo::format::path;
use pgbr_repo::progress::Level;
use pgbr_repo::storage::fault::{Call, Fault, KeyPattern, Phase, Rule, When};
use pgbr_repo::storage::retry::RetryPolicy;
use pgbr_repo::storage::{ErrorClass, FaultStorage, LocalStorage, RetryStorage, Storage, StorageExt, StoragePath};
use pgbr_testkit::user;

use crate::fake::{Moment, Server};
use crate::stage::{Stage, local, memory, verifies};

#[tokio::test(flavor = "multi_thread")]
async fn bk15_two_backups_at_once_have_two_names_and_no_half_one_is_listed() {
    let (dir, stage) = local().await;
    let server = Server::new(&stage.data);
    let time_s = server.clock_s();
    let (first, second) = tokio::join!(async { stage.backup(&server, &stage.options(true)).await }, async {
        let other = Server::new(&stage.data);
        other.set_clock_s(time_s);
        stage.backup(&other, &stage.options(false)).await
    });
    let listed = stage.listed().await;
    let finished: Vec<_> = [&first, &second].into_iter().flatten().map(|outcome| outcome.label).collect();
    for error in [first, second].into_iter().filter_map(Result::err) {
        assert!(
            matches!(error.kind(), ErrorKind::FileMissing | ErrorKind::FileWrite | ErrorKind::LockAcquire),
            "{error}"
        );
    }
    for label in &listed {
        assert!(finished.contains(label));
        stage.content(label).await;
    }
    verifies(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn bk15_a_backup_whose_directory_another_host_took_is_not_listed() {
    let stage = Stage::new(memory()).await;
    let runtime = tokio::runtime::Handle::current();
    let other: Mutex<Option<_>> = Mutex::new(None);
    let time_s = SystemClock.now_s();
    let server = Server::new(&stage.data).at(|moment| {
        if moment == Moment::Copied {
            // The other host takes the unfinished backup for a left-over.
            let again = Server::new(&stage.data);
            again.set_clock_s(time_s);
            let finished = tokio::task::block_in_place(|| runtime.block_on(stage.backup(&again, &stage.options(true))));
            *other.lock().unwrap() = Some(finished.unwrap().label);
        }
    });
    server.set_clock_s(time_s);
    let error = stage.backup(&server, &stage.options(true)).await.unwrap_err();
    // It went on with what was there.
    assert_eq!(error.kind(), ErrorKind::LockAcquire, "{error}");
    let label = other.lock().unwrap().unwrap();
    assert_eq!(stage.listed().await, [label]);
    stage.content(&label).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bk15_a_name_that_the_listing_does_not_show_is_not_taken_twice() {
    let store = Arc::new(FaultStorage::new(memory(), 1));
    let stage = Stage::new(Arc::clone(&store) as Arc<dyn Storage>).await;
    let first = stage.backup(&Server::new(&stage.data), &stage.options(true)).await.unwrap();
    let hide = Fault::Hide(KeyPattern::Contains(first.label.to_string()));
    store.add_rule(Rule::new(Call::ListPage, When::Always, hide));
    let label_s = stage.manifest(&first.label).await.header().timestamp_start_s;
    let server = Server::new(&stage.data);
    server.set_clock_s(label_s);
    let second = stage.backup(&server, &stage.options(true)).await.unwrap();
    assert!(second.label > first.label);
    // OS12: what is not listed but there stays in backup.info.
    assert_eq!(stage.listed().await, [first.label, second.label]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bk17_a_bundle_that_is_sent_again_has_the_right_offsets() {
    let dir = user::scratch().unwrap();
    let local = Arc::new(LocalStorage::new(dir.path().join("backrest/repo")));
    let store = Arc::new(FaultStorage::new(local, 1));
    let policy = RetryPolicy { elapsed_max: Duration::from_secs(20), ..RetryPolicy::default() };
    let retried = RetryStorage::new(Arc::clone(&store) as Arc<dyn Storage>, policy, Arc::new(SystemRandom));
    let stage = Stage::new(Arc::new(retried)).await;
    for call in [Call::Put, Call::UploadPart, Call::UploadComplete] {
        for phase in [Phase::Before, Phase::After] {
            let fault = Fault::Fail(ErrorClass::Transient, phase);
            store.add_rule(Rule::new(call, When::First(2), fault).on(KeyPattern::Contains("/bundle/".to_owned())));
        }
    }
    let before = stage.data.files();
    let outcome = stage.backup(&Server::new(&stage.data), &stage.options(true)).await.unwrap();
    let mut after = stage.content(&outcome.label).await;
    after.remove("pg_data/backup_label");
    assert_eq!(after, before);
    verifies(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn bk17_a_bundle_that_cannot_be_sent_fails_the_backup() {
    let store = Arc::new(FaultStorage::new(memory(), 1));
    let stage = Stage::new(Arc::clone(&store) as Arc<dyn Storage>).await;
    let fault = Fault::Fail(ErrorClass::NoSpace, Phase::Before);
    store.add_rule(Rule::any(When::Always, fault).on(KeyPattern::Contains("/bundle/2".to_owned())));
    let error = stage.backup(&Server::new(&stage.data), &stage.options(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileWrite, "{error}");
    assert_eq!(stage.listed().await, []);
    store.heal();
    let outcome = stage.backup(&Server::new(&stage.data), &stage.options(true)).await.unwrap();
    assert_eq!(stage.listed().await, [outcome.label]);
    stage.content(&outcome.label).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn os16_several_backups_that_vanish_stop_the_command_and_nothing_is_written() {
    let (_dir, stage) = local().await;
    let mut labels = Vec::new();
    for _ in 0..3 {
        labels.push(stage.backup(&Server::new(&stage.data), &stage.options(true)).await.unwrap().label);
    }
    for label in &labels[..2] {
        let manifest = path::manifest(stage.repository.stanza(), label);
        stage.storage().remove(&manifest).await.unwrap();
    }
    let before = stage.objects().await;
    let error = stage.backup(&Server::new(&stage.data), &stage.options(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileMissing, "{error}");
    for label in &labels[..2] {
        assert!(error.message().contains(&label.to_string()), "{error}");
    }
    assert_eq!(stage.objects().await, before);
    assert_eq!(stage.listed().await, labels);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_backup_that_vanished_is_taken_out_and_one_that_came_back_is_listed() {
    let (_dir, stage) = local().await;
    let mut labels = Vec::new();
    for _ in 0..2 {
        labels.push(stage.backup(&Server::new(&stage.data), &stage.options(true)).await.unwrap().label);
    }
    let manifest = path::manifest(stage.repository.stanza(), &labels[1]);
    let bytes = stage.storage().read_all(&manifest, 1 << 20).await.unwrap();
    stage.storage().remove(&manifest).await.unwrap();
    let third = stage.backup(&Server::new(&stage.data), &stage.options(true)).await.unwrap().label;
    assert_eq!(stage.listed().await, [labels[0], third]);
    let warning = format!("backup '{}' missing manifest removed from backup.info", labels[1]);
    assert!(stage.log.lines(Level::Warn).contains(&warning));
    // Its directory was not taken for a left-over: the manifest may come back, and then it is a backup again.
    stage.storage().write_all(&manifest, bytes).await.unwrap();
    let fourth = stage.backup(&Server::new(&stage.data), &stage.options(true)).await.unwrap().label;
    assert_eq!(stage.listed().await, [labels[0], labels[1], third, fourth]);
    stage.content(&labels[1]).await;
}

/// An object by its name.
fn at(name: &str) -> StoragePath {
    StoragePath::parse(name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn in04_a_backup_that_another_writer_dropped_from_the_list_is_listed_again() {
    let stage = Stage::new(memory()).await;
    let server = Server::new(&stage.data);
    let first = stage.backup(&server, &stage.options(true)).await.unwrap().label;
    let (main, copy) = (at("backup/demo/backup.info"), at("backup/demo/backup.info.copy"));
    let older = stage.storage().read_all(&main, 1 << 20).await.unwrap();
    server.set_clock_s(server.clock_s() + 60);
    let second = stage.backup(&server, &stage.options(true)).await.unwrap().label;
    // Whoever had read the list before the second backup writes it after: main file and copy are valid and differ.
    stage.storage().write_all(&main, older).await.unwrap();
    assert_eq!(stage.listed().await, [first]);
    server.set_clock_s(server.clock_s() + 60);
    let third = stage.backup(&server, &stage.options(true)).await.unwrap().label;
    assert_eq!(stage.listed().await, [first, second, third]);
    let warned = stage.log.lines(Level::Warn);
    assert!(warned.iter().any(|line| line.contains(&format!("'{second}' found in repository added"))), "{warned:?}");
    let read = async |path| stage.storage().read_all(path, 1 << 20).await.unwrap();
    assert_eq!(read(&main).await, read(&copy).await);
    for label in [first, second, third] {
        stage.content(&label).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in11_every_backup_writes_both_info_files_anew_and_heals_what_a_rule_removed() {
    let stage = Stage::new(memory()).await;
    let server = Server::new(&stage.data);
    let names = ["archive/demo/archive.info", "backup/demo/backup.info"];
    let versions = async || {
        let mut versions = Vec::new();
        for name in names {
            for path in [at(name), at(&format!("{name}.copy"))] {
                versions.push(stage.storage().info(&path).await.unwrap().version.unwrap());
            }
        }
        versions
    };
    let before = versions().await;
    stage.backup(&server, &stage.options(true)).await.unwrap();
    let after = versions().await;
    assert!(before.iter().zip(&after).all(|(before, after)| before != after), "{before:?} {after:?}");
    for name in names {
        stage.storage().remove(&at(name)).await.unwrap();
    }
    server.set_clock_s(server.clock_s() + 60);
    stage.backup(&server, &stage.options(true)).await.unwrap();
    versions().await;
    assert_eq!(stage.listed().await.len(), 2);
}
