//! One name, one content: what an archive already holds under a name, and what that means for a push.
//!
//! The checksum is part of a segment's object name, so a conditional write cannot keep a second content out. Two
//! writers can both find nothing and both write. Therefore a writer lists again after it wrote: whoever sees another
//! content withdraws the object that it has created itself in this very call, and reports the conflict. At most one of
//! the writers sees nothing but its own (faults.md PU01, PU24).

use crate::error::{Error, ErrorKind, Result};
use crate::filter::Digest;
use crate::postgres::WalFileName;
use crate::progress::Context;
use crate::repository::{Archive, ArchivedFile};

/// What an archive holds under the name of the file that is pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// Nothing.
    Nothing,
    /// The same content, under whatever compression or passphrase.
    Same,
}

/// Compares what is there with the file. Another content is an error that no retry mends.
pub(super) async fn compare(
    archive: &Archive,
    name: WalFileName,
    plain: &Digest,
    content: Option<&[u8]>,
    context: &Context,
) -> Result<Held> {
    let found = archive.find(name).await?;
    if name.holds_wal() {
        compare_segments(archive, name, plain, &found)
    } else {
        compare_small(archive, name, content.unwrap_or_default(), &found, context).await
    }
}

fn compare_segments(archive: &Archive, name: WalFileName, plain: &Digest, found: &[ArchivedFile]) -> Result<Held> {
    let mut others = found.iter().filter_map(|file| file.segment).filter(|object| object.checksum != plain.sha1);
    let Some(other) = others.next() else {
        return Ok(if found.is_empty() { Held::Nothing } else { Held::Same });
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
        return Ok(Held::Same);
    }
    Err(Error::new(
        ErrorKind::ArchiveDuplicate,
        format!("'{name}' already exists in the {} archive with a different content", archive.repository().index()),
    )
    .hint("was another cluster promoted to the same timeline?"))
}
