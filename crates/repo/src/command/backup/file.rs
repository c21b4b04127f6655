//! One file of the cluster into the repository: read, checked, compressed, encrypted. Blocking.

use std::sync::{Arc, Mutex, PoisonError};

use super::blocks::Blocks;
use super::cluster::control_in;
use super::idle::IdleWorkers;
use super::resume::KeptFile;
use crate::clock::Random;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::order::{self, StoreSpec};
use crate::filter::{
    Codecs, Compression, Digest, FilterError, Form, PageCheck, PageOutcome, PageReport, Passphrase, SinkClosed,
};
use crate::format::manifest::{PageChecksums, PageRange};
use crate::format::{Checksum, CompressType};
use crate::pgdata::{DataRoots, DisplayPath, ReadLimit, SourceFile};
use crate::postgres::{ControlFile, PgVersion};
use crate::progress::{Reporter, cancelled};
use crate::transfer::PieceWriter;
use tokio_util::sync::CancellationToken;

/// A file up to this size is read whole before it is encoded, which is quicker for gz; larger ones stream through a
/// buffer of this size. One buffer for each transfer.
pub(super) const BUFFER_BYTES: usize = 256 * 1024;

/// Stored bytes of a file that are held back until it is known whether it changed: what the original reads of it before
/// it decides (`buffer-size`, by default).
pub(super) const HELD_BYTES_MAX: usize = 1024 * 1024;

/// What a file's bytes go through, and where they come from. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Copier {
    pub(super) roots: Arc<DataRoots>,
    /// The data directory, for messages.
    pub(super) pgdata: Arc<[u8]>,
    pub(super) compress: Compression,
    pub(super) passphrase: Option<Passphrase>,
    pub(super) codecs: Codecs,
    pub(super) random: Arc<dyn Random>,
    pub(super) version_force: Option<PgVersion>,
    /// `pg_control` as it was read last.
    pub(super) control: Arc<Mutex<Option<ControlFile>>>,
    /// An empty file is stored, not only recorded: in a backup without bundles.
    pub(super) stores_empty: bool,
    /// Hears of prior maps that cannot be used.
    pub(super) reporter: Arc<dyn Reporter>,
    /// Ends the work.
    pub(super) cancel: CancellationToken,
    /// Who could help with a large file.
    pub(super) idle: IdleWorkers,
}

/// A file to copy.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// Its place in the manifest.
    pub(super) position: usize,
    /// Its name in the manifest.
    pub(super) name: Vec<u8>,
    /// How much of it is read.
    pub(super) read: SourceRead,
    /// Which pages to check, if any.
    pub(super) pages: Option<PageCheck>,
    /// The form of what is stored whole.
    pub(super) form: Form,
    /// How it is cut; `None` stores it whole.
    pub(super) blocks: Option<Blocks>,
    /// What the prior backup has; a file that is still that is not stored again.
    pub(super) expected: Option<Digest>,
    /// Look for that before anything is encoded.
    pub(super) compare_first: bool,
    /// What an unfinished backup has stored of it, if this one goes on with that.
    pub(super) kept: Option<KeptFile>,
}

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceRead {
    /// As it is, with this limit.
    Plain(ReadLimit),
    /// `pg_control`, until its checksum is right, and padded.
    Control,
}

/// What became of a file.
#[derive(Debug)]
pub(super) enum Copied {
    /// The server removed it; WAL removes it again.
    Vanished,
    /// It is empty now and need not be stored.
    Emptied,
    /// It is what the prior backup has.
    Unchanged,
    /// It is what an unfinished backup stored, and that is still there.
    Resumed,
    /// It is stored.
    Stored(StoredBytes),
}

/// A file that was stored.
#[derive(Debug)]
pub(super) struct StoredBytes {
    /// Where it begins in the object.
    pub(super) offset_bytes: u64,
    /// Plain bytes.
    pub(super) size_bytes: u64,
    /// SHA-1 of the plain bytes.
    pub(super) checksum: Checksum,
    /// Stored bytes.
    pub(super) size_repo_bytes: u64,
    /// SHA-1 of the stored bytes, where they differ.
    pub(super) checksum_repo: Option<Checksum>,
    /// How many of them are its block map; 0 when it is stored whole.
    pub(super) map_size_bytes: u64,
    /// The check of its pages.
    pub(super) pages: PageChecksums,
}

impl Copier {
    /// Whether stored bytes differ from plain ones.
    pub(super) fn transforms(&self) -> bool {
        self.compress.kind() != CompressType::None || self.passphrase.is_some()
    }

    /// Copies files one behind the other into the object that `out` is.
    ///
    /// # Errors
    /// The first file that cannot be read, or [`ErrorKind::Term`] when the upload has ended.
    pub(super) fn copy_all(&self, sources: &[Source], out: &mut PieceWriter) -> Result<Vec<Copied>> {
        let mut buffer = vec![0; BUFFER_BYTES];
        sources.iter().map(|source| self.copy(source, &mut buffer, out)).collect()
    }

    pub(super) fn copy(&self, source: &Source, buffer: &mut [u8], out: &mut PieceWriter) -> Result<Copied> {
        match source.read {
            SourceRead::Control => {
                let control = self.read_control()?;
                if source.expected.is_some_and(|expected| Digest::of(&control) == expected) {
                    return Ok(Copied::Unchanged);
                }
                self.copy_whole(source, &control, out).map(|(stored, _)| Copied::Stored(stored))
            }
            SourceRead::Plain(limit) => match SourceFile::open(&self.roots, &source.name, limit)? {
                None => Ok(Copied::Vanished),
                Some(file) => self.copy_file(source, file, buffer, out),
            },
        }
    }

    /// Reads until the buffer is full or the file ends.
    ///
    /// # Errors
    /// When it cannot be read, and [`ErrorKind::Term`] when the command is to stop: a file that needs no bytes in the
    /// repository, or few, would not notice that nobody takes them.
    pub(super) fn fill(&self, file: &mut SourceFile, buffer: &mut [u8]) -> Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(cancelled());
        }
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_next(rest)? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(filled)
    }

    /// `pg_control` as a backup stores it; what it says is kept.
    pub(super) fn read_control(&self) -> Result<Vec<u8>> {
        let read = control_in(&self.roots, self.version_force)?;
        *self.control.lock().unwrap_or_else(PoisonError::into_inner) = Some(read.control);
        Ok(read.bytes)
    }

    /// `pg_control` as it was read last.
    pub(super) fn last_control(&self) -> Option<ControlFile> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn copy_file(
        &self,
        source: &Source,
        mut file: SourceFile,
        buffer: &mut [u8],
        out: &mut PieceWriter,
    ) -> Result<Copied> {
        if let Some(blocks) = &source.blocks {
            return self.copy_blocks(source, blocks, file, buffer, out);
        }
        let filled = self.fill(&mut file, buffer)?;
        let first = buffer.get(..filled).unwrap_or_default();
        if first.is_empty() && !self.stores_empty {
            return Ok(Copied::Emptied);
        }
        let copied = if filled == buffer.len() {
            self.copy_stream(source, &mut file, buffer, out)?
        } else if source.expected.is_some_and(|expected| Digest::of(first) == expected) {
            None
        } else {
            Some(self.copy_whole(source, first, out)?)
        };
        let Some((mut stored, pages)) = copied else { return Ok(Copied::Unchanged) };
        self.judge_pages(&file, pages, &mut stored)?;
        Ok(Copied::Stored(stored))
    }

    /// Looks again at the pages that seemed invalid.
    pub(super) fn judge_pages(
        &self,
        file: &SourceFile,
        pages: Option<PageReport>,
        stored: &mut StoredBytes,
    ) -> Result<()> {
        if let Some(mut pages) = pages {
            read_again(file, &mut pages)?;
            stored.pages = page_checksums(&pages);
        }
        Ok(())
    }

    /// Encodes bytes that are here as a whole.
    pub(super) fn copy_whole(
        &self,
        source: &Source,
        plain: &[u8],
        out: &mut PieceWriter,
    ) -> Result<(StoredBytes, Option<PageReport>)> {
        let offset_bytes = out.written_bytes();
        let failed = |error: FilterError| encode_failed(&source.name, &error);
        let mut sink = |piece: &[u8]| out.write(piece);
        let spec = self.spec(source);
        let room_bytes = BUFFER_BYTES + BUFFER_BYTES / 8;
        let report = order::store_whole(&spec, plain, room_bytes, &self.codecs, self.random.as_ref(), &mut sink);
        let report = report.map_err(failed)?;
        Ok((self.stored(offset_bytes, report.plain, report.stored), report.pages))
    }

    /// Encodes the full `buffer` and all that follows; `None` when it is what the prior backup has, which is seen in
    /// time only if little is stored.
    fn copy_stream(
        &self,
        source: &Source,
        file: &mut SourceFile,
        buffer: &mut [u8],
        out: &mut PieceWriter,
    ) -> Result<Option<(StoredBytes, Option<PageReport>)>> {
        let offset_bytes = out.written_bytes();
        let failed = |error: FilterError| encode_failed(&source.name, &error);
        let mut held = HeldBack { bytes: source.expected.map(|_| Vec::new()), out };
        let mut sink = |piece: &[u8]| held.write(piece);
        let mut chain = order::store(&self.spec(source), &self.codecs, self.random.as_ref()).map_err(failed)?;
        let mut filled = buffer.len();
        while filled > 0 {
            let plain = buffer.get(..filled).unwrap_or_default();
            let written = match self.idle.any() {
                true => chain.write_beside(plain, &mut sink),
                false => chain.write(plain, &mut sink),
            };
            written.map_err(failed)?;
            filled = self.fill(file, buffer)?;
        }
        let report = chain.finish(&mut sink).map_err(failed)?;
        if held.bytes.is_some() && source.expected == Some(report.plain) {
            return Ok(None);
        }
        held.release().map_err(|closed| failed(closed.into()))?;
        Ok(Some((self.stored(offset_bytes, report.plain, report.stored), report.pages)))
    }

    fn spec(&self, source: &Source) -> StoreSpec<'_> {
        StoreSpec { compress: self.compress, cipher: self.passphrase.as_ref(), form: source.form, pages: source.pages }
    }

    /// Pages are judged later.
    pub(super) fn stored(&self, offset_bytes: u64, plain: Digest, stored: Digest) -> StoredBytes {
        StoredBytes {
            offset_bytes,
            size_bytes: plain.size_bytes,
            checksum: plain.sha1,
            size_repo_bytes: stored.size_bytes,
            checksum_repo: self.transforms().then_some(stored.sha1),
            map_size_bytes: 0,
            pages: PageChecksums::NotChecked,
        }
    }
}

/// Stored bytes of a file that may turn out to be what the prior backup has.
struct HeldBack<'a> {
    /// `None` once they are too many.
    bytes: Option<Vec<u8>>,
    out: &'a mut PieceWriter,
}

impl HeldBack<'_> {
    fn write(&mut self, piece: &[u8]) -> Result<(), SinkClosed> {
        match &mut self.bytes {
            Some(bytes) if bytes.len().saturating_add(piece.len()) <= HELD_BYTES_MAX => {
                bytes.extend_from_slice(piece);
                Ok(())
            }
            _ => {
                self.release()?;
                self.out.write(piece)
            }
        }
    }

    fn release(&mut self) -> Result<(), SinkClosed> {
        self.bytes.take().map_or(Ok(()), |bytes| self.out.write(&bytes))
    }
}

/// Reads the pages again whose checksums are wrong. One that changed was being written: WAL will write it whole, so it
/// is no error. Pages that are still the same are.
fn read_again(file: &SourceFile, pages: &mut PageReport) -> Result<()> {
    let mut unchanged = Vec::new();
    let mut page = Vec::new();
    for suspect in pages.suspects() {
        page.resize(usize::try_from(suspect.size_bytes).unwrap_or_default(), 0);
        let number = suspect.file_offset.checked_div(u64::from(suspect.size_bytes)).unwrap_or_default();
        let filled = file.read_page(number, &mut page)?;
        if suspect.is_still(page.get(..filled).unwrap_or_default()) {
            unchanged.push(suspect.file_offset);
        }
    }
    pages.accept_unless(|suspect| unchanged.binary_search(&suspect.file_offset).is_ok());
    Ok(())
}

fn page_checksums(pages: &PageReport) -> PageChecksums {
    match pages.outcome() {
        PageOutcome::Valid => PageChecksums::Valid,
        PageOutcome::Misaligned => PageChecksums::Errors(Box::default()),
        PageOutcome::Invalid(ranges) => PageChecksums::Errors(
            ranges
                .iter()
                .map(|range| PageRange { first: (*range.start()).into(), last: (*range.end()).into() })
                .collect(),
        ),
    }
}

pub(super) fn encode_failed(name: &[u8], error: &FilterError) -> Error {
    let kind = match error {
        FilterError::Random(_) => ErrorKind::Crypto,
        FilterError::SinkClosed(SinkClosed) => ErrorKind::Term,
        FilterError::Ended => ErrorKind::Assert,
        _ => ErrorKind::Memory,
    };
    Error::new(kind, format!("unable to encode '{}': {error}", DisplayPath(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemRandom;
    use crate::pgdata::{LinkPolicy, Target};
    use crate::postgres::PageSize;
    use crate::postgres::page::PageHeaderCheck;
    use std::os::unix::ffi::OsStrExt;

    const PAGE_BYTES: usize = 8192;

    /// What the check finds in `read` when the file holds `now` by the time that it looks again.
    fn checked(read: &[u8], now: &[u8]) -> PageChecksums {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("relation"), now).unwrap();
        let target = Target::data(data.path().as_os_str().as_bytes());
        let roots = DataRoots::open(&[target], &LinkPolicy::Any).unwrap();
        let file = SourceFile::open(&roots, b"pg_data/relation", ReadLimit::End).unwrap().unwrap();
        let check = PageCheck { page_size: PageSize::DEFAULT, segment: 0, header_check: PageHeaderCheck::Upper };
        let spec = StoreSpec { compress: Compression::NONE, cipher: None, form: Form::Standard, pages: Some(check) };
        let mut chain = order::store(&spec, &Codecs::new(1), &SystemRandom).unwrap();
        chain.write(read, &mut |_| Ok(())).unwrap();
        let mut pages = chain.finish(&mut |_| Ok(())).unwrap().pages.unwrap();
        read_again(&file, &mut pages).unwrap();
        page_checksums(&pages)
    }

    #[test]
    fn bk06_a_page_that_was_being_written_is_no_error_and_one_that_stays_wrong_is() {
        let wrong = vec![7; 4 * PAGE_BYTES];
        let mut now = wrong.clone();
        for page in [0, 2] {
            now[page * PAGE_BYTES + 10] = 8;
        }
        let at = |page| PageRange { first: page, last: page };
        assert_eq!(checked(&wrong, &now), PageChecksums::Errors(Box::new([at(1), at(3)])));
        assert_eq!(checked(&wrong, &vec![8; 4 * PAGE_BYTES]), PageChecksums::Valid);
        // Cut off meanwhile: WAL replays that.
        let left = &wrong[..PAGE_BYTES + 100];
        assert_eq!(checked(&wrong, left), PageChecksums::Errors(Box::new([at(0)])));
        assert_eq!(checked(&wrong[..PAGE_BYTES + 100], left), PageChecksums::Errors(Box::default()));
    }
}
