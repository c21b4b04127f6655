//! One installer at a time, across processes.

use std::fs::{self, File, OpenOptions};

use crate::error::{Context, Result};

/// Held until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Waits until nobody else holds the lock of this name.
///
/// The system frees it when its holder ends, however it ends.
///
/// # Errors
/// When the lock file cannot be made.
pub fn exclusive(name: &str) -> Result<Lock> {
    let folder = super::root()?.join("locks");
    fs::create_dir_all(&folder).context("create folder", &folder)?;
    let path = folder.join(name);
    let file = OpenOptions::new().create(true).append(true).open(&path).context("open", &path)?;
    file.lock().context("lock", &path)?;
    Ok(Lock { _file: file })
}
