//! What every command of a run shares: its options, its log, its context.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pgbr_config::engine::{self, repositories};
use pgbr_config::{Command, HostFiles, Invocation, OptionSet, Parsed, RepoIndex, Role, opt, report};
use pgbr_repo::clock::{SystemClock, SystemRandom};
use pgbr_repo::command::archive::ClusterIdentity;
use pgbr_repo::error::ErrorKind;
use pgbr_repo::filter::Codecs;
use pgbr_repo::format::Stanza;
use pgbr_repo::postgres::ControlFile;
use pgbr_repo::progress::{Context, Level, Progress, Reporter};
use pgbr_repo::repository::{Repository, WritableRepository};
use pgbr_repo::transfer::Budget;
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;
use crate::lock::Locks;
use crate::log::Logger;
use crate::{lock, memory};

/// One run of the program.
pub struct Session {
    /// What was asked for.
    pub parsed: Parsed,
    /// The engine's surroundings.
    pub context: Context,
    start: Start,
    locks: Arc<Mutex<Option<Locks>>>,
}

/// How the program was started.
#[derive(Debug, Clone)]
pub struct Start {
    /// Path of the program.
    pub program: String,
    /// Arguments after it.
    pub arguments: Vec<String>,
    /// All variables.
    pub environment: Vec<(String, String)>,
}

impl Session {
    /// The session of a parsed command line.
    pub fn new(parsed: Parsed, logger: Arc<Logger>, start: Start) -> Self {
        let workers = engine::workers(&parsed.options);
        let locks = Arc::new(Mutex::new(None));
        let reporter = Arc::new(LockedReporter { logger, locks: Arc::clone(&locks) });
        let context = Context {
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            budget: Budget::new(memory::budget_bytes(parsed.command, workers)),
            codecs: Codecs::new(workers),
            cancel: CancellationToken::new(),
            reporter,
        };
        Self { parsed, context, start, locks }
    }

    /// The session of the same command line with a stanza, where it names none.
    pub fn for_stanza(&self, stanza: &str) -> Result<Self, Failure> {
        let mut arguments = self.start.arguments.clone();
        arguments.push(format!("--stanza={stanza}"));
        let invocation = Invocation {
            program: &self.start.program,
            arguments: &arguments,
            environment: &self.start.environment,
            root: rustix::process::geteuid().is_root(),
            exec_id: self.options().text(opt::EXEC_ID),
        };
        let parsed = pgbr_config::parse(&invocation, &HostFiles)?;
        for warning in &parsed.warnings {
            self.context.warn(warning);
        }
        let (context, start, locks) = (self.context.clone(), self.start.clone(), Arc::default());
        Ok(Self { parsed, context, start, locks })
    }

    /// What variables and files configure, as JSON.
    pub fn configuration_report(&self) -> Result<String, Failure> {
        let invocation = Invocation {
            program: &self.start.program,
            arguments: &self.start.arguments,
            environment: &self.start.environment,
            root: rustix::process::geteuid().is_root(),
            exec_id: None,
        };
        Ok(report::configuration(&invocation, &HostFiles)?)
    }

    /// The options.
    pub fn options(&self) -> &OptionSet {
        &self.parsed.options
    }

    /// The command.
    pub fn command(&self) -> Command {
        self.parsed.command
    }

    /// The number of workers.
    pub fn workers(&self) -> usize {
        engine::workers(self.options())
    }

    /// How many threads may block at once, where few are enough: WAL is pushed and fetched in steps that hold no thread while
    /// they wait, so beside those that compress there is one for what is quickly done, such as the name of the store.
    pub fn blocking_threads(&self) -> Option<usize> {
        match (self.command(), self.parsed.role) {
            (Command::ArchiveGet | Command::ArchivePush, Role::Main) => Some(2),
            (Command::ArchiveGet | Command::ArchivePush, Role::Async) | (Command::Serve, _) => {
                Some(self.workers().saturating_add(1))
            }
            _ => None,
        }
    }

    /// A variable of the environment.
    pub fn variable(&self, name: &str) -> Option<String> {
        let mut found = self.start.environment.iter().filter(|(variable, _)| variable == name);
        found.next().map(|(_, value)| value.clone())
    }

    /// The stanza.
    pub fn stanza(&self) -> Result<Stanza, Failure> {
        Ok(repositories::stanza(self.options())?)
    }

    /// The chosen repositories, to read.
    pub fn repositories(&self) -> Result<Vec<Repository>, Failure> {
        Ok(repositories::open_all(self.options(), &self.stanza()?, &|name| self.variable(name))?)
    }

    /// The chosen repositories, to write.
    pub fn writable_repositories(&self) -> Result<Vec<WritableRepository>, Failure> {
        Ok(self.repositories()?.into_iter().map(WritableRepository::new).collect())
    }

    /// The repository of a command that works on one: that of `--repo`, or the first.
    pub fn default_repository(&self) -> Result<(RepoIndex, Repository), Failure> {
        let index = self
            .options()
            .repo_default()
            .ok_or_else(|| Failure::new(ErrorKind::Config, "no repository is configured"))?;
        Ok((index, repositories::open(self.options(), index, &self.stanza()?, &|name| self.variable(name))?))
    }

    /// The data directory, where the command has one.
    pub fn pg_path(&self) -> Option<PathBuf> {
        engine::pg_path(self.options())
    }

    /// The data directory of a command that needs one.
    pub fn require_pg_path(&self) -> Result<PathBuf, Failure> {
        Ok(engine::require_pg_path(self.options())?)
    }

    /// pg_control of the data directory.
    pub fn control_file(&self, pg_path: &Path) -> Result<ControlFile, Failure> {
        Ok(engine::control_file(self.options(), pg_path)?)
    }

    /// The cluster in the data directory.
    pub fn cluster(&self, pg_path: &Path) -> Result<ClusterIdentity, Failure> {
        Ok(engine::cluster(self.options(), pg_path)?)
    }

    /// The directory of lock and stop files.
    pub fn lock_path(&self) -> PathBuf {
        self.options().path(opt::LOCK_PATH).unwrap_or("/tmp/pgbackrest").into()
    }

    /// The directory in which background archiving keeps its state.
    pub fn spool_path(&self) -> Result<PathBuf, Failure> {
        Ok(self.options().require(opt::SPOOL_PATH)?.into())
    }

    /// The log of the background half of the command, whether it is written or not.
    pub fn background_log(&self) -> PathBuf {
        let stanza = self.options().text(opt::STANZA).unwrap_or("all");
        let directory = self.options().path(opt::LOG_PATH).unwrap_or("/var/log/pgbackrest");
        PathBuf::from(directory).join(format!("{stanza}-{}-async.log", self.command()))
    }

    /// The numbers of the repositories that the command works on.
    pub fn repo_keys(&self) -> Vec<u32> {
        repositories::chosen(self.options()).into_iter().map(|index| index.number().into()).collect()
    }

    /// Takes locks for every repository; `None` when another process has one.
    pub fn try_lock(&self, types: &[lock::LockType]) -> Result<Option<Locks>, Failure> {
        let exec_id = self.options().text(opt::EXEC_ID).unwrap_or_default();
        Ok(Locks::try_acquire(&self.lock_path(), self.stanza()?.as_str(), types, &self.repo_keys(), exec_id)?)
    }

    /// Takes locks for every repository.
    pub fn lock(&self, types: &[lock::LockType]) -> Result<Locks, Failure> {
        let exec_id = self.options().text(opt::EXEC_ID).unwrap_or_default();
        Ok(Locks::acquire(&self.lock_path(), self.stanza()?.as_str(), types, &self.repo_keys(), exec_id)?)
    }

    /// Whether the background half that works now was started by this run.
    pub fn owns_lock(&self, lock_type: lock::LockType) -> Result<bool, Failure> {
        let exec_id = self.options().text(opt::EXEC_ID).unwrap_or_default();
        let stanza = self.stanza()?;
        let keys = self.repo_keys();
        let mut holders = keys.iter().map(|key| lock::holder(&self.lock_path(), stanza.as_str(), lock_type, *key));
        Ok(holders.any(|held| held.is_some_and(|held| held.exec_id == exec_id)))
    }

    /// Fails when a stop file forbids the command.
    pub fn test_stop(&self) -> Result<(), Failure> {
        Ok(lock::test_stop(&self.lock_path(), self.options().text(opt::STANZA))?)
    }

    /// Takes the progress of a finished command out of the lock files.
    pub fn forget_progress(&self) {
        if let Some(locks) = self.locks.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            locks.forget_progress();
        }
    }

    /// Holds locks until the session ends; they tell other processes how far the command is.
    pub fn hold(&self, locks: Locks) {
        *self.locks.lock().unwrap_or_else(PoisonError::into_inner) = Some(locks);
    }
}

/// The log, which also writes progress into the lock files.
#[derive(Debug)]
struct LockedReporter {
    logger: Arc<Logger>,
    locks: Arc<Mutex<Option<Locks>>>,
}

impl Reporter for LockedReporter {
    fn message(&self, level: Level, worker: usize, text: &str) {
        self.logger.message(level, worker, text);
    }

    fn failure(&self, kind: ErrorKind, text: &str) {
        self.logger.failure(kind, text);
    }

    fn progress(&self, progress: Progress) {
        self.logger.progress(progress);
        if let Some(locks) = self.locks.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            locks.progress(progress);
        }
    }
}
