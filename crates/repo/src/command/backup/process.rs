//! Copies all files, several at once, and enters the results into the manifest as they come.

use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;

use super::blocks::fetch_prior_maps;
use super::changes::Action;
use super::cluster::Cluster;
use super::compare::Compared;
use super::file::{Copied, Copier};
use super::leftovers::discard;
use super::options::BackupOptions;
use super::ownership::Ownership;
use super::plan::{Job, Plan};
use super::prepare::{Prepared, memory_bytes};
use super::results::Results;
use super::resume::Kept;
use super::save::Saver;
use super::servers::Servers;
use crate::error::{Error, Result};
use crate::filter::Passphrase;
use crate::format::Manifest;
use crate::format::path::BundleId;
use crate::pgdata::DataRoots;
use crate::progress::{Context, blocking, cancelled};
use crate::repository::WritableRepository;
use crate::storage::{Condition, Durability};
use crate::transfer::{self, StoreTarget};

/// How often the server is asked whether it is still what it was (pgBackRest's `DB_PING_SEC`).
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Everything that copying needs.
#[derive(Debug)]
pub(super) struct Process<'a> {
    pub(super) repository: &'a WritableRepository,
    pub(super) servers: Servers<'a>,
    pub(super) cluster: &'a Cluster,
    pub(super) options: &'a BackupOptions,
    pub(super) copier: &'a Copier,
    /// Where most files are read from instead of the primary's directories.
    pub(super) standby_roots: Option<Arc<DataRoots>>,
    /// What is done with each file, by position.
    pub(super) actions: &'a [Action],
    /// What an unfinished backup has stored already.
    pub(super) kept: &'a Kept,
    pub(super) ownership: &'a Ownership<'a>,
    /// What encrypts manifests.
    pub(super) manifest_passphrase: Option<&'a Passphrase>,
    pub(super) context: &'a Context,
}

/// One transfer, done.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) worker: usize,
    pub(super) bundle: Option<BundleId>,
    /// The data directory that they were read from.
    pub(super) pgdata: Arc<[u8]>,
    /// The files by their positions in the manifest.
    pub(super) files: Vec<(usize, Copied)>,
}

impl Process<'_> {
    /// Copies what is planned; `pg_control` after everything else. Files that vanished are taken out of the manifest.
    ///
    /// Data is durable after the next flush of the storage.
    ///
    /// # Errors
    /// The first that any transfer or the server meets; the other transfers are given up. [`ErrorKind::Term`] when the
    /// command is to stop.
    pub(super) async fn run(&self, manifest: &mut Arc<Manifest>, plan: Plan) -> Result<()> {
        let results = Results::new(manifest, &plan, self.options, self.context);
        let results = Mutex::new(results);
        let saver = Saver::new(self, plan.total_bytes);
        let copying = async {
            let workers = usize::try_from(self.options.process_max).unwrap_or(1).max(1);
            // The primary has a worker of its own, so that it is not loaded with more than one.
            let slots = Slots::new(workers + 1);
            let standby = self.standby_copier();
            tokio::try_join!(
                self.copy(&results, plan.jobs, (standby.as_ref().unwrap_or(self.copier), workers), (&slots, &saver)),
                self.copy(&results, plan.from_primary, (self.copier, 1), (&slots, &saver)),
            )?;
            self.copy(&results, plan.control.into_iter().collect(), (self.copier, 1), (&slots, &saver)).await?;
            saver.idle().await;
            Ok(())
        };
        let copied = tokio::select! {
            biased;
            () = self.context.cancel.cancelled() => Err(cancelled()),
            error = self.watch() => Err(error),
            error = saver.run(&results) => Err(error),
            copied = copying => copied,
        };
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        match copied {
            Ok(()) => results.finish(),
            // What is known so far may be of use to a backup that resumes.
            Err(error) => results.give_up().and(Err(error)),
        }
    }

    /// As [`Process::copier`], with the directories of the standby.
    fn standby_copier(&self) -> Option<Copier> {
        let roots = Arc::clone(self.standby_roots.as_ref()?);
        let pgdata = self.servers.helper()?.pg_path.as_os_str().as_bytes().into();
        Some(Copier { roots, pgdata, ..self.copier.clone() })
    }

    async fn copy(
        &self,
        results: &Mutex<Results<'_>>,
        jobs: Vec<Job>,
        (copier, workers): (&Copier, usize),
        (slots, saver): (&Slots, &Saver<'_>),
    ) -> Result<()> {
        copier.idle.add_waiting(jobs.len());
        // Names are taken from the manifest when a transfer begins, so that those that wait need no memory for them.
        let prepared = jobs.into_iter().map(|job| self.prepare(lock(results).manifest(), job));
        let work = |_, prepared: Result<Prepared>| async { self.transfer(prepared?, copier, slots).await }.boxed();
        let done = |_, done| {
            let mut results = lock(results);
            results.take(done)?;
            saver.consider(results.progress().done_bytes);
            Ok(())
        };
        transfer::run_jobs(prepared, workers, work, done).await
    }

    async fn transfer(&self, prepared: Prepared, copier: &Copier, slots: &Slots) -> Result<Done> {
        let slot = slots.take();
        let _running = copier.idle.begin();
        if let Some(resumed) = self.resume(&prepared, copier).await? {
            let files = prepared.sources.iter().map(|source| source.position).zip([resumed]).collect();
            return Ok(Done { worker: slot.number(), bundle: None, pgdata: Arc::clone(&copier.pgdata), files });
        }
        let (comparing, sources) = (copier.clone(), prepared.sources);
        let pgdata = Arc::clone(&copier.pgdata);
        let Compared { mut files, mut sources } = match sources.iter().any(|source| source.compare_first) {
            true => blocking(move || comparing.compare(sources)).await?,
            false => Compared { files: Vec::new(), sources },
        };
        if sources.is_empty() {
            return Ok(Done { worker: slot.number(), bundle: prepared.bundle, pgdata, files });
        }
        let storage = self.repository.storage();
        let keep_empty = self.copier.stores_empty && !self.copier.transforms();
        let target = StoreTarget {
            storage: Arc::clone(storage),
            path: prepared.path.clone(),
            condition: Condition::None,
            durability: Durability::Deferred,
            keep_empty,
            size_max_bytes: prepared.size_max_bytes,
        };
        let reservation = target.reserve(memory_bytes(&sources), &self.context.budget).await;
        fetch_prior_maps(self.repository, &mut sources, self.context).await?;
        let copier = copier.clone();
        let positions: Vec<usize> = sources.iter().map(|source| source.position).collect();
        let storing = transfer::store_within(target, reservation, move |out| copier.copy_all(&sources, out));
        let stored = storing.await?;
        let is_nothing = |copied: &Copied| matches!(copied, Copied::Vanished | Copied::Unchanged);
        if stored.object.is_some() && stored.result.iter().all(is_nothing) {
            // An empty object would be the file, and there is none, or another backup has it.
            discard(self.repository, &prepared.path, self.context).await?;
        }
        files.extend(positions.into_iter().zip(stored.result));
        Ok(Done { worker: slot.number(), bundle: prepared.bundle, pgdata, files })
    }

    /// Ends only with an error.
    async fn watch(&self) -> Error {
        loop {
            tokio::time::sleep(PING_INTERVAL).await;
            if let Err(error) = self.servers.ping().await {
                return error;
            }
            if let Err(error) = self.ownership.check().await {
                return error;
            }
        }
    }
}

pub(super) fn lock<'a, 'b>(results: &'a Mutex<Results<'b>>) -> MutexGuard<'a, Results<'b>> {
    results.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The numbers of the transfers that run, for messages.
struct Slots(Mutex<Vec<usize>>);

/// A number in use.
struct Slot<'a> {
    slots: &'a Slots,
    number: usize,
}

impl Slots {
    fn new(workers: usize) -> Self {
        Self(Mutex::new((1..=workers).rev().collect()))
    }

    fn take(&self) -> Slot<'_> {
        let number = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or(1);
        Slot { slots: self, number }
    }
}

impl Slot<'_> {
    fn number(&self) -> usize {
        self.number
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.slots.0.lock().unwrap_or_else(PoisonError::into_inner).push(self.number);
    }
}
