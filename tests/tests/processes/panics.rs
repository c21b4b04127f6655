//! A panic in a worker: the command fails as a whole, and the process that serves others goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use pgbr_repo::clock::{Random, RandomUnavailable, SystemClock};
use pgbr_repo::command::archive::push::{PushOptions, push};
use pgbr_repo::command::archive::{ClusterIdentity, WalSource};
use pgbr_repo::command::backup::{Servers, backup};
use pgbr_repo::command::restore::restore;
use pgbr_repo::command::stanza::StanzaCluster;
use pgbr_repo::command::stanza::create::create;
use pgbr_repo::error::{ErrorKind, Result};
use pgbr_repo::filter::{Codecs, Compression, Passphrase};
use pgbr_repo::format::{BackupLabel, CompressType, Stanza};
use pgbr_repo::postgres::ControlFile;
use pgbr_repo::progress::{Context, Level, Progress, Reporter};
use pgbr_repo::repository::{RepoIndex, Repository, WritableRepository};
use pgbr_repo::storage::{MemoryOptions, MemoryStorage, Storage};
use pgbr_repo::transfer::Budget;

use crate::options::{backup_options, restore_options};
use crate::scene::{Scene, sample};

/// Panics at its n-th use, on whatever thread that is. Any other use takes its time.
#[derive(Debug, Default)]
struct Mine {
    uses: AtomicU64,
    at: AtomicU64,
    in_use: AtomicU64,
}

impl Mine {
    fn set(&self, at: u64) {
        self.uses.store(0, Ordering::SeqCst);
        self.at.store(at, Ordering::SeqCst);
    }

    fn step_on(&self, what: &str) {
        let uses = self.uses.fetch_add(1, Ordering::SeqCst) + 1;
        let at = self.at.load(Ordering::SeqCst);
        assert!(uses != at, "the {what} exploded (injected)");
        if at > 0 {
            self.in_use.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
            self.in_use.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn has_exploded(&self) -> bool {
        self.uses.load(Ordering::SeqCst) >= self.at.load(Ordering::SeqCst)
    }
}

/// Salts come from here, mostly on threads that encrypt.
#[derive(Debug)]
struct MinedRandom(Arc<Mine>);

impl Random for MinedRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomUnavailable> {
        self.0.step_on("random source");
        buffer.fill(0x3c);
        Ok(())
    }
}

/// What was done is said to here, by tasks and by threads.
#[derive(Debug)]
struct MinedReporter(Arc<Mine>);

impl Reporter for MinedReporter {
    fn message(&self, _level: Level, _worker: usize, _text: &str) {
        self.0.step_on("reporter");
    }

    fn progress(&self, _progress: Progress) {}
}

struct Engine {
    scene: Scene,
    repository: WritableRepository,
    context: Context,
    random: Arc<Mine>,
    reporter: Arc<Mine>,
    cluster: ClusterIdentity,
}

impl Engine {
    async fn new() -> Self {
        let scene = Scene::new(6, 50_000);
        let (random, reporter) = (Arc::new(Mine::default()), Arc::new(Mine::default()));
        let context = Context {
            clock: Arc::new(SystemClock),
            random: Arc::new(MinedRandom(Arc::clone(&random))),
            budget: Budget::new(32 << 20),
            codecs: Codecs::new(2),
            cancel: Default::default(),
            reporter: Arc::new(MinedReporter(Arc::clone(&reporter))),
        };
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new(Arc::new(SystemClock), MemoryOptions::default()));
        let (index, stanza) = (RepoIndex::new(1).unwrap(), Stanza::parse("demo").unwrap());
        let pass = Passphrase::new(b"geheim").unwrap();
        let repository = WritableRepository::new(Repository::new(index, stanza, storage, Some(pass)));
        let control = ControlFile::parse(&sample("pg15-1mib.pg_control")).unwrap();
        let cluster = StanzaCluster {
            version: control.version(),
            system_id: control.system_id(),
            catalog_version: control.catalog_version(),
        };
        create(std::slice::from_ref(&repository), cluster, &context).await.unwrap();
        let cluster = ClusterIdentity { version: cluster.version, system_id: cluster.system_id };
        Self { scene, repository, context, random, reporter, cluster }
    }

    async fn backup(&self) -> Result<BackupLabel> {
        let options = backup_options(&self.scene.data);
        backup(&self.repository, Servers::Offline, &options, &self.context).await.map(|outcome| outcome.label)
    }

    async fn push(&self, path: &Path) -> Result<()> {
        let options = PushOptions {
            header_check: true,
            mode_check: true,
            compress: Compression::with_default_level(CompressType::Zst),
            cluster: Some(self.cluster),
        };
        push(std::slice::from_ref(&self.repository), &WalSource::new(path)?, &options, &self.context).await.map(drop)
    }

    async fn restore(&self) -> Result<()> {
        let target = self.scene.dir.path().join("restored");
        std::fs::remove_dir_all(&target).ok();
        std::fs::create_dir(&target).unwrap();
        let options = restore_options(&target);
        restore(&[(*self.repository).clone()], &options, &self.context).await.map(drop)
    }

    /// Nothing of a command that has ended works on, or holds memory.
    fn is_at_rest(&self) {
        for mine in [&self.random, &self.reporter] {
            assert_eq!(mine.in_use.load(Ordering::SeqCst), 0, "a thread outlives its command");
        }
        assert!(self.context.budget.reserve(usize::MAX).now_or_never().is_some(), "memory is still held");
    }

    fn is_startable_only_when_whole(&self) {
        let target = self.scene.dir.path().join("restored");
        if target.join("global/pg_control").try_exists().unwrap() {
            for number in 100..106 {
                let name = format!("base/1/{number}");
                assert!(
                    std::fs::read(target.join(&name)).unwrap() == std::fs::read(self.scene.data.join(&name)).unwrap()
                );
            }
        }
    }

    async fn listed(&self) -> Vec<BackupLabel> {
        let info = self.repository.backup_info(&self.context).await.unwrap();
        info.backups().iter().map(|entry| entry.label).collect()
    }
}

/// Whether a command that may panic came to an end: `Some` with its result, `None` for a panic of its own task.
async fn survive<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Option<Result<T>> {
    let ended = tokio::time::timeout(Duration::from_secs(60), tokio::spawn(work)).await;
    match ended.expect("a command hangs after a panic") {
        Ok(result) => Some(result),
        Err(error) if error.is_panic() => None,
        Err(error) => panic!("{error}"),
    }
}

/// Steps on every mine of every command once. After each explosion the command has failed, nothing half is listed, and the
/// next command on the same engine works.
#[tokio::test(flavor = "multi_thread")]
async fn re08_a_panic_in_a_worker_fails_the_command_and_the_engine_serves_on() {
    // The panics are meant.
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if !text.contains("(injected)") {
            eprintln!("{panic}");
        }
    }));
    let engine = Arc::new(Engine::new().await);
    let mut listed = vec![engine.backup().await.unwrap()];
    let segment = engine.scene.segment("pg_wal", 10, 1);
    let mut explosions = 0;
    for mine in [Arc::clone(&engine.random), Arc::clone(&engine.reporter)] {
        for command in ["backup", "push", "restore"] {
            let mut at = 1;
            while at < 60 {
                mine.set(at);
                let (own, segment) = (Arc::clone(&engine), segment.clone());
                let ended = survive(async move {
                    match command {
                        "backup" => Box::pin(own.backup()).await.map(Some),
                        "push" => own.push(&segment).await.map(|()| None),
                        _ => Box::pin(own.restore()).await.map(|()| None),
                    }
                })
                .await;
                engine.is_at_rest();
                let exploded = mine.has_exploded();
                mine.set(0);
                if !exploded {
                    listed.extend(ended.unwrap().unwrap());
                    break;
                }
                explosions += 1;
                match ended {
                    None => {}
                    Some(Err(error)) => assert_eq!(error.kind(), ErrorKind::Unknown, "{command} {at}: {error}"),
                    Some(Ok(label)) => panic!("{command} {at} succeeded over a panic: {label:?}"),
                }
                let now = engine.listed().await;
                assert!(now.starts_with(&listed), "{command} {at}: {now:?}");
                listed = now;
                if command == "restore" {
                    engine.is_startable_only_when_whole();
                }
                at += 1;
            }
            // Nothing of the memory, the coders and the locks is lost.
            engine.push(&segment).await.unwrap();
            listed.push(engine.backup().await.unwrap());
            engine.restore().await.unwrap();
        }
    }
    assert!(explosions >= 15, "{explosions}");
    assert_eq!(engine.listed().await, listed);
}
