//! `backup`: a cluster into a repository (repository-behaviour.md §4).
//!
//! ```text
//! backup.info, pg_control -> start on the server -> scan -> manifest
//!   -> [ read -> chain -> storage ] for each file -> stop -> WAL has arrived -> manifest, backup.info
//! ```
//!
//! A backup is listed last, when everything that it needs is in the repository. What a crash leaves before that is a
//! directory that nothing lists, and that the next backup removes.

mod archive_check;
mod archive_copy;
mod block_size;
mod blocks;
mod build;
mod changes;
mod cluster;
mod compare;
mod complete;
mod delta;
mod directories;
mod file;
mod hardlinks;
mod idle;
mod label;
mod leftovers;
mod options;
mod ownership;
mod plan;
mod prepare;
mod prior;
mod process;
mod restartpoint;
mod results;
mod resume;
mod save;
mod servers;
mod standby;
mod start;
mod stop;

use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::db::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::Passphrase;
use crate::format::manifest::{self, Completion, ManifestOptions};
use crate::format::{BackupType, CipherPass, Manifest, RawText};
use crate::pgdata::{DataRoots, Scan};
use crate::progress::{Context, Scope, blocking, cancelled};
use crate::repository::{Archive, Purpose, Reconciled, WritableRepository};

use archive_check::wait_for_range;
pub use block_size::{BlockRuleError, BlockRules};
use changes::Action;
use cluster::{Cluster, scan_directory};
use file::Copier;
use idle::IdleWorkers;
pub use jiff::tz::TimeZone;
use label::Naming;
pub use options::{
    ArchiveCheck, BackupOptions, BackupOutcome, BlockOptions, BundleOptions, PageOptions, RecordedOptions,
};
use ownership::Ownership;
use process::Process;
use resume::Kept;
pub use servers::{Servers, Standby};
use start::Started;
use stop::Stopped;

/// Makes a backup of the cluster that `servers` run, or of a data directory at rest.
///
/// # Errors
/// - [`ErrorKind::BackupMismatch`], [`ErrorKind::DbMismatch`] for the wrong cluster or a timeline that changed,
/// - [`ErrorKind::PgRunning`] for an offline backup of a directory in use,
/// - [`ErrorKind::ArchiveTimeout`] when WAL does not arrive,
/// - [`ErrorKind::Clock`] when no label is left,
/// - [`ErrorKind::Term`] when the command is to stop,
/// - and those of the cluster's files, of the session and of the storage.
///
/// After any of them the backup is not listed.
///
/// The future is boxed so that it can be sent to another thread: the compiler cannot tell outside of this crate.
pub fn backup<'a>(
    repository: &'a WritableRepository,
    servers: Servers<'a>,
    options: &'a BackupOptions,
    context: &'a Context,
) -> BoxFuture<'a, Result<BackupOutcome>> {
    Box::pin(async move {
        let scope = Scope::new(context);
        scope.run(make(repository, servers, options, scope.context())).await
    })
}

async fn make(
    repository: &WritableRepository,
    servers: Servers<'_>,
    options: &BackupOptions,
    context: &Context,
) -> Result<BackupOutcome> {
    let database = servers.leader();
    let mut reconciled = unless_cancelled(context, repository.reconciled(Purpose::Backup, context)).await?;
    let mut cluster = Cluster::identify(&reconciled.info, options, database.is_some(), context).await?;
    let archive = open_archive(repository, database, options, context).await?;
    let timestamp_start_s = cluster::now_s(database, context).await?;
    let mut options = options.clone();
    // Times of files say nothing across servers.
    options.delta |= matches!(servers, Servers::Standby(_));
    let settling = prior::settle(repository, &reconciled.info, &mut options, &mut cluster, context);
    let prior = unless_cancelled(context, settling).await?;
    let options = &options;

    let started = unless_cancelled(context, begin(servers, &cluster, archive.as_ref(), options, context)).await?;
    let (mut scan, roots) = scan_cluster(&cluster, started.as_ref(), options, context).await?;
    let copy_start_s = cluster::end_of_second_s(database, context).await?;

    match servers {
        Servers::Standby(_) => restartpoint::hide_times(&mut scan, copy_start_s),
        Servers::PrimaryAndStandby { .. } => standby::hide_late_times(&mut scan, &cluster.layout, timestamp_start_s),
        Servers::Primary(_) | Servers::Offline => {}
    }

    let version = cluster.control.version();
    let left = leftovers::settle(repository, &mut reconciled, options, version, context).await?;
    let base = prior.as_ref().map(|prior| (options.backup_type, prior.label()));
    let naming = Naming { zone: &options.time_zone, base };
    let (label, found) = match &left {
        Some((left, found)) => (left.label(), found.clone()),
        None => label::claim(repository, &reconciled, &naming, timestamp_start_s, context).await?,
    };
    let ownership = Ownership::new(repository, &label, found);
    let backup_pass = match &left {
        Some((left, _)) => repository.backup_passphrase(left)?,
        None => backup_pass(repository, prior.as_ref(), context)?,
    };
    let begin = build::Begin {
        label,
        backup_pass: backup_pass.as_ref().map(|pass| CipherPass::new(pass.expose().to_vec())),
        timestamp_start_s,
        copy_start_s,
        online: database.is_some(),
    };
    let mut manifest = build::manifest(&scan, begin, prior.as_ref(), &cluster, options, context)?;
    drop(scan);
    let start = started.as_ref().map(|started| started.segment);
    let actions = changes::settle(&mut manifest, prior.as_ref(), start, context)?;
    drop(prior);
    let kept = match left {
        Some((left, _)) => {
            let form = |manifest: &Manifest, position| plan::form(manifest, &actions, options.bundle, position);
            resume::take_over(repository, &mut manifest, &left, form, context).await?
        }
        None => Kept::default(),
    };
    let copier = Copier {
        roots: Arc::new(roots),
        pgdata: options.pg_path.as_os_str().as_bytes().into(),
        compress: options.compress,
        passphrase: backup_pass,
        codecs: context.codecs.clone(),
        random: Arc::clone(&context.random),
        version_force: options.version_force,
        control: Arc::default(),
        stores_empty: options.bundle.is_none(),
        reporter: Arc::clone(&context.reporter),
        cancel: context.cancel.clone(),
        idle: IdleWorkers::new(usize::try_from(options.process_max).unwrap_or(1).max(1)),
    };
    let standby_roots = match (servers.helper(), &started) {
        (Some(standby), Some(started)) => {
            Some(standby::open_roots(standby, &cluster, started.tablespaces.clone(), options).await?)
        }
        _ => None,
    };
    let run = Run {
        repository,
        servers,
        standby_roots: standby_roots.map(Arc::new),
        options,
        context,
        reconciled: &reconciled,
        cluster: &cluster,
        actions: &actions,
        kept: &kept,
        ownership: &ownership,
    };
    run.labelled(Arc::new(manifest), copier, started, archive).await
}

/// Starts the backup where a server has to know of it.
async fn begin(
    servers: Servers<'_>,
    cluster: &Cluster,
    archive: Option<&Archive>,
    options: &BackupOptions,
    context: &Context,
) -> Result<Option<Started>> {
    let started = match servers {
        Servers::Offline => return start::check_not_running(options, context).await.map(|()| None),
        Servers::Primary(primary) => start::start(primary, None, cluster, archive, options, context).await,
        Servers::PrimaryAndStandby { primary, standby } => {
            start::start(primary, Some(standby), cluster, archive, options, context).await
        }
        Servers::Standby(standby) => restartpoint::start(standby, cluster, archive, options, context).await,
    };
    started.map(Some)
}

/// A backup that has a label.
struct Run<'a> {
    repository: &'a WritableRepository,
    servers: Servers<'a>,
    standby_roots: Option<Arc<DataRoots>>,
    options: &'a BackupOptions,
    context: &'a Context,
    reconciled: &'a Reconciled,
    cluster: &'a Cluster,
    /// What is done with each file of the manifest, by position.
    actions: &'a [Action],
    /// What an unfinished backup has stored already.
    kept: &'a Kept,
    ownership: &'a Ownership<'a>,
}

impl Run<'_> {
    async fn labelled(
        &self,
        mut manifest: Arc<Manifest>,
        copier: Copier,
        started: Option<Started>,
        archive: Option<Archive>,
    ) -> Result<BackupOutcome> {
        let passphrase = self.repository.manifest_passphrase(&self.reconciled.info)?;
        let passphrase = passphrase.as_ref();
        self.save_copy(&manifest, passphrase).await?;
        let copied = self.copy(&mut manifest, passphrase, &copier).await;
        self.resumable(copied, &manifest, passphrase).await?;
        let stopped = self.stop(Arc::make_mut(&mut manifest), &copier, started.as_ref()).await;
        let stopped = self.resumable(stopped, &manifest, passphrase).await?;
        self.enter_end(Arc::make_mut(&mut manifest), started, &stopped);
        if let (Some(archive), Some(wal)) = (&archive, &stopped.wal) {
            self.wait_for_wal(&manifest, passphrase, archive, wal).await?;
            if self.copies_archive() {
                let storing = archive_copy::Storing {
                    compress: copier.compress,
                    passphrase: copier.passphrase.as_ref(),
                    workers: usize::try_from(self.options.process_max).unwrap_or(1),
                };
                let manifest = Arc::make_mut(&mut manifest);
                archive_copy::copy(self.repository, archive, wal, manifest, storing, self.context).await?;
            }
        }
        self.resumable(self.context.check_cancelled(), &manifest, passphrase).await?;
        self.context.info(format!("new backup label = {}", manifest.label()));
        complete::complete(
            self.repository,
            (self.reconciled, self.ownership),
            &manifest,
            passphrase,
            self.options,
            self.context,
        )
        .await
    }

    /// Lets a backup that resumes use what was copied, when this one is told to end.
    async fn resumable<T>(
        &self,
        result: Result<T>,
        manifest: &Arc<Manifest>,
        passphrase: Option<&Passphrase>,
    ) -> Result<T> {
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Term) {
            self.save_copy(manifest, passphrase).await?;
        }
        result
    }

    fn copies_archive(&self) -> bool {
        self.options.archive_check.is_some_and(|check| check.copy)
    }

    /// Saves what a later backup could resume from.
    async fn save_copy(&self, manifest: &Arc<Manifest>, passphrase: Option<&Passphrase>) -> Result<()> {
        match self.options.resume {
            true => self.ownership.save(manifest, passphrase, self.context).await,
            false => Ok(()),
        }
    }

    async fn copy(&self, manifest: &mut Arc<Manifest>, passphrase: Option<&Passphrase>, copier: &Copier) -> Result<()> {
        let hardlinks = self.options.recorded.hardlink && self.repository.storage().posix().is_some();
        let is_whole = self.options.bundle.is_none() && manifest.backup_type() == BackupType::Full;
        if is_whole || hardlinks {
            directories::create(self.repository, manifest, self.options.symlinks).await?;
        }
        let has_helper = self.servers.helper().is_some();
        let is_from_primary = |name: &[u8]| has_helper && !self.cluster.layout.is_replayed(name);
        let plan = plan::plan(manifest, self.actions, self.options.bundle, is_from_primary);
        // What follows a failure must not meet what is left of it.
        let scope = Scope::new(self.context);
        let copier = Copier { cancel: scope.context().cancel.clone(), ..copier.clone() };
        let process = Process {
            repository: self.repository,
            servers: self.servers,
            standby_roots: self.standby_roots.clone(),
            cluster: self.cluster,
            options: self.options,
            copier: &copier,
            actions: self.actions,
            kept: self.kept,
            ownership: self.ownership,
            manifest_passphrase: passphrase,
            context: scope.context(),
        };
        scope.run(process.run(manifest, plan)).await?;
        if hardlinks {
            hardlinks::create(self.repository, manifest, self.context).await?;
        }
        Ok(())
    }

    async fn stop(&self, manifest: &mut Manifest, copier: &Copier, started: Option<&Started>) -> Result<End> {
        let Some(started) = started else {
            return Ok(End { timestamp_s: self.context.clock.now_s(), wal: None });
        };
        self.ownership.check().await?;
        let stopping =
            stop::stop(self.repository, self.servers, (self.cluster, started), copier, manifest, self.context);
        let Stopped { timestamp_s, wal } = unless_cancelled(self.context, stopping).await?;
        Ok(End { timestamp_s, wal: Some(wal) })
    }

    fn enter_end(&self, manifest: &mut Manifest, started: Option<Started>, end: &End) {
        let options = self.options;
        let databases = started.map_or_else(Vec::new, |started| started.databases);
        manifest.complete(Completion {
            timestamp_stop_s: end.timestamp_s,
            archive: end.wal.map(|wal| (wal.start_segment, wal.stop_segment())),
            lsn: end.wal.map(|wal| (wal.start_lsn.into(), wal.stop_lsn.into())),
            history_id: self.cluster.history_id,
            system_id: self.cluster.control.system_id(),
            databases: databases
                .iter()
                .map(|entry| manifest::Database::new(RawText::from(&*entry.name), entry.oid, entry.last_system_oid))
                .collect(),
            annotations: options.annotations.clone(),
            options: ManifestOptions {
                archive_check: options.archive_check.is_some() && end.wal.is_some(),
                archive_copy: self.copies_archive() && end.wal.is_some(),
                backup_standby: Some(self.servers.reads_standby()),
                buffer_size_bytes: Some(options.recorded.buffer_size_bytes),
                compress_level: Some(options.compress.level()),
                compress_level_network: Some(options.recorded.compress_level_network),
                hardlink: options.recorded.hardlink,
                process_max: Some(options.process_max),
                ..manifest.options().clone()
            },
        });
    }

    async fn wait_for_wal(
        &self,
        manifest: &Arc<Manifest>,
        passphrase: Option<&Passphrase>,
        archive: &Archive,
        wal: &archive_check::WalRange,
    ) -> Result<()> {
        let (start, stop) = (wal.start_segment, wal.stop_segment());
        self.context.info(format!("check archive for segment(s) {start}:{stop}"));
        self.save_copy(manifest, passphrase).await?;
        wait_for_range(archive, wal, self.options.archive_timeout, self.context).await
    }
}

/// When the backup ended, and the WAL that it needs when it is online.
struct End {
    timestamp_s: i64,
    wal: Option<archive_check::WalRange>,
}

/// The archive in which the WAL of an online backup is looked for. Its info file is read in any case: it is written again at
/// the end, and one that cannot be, such as a newer program's, must not be found then.
async fn open_archive(
    repository: &WritableRepository,
    database: Option<&dyn Database>,
    options: &BackupOptions,
    context: &Context,
) -> Result<Option<Archive>> {
    let info = repository.archive_info(context).await?;
    if database.is_none() || options.archive_check.is_none() {
        return Ok(None);
    }
    repository.archive(&info, info.current_archive_id()).map(Some)
}

/// Lists the cluster's files and opens the directories that they are in.
async fn scan_cluster(
    cluster: &Cluster,
    started: Option<&Started>,
    options: &BackupOptions,
    context: &Context,
) -> Result<(Scan, DataRoots)> {
    let (layout, path) = (cluster.layout.clone(), options.pg_path.clone());
    let (exclude, links) = (options.exclude.clone(), options.links.clone());
    let tablespaces = started.map(|started| started.tablespaces.clone());
    let (found, roots) = blocking(move || {
        let found = scan_directory(path.as_os_str().as_bytes(), &layout, tablespaces.as_deref(), &exclude, &links)?;
        let roots = DataRoots::open(&found.targets, &links)?;
        Ok((found, roots))
    })
    .await?;
    for note in &found.notes {
        if note.is_warning() { context.warn(note.to_string()) } else { context.info(note.to_string()) }
    }
    context.check_cancelled()?;
    Ok((found, roots))
}

/// The passphrase of the files: that of the prior backup, or a new one for this backup and those that will be based on
/// it.
fn backup_pass(
    repository: &WritableRepository,
    prior: Option<&Manifest>,
    context: &Context,
) -> Result<Option<Passphrase>> {
    if let Some(prior) = prior {
        return repository.backup_passphrase(prior);
    }
    if !repository.is_encrypted() {
        return Ok(None);
    }
    let pass = Passphrase::generate(context.random.as_ref());
    pass.map(Some).map_err(|error| Error::new(ErrorKind::Crypto, format!("unable to make a passphrase: {error}")))
}

/// Waits for `work` unless the command is to stop.
async fn unless_cancelled<T>(context: &Context, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        () = context.cancel.cancelled() => Err(cancelled()),
        done = work => done,
    }
}
