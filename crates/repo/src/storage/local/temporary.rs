//! Temporary names: `<name>.<16 hex digits>.pgbackrest.tmp`.
//!
//! The end is the one that the original gives its own temporary files (`STORAGE_FILE_TEMP_EXT` in
//! `src/storage/write.intern.h`), so no expression of the original takes such a file for an object. The digits, the
//! process and a counter, let several writers of one name stand side by side, and tell our files from those of the
//! original and from a user's file in a backup that happens to have such a name.

use std::sync::atomic::Ordering;

use super::Inner;

const END: &str = ".pgbackrest.tmp";
const DIGITS: usize = 16;

/// The longest name that Linux file systems take.
const NAME_MAX_BYTES: usize = 255;

impl Inner {
    /// A temporary name for `name`, another one at each call.
    pub(super) fn temporary_name(&self, name: &str) -> String {
        let counter = self.temporary_counter.fetch_add(1, Ordering::Relaxed);
        let mut keep = name.len().min(NAME_MAX_BYTES - 1 - DIGITS - END.len());
        while !name.is_char_boundary(keep) {
            keep -= 1;
        }
        let begin = name.get(..keep).unwrap_or_default();
        format!("{begin}.{:08x}{counter:08x}{END}", rustix::process::getpid().as_raw_nonzero())
    }
}

/// Whether a file is one of our temporary files.
pub(super) fn is_temporary(name: &str) -> bool {
    let Some((_, digits)) = name.strip_suffix(END).and_then(|rest| rest.rsplit_once('.')) else { return false };
    digits.len() == DIGITS && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::LocalStorage;

    #[test]
    fn temporary_names_differ_and_are_known_again() {
        let storage = LocalStorage::new("/nowhere");
        let long = "ä".repeat(127);
        for name in ["backup.info", long.as_str()] {
            let temporary = storage.inner.temporary_name(name);
            assert!(is_temporary(&temporary), "{temporary}");
            assert!(temporary.len() <= NAME_MAX_BYTES);
            assert_ne!(temporary, storage.inner.temporary_name(name));
        }
    }

    #[test]
    fn files_of_others_are_not_ours() {
        for name in ["a.pgbackrest.tmp", "a.0123.pgbackrest.tmp", "a.0123456789ABCDEF.pgbackrest.tmp", "a"] {
            assert!(!is_temporary(name), "{name}");
        }
    }
}
