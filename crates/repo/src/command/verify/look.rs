//! Looks at the stored files of one backup: every object is read once, in large ranges, and its bytes go through the
//! chain that a restore would use.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::blocks::{self, OwnBlocks};
use super::known::{Content, Known, Verdict};
use super::report::{Fault, FaultKind};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::order;
use crate::filter::{ChainReport, Codecs, Digest, Passphrase};
use crate::format::block_map::BlockMap;
use crate::format::manifest::{FileRow, Manifest};
use crate::progress::{Context, cancelled};
use crate::repository::Repository;
use crate::repository::backup_file::{is_content, runs, stored_place, undecodable, whole_spec};
use crate::storage::{ByteRange, ErrorClass, StorageExt, StoragePath};
use crate::transfer::{self, PieceReader};

/// The largest stored form of a block incremental file that is read together with its neighbours in a bundle, and held
/// for that.
const TOGETHER_BYTES_MAX: u64 = 1024 * 1024;

/// A file of the backup, by its place in the manifest, and what became of it.
pub(super) type Looked = (u32, Verdict);

/// Everything that looking at the files of one backup needs.
#[derive(Debug)]
pub(super) struct Looker {
    /// Where bytes come from.
    pub repository: Repository,
    /// The backup.
    pub manifest: Manifest,
    /// Passphrase of its files.
    pub passphrase: Option<Passphrase>,
    /// States of decoders.
    pub codecs: Codecs,
    /// Ends the work.
    pub cancel: CancellationToken,
    /// What is known of the backups that it refers to.
    pub known: Arc<Mutex<Known>>,
}

/// What one read tells of a file.
enum First {
    /// Everything.
    Done(Verdict),
    /// All but for blocks that are stored elsewhere.
    Blocks(Verdict, Box<BlockMap>),
}

impl Looker {
    /// The row at a place of the manifest.
    pub(super) fn row(&self, place: u32) -> Result<&FileRow> {
        let row = usize::try_from(place).ok().and_then(|place| self.manifest.files().get(place));
        row.ok_or_else(|| Error::new(ErrorKind::Assert, "the file is not in the manifest"))
    }

    /// Looks at files that one object holds, in the order of their offsets.
    ///
    /// # Errors
    /// Only when the command was asked to stop, or a thread failed: what is wrong with a file is its verdict.
    pub(super) async fn look(
        self: &Arc<Self>,
        files: &[u32],
        read_over_bytes: u64,
        context: &Context,
    ) -> Result<Vec<Looked>> {
        let (mut together, mut looked) = (Vec::new(), Vec::with_capacity(files.len()));
        for file in files {
            context.check_cancelled()?;
            let row = self.row(*file)?;
            if row.is_block_incremental() && (row.bundle.is_none() || row.size_repo_bytes > TOGETHER_BYTES_MAX) {
                let first = self.look_at_blocks(*file, context).await?;
                looked.push((*file, self.follow(*file, first, context).await?));
            } else {
                together.push(*file);
            }
        }
        let rows = together.iter().map(|file| self.row(*file)).collect::<Result<Vec<_>>>()?;
        for run in runs(&rows, read_over_bytes) {
            for (file, first) in self.look_at_run(together.get(run).unwrap_or_default(), context).await? {
                looked.push((file, self.follow(file, first, context).await?));
            }
        }
        Ok(looked)
    }

    /// Looks at the blocks that a file takes from elsewhere.
    async fn follow(self: &Arc<Self>, file: u32, first: First, context: &Context) -> Result<Verdict> {
        match first {
            First::Done(verdict) => Ok(verdict),
            First::Blocks(own, map) => blocks::follow(self, file, own, &map, context).await,
        }
    }

    /// Files that lie near each other, in one request. Files of a bundle that is too short are looked at as far as it
    /// reaches.
    async fn look_at_run(self: &Arc<Self>, files: &[u32], context: &Context) -> Result<Vec<(u32, First)>> {
        let Some(first) = files.first() else { return Ok(Vec::new()) };
        let place = match self.place(*first) {
            Ok(place) => place,
            Err(error) => return self.all_broken(files, &error),
        };
        let Some((object, range)) = self.range_of(place.clone(), files)? else {
            return Ok(all(files, |_| First::Done(Verdict::INTACT)));
        };
        let error = match self.read_run(files, &object, range, context).await {
            Ok(looked) => return Ok(looked),
            Err(error) => error,
        };
        if range == ByteRange::ALL || error.storage_class() != Some(ErrorClass::Permanent) {
            return self.all_broken(files, &error);
        }
        let size_bytes = match self.repository.storage().info(&object).await {
            Ok(info) => info.size_bytes,
            Err(error) => return self.all_broken(files, &error.into()),
        };
        let reached = files
            .iter()
            .take_while(|file| self.row(**file).is_ok_and(|row| stored_range(row).end <= size_bytes))
            .count();
        let (whole, cut) = files.split_at(reached);
        if cut.is_empty() {
            return self.all_broken(files, &error);
        }
        let mut looked = Vec::with_capacity(files.len());
        if let Some((object, range)) = self.range_of(place, whole)? {
            looked = match self.read_run(whole, &object, range, context).await {
                Ok(looked) => looked,
                Err(error) => self.all_broken(whole, &error)?,
            };
        }
        looked.extend(all(cut, |_| First::Done(Verdict::broken(too_short(size_bytes)))));
        Ok(looked)
    }

    fn place(&self, file: u32) -> Result<Option<(StoragePath, u64)>> {
        stored_place(&self.repository, &self.manifest, self.row(file)?)
    }

    /// The bytes from the first of `files` to the last; `None` for nothing.
    fn range_of(&self, place: Option<(StoragePath, u64)>, files: &[u32]) -> Result<Option<(StoragePath, ByteRange)>> {
        let (Some((object, offset)), Some(last)) = (place, files.last()) else { return Ok(None) };
        let last = self.row(*last)?;
        if last.bundle.is_none() {
            return Ok(Some((object, ByteRange::ALL)));
        }
        let length = stored_range(last).end.saturating_sub(offset);
        Ok(Some((object, ByteRange { offset, length: Some(length) })))
    }

    async fn read_run(
        self: &Arc<Self>,
        files: &[u32],
        object: &StoragePath,
        range: ByteRange,
        context: &Context,
    ) -> Result<Vec<(u32, First)>> {
        let (looker, files) = (Arc::clone(self), files.to_vec());
        self.load(object, range, context, move |source| {
            let mut at = range.offset;
            let mut looked = Vec::with_capacity(files.len());
            for (index, file) in files.iter().enumerate() {
                match looker.look_at_next(*file, &mut at, source) {
                    Ok(first) => looked.push((*file, first)),
                    Err(error) if is_fatal(&error) => return Err(error),
                    // The stream has ended: nothing is known of this file and those behind it.
                    Err(error) => {
                        let rest = files.get(index..).unwrap_or_default();
                        looked.extend(all(rest, |_| First::Done(Verdict::broken(Fault::of(&error)))));
                        return Ok(looked);
                    }
                }
            }
            Ok(looked)
        })
        .await
    }

    /// Looks at the file whose stored form comes next in `source`, which is at offset `at` of the object. Blocking.
    fn look_at_next(&self, file: u32, at: &mut u64, source: &mut PieceReader) -> Result<First> {
        let row = self.row(file)?;
        if row.bundle.is_none() {
            return self.look_at_whole(row, source, None).map(First::Done);
        }
        let stored = stored_range(row);
        source.exact(stored.start.saturating_sub(*at), |_| Ok(()))?;
        *at = stored.end;
        if row.is_block_incremental() {
            return self.look_at_held_blocks(row, source);
        }
        self.look_at_whole(row, source, Some(row.size_repo_bytes)).map(First::Done)
    }

    /// A file that is stored whole. Blocking.
    fn look_at_whole(&self, row: &FileRow, source: &mut PieceReader, stored_bytes: Option<u64>) -> Result<Verdict> {
        let spec = whole_spec(&self.manifest, row, self.passphrase.as_ref());
        let mut chain = order::load(&spec, &self.codecs).map_err(|error| undecodable(&error))?;
        let mut failed = None;
        let mut take = |stored: &[u8]| {
            self.check_cancelled()?;
            // The bytes behind a failure are still taken, since the next file stands behind them.
            if failed.is_none() {
                failed = chain.write(stored, &mut |_| Ok(())).err();
            }
            Ok(())
        };
        match stored_bytes {
            Some(stored_bytes) => source.exact(stored_bytes, &mut take)?,
            None => source.all(&mut take)?,
        }
        let decoded = match failed {
            None => chain.finish(&mut |_| Ok(())),
            Some(error) => Err(error),
        };
        Ok(judge(row, decoded.map_err(|error| undecodable(&error))))
    }

    /// A small block incremental file in a bundle: its stored form is held, since the map stands at its end. Blocking.
    fn look_at_held_blocks(&self, row: &FileRow, source: &mut PieceReader) -> Result<First> {
        let mut stored = Vec::new();
        source.exact(row.size_repo_bytes, |bytes| {
            stored.extend_from_slice(bytes);
            Ok(())
        })?;
        let digest = Digest::of(&stored);
        let map = match blocks::map_at_end(self, row, &stored) {
            Ok(map) => map,
            Err(error) => return Ok(First::Done(blocks::broken_map(row, Some(digest), &error))),
        };
        let mut own = OwnBlocks::new(self, row, &map);
        own.write(&stored);
        Ok(First::Blocks(blocks::judge(row, digest, own.finish()), Box::new(map)))
    }

    /// A block incremental file of any size: the map is read first, so that nothing has to be held.
    async fn look_at_blocks(self: &Arc<Self>, file: u32, context: &Context) -> Result<First> {
        let row = self.row(file)?;
        let (object, start) = match self.place(file) {
            Ok(Some(place)) => place,
            Ok(None) => return Ok(First::Done(Verdict::INTACT)),
            Err(error) if is_fatal(&error) => return Err(error),
            Err(error) => return Ok(First::Done(Verdict::broken(Fault::of(&error)))),
        };
        let map = match blocks::read_map(self, file, &object, start, context).await {
            Ok(map) => map,
            Err(error) if is_fatal(&error) => return Err(error),
            Err(error) if error.storage_class().is_some() => {
                let fault = self.fault_of_read(row, &object, &error).await;
                return Ok(First::Done(Verdict::broken(fault)));
            }
            Err(error) => return Ok(First::Done(blocks::broken_map(row, None, &error))),
        };
        let map = Arc::new(map);
        let (looker, shared) = (Arc::clone(self), Arc::clone(&map));
        let range = match row.bundle {
            Some(_) => ByteRange { offset: start, length: Some(row.size_repo_bytes) },
            None => ByteRange::ALL,
        };
        let read = self.load(&object, range, context, move |source| {
            let row = looker.row(file)?;
            let mut own = OwnBlocks::new(&looker, row, &shared);
            let mut hash = crate::filter::Hasher::default();
            source.all(|stored| {
                looker.check_cancelled()?;
                hash.observe(stored);
                own.write(stored);
                Ok(())
            })?;
            Ok(blocks::judge(row, hash.digest(), own.finish()))
        });
        let verdict = match read.await {
            Ok(verdict) => verdict,
            Err(error) if is_fatal(&error) => return Err(error),
            Err(error) => Verdict::broken(self.fault_of_read(row, &object, &error).await),
        };
        let map = Arc::try_unwrap(map).unwrap_or_else(|shared| (*shared).clone());
        Ok(First::Blocks(verdict, Box::new(map)))
    }

    /// What a failed read says of a file: a store that has fewer bytes than the file needs tells of damage.
    async fn fault_of_read(&self, row: &FileRow, object: &StoragePath, error: &Error) -> Fault {
        if error.storage_class() == Some(ErrorClass::Permanent)
            && let Ok(Some(info)) = self.repository.storage().info_optional(object).await
            && info.size_bytes < stored_range(row).end
        {
            return too_short(info.size_bytes);
        }
        Fault::of(error)
    }

    fn all_broken(&self, files: &[u32], error: &Error) -> Result<Vec<(u32, First)>> {
        if is_fatal(error) {
            return Err(error.clone());
        }
        Ok(all(files, |_| First::Done(Verdict::broken(Fault::of(error)))))
    }

    /// Reads a range of an object.
    pub(super) async fn load<T, F>(
        &self,
        object: &StoragePath,
        range: ByteRange,
        context: &Context,
        job: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut PieceReader) -> Result<T> + Send + 'static,
    {
        transfer::load(self.repository.storage().as_ref(), object, range, None, &context.budget, job).await
    }

    /// Fails when the command was asked to stop.
    pub(super) fn check_cancelled(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(cancelled()) } else { Ok(()) }
    }

    /// What is known of the backups that this one refers to.
    pub(super) fn known<T>(&self, ask: impl FnOnce(&mut Known) -> T) -> T {
        ask(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether an error is not about the repository: the work has to end.
pub(super) fn is_fatal(error: &Error) -> bool {
    error.storage_class().is_none() && matches!(error.kind(), ErrorKind::Term | ErrorKind::Unknown | ErrorKind::Assert)
}

/// Where the stored form of a file is in its object.
pub(super) fn stored_range(row: &FileRow) -> Range<u64> {
    let start = row.bundle.map_or(0, |bundle| bundle.offset_bytes);
    start..start.saturating_add(row.size_repo_bytes)
}

fn all(files: &[u32], first: impl Fn(u32) -> First) -> Vec<(u32, First)> {
    files.iter().map(|file| (*file, first(*file))).collect()
}

/// The original sees other bytes where the end of an object is missing.
fn too_short(size_bytes: u64) -> Fault {
    Fault::new(FaultKind::Checksum, format!("the object ends at byte {size_bytes}"))
}

/// What stored bytes say of a file that is stored whole. The checksum of the stored bytes decides, where the manifest
/// has it, as in the original; whether the file can be made from them is another question.
fn judge(row: &FileRow, decoded: Result<ChainReport>) -> Verdict {
    let report = match decoded {
        Ok(report) => report,
        Err(error) if row.checksum_repo.is_some() => {
            return Verdict::broken(Fault::new(FaultKind::Checksum, error.to_string()));
        }
        Err(error) => return Verdict::broken(Fault::of(&error)),
    };
    let content = if is_content(report.plain, row) { Content::Right } else { Content::Wrong };
    let fault = |kind, detail: &str| Some(Fault::new(kind, detail));
    let fault = match row.checksum_repo {
        Some(expected) if expected != report.stored.sha1 => fault(FaultKind::Checksum, "other bytes are stored"),
        Some(_) if report.stored.size_bytes != row.size_repo_bytes => fault(FaultKind::Size, "other bytes are stored"),
        Some(_) if content == Content::Wrong => fault(FaultKind::Other, "the stored bytes are another file"),
        None if Some(report.plain.sha1) != row.checksum => fault(FaultKind::Checksum, "it is another file"),
        None if content == Content::Wrong => fault(FaultKind::Size, "the file has another size"),
        None if report.stored.size_bytes != row.size_repo_bytes => fault(FaultKind::Size, "other bytes are stored"),
        _ => None,
    };
    Verdict { fault, content, elsewhere: None }
}
