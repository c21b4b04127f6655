//! What every command of a run shares: its options, its log, its context.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pgbr_config::{Command, OptionSet, Parsed, RepoIndex, opt};
use pgbr_repo::clock::{SystemClock, SystemRandom};
use pgbr_repo::command::archive::ClusterIdentity;
use pgbr_repo::command::control;
use pgbr_repo::error::ErrorKind;
use pgbr_repo::filter::{Codecs, Compression};
use pgbr_repo::format::{CompressType, Stanza};
use pgbr_repo::postgres::{ControlFile, PgVersion};
use pgbr_repo::progress::{Context, Level, Progress, Reporter};
use pgbr_repo::repository::{Repository, WritableRepository};
use pgbr_repo::transfer::Budget;
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;
use crate::lock::Locks;
use crate::log::Logger;
use crate::{lock, memory, repositories};

/// One run of the program.
pub struct Session {
    /// What was asked for.
    pub parsed: Parsed,
    /// The engine's surroundings.
    pub context: Context,
    environment: HashMap<String, String>,
    locks: Arc<Mutex<Option<Locks>>>,
}

impl Session {
    /// The session of a parsed command line.
    pub fn new(parsed: Parsed, logger: Arc<Logger>, environment: &[(String, String)]) -> Self {
        let workers = workers(&parsed.options);
        let locks = Arc::new(Mutex::new(None));
        let reporter = Arc::new(LockedReporter { logger, locks: Arc::clone(&locks) });
        let context = Context {
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            budget: Budget::new(memory::budget_bytes(workers)),
            codecs: Codecs::new(workers),
            cancel: CancellationToken::new(),
            reporter,
        };
        Self { parsed, context, environment: environment.iter().cloned().collect(), locks }
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
        workers(self.options())
    }

    /// A variable of the environment.
    pub fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(name).cloned()
    }

    /// The stanza.
    pub fn stanza(&self) -> Result<Stanza, Failure> {
        repositories::stanza(self.options())
    }

    /// The chosen repositories, to read.
    pub fn repositories(&self) -> Result<Vec<Repository>, Failure> {
        repositories::open_all(self.options(), &self.stanza()?, &|name| self.variable(name))
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
        let pg = self.options().pgs().next()?;
        self.options().pg(pg).path(opt::PG_PATH).map(PathBuf::from)
    }

    /// The data directory of a command that needs one.
    pub fn require_pg_path(&self) -> Result<PathBuf, Failure> {
        match self.options().pgs().next() {
            Some(pg) => Ok(self.options().pg(pg).require(opt::PG_PATH)?.into()),
            None => Err(Failure::new(
                ErrorKind::OptionRequired,
                format!("{} command requires option: pg1-path", self.command()),
            )),
        }
    }

    /// The version that `pg-version-force` demands.
    pub fn forced_version(&self) -> Result<Option<PgVersion>, Failure> {
        let forced = self.options().text(opt::PG_VERSION_FORCE).map(PgVersion::parse).transpose();
        forced.map_err(|error| Failure::new(ErrorKind::OptionInvalidValue, error.to_string()))
    }

    /// pg_control of the data directory.
    pub fn control_file(&self, pg_path: &Path) -> Result<ControlFile, Failure> {
        Ok(control::read(pg_path, self.forced_version()?)?)
    }

    /// The cluster in the data directory.
    pub fn cluster(&self, pg_path: &Path) -> Result<ClusterIdentity, Failure> {
        let control = self.control_file(pg_path)?;
        Ok(ClusterIdentity { version: control.version(), system_id: control.system_id() })
    }

    /// The compression that the options ask for.
    pub fn compression(&self) -> Result<Compression, Failure> {
        let kind = CompressType::parse(self.options().string_id(opt::COMPRESS_TYPE).unwrap_or("gz"))
            .map_err(|error| Failure::new(ErrorKind::OptionInvalidValue, error.to_string()))?;
        if kind == CompressType::None {
            return Ok(Compression::NONE);
        }
        let level = match self.options().integer(opt::COMPRESS_LEVEL).map(i32::try_from) {
            Some(Ok(level)) => level,
            _ => kind.level_default(),
        };
        Compression::new(kind, level).map_err(|error| Failure::new(ErrorKind::OptionInvalidValue, error.to_string()))
    }

    /// The directory of lock and stop files.
    pub fn lock_path(&self) -> PathBuf {
        self.options().path(opt::LOCK_PATH).unwrap_or("/tmp/pgbackrest").into()
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

fn workers(options: &OptionSet) -> usize {
    options.integer(opt::PROCESS_MAX).and_then(|workers| usize::try_from(workers).ok()).unwrap_or(1).max(1)
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
