//! One file of a manifest, a line of `[target:file]`.

use super::owner::Owner;
use crate::format::checksum::Checksum;
use crate::format::json::UnknownAttributes;
use crate::format::manifest_name::ManifestName;
use crate::format::path::BundleId;

/// Unit in which block sizes are stored (`BLOCK_INCR_SIZE_FACTOR` of pgBackRest).
pub const BLOCK_SIZE_UNIT: u32 = 8192;
/// Bytes of a block checksum that are used unless the row says otherwise (`BLOCK_INCR_CHECKSUM_SIZE_MIN`).
pub const BLOCK_CHECKSUM_SIZE_MIN: u8 = 6;
/// Bytes of a whole XXH3-128.
pub const BLOCK_CHECKSUM_SIZE_MAX: u8 = 16;

/// Where a stored file is in its bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundlePlace {
    /// The bundle, of the backup that stores the file.
    pub id: BundleId,
    /// Where the file begins in it.
    pub offset_bytes: u64,
}

/// How a file is cut into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockIncr {
    /// Size of a block, a multiple of [`BLOCK_SIZE_UNIT`].
    pub block_size_bytes: u32,
    /// Bytes that are kept of each block's checksum: 6 to 16.
    pub checksum_size_bytes: u8,
    /// Stored size of the block map at the end of the stored file; 0 when the file is stored whole.
    pub map_size_bytes: u64,
}

/// A range of pages, both ends included, counted over all segments of the relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRange {
    /// First page.
    pub first: u64,
    /// Last page; the first again for a single one.
    pub last: u64,
}

/// The result of checking page checksums.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PageChecksums {
    /// They were not checked.
    #[default]
    NotChecked,
    /// All are right.
    Valid,
    /// These pages are wrong; an empty list says that the file is no sequence of whole pages.
    Errors(Box<[PageRange]>),
}

/// A backup in the manifest's list of references.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReferenceIndex(pub(super) u32);

impl ReferenceIndex {
    /// The place in the list, which is also the number that block maps use.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    name: ManifestName,
    /// Plain size. Until the file is copied it is the size at the scan, or that of the prior backup's file.
    pub size_bytes: u64,
    /// Plain size at the scan.
    pub size_original_bytes: u64,
    /// Stored size, block map included.
    pub size_repo_bytes: u64,
    /// Modification time, seconds since the Unix epoch.
    pub timestamp_s: i64,
    /// SHA-1 of the plain file; `None` while it is not copied.
    pub checksum: Option<Checksum>,
    /// SHA-1 of the stored bytes; `None` when they are the plain ones, and for copied WAL.
    pub checksum_repo: Option<Checksum>,
    /// The bundle that holds it, if one does.
    pub bundle: Option<BundlePlace>,
    /// How it is cut into blocks, if it is.
    pub block_incr: Option<BlockIncr>,
    /// The check of its pages.
    pub page_checksums: PageChecksums,
    /// Owner.
    pub user: Owner,
    /// Group.
    pub group: Owner,
    /// Permission bits, at most 0o7777.
    pub mode: u16,
    /// The backup that stores it; `None` for the manifest's own.
    pub reference: Option<ReferenceIndex>,
    pub(super) unknown: Option<Box<UnknownAttributes>>,
}

/// What a scan tells of a file.
#[derive(Debug, Clone)]
pub struct ScannedFile {
    /// Name.
    pub name: ManifestName,
    /// Size.
    pub size_bytes: u64,
    /// Modification time, seconds since the Unix epoch.
    pub timestamp_s: i64,
    /// Owner.
    pub user: Owner,
    /// Group.
    pub group: Owner,
    /// Permission bits.
    pub mode: u16,
}

/// What copying a file gave.
#[derive(Debug, Clone)]
pub struct CopiedFile {
    /// Plain size as it was read.
    pub size_bytes: u64,
    /// SHA-1 of the plain bytes.
    pub checksum: Checksum,
    /// Stored size, block map included; 0 for an empty file that a bundled backup does not store.
    pub size_repo_bytes: u64,
    /// SHA-1 of the stored bytes, where they differ from the plain ones.
    pub checksum_repo: Option<Checksum>,
    /// The bundle that it went into.
    pub bundle: Option<BundlePlace>,
    /// Stored size of its block map; 0 when it is stored whole.
    pub map_size_bytes: u64,
    /// The check of its pages.
    pub page_checksums: PageChecksums,
}

impl FileRow {
    /// The row of a file that is not copied yet.
    pub fn scanned(file: ScannedFile) -> Self {
        Self {
            name: file.name,
            size_bytes: file.size_bytes,
            size_original_bytes: file.size_bytes,
            size_repo_bytes: file.size_bytes,
            timestamp_s: file.timestamp_s,
            checksum: (file.size_bytes == 0).then_some(Checksum::EMPTY),
            checksum_repo: None,
            bundle: None,
            block_incr: None,
            page_checksums: PageChecksums::NotChecked,
            user: file.user,
            group: file.group,
            mode: file.mode,
            reference: None,
            unknown: None,
        }
    }

    /// The name. It does not change, since rows are ordered by it.
    pub fn name(&self) -> &ManifestName {
        &self.name
    }

    /// Records that this backup now stores the file, in the way given.
    pub fn record(&mut self, copied: CopiedFile) {
        self.size_bytes = copied.size_bytes;
        self.checksum = Some(copied.checksum);
        self.size_repo_bytes = copied.size_repo_bytes;
        self.checksum_repo = copied.checksum_repo;
        self.bundle = copied.bundle;
        self.page_checksums = copied.page_checksums;
        self.reference = None;
        if let Some(block_incr) = &mut self.block_incr {
            block_incr.map_size_bytes = copied.map_size_bytes;
        }
    }

    /// Whether the stored bytes are blocks with a map, and not the file as a whole.
    pub fn is_block_incremental(&self) -> bool {
        self.block_incr.is_some_and(|block_incr| block_incr.map_size_bytes > 0)
    }

    /// Stored size for the sums in backup.info: the original counts the plain size where none is stored.
    pub(super) fn size_repo_counted_bytes(&self) -> u64 {
        if self.size_repo_bytes > 0 { self.size_repo_bytes } else { self.size_bytes }
    }
}
