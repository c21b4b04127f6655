//! Copies all files, several at once, and enters the results into the manifest as they come.

use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::cluster::Cluster;
use super::file::{BUFFER_BYTES, Copied, Copier, Source, SourceRead};
use super::options::BackupOptions;
use super::plan::{Job, Plan};
use super::results::Results;
use super::servers::Servers;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::PageCheck;
use crate::format::path::{self, BundleId, StoredFile};
use crate::format::{BackupLabel, Manifest};
use crate::pgdata::{DataRoots, ReadLimit};
use crate::postgres::data_path::{CONTROL_FILE, first_page_number};
use crate::progress::{Context, cancelled};
use crate::repository::WritableRepository;
use crate::storage::{Condition, Durability, StoragePath};
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
    pub(super) context: &'a Context,
}

/// One transfer, prepared.
struct Prepared {
    path: StoragePath,
    bundle: Option<BundleId>,
    sources: Vec<Source>,
    size_max_bytes: Option<u64>,
}

/// One transfer, done.
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
    pub(super) async fn run(&self, manifest: &mut Manifest, plan: Plan) -> Result<()> {
        let results = Results::new(manifest, &plan, self.options, self.context);
        let results = Mutex::new(results);
        let copying = async {
            let workers = usize::try_from(self.options.process_max).unwrap_or(1).max(1);
            // The primary has a worker of its own, so that it is not loaded with more than one.
            let slots = Slots::new(workers + 1);
            let standby = self.standby_copier();
            tokio::try_join!(
                self.copy(&results, plan.jobs, (standby.as_ref().unwrap_or(self.copier), workers), &slots),
                self.copy(&results, plan.from_primary, (self.copier, 1), &slots),
            )?;
            self.copy(&results, plan.control.into_iter().collect(), (self.copier, 1), &slots).await
        };
        tokio::select! {
            biased;
            () = self.context.cancel.cancelled() => return Err(cancelled()),
            error = self.watch() => return Err(error),
            copied = copying => copied?,
        }
        results.into_inner().unwrap_or_else(PoisonError::into_inner).finish();
        Ok(())
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
        slots: &Slots,
    ) -> Result<()> {
        // Names are taken from the manifest when a transfer begins, so that those that wait need no memory for them.
        let prepared = jobs.into_iter().map(|job| self.prepare(lock(results).manifest(), job));
        let work = |_, prepared: Result<Prepared>| async { self.transfer(prepared?, copier, slots).await };
        transfer::run_jobs(prepared, workers, work, |_, done| lock(results).take(done)).await
    }

    fn prepare(&self, manifest: &Manifest, job: Job) -> Result<Prepared> {
        let label = manifest.label();
        let stanza = self.repository.stanza();
        match job {
            Job::Single(position) => {
                let source = self.source(manifest, position)?;
                Ok(Prepared {
                    path: self.path_of(&label, manifest, position)?,
                    bundle: None,
                    size_max_bytes: stored_max_bytes(std::slice::from_ref(&source)),
                    sources: vec![source],
                })
            }
            Job::Bundle(id, positions) => {
                let sources = positions.into_iter().map(|position| self.source(manifest, position));
                let sources = sources.collect::<Result<Vec<_>>>()?;
                Ok(Prepared {
                    path: path::bundle(stanza, &label, id),
                    bundle: Some(id),
                    size_max_bytes: stored_max_bytes(&sources),
                    sources,
                })
            }
        }
    }

    fn path_of(&self, label: &BackupLabel, manifest: &Manifest, position: usize) -> Result<StoragePath> {
        let row = manifest.files().get(position).ok_or_else(no_such_row)?;
        let stored = StoredFile::Whole(self.options.compress.kind());
        path::file(self.repository.stanza(), label, row.name(), stored).map_err(|error| {
            Error::new(ErrorKind::Format, format!("'{}' cannot be stored under its name: {error}", row.name()))
                .hint("files whose names are not UTF-8 can be stored in bundles (repo-bundle=y)")
        })
    }

    fn source(&self, manifest: &Manifest, position: usize) -> Result<Source> {
        let row = manifest.files().get(position).ok_or_else(no_such_row)?;
        let name = row.name().as_bytes();
        let layout = &self.cluster.layout;
        let read = if name == CONTROL_FILE.as_bytes() {
            SourceRead::Control
        } else if layout.is_replayed(name) {
            SourceRead::Plain(ReadLimit::ListedSize(row.size_original_bytes))
        } else {
            SourceRead::Plain(ReadLimit::End)
        };
        let page_size = self.cluster.control.page_size();
        let checked = self.cluster.checksum_page && layout.is_page_checksummed(name);
        let segment = first_page_number(name, page_size.bytes())
            .and_then(|first| u32::try_from(first / u64::from(page_size.pages_per_segment())).ok())
            .unwrap_or_default();
        let header_check = self.options.pages.header_check;
        let pages = checked.then_some(PageCheck { page_size, segment, header_check });
        Ok(Source { position, name: name.to_vec(), read, pages })
    }

    async fn transfer(&self, prepared: Prepared, copier: &Copier, slots: &Slots) -> Result<Done> {
        let slot = slots.take();
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
        let (copier, sources) = (copier.clone(), prepared.sources);
        let pgdata = Arc::clone(&copier.pgdata);
        let positions: Vec<usize> = sources.iter().map(|source| source.position).collect();
        let stored = transfer::store(target, &self.context.budget, move |out| copier.copy_all(&sources, out)).await?;
        if stored.object.is_some() && stored.result.iter().all(|copied| matches!(copied, Copied::Vanished)) {
            // An empty object would be the file, and there is none.
            storage.remove(&prepared.path).await?;
        }
        let files = positions.into_iter().zip(stored.result).collect();
        Ok(Done { worker: slot.number(), bundle: prepared.bundle, pgdata, files })
    }

    /// Ends only with an error.
    async fn watch(&self) -> Error {
        loop {
            tokio::time::sleep(PING_INTERVAL).await;
            if let Err(error) = self.servers.ping().await {
                return error;
            }
        }
    }
}

/// What the object may hold at most; `None` when a file may grow.
fn stored_max_bytes(sources: &[Source]) -> Option<u64> {
    /// What encryption and an encoder add to a file that cannot be compressed, without what grows with it.
    const ADDED_BYTES: u64 = 1024;
    sources.iter().try_fold(0_u64, |sum, source| match source.read {
        SourceRead::Plain(ReadLimit::ListedSize(size)) => Some(sum.saturating_add(size + size / 16 + ADDED_BYTES)),
        SourceRead::Control => Some(sum.saturating_add(BUFFER_BYTES as u64)),
        SourceRead::Plain(ReadLimit::End) => None,
    })
}

fn lock<'a, 'b>(results: &'a Mutex<Results<'b>>) -> MutexGuard<'a, Results<'b>> {
    results.lock().unwrap_or_else(PoisonError::into_inner)
}

fn no_such_row() -> Error {
    Error::new(ErrorKind::Assert, "a planned file is not in the manifest")
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
