//! One run: three hosts, one store, and a seed that decides what happens, when, and what goes wrong.

mod begin;
mod end;
mod heal;
mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use pgbr_repo::command::stanza::StanzaCluster;
use pgbr_repo::command::stanza::create::create;
use pgbr_repo::error::Result;
use pgbr_repo::format::BackupLabel;
use pgbr_repo::storage::retry::RetryPolicy;
use pgbr_repo::storage::{FaultStorage, LocalStorage, MemoryOptions, MemoryStorage, RetryStorage, Storage};
use tokio::task::JoinHandle;

use crate::cluster::{self, Data};
use crate::dice::Dice;
use crate::host::{self, Hands, Heard, HostClock, SameBytes, Time, Trace};
use crate::model::{Files, Model, info_files_are_readable};
use crate::turnstile::{Gate, Turnstile};
use crate::weather::Weather;

pub(crate) const HOSTS: usize = 3;

/// Commands that a run begins before it heals.
const COMMANDS: usize = 45;

/// Far more than any run has needed: a run that goes on is a livelock.
const STEPS_MAX: usize = 60_000;

/// A new year, in milliseconds.
const BEGIN_MS: i64 = 1_767_225_600_000;

/// Where the repository is.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Memory,
    /// A store that does not keep what it says it has.
    LyingMemory,
    Directory(PathBuf),
}

/// How often what came to which end.
pub(crate) type Tally = BTreeMap<String, u64>;

pub(crate) struct Report {
    pub(crate) trace: Vec<String>,
    pub(crate) tally: Tally,
}

struct Host {
    hands: Hands,
    clock: Arc<HostClock>,
    fault: Arc<FaultStorage>,
    /// Is killed at the next step.
    doomed: bool,
    archiver: Option<Running>,
    command: Option<Running>,
}

struct Running {
    what: What,
    task: JoinHandle<Result<Done>>,
}

enum What {
    Push { name: String, branch: u64, path: PathBuf },
    Get { name: String, known: bool },
    Backup { files: Arc<Files> },
    Restore { label: BackupLabel, path: PathBuf, files: Arc<Files> },
    Expire,
    Info { known: Vec<BackupLabel> },
}

enum Done {
    Pushed,
    Got(Option<Vec<u8>>),
    Backup(BackupLabel),
    Restored,
    Expired,
    Listed(Option<Vec<BackupLabel>>),
}

impl What {
    fn name(&self) -> &'static str {
        match self {
            What::Push { .. } => "push",
            What::Get { .. } => "get",
            What::Backup { .. } => "backup",
            What::Restore { .. } => "restore",
            What::Expire => "expire",
            What::Info { .. } => "info",
        }
    }
}

pub(crate) struct Run {
    dice: Dice,
    weather: Weather,
    time: Time,
    turnstile: Arc<Turnstile>,
    store: Arc<dyn Storage>,
    hosts: Vec<Host>,
    auditor: Hands,
    scratch: PathBuf,
    model: Model,
    trace: Arc<Trace>,
    tally: Tally,
    branches: u64,
    timeline: u32,
}

impl Run {
    /// A run of this seed in a runtime of its own.
    pub(crate) fn of(seed: u64, place: &Place, trace: &Arc<Trace>, log: &Arc<Trace>) -> Report {
        let turnstile = Arc::new(Turnstile::default());
        let threads = Arc::clone(&turnstile);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .global_queue_interval(1)
            .thread_keep_alive(Duration::from_secs(3600))
            .on_thread_start(move || threads.enter_thread())
            .build()
            .unwrap();
        let dir = scratch();
        let report = runtime.block_on(async {
            warm_up().await;
            let mut run = Run::new(seed, place, dir.path().to_owned(), turnstile, trace, log).await;
            run.all().await;
            Report { trace: trace.lines(), tally: run.tally }
        });
        runtime.shutdown_background();
        report
    }

    async fn new(
        seed: u64,
        place: &Place,
        scratch: PathBuf,
        turnstile: Arc<Turnstile>,
        trace: &Arc<Trace>,
        log: &Arc<Trace>,
    ) -> Self {
        let mut dice = Dice::new(seed);
        let mut weather = Weather::of(seed, &mut dice);
        weather.lies = if matches!(place, Place::LyingMemory) { 300 } else { 0 };
        let time = Time(Arc::new(AtomicI64::new(BEGIN_MS)));
        // No part of an upload while a job runs: a request must not wait for the turnstile while a thread waits for it.
        let options = MemoryOptions { part_bytes: 4 * 1024 * 1024, ..weather.store };
        let store: Arc<dyn Storage> = match place {
            Place::Memory | Place::LyingMemory => Arc::new(MemoryStorage::new(time.clock(), options)),
            Place::Directory(path) => Arc::new(LocalStorage::new(path.clone())),
        };
        trace.add(format!("seed {seed}: {weather:?}"));
        let mut hosts = Vec::new();
        for number in 0..HOSTS {
            let fault = Arc::new(FaultStorage::new(Arc::clone(&store), dice.roll()));
            let gate = Gate { host: number, turnstile: Arc::clone(&turnstile), inner: Arc::clone(&fault) as _ };
            let storage: Arc<dyn Storage> = match weather.retries {
                true => {
                    let policy = RetryPolicy { tries_max: 6, ..RetryPolicy::default() };
                    Arc::new(RetryStorage::new(Arc::new(gate), policy, Arc::new(SameBytes(0x77))))
                }
                false => Arc::new(gate),
            };
            let clock = time.clock();
            let reporter = Arc::new(Heard { name: format!("host{number}"), log: Arc::clone(log) });
            let data = Arc::new(Data::create(scratch.join(format!("host{number}")), BEGIN_MS - 1_000_000));
            let hands = Hands {
                repository: host::repository(storage),
                context: host::context(Arc::clone(&clock) as _, reporter),
                data,
                wal: Arc::default(),
            };
            hosts.push(Host { hands, clock, fault, doomed: false, archiver: None, command: None });
        }
        let reporter = Arc::new(Heard { name: "auditor".to_owned(), log: Arc::clone(log) });
        let auditor = Hands {
            repository: host::repository(Arc::clone(&store)),
            context: host::context(time.clock(), reporter),
            data: Arc::clone(&hosts[0].hands.data),
            wal: Arc::default(),
        };
        let identity = cluster::identity();
        let cluster = StanzaCluster {
            version: identity.version,
            system_id: identity.system_id,
            catalog_version: cluster::catalog_version(),
        };
        create(std::slice::from_ref(&auditor.repository), cluster, &auditor.context).await.unwrap();
        let mut run = Self {
            dice,
            weather,
            time,
            turnstile,
            store,
            hosts,
            auditor,
            scratch,
            model: Model::default(),
            trace: Arc::clone(trace),
            tally: Tally::new(),
            branches: 0,
            timeline: 0,
        };
        run.promote(0, false);
        run.set_weather();
        run
    }

    /// Everything: the storm, the pauses in which all is checked, the healing, and what must work after it.
    async fn all(&mut self) {
        let mut begun = 0;
        let mut steps = 0;
        while begun < COMMANDS || self.is_busy() {
            steps += 1;
            assert!(steps < STEPS_MAX, "TC08: no end in sight");
            self.turnstile.still().await;
            self.reap().await;
            self.crash().await;
            if begun < COMMANDS && self.dice.chance(60) && self.begin_something().await {
                begun += 1;
                continue;
            }
            if self.dice.chance(self.weather.events) {
                self.happen();
            }
            self.step(begun >= COMMANDS).await;
            if self.dice.chance(2) {
                self.audit().await;
            }
        }
        self.heal().await;
        self.audit().await;
    }

    fn is_busy(&self) -> bool {
        self.hosts.iter().any(|host| host.archiver.is_some() || host.command.is_some())
    }

    /// Lets one request through, or time pass.
    async fn step(&mut self, only_the_rest: bool) {
        let delays = if only_the_rest { 0 } else { self.weather.delays };
        if !self.dice.chance(delays)
            && let Some(said) = self.turnstile.open(&mut self.dice)
        {
            self.trace.add(said);
            return;
        }
        let long = self.dice.chance(self.weather.delays / 20);
        self.pass(if long { 70_000 } else { 100 }).await;
    }

    async fn pass(&mut self, ms: u64) {
        self.time.0.fetch_add(i64::try_from(ms).unwrap(), Ordering::SeqCst);
        tokio::time::advance(Duration::from_millis(ms)).await;
    }

    fn set_weather(&mut self) {
        for host in &self.hosts {
            host.fault.set_rules(self.weather.rules());
            let skew = self.weather.skew_ms;
            host.clock.skew_ms.store(
                i64::try_from(self.dice.below(2 * skew + 1)).unwrap() - i64::try_from(skew).unwrap(),
                Ordering::SeqCst,
            );
        }
    }

    /// Lets hosts die: at a change of the store to come, or here and now.
    async fn crash(&mut self) {
        for number in 0..HOSTS {
            let host = &mut self.hosts[number];
            let is_busy = host.archiver.is_some() || host.command.is_some();
            if host.fault.has_crashed() || host.doomed {
                self.bury(number).await;
            } else if is_busy && self.dice.chance(self.weather.crashes) {
                match self.dice.below(12) as u64 {
                    after @ 0..8 => host.fault.crash_after(after),
                    _ => host.doomed = true,
                }
                self.trace.add(format!("host{number} is about to die"));
            }
        }
    }

    /// What ran on the host is gone, whatever it was doing; the host starts anew.
    async fn bury(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        for running in [host.archiver.take(), host.command.take()].into_iter().flatten() {
            running.task.abort();
            drop(running.task.await);
            *self.tally.entry(format!("{} killed", running.what.name())).or_default() += 1;
        }
        self.trace.add(format!("host{number} died"));
        host.doomed = false;
        host.fault.heal();
        host.fault.set_rules(self.weather.rules());
        self.turnstile.still().await;
        info_files_are_readable(&*self.store).await;
    }

    async fn audit(&mut self) {
        self.turnstile.still().await;
        let Self { model, auditor, scratch, .. } = self;
        Box::pin(model.audit(auditor, scratch)).await;
        *self.tally.entry("audit".to_owned()).or_default() += 1;
    }
}

/// Threads that are there from the beginning, so that none is on its way while the run looks at them.
async fn warm_up() {
    let barrier = Arc::new(std::sync::Barrier::new(8));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            tokio::task::spawn_blocking(move || barrier.wait().is_leader())
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// In memory where the system has a place for that: a restore makes its files durable.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap()
}
