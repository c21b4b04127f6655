//! A Secret as the kubelet mounts it into a container.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use crate::user;

/// The volume with the Secret `keys`: the files are behind two links, and a change puts all of them in place at once (Kubernetes:
/// `AtomicWriter`).
#[derive(Debug)]
pub struct Mounted {
    folder: TempDir,
    keys: Mutex<(u32, BTreeMap<String, Vec<u8>>)>,
}

impl Mounted {
    /// The Secret with these keys.
    ///
    /// # Panics
    /// When the files cannot be written.
    pub fn new(keys: &[(&str, &[u8])]) -> Self {
        let keys = keys.iter().map(|(key, value)| ((*key).to_owned(), value.to_vec())).collect();
        let mounted = Self { folder: user::scratch().expect("a folder"), keys: Mutex::new((0, keys)) };
        mounted.change(|_| {});
        mounted
    }

    /// The folder that is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Gives a key this value, and tells the earlier one.
    pub fn set(&self, key: &str, value: &[u8]) -> Option<Vec<u8>> {
        self.change(|keys| keys.insert(key.to_owned(), value.to_vec()))
    }

    /// Takes a key away, and tells its value.
    pub fn remove(&self, key: &str) -> Option<Vec<u8>> {
        self.change(|keys| keys.remove(key))
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T) -> T {
        let mut held = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, keys) = &mut *held;
        let outcome = change(keys);
        *number += 1;
        self.write(&format!("..{number}"), keys).expect("the files of a Secret");
        outcome
    }

    fn write(&self, name: &str, keys: &BTreeMap<String, Vec<u8>>) -> std::io::Result<()> {
        let root = self.folder.path();
        let before = fs::read_link(root.join("..data")).ok();
        fs::create_dir_all(root.join(name).join("keys"))?;
        for (key, value) in keys {
            fs::write(root.join(name).join("keys").join(key), value)?;
        }
        symlink(name, root.join("..data_tmp"))?;
        fs::rename(root.join("..data_tmp"), root.join("..data"))?;
        match before {
            None => symlink("..data/keys", root.join("keys")),
            Some(before) => fs::remove_dir_all(root.join(before)),
        }
    }
}
