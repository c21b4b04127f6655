//! One name, one content: what an archive already holds under a name, and what that means for a push.
//!
//! The checksum is part of a segment's object name, so a conditional write cannot keep a second content out. Two
//! writers can both find nothing and both write. Therefore a writer lists again after it wrote: whoever sees another
//! content withdraws the object that it has created itself in this very call, and reports the conflict. At most one of
//! the writers sees nothing but its own (faults.md PU01, PU24).
//!
//! An object of the same content that another call has just created is therefore not settled yet: its creator may be
//! about to withdraw it because of a third one. Nothing that two calls can write tells them which of their objects came
//! first, so time decides: a creator withdraws within [`WITHDRAW_WITHIN`] of its write or not at all, and who finds
//! an object that may be that young looks again after [`SETTLE`] before it is relied on. What stays open is a request
//! to remove that the store carries out seconds after its client gave it up.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::filter::Digest;
use crate::postgres::WalFileName;
use crate::progress::Context;
use crate::repository::{Archive, ArchivedFile};
use crate::storage::{ErrorClass, StoragePath};

/// How long after its write a call may still withdraw what it wrote.
pub(super) const WITHDRAW_WITHIN: Duration = Duration::from_secs(1);

/// How long an object must have been there before another call may rely on it. More than twice [`WITHDRAW_WITHIN`], which
/// counts once for the decision and once for the request.
const SETTLE: Duration = Duration::from_secs(3);

/// Objects beyond this age are not looked at again. Minutes, since the age is the difference of two clocks, and the time
/// of a multipart upload is that of its begin.
const YOUNG_S: u64 = 600;

/// What an archive holds under the name of the file that is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// Nothing.
    Nothing,
    /// The same content, under whatever compression or passphrase.
    Same {
        /// One of its objects.
        path: StoragePath,
    },
}

/// Waits until an object that another call may have just created is settled, if it is that young; tells whether
/// it was, and the archive must be looked at again.
pub(super) async fn settle(archive: &Archive, path: &StoragePath, context: &Context) -> Result<bool> {
    let info = match archive.repository().storage().info(path).await {
        Ok(info) => info,
        // Withdrawn since it was listed.
        Err(error) if error.class() == ErrorClass::Missing => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    let young = context.clock.now_s().abs_diff(info.modified_s) < YOUNG_S;
    if young {
        tokio::time::sleep(SETTLE).await;
    }
    Ok(young)
}

/// What an archive has under the name.
pub(super) async fn look(archive: &Archive, name: WalFileName) -> Result<Vec<ArchivedFile>> {
    archive.find(name).await
}

/// Compares what was found with the file. Another content is an error that no retry mends.
pub(super) async fn compare(
    archive: &Archive,
    name: WalFileName,
    plain: &Digest,
    content: Option<&[u8]>,
    found: &[ArchivedFile],
    context: &Context,
) -> Result<Held> {
    if name.holds_wal() {
        compare_segments(archive, name, plain, found)
    } else {
        compare_small(archive, name, content.unwrap_or_default(), found, context).await
    }
}

fn compare_segments(archive: &Archive, name: WalFileName, plain: &Digest, found: &[ArchivedFile]) -> Result<Held> {
    let mut others = found.iter().filter_map(|file| file.segment).filter(|object| object.checksum != plain.sha1);
    let Some(other) = others.next() else {
        return Ok(found.first().map_or(Held::Nothing, |file| Held::Same { path: file.path.clone() }));
    };
    if found.len() > 1 {
        let names: Vec<_> = found.iter().map(|file| file.path.file_name().to_owned()).collect();
        return Err(Error::new(
            ErrorKind::ArchiveDuplicate,
            format!(
                "duplicates found in archive for WAL segment {name} in {}: {}",
                archive.repository().index(),
                names.join(", ")
            ),
        )
        .hint("are multiple primaries archiving to this stanza?"));
    }
    Err(Error::new(
        ErrorKind::ArchiveDuplicate,
        format!(
            "WAL file '{name}' already exists in the {} archive with a different checksum: {} there, {} here",
            archive.repository().index(),
            other.checksum,
            plain.sha1
        ),
    ))
}

/// History and backup files have no checksum in their name: the content itself is compared (faults.md PU04).
async fn compare_small(
    archive: &Archive,
    name: WalFileName,
    content: &[u8],
    found: &[ArchivedFile],
    context: &Context,
) -> Result<Held> {
    let Some(file) = found.first() else { return Ok(Held::Nothing) };
    if archive.read_small(&file.path, context).await? == content {
        return Ok(Held::Same { path: file.path.clone() });
    }
    Err(Error::new(
        ErrorKind::ArchiveDuplicate,
        format!("'{name}' already exists in the {} archive with a different content", archive.repository().index()),
    )
    .hint("was another cluster promoted to the same timeline?"))
}
