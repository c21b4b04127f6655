//! `archive-push`: a file of the WAL directory into every repository (repository-behaviour.md §2).
//!
//! Success is the acknowledgement after which PostgreSQL may delete its file, so it is given only when every
//! repository has confirmed the object. The source is read once while archive.info and the listings are on their way;
//! a segment above 16 MiB is hashed first and streamed in a second read.
//!
//! A crash at any point leaves under the segment's name nothing or the whole object.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{self, BoxFuture};
use tokio::time::Instant;

use super::ClusterIdentity;
pub use super::candidates::PushTargets;
use super::candidates::RepositoryError;
use super::conflict::{self, Held};
use super::source::{self, Content, PrepareOptions, Prepared, WalSource, Writer};
use crate::clock::Random;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::order::{self, StoreSpec};
use crate::filter::{Chain, Codecs, Compression, Digest, FilterError, Form, Passphrase, SealChain, SinkClosed};
use crate::format::WalObjectName;
use crate::postgres::WalFileName;
use crate::progress::{Context, Scope, worker_failed};
use crate::repository::{Archive, ArchivedFile, WritableRepository};
use crate::storage::{Condition, Durability, ErrorClass, Storage, StoragePath};
use crate::transfer::{self, StoreTarget};
use crate::workers::{Worker, spawn_blocking};

/// Settings of a push.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// Compare the segment's header with the stanza (`archive-header-check`).
    pub header_check: bool,
    /// Warn about a segment that is there already (`archive-mode-check`).
    pub mode_check: bool,
    /// How segments are compressed.
    pub compress: Compression,
    /// The cluster of the data directory, where there is one to look at.
    pub cluster: Option<ClusterIdentity>,
}

/// What a push did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pushed {
    /// What should be looked at although the file is archived.
    pub warnings: Vec<String>,
}

/// Archives `source` in every repository.
///
/// # Errors
/// - [`ErrorKind::RepoInvalid`] when no repository can be used,
/// - [`ErrorKind::ArchiveMismatch`] for a segment of another cluster,
/// - [`ErrorKind::ArchiveDuplicate`] when another content has the name,
/// - [`ErrorKind::Command`] when some repositories have the file and others failed: it stays with PostgreSQL.
///
/// The future is boxed so that it can be sent to another thread: the compiler cannot tell outside of this crate.
pub fn push<'a>(
    repositories: &'a [WritableRepository],
    source: &'a WalSource,
    options: &'a PushOptions,
    context: &'a Context,
) -> BoxFuture<'a, Result<Pushed>> {
    Box::pin(async move {
        let scope = Scope::new(context);
        scope.run(load_and_push(repositories, source, options, scope.context())).await
    })
}

async fn load_and_push(
    repositories: &[WritableRepository],
    source: &WalSource,
    options: &PushOptions,
    context: &Context,
) -> Result<Pushed> {
    let reading = start_reading(source, options, context);
    let targets = PushTargets::load(repositories, options.cluster, context).await?;
    push_read(&targets, source, reading, options, context).await
}

/// [`push`] to targets that were loaded before, for a process that archives many files.
///
/// # Errors
/// As for [`push`], except that the targets are not loaded.
pub async fn push_to(
    targets: &PushTargets,
    source: &WalSource,
    options: &PushOptions,
    context: &Context,
) -> Result<Pushed> {
    push_read(targets, source, start_reading(source, options, context), options, context).await
}

type Reading = Worker<Result<Prepared>>;

fn start_reading(source: &WalSource, options: &PushOptions, context: &Context) -> Reading {
    let prepare = PrepareOptions {
        header_check: options.header_check,
        compress: options.compress,
        codecs: context.codecs.clone(),
    };
    let (file, random) = (source.clone(), Arc::clone(&context.random));
    spawn_blocking(move || source::prepare(&file, &prepare, random.as_ref()))
}

async fn push_read(
    targets: &PushTargets,
    source: &WalSource,
    reading: Reading,
    options: &PushOptions,
    context: &Context,
) -> Result<Pushed> {
    // The archives are looked at while the source is still being read and compressed: that takes its name alone.
    let looks = future::join_all(targets.archives.iter().map(|archive| conflict::look(archive, source.name)));
    let (found, prepared) = future::join(looks, reading).await;
    let prepared = prepared.map_err(worker_failed)??;
    if let Some(writer) = prepared.writer {
        check_writer(source, writer, targets.cluster)?;
    }
    push_prepared(targets, found, source, prepared, options, context).await
}

fn check_writer(source: &WalSource, writer: Writer, cluster: ClusterIdentity) -> Result<()> {
    if writer.version == cluster.version && writer.system_id == cluster.system_id {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::ArchiveMismatch,
        format!(
            "WAL file '{}' version {}, system-id {} do not match stanza version {}, system-id {}",
            source.path.display(),
            writer.version,
            writer.system_id,
            cluster.version,
            cluster.system_id
        ),
    ))
}

async fn push_prepared(
    targets: &PushTargets,
    found: Vec<Result<Vec<ArchivedFile>>>,
    source: &WalSource,
    prepared: Prepared,
    options: &PushOptions,
    context: &Context,
) -> Result<Pushed> {
    let mut pieces = match prepared.content {
        Content::Whole(pieces) => Some(pieces),
        Content::Streamed => None,
    };
    let small = pieces.as_ref().filter(|_| !source.name.holds_wal()).map(|pieces| pieces.concat());
    let push = Push { source, plain: prepared.plain, small, compress: options.compress, context };
    let mut errors: Vec<String> = targets.errors.iter().map(RepositoryError::listed).collect();
    // Judge everywhere before anything is written: another content under the name stops the push for all.
    let judged = targets.archives.iter().zip(found).map(|(archive, found)| push.settled(archive, found));
    let held = future::join_all(judged).await;
    let mut pushed = Pushed::default();
    let mut missing = Vec::new();
    for (archive, held) in targets.archives.iter().zip(held) {
        match held {
            Ok(Held::Nothing) => missing.push(archive),
            Ok(Held::Same { .. }) => pushed.warnings.extend(same_warning(source.name, archive, options)),
            Err(error) if error.kind() == ErrorKind::ArchiveDuplicate => return Err(error),
            Err(error) => errors.push(RepositoryError { index: archive.repository().index(), error }.listed()),
        }
    }
    let writes = missing.iter().enumerate().map(|(place, archive)| {
        // The last archive takes the pieces themselves: each is given back as soon as it is on its way.
        let last = place + 1 == missing.len();
        let pieces = if last { pieces.take() } else { pieces.clone() };
        push.write(archive, pieces)
    });
    let written = future::join_all(writes).await;
    let mut conflict = None;
    for (archive, written) in missing.iter().zip(written) {
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::ArchiveDuplicate => conflict = conflict.or(Some(error)),
            Err(error) => errors.push(RepositoryError { index: archive.repository().index(), error }.listed()),
        }
    }
    match conflict {
        Some(conflict) => Err(conflict),
        None if errors.is_empty() => Ok(pushed),
        None => Err(Error::new(
            ErrorKind::Command,
            format!("archive-push command encountered error(s):\n{}", errors.join("\n")),
        )),
    }
}

fn same_warning(name: WalFileName, archive: &Archive, options: &PushOptions) -> Option<String> {
    (name.holds_wal() && options.mode_check).then(|| {
        format!(
            "WAL file '{name}' already exists in the {} archive with the same checksum\n\
             HINT: this is valid in some recovery scenarios but may also indicate a problem.",
            archive.repository().index()
        )
    })
}

/// One file on its way into several archives.
struct Push<'a> {
    source: &'a WalSource,
    plain: Digest,
    /// The content of a history or backup file, which has no checksum in its name.
    small: Option<Vec<u8>>,
    compress: Compression,
    context: &'a Context,
}

impl Push<'_> {
    async fn held(&self, archive: &Archive) -> Result<Held> {
        self.judge(archive, conflict::look(archive, self.source.name).await?).await
    }

    async fn judge(&self, archive: &Archive, found: Vec<ArchivedFile>) -> Result<Held> {
        let (name, small) = (self.source.name, self.small.as_deref());
        conflict::compare(archive, name, &self.plain, small, &found, self.context).await
    }

    /// What this call did not write: the same content counts when it is there to stay.
    async fn settled(&self, archive: &Archive, found: Result<Vec<ArchivedFile>>) -> Result<Held> {
        let held = self.judge(archive, found?).await?;
        match &held {
            // History and backup files are never withdrawn.
            Held::Same { path } if self.source.name.holds_wal() => {
                if conflict::settle(archive, path, self.context).await? { self.held(archive).await } else { Ok(held) }
            }
            _ => Ok(held),
        }
    }

    /// Stores the object, then makes sure that it is alone under the name.
    async fn write(&self, archive: &Archive, pieces: Option<Vec<Bytes>>) -> Result<()> {
        let object = self.object_name();
        let path = archive.path_of(self.source.name, object.as_ref())?;
        let storage = archive.repository().storage();
        let exclusive = storage.capabilities().conditional_put;
        let condition = if exclusive { Condition::Absent } else { Condition::None };
        let created = match self.store(archive, &path, condition, pieces).await {
            // A history or backup file has one name for all contents: what is there now may be somebody else's.
            Ok(()) if exclusive && object.is_some() => Some(Instant::now()),
            Ok(()) => None,
            // Somebody else, or an earlier try of ours, has just written the same content under the same name; what
            // that is gets compared below.
            Err(Stopped::Exists) => {
                let found = conflict::look(archive, self.source.name).await;
                return self.confirmed(archive, &path, self.settled(archive, found).await);
            }
            Err(Stopped::Failed(error)) => return Err(error),
        };
        match self.confirmed(archive, &path, self.held(archive).await) {
            Err(error) if error.kind() == ErrorKind::ArchiveDuplicate => match created {
                Some(created) => Err(withdraw(storage.as_ref(), &path, created, error).await),
                None => Err(error),
            },
            confirmed => confirmed,
        }
    }

    /// What the look after the write says.
    fn confirmed(&self, archive: &Archive, path: &StoragePath, held: Result<Held>) -> Result<()> {
        match held? {
            Held::Same { .. } => Ok(()),
            Held::Nothing => Err(Error::new(
                ErrorKind::FileMissing,
                format!("'{path}' was stored in {} but is not there", archive.repository().index()),
            )),
        }
    }

    fn object_name(&self) -> Option<WalObjectName> {
        let (segment, partial) = match self.source.name {
            WalFileName::Segment(segment) => (segment, false),
            WalFileName::Partial(segment) => (segment, true),
            WalFileName::BackupHistory { .. } | WalFileName::History(_) => return None,
        };
        Some(WalObjectName { segment, partial, checksum: self.plain.sha1, compress: self.compress.kind() })
    }

    async fn store(
        &self,
        archive: &Archive,
        path: &StoragePath,
        condition: Condition,
        pieces: Option<Vec<Bytes>>,
    ) -> Result<(), Stopped> {
        let stored_bytes = pieces.as_ref().map(|pieces| pieces.iter().map(|piece| piece.len() as u64 + 32).sum());
        let target = StoreTarget {
            storage: Arc::clone(archive.repository().storage()),
            path: path.clone(),
            condition,
            durability: Durability::Now,
            keep_empty: true,
            size_max_bytes: stored_bytes,
        };
        let cipher = archive.passphrase().cloned();
        let (codecs, random) = (self.context.codecs.clone(), Arc::clone(&self.context.random));
        let budget = &self.context.budget;
        let stored = match pieces {
            Some(pieces) => {
                let mut seal = Seal::new(pieces, cipher.as_ref(), &codecs, random.as_ref())?;
                transfer::store_steps(target, budget, move |out| seal.step(out)).await
            }
            None => {
                let compress = if self.source.name.holds_wal() { self.compress } else { Compression::NONE };
                let spec = StoreSpec { compress, cipher: cipher.as_ref(), form: Form::Standard, pages: None };
                let mut again = Again::new(self.source.clone(), self.plain, &spec, &codecs, random.as_ref())?;
                transfer::store_steps(target, budget, move |out| again.step(out)).await
            }
        };
        match stored {
            Ok(_) => Ok(()),
            Err(error) if error.storage_class() == Some(ErrorClass::Conflict) => Err(Stopped::Exists),
            Err(error) => Err(Stopped::Failed(error)),
        }
    }
}

/// Why an object was not stored.
enum Stopped {
    /// The name is taken.
    Exists,
    /// Something else.
    Failed(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Takes back the object that this call has created beside another content, as long as nobody can rely on it.
async fn withdraw(storage: &dyn Storage, path: &StoragePath, created: Instant, conflict: Error) -> Error {
    if created.elapsed() > conflict::WITHDRAW_WITHIN {
        return conflict.hint("the object of this try was not withdrawn: somebody may already rely on it");
    }
    match tokio::time::timeout(conflict::WITHDRAW_WITHIN, storage.remove(path)).await {
        Ok(Ok(())) => conflict,
        Ok(Err(left)) => conflict.hint(format!("the object of this try could not be withdrawn: {left}")),
        Err(_) => conflict.hint("the object of this try could not be withdrawn: no answer in time"),
    }
}

/// Encrypts the compressed pieces, where the archive is encrypted.
struct Seal {
    pieces: std::vec::IntoIter<Bytes>,
    /// Of a piece that is larger than a step.
    rest: Option<Bytes>,
    chain: Option<SealChain>,
}

impl Seal {
    fn new(pieces: Vec<Bytes>, cipher: Option<&Passphrase>, codecs: &Codecs, random: &dyn Random) -> Result<Self> {
        let chain = cipher.map(|passphrase| order::seal(passphrase, Form::Standard, codecs, random));
        Ok(Self {
            pieces: pieces.into_iter(),
            rest: None,
            chain: chain.transpose().map_err(|error| seal_failed(&error))?,
        })
    }

    fn step(&mut self, out: &mut Vec<Bytes>) -> Result<Option<()>> {
        let mut taken_bytes = 0;
        while let Some(mut piece) = self.rest.take().or_else(|| self.pieces.next()) {
            let now = piece.split_to(piece.len().min(transfer::STEP_BYTES));
            self.rest = Some(piece).filter(|rest| !rest.is_empty());
            taken_bytes += now.len();
            match &mut self.chain {
                None => out.push(now),
                Some(chain) => chain.write(&now, &mut gather(out)).map_err(|error| seal_failed(&error))?,
            }
            if taken_bytes >= transfer::STEP_BYTES {
                return Ok(None);
            }
        }
        if let Some(mut chain) = self.chain.take() {
            chain.finish(&mut gather(out)).map_err(|error| seal_failed(&error))?;
        }
        Ok(Some(()))
    }
}

fn seal_failed(error: &FilterError) -> Error {
    Error::new(ErrorKind::Crypto, format!("unable to encrypt: {error}"))
}

/// Takes the output of a chain into a list of pieces.
fn gather(out: &mut Vec<Bytes>) -> impl FnMut(&[u8]) -> Result<(), SinkClosed> {
    |piece| {
        out.push(Bytes::copy_from_slice(piece));
        Ok(())
    }
}

/// A source that is too large to be held: read a second time.
struct Again {
    source: WalSource,
    plain: Digest,
    /// Opened by the first step, which is on a thread that may block.
    file: Option<File>,
    chain: Option<Chain>,
    buffer: Vec<u8>,
}

impl Again {
    fn new(
        source: WalSource,
        plain: Digest,
        spec: &StoreSpec<'_>,
        codecs: &Codecs,
        random: &dyn Random,
    ) -> Result<Self> {
        let chain = order::store(spec, codecs, random).map_err(|error| source::chain_failed(&source.path, &error))?;
        Ok(Self { source, plain, file: None, chain: Some(chain), buffer: vec![0; transfer::PIECE_BYTES] })
    }

    fn step(&mut self, out: &mut Vec<Bytes>) -> Result<Option<()>> {
        let path = &self.source.path;
        let failed = |error: FilterError| source::chain_failed(path, &error);
        let Some(mut chain) = self.chain.take() else {
            return Err(Error::new(ErrorKind::Assert, "a source was read again after its end"));
        };
        let mut file = match self.file.take() {
            Some(file) => file,
            None => source::open(path)?.0,
        };
        for _ in 0..transfer::STEP_BYTES / self.buffer.len() {
            let bytes =
                source::read_full(&mut file, &mut self.buffer).map_err(|error| source::read_failed(path, &error))?;
            chain.write(self.buffer.get(..bytes).unwrap_or_default(), &mut gather(out)).map_err(failed)?;
            if bytes < self.buffer.len() {
                // The name holds the checksum of the first read: bytes that changed since must not be stored under it.
                let report = chain.finish(&mut gather(out)).map_err(failed)?;
                if report.plain == self.plain {
                    return Ok(Some(()));
                }
                return Err(Error::new(ErrorKind::FileRead, format!("'{}' changed while it was read", path.display())));
            }
        }
        (self.file, self.chain) = (Some(file), Some(chain));
        Ok(None)
    }
}
