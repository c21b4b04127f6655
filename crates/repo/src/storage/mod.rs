//! Where repository bytes live. Knows no formats: objects have a path, bytes and a modification time.
//!
//! [`Storage`] is the small core that a backend implements; conveniences stand above it ([`StorageExt`],
//! [`Uploader`]). Wrappers implement the same trait, wholly: [`RetryStorage`], [`LimitStorage`], [`FaultStorage`]. The
//! usual stack is limit around retry around a backend: waiting for a place is not taken for the store's silence, and a
//! request that waits for its next try keeps its place, which is what a store that asks to slow down wants.
//! What every backend must do is the suite in `conformance`.
//!
//! POSIX extras that a repository can use where they exist (links, empty directories) are behind [`Storage::posix`].

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod error;
mod ext;
pub mod fault;
mod limit;
mod local;
mod memory;
mod path;
mod range;
pub mod retry;
#[cfg(not(fuzzing))]
pub mod s3;
mod upload;
#[cfg(test)]
pub(crate) mod watched;

use std::fmt::{self, Debug};
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;

pub use error::{Attempt, ErrorClass, Operation, StorageError};
pub use ext::{LIST_ENTRIES_MAX, StorageExt};
pub use fault::FaultStorage;
pub use limit::LimitStorage;
pub use local::LocalStorage;
pub use memory::{ConditionSupport, MemoryOptions, MemoryStorage};
pub use path::{PathError, StoragePath};
pub use retry::RetryStorage;
pub use upload::Uploader;

/// The result of a storage operation, boxed so that the trait can be used as `dyn Storage`.
pub type StorageFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// The bytes of an object, in pieces of at most a few hundred KiB, in order.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, StorageError>> + Send>>;

/// The core that every backend implements. All paths are below the repository root.
///
/// Dropping a future cancels the operation; what it may have left behind is said at each method.
pub trait Storage: Debug + Send + Sync {
    /// What this backend can do, and the sizes it wants.
    fn capabilities(&self) -> Capabilities;

    /// Opens an object and reads `range` of it. `pin` demands that exact version: another one is a
    /// [`ErrorClass::Conflict`]. The stream ends with an error when fewer bytes arrive than the object has in the
    /// range; it never ends early in silence.
    ///
    /// # Errors
    /// [`ErrorClass::Missing`] only when the store positively says that there is no such object. A range that starts
    /// beyond the end of the object is [`ErrorClass::Permanent`].
    fn read<'a>(
        &'a self,
        path: &'a StoragePath,
        range: ByteRange,
        pin: Option<&'a ObjectVersion>,
    ) -> StorageFuture<'a, ObjectRead>;

    /// Size, time and version of an object or directory.
    ///
    /// # Errors
    /// [`ErrorClass::Missing`] as for [`Storage::read`].
    fn info<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ObjectInfo>;

    /// One page of the entries below directory `path`, in no promised order. A directory that does not exist has no
    /// entries.
    fn list_page<'a>(
        &'a self,
        path: &'a StoragePath,
        options: &'a ListOptions,
        page: Option<PageToken>,
    ) -> StorageFuture<'a, ListPage>;

    /// Writes a whole object: after success it is durable and complete under its name, after an error or a crash the
    /// name holds what it held before (or, when the answer was lost, the new object).
    ///
    /// A dropped future may have written the object or not.
    ///
    /// # Errors
    /// [`ErrorClass::Conflict`] when `condition` does not hold.
    fn put<'a>(
        &'a self,
        path: &'a StoragePath,
        body: Bytes,
        condition: Condition,
        durability: Durability,
    ) -> StorageFuture<'a, ObjectInfo>;

    /// Begins an object whose size is not known yet. Nothing is visible under `path`, and nothing is listed, until
    /// [`Storage::upload_complete`]. A dropped future may leave an upload that
    /// [`Storage::remove_stale_uploads`] finds.
    fn upload_create<'a>(&'a self, path: &'a StoragePath, durability: Durability) -> StorageFuture<'a, UploadId>;

    /// Adds the next part. Parts are sent in order, one at a time, and every part but the last has the size that
    /// [`Capabilities::part_size_bytes`] gives for its number. A part may be sent again after an error.
    fn upload_part<'a>(
        &'a self,
        path: &'a StoragePath,
        upload: &'a UploadId,
        part: UploadPart,
    ) -> StorageFuture<'a, PartTag>;

    /// Makes the object visible: durable (as [`Storage::upload_create`] was told) and complete, or an error.
    ///
    /// # Errors
    /// [`ErrorClass::Conflict`] when `condition` does not hold, [`ErrorClass::Missing`] when the store does not know
    /// the upload (any more): it was completed, aborted or never begun. An answer that says neither success nor
    /// failure is [`ErrorClass::Transient`].
    fn upload_complete<'a>(
        &'a self,
        path: &'a StoragePath,
        upload: &'a UploadId,
        parts: &'a [PartTag],
        condition: Condition,
    ) -> StorageFuture<'a, ObjectInfo>;

    /// Gives up an upload and removes what it stored. An upload that is not known any more is a success.
    fn upload_abort<'a>(&'a self, path: &'a StoragePath, upload: &'a UploadId) -> StorageFuture<'a, ()>;

    /// Removes an object. One that does not exist is a success.
    fn remove<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()>;

    /// Removes many objects; a missing one is a success. The answer lists each object that could not be removed.
    fn remove_many<'a>(&'a self, paths: &'a [StoragePath]) -> StorageFuture<'a, Vec<StorageError>>;

    /// Removes a directory and everything below it. One that does not exist is a success.
    fn remove_tree<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()>;

    /// Gives up unfinished uploads below `path` that were begun before `begun_before_s` (seconds since the Unix
    /// epoch) and that this program, or another copy of it, made; the number of them is returned (faults.md OS29).
    fn remove_stale_uploads<'a>(&'a self, path: &'a StoragePath, begun_before_s: i64) -> StorageFuture<'a, u64>;

    /// Makes every object written with [`Durability::Deferred`] durable. Nothing to do where every write is.
    ///
    /// # Errors
    /// After an error some of those objects may be lost although they can be read now; a second flush would not tell.
    fn flush(&self) -> StorageFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// The extras of a POSIX directory, where the backend is one.
    fn posix(&self) -> Option<&dyn PosixStorage> {
        None
    }
}

/// What only a directory on a POSIX file system can do (repository-format.md §1).
pub trait PosixStorage: Send + Sync {
    /// Creates a directory and its missing parents, mode 0750.
    fn create_directory<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()>;

    /// Puts a symbolic link with the text `target` at `path`, replacing a link that is there.
    fn symlink<'a>(&'a self, path: &'a StoragePath, target: &'a str) -> StorageFuture<'a, ()>;

    /// Gives the object at `existing` a second name (repo-hardlink), replacing an object that has the name.
    fn hard_link<'a>(&'a self, existing: &'a StoragePath, path: &'a StoragePath) -> StorageFuture<'a, ()>;

    /// Makes the entries of a directory durable.
    fn sync_directory<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()>;
}

/// What a backend can do, and the sizes it wants.
#[derive(Debug, Clone, Copy)]
pub struct Capabilities {
    /// Whether the backend has directories that exist on their own.
    pub directories: bool,
    /// Whether [`Condition`] is checked by the store itself.
    pub conditional_put: bool,
    /// The bytes of each part of an upload, by part number from 1; also the size up to which one `put` is used.
    pub part_size_bytes: fn(part_number: u32, base_bytes: usize) -> usize,
    /// The base for `part_size_bytes`: the size of the first parts.
    pub part_base_bytes: usize,
    /// Whether an [`ObjectVersion`] is one that the store keeps, so that users can be told which.
    pub kept_versions: bool,
}

/// A part of an object: from `offset`, `length` bytes or to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// Number of bytes; `None` is to the end. Fewer bytes than this in the object is an error.
    pub length: Option<u64>,
}

impl ByteRange {
    /// The whole object.
    pub const ALL: ByteRange = ByteRange { offset: 0, length: None };
}

/// An opaque version of an object's content (an ETag, or size, time and inode of a file).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectVersion(pub String);

/// An object opened for reading.
pub struct ObjectRead {
    /// The object, with the size of the whole (not of the range).
    pub info: ObjectInfo,
    /// The bytes of the range.
    pub body: ByteStream,
}

impl Debug for ObjectRead {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ObjectRead").field("info", &self.info).finish_non_exhaustive()
    }
}

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Kind of entry; always [`EntryKind::Object`] where the store has no directories.
    pub kind: EntryKind,
    /// Bytes in the object.
    pub size_bytes: u64,
    /// Last modification, seconds since the Unix epoch.
    pub modified_s: i64,
    /// The version, where the backend has one.
    pub version: Option<ObjectVersion>,
}

/// The kind of a listed entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// An object (a regular file).
    Object,
    /// A directory, or a common prefix.
    Directory,
    /// A symbolic link with this text.
    Link(String),
    /// A socket, FIFO or device.
    Special,
}

/// One listed entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path relative to the listed directory; a single name unless the listing recurses.
    pub name: String,
    /// Kind of entry.
    pub kind: EntryKind,
    /// Bytes, for an object.
    pub size_bytes: u64,
    /// Last modification, seconds since the Unix epoch; 0 where the store does not say (a common prefix).
    pub modified_s: i64,
    /// The version, where the store keeps several and the listing is of a time ([`Capabilities::kept_versions`]).
    pub version: Option<ObjectVersion>,
}

impl Entry {
    /// A directory without a time of its own, as object stores have them.
    pub fn directory(name: &str) -> Self {
        Self { name: name.to_owned(), kind: EntryKind::Directory, size_bytes: 0, modified_s: 0, version: None }
    }
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Everything below the directory, not only its own entries. Directories themselves are then not listed, except
    /// empty ones where the backend has them.
    pub recurse: bool,
    /// Only entries whose name begins with this literal text (no `/` in it).
    pub name_prefix: Option<String>,
}

/// Where the next page of a listing begins; opaque.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken(pub String);

/// One page of a listing.
#[derive(Debug, Clone, Default)]
pub struct ListPage {
    /// Entries of this page.
    pub entries: Vec<Entry>,
    /// The next page, if there is one.
    pub next: Option<PageToken>,
}

/// What must hold for a `put` to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Nothing: replace what is there.
    None,
    /// No object has this name yet.
    Absent,
    /// The object still has this version.
    Version(ObjectVersion),
    /// What never holds: a store that checks conditions refuses and changes nothing, one that ignores them writes. Tells
    /// the two apart by a write that is wanted anyway.
    Never,
}

/// When a written object must survive a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Before success is reported: info files, manifests, WAL.
    #[default]
    Now,
    /// After the next [`Storage::flush`]: the files of a backup, which count only with its manifest. One flush of a
    /// file system costs far less than one of each file.
    Deferred,
}

/// An unfinished upload; opaque.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadId(pub String);

/// One part of an upload.
#[derive(Debug, Clone)]
pub struct UploadPart {
    /// From 1.
    pub number: u32,
    /// Bytes of all parts before this one.
    pub offset: u64,
    /// The bytes.
    pub body: Bytes,
}

/// The store's receipt for a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartTag {
    /// Part number, from 1.
    pub number: u32,
    /// The receipt; opaque.
    pub tag: String,
}
