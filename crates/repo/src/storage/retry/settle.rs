//! What became of a write whose answer was lost: the store is asked, and the bytes are compared by their digest.
//!
//! The digest of each part travels in the receipt that [`super::RetryStorage`] gives out for it, so that nothing has to
//! be remembered, or forgotten, for uploads that are dropped. XXH3 is enough: it compares our bytes with what a store
//! made of them, nobody chooses either to collide.

use futures_util::StreamExt;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::storage::{ByteRange, ErrorClass, ObjectInfo, Operation, PartTag, Storage, StorageError, StoragePath};

use super::RetryStorage;

/// Length and digest of a part that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SealedPart {
    size_bytes: u64,
    digest: u128,
}

impl SealedPart {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { size_bytes: bytes.len() as u64, digest: xxh3_128(bytes) }
    }

    /// The backend's receipt with this seal before it.
    pub(super) fn seal(self, tag: &PartTag) -> PartTag {
        PartTag { number: tag.number, tag: format!("{:x}:{:x}:{}", self.size_bytes, self.digest, tag.tag) }
    }
}

/// The seals and the backend's own receipts.
pub(super) fn unseal(path: &StoragePath, tags: &[PartTag]) -> Result<(Vec<SealedPart>, Vec<PartTag>), StorageError> {
    let parsed = tags.iter().map(|sealed| {
        let mut fields = sealed.tag.splitn(3, ':');
        let size_bytes = u64::from_str_radix(fields.next()?, 16).ok()?;
        let digest = u128::from_str_radix(fields.next()?, 16).ok()?;
        let tag = PartTag { number: sealed.number, tag: fields.next()?.to_owned() };
        Some((SealedPart { size_bytes, digest }, tag))
    });
    parsed.collect::<Option<_>>().ok_or_else(|| {
        StorageError::new(ErrorClass::Permanent, Operation::Write, path, "a part's receipt was not given out here")
    })
}

/// The object at `path`, if its bytes are those of `parts`.
pub(super) async fn is_ours(
    storage: &RetryStorage,
    path: &StoragePath,
    parts: &[SealedPart],
) -> Result<Option<ObjectInfo>, StorageError> {
    let size_bytes = parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(part.size_bytes));
    let opened = match storage.read(path, ByteRange::ALL, None).await {
        Err(error) if error.is_missing() => return Ok(None),
        outcome => outcome?,
    };
    if Some(opened.info.size_bytes) != size_bytes {
        return Ok(None);
    }
    let mut body = opened.body;
    let mut expected = parts.iter().copied();
    let mut part = expected.next();
    let mut found = SealedPart { size_bytes: 0, digest: 0 };
    let mut hash = Xxh3::new();
    while let Some(piece) = body.next().await {
        let mut piece = piece?;
        while !piece.is_empty() {
            let Some(current) = part else { return Ok(None) };
            let missing = usize::try_from(current.size_bytes - found.size_bytes).unwrap_or(usize::MAX);
            let taken = piece.split_to(piece.len().min(missing));
            hash.update(&taken);
            found.size_bytes += taken.len() as u64;
            if found.size_bytes == current.size_bytes {
                found.digest = hash.digest128();
                if found != current {
                    return Ok(None);
                }
                part = expected.next();
                (found.size_bytes, hash) = (0, Xxh3::new());
            }
        }
    }
    Ok(Some(opened.info))
}
