//! `archive-copy`: the WAL that a backup needs is stored within it too, as files of `pg_wal`, so that it can be restored
//! without the archive (repository-behaviour.md §4.12).

use futures_util::FutureExt;

use super::archive_check::{SEGMENTS_MAX, WalRange};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::{Compression, Digest, Passphrase};
use crate::format::manifest::{CopiedFile, FileRow, PageChecksums, ScannedFile};
use crate::format::path::{self, StoredFile};
use crate::format::{CompressType, Manifest, ManifestName};
use crate::postgres::data_path::PGDATA_NAME;
use crate::postgres::{WalFileName, WalSegmentName};
use crate::progress::Context;
use crate::repository::{Archive, StoredAs, WritableRepository};
use crate::transfer;

/// Bits of the mode of `pg_data` that these files have (`S_IRUSR | S_IWUSR | S_IRGRP | S_IROTH`).
const MODE_MASK: u16 = 0o644;

/// How the files of the backup are stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storing<'a> {
    pub(super) compress: Compression,
    pub(super) passphrase: Option<&'a Passphrase>,
    /// Transfers at once.
    pub(super) workers: usize,
}

/// Copies the segments of `range`, which are all in the archive, and adds them to the manifest.
///
/// # Errors
/// [`ErrorKind::Checksum`] when an archived segment is not what its name says, and the storage's.
pub(super) async fn copy(
    repository: &WritableRepository,
    archive: &Archive,
    range: &WalRange,
    manifest: &mut Manifest,
    storing: Storing<'_>,
    context: &Context,
) -> Result<()> {
    let segments = WalSegmentName::range(range.start_segment, range.stop_segment(), range.segment_size, SEGMENTS_MAX)
        .map_err(|error| Error::new(ErrorKind::DbMismatch, error.to_string()))?;
    let (plan, mut rows) = (&*manifest, Vec::new());
    let work = |_, segment| copy_one(repository, archive, (range, segment), plan, storing, context).boxed();
    let copying = transfer::run_jobs(segments, storing.workers, work, |_, row| {
        rows.push(row);
        Ok(())
    });
    super::unless_cancelled(context, copying).await?;
    for row in rows {
        manifest.insert_file(row).map_err(|error| Error::new(ErrorKind::Assert, error.to_string()))?;
    }
    Ok(())
}

async fn copy_one(
    repository: &WritableRepository,
    archive: &Archive,
    (range, segment): (&WalRange, WalSegmentName),
    manifest: &Manifest,
    storing: Storing<'_>,
    context: &Context,
) -> Result<FileRow> {
    context.detail(format!("copy segment {segment} to backup"));
    let found = archive.find(WalFileName::Segment(segment)).await?;
    let [file] = &found[..] else {
        let message = format!("WAL segment {segment} is in the archive {} times", found.len());
        return Err(Error::new(ErrorKind::FileMissing, message).hint("did something remove it meanwhile?"));
    };
    let assert = |error: String| Error::new(ErrorKind::Assert, format!("'{segment}' cannot be copied: {error}"));
    let object = file.segment.ok_or_else(|| assert("it is no segment".to_owned()))?;
    let name = format!("{PGDATA_NAME}/{}/{segment}", manifest.cluster().version.wal_directory());
    let name = ManifestName::parse(name.as_bytes()).map_err(|error| assert(error.to_string()))?;
    let stored = StoredFile::Whole(storing.compress.kind());
    let to = path::file(repository.stanza(), &manifest.label(), &name, stored);
    let plain = Digest { size_bytes: range.segment_size.bytes().into(), sha1: object.checksum };
    let recoded = repository.recode(
        StoredAs { path: file.path.clone(), compress: object.compress, passphrase: archive.passphrase().cloned() },
        StoredAs {
            path: to.map_err(|error| assert(error.to_string()))?,
            compress: storing.compress,
            passphrase: storing.passphrase.cloned(),
        },
        plain,
        context,
    );
    let stored = recoded.await?.stored;
    let transforms = storing.compress.kind() != CompressType::None || storing.passphrase.is_some();
    let base = manifest.path(PGDATA_NAME.as_bytes()).ok_or_else(|| assert("there is no pg_data".to_owned()))?;
    let mut row = FileRow::scanned(ScannedFile {
        name,
        size_bytes: plain.size_bytes,
        timestamp_s: manifest.header().timestamp_stop_s,
        user: base.user,
        group: base.group,
        mode: base.mode & MODE_MASK,
    });
    row.record(CopiedFile {
        size_bytes: plain.size_bytes,
        checksum: plain.sha1,
        size_repo_bytes: stored.size_bytes,
        checksum_repo: transforms.then_some(stored.sha1),
        bundle: None,
        map_size_bytes: 0,
        page_checksums: PageChecksums::NotChecked,
    });
    Ok(row)
}
