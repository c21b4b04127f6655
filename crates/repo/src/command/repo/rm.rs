//! `repo-rm`: removes a file or a directory, whatever it is. There is no way back, and nothing is asked.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::{EntryKind, ListOptions, Storage, StorageExt, StoragePath};

/// Removes what is at `path`; what is not there is removed. A directory must be empty unless `recurse` is set.
///
/// # Errors
/// [`ErrorKind::OptionInvalid`] for a directory with something in it, and the storage's.
pub async fn rm(storage: &dyn Storage, path: &StoragePath, recurse: bool) -> Result<()> {
    let kind = match path == &StoragePath::root() {
        true => Some(EntryKind::Directory),
        false => storage.info_optional(path).await?.map(|info| info.kind),
    };
    if let Some(EntryKind::Object | EntryKind::Link(_) | EntryKind::Special) = kind {
        return Ok(storage.remove(path).await?);
    }
    if !recurse && !storage.list_page(path, &ListOptions::default(), None).await?.entries.is_empty() {
        let message = "recurse option must be used to delete non-empty path";
        return Err(Error::new(ErrorKind::OptionInvalid, message));
    }
    Ok(storage.remove_tree(path).await?)
}
