//! Where the tests put their files: in memory, where there is enough of it.
//!
//! They make and remove files all the time, and ext4 keeps away from the places of files that it has just removed by looking
//! at each of them whenever it makes another: two fifths of the processor time of a run went there. What a directory does is
//! the same; that written bytes survive a power failure no test can see.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statfs, statvfs};

/// Where Linux has a file system in memory for everybody.
const IN_MEMORY: &str = "/dev/shm";

/// Begins the names of our folders there; the number of the process follows. Short, since paths of sockets are.
const PREFIX: &str = "pgbr.";

/// What must be free, of the file system and of memory. A run takes less than half of it at any moment.
const FREE_BYTES_MIN: u64 = 6 << 30;

/// `TMPFS_MAGIC` of Linux.
const TMPFS: i64 = 0x0102_1994;

/// A folder for temporary files, removed in the end.
#[derive(Debug)]
pub(crate) struct Scratch(Option<PathBuf>);

impl Scratch {
    /// A folder in memory, or none where that is no good place: then the system's own folder is used.
    pub(crate) fn new() -> Self {
        let parent = Path::new(IN_MEMORY);
        remove_forsaken(parent);
        if std::env::var_os("TMPDIR").is_some() || !is_good(parent) {
            return Self(None);
        }
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        let made = fs::create_dir(&path).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o1777)));
        Self(made.is_ok().then_some(path))
    }

    /// The folder, if it is not the system's.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // What is left is removed by the next run.
            drop(fs::remove_dir_all(path));
        }
    }
}

/// Whether programs may run there, and there is room.
fn is_good(parent: &Path) -> bool {
    let (Ok(kind), Ok(state)) = (statfs(parent), statvfs(parent)) else { return false };
    let free_bytes = state.f_bavail.saturating_mul(state.f_frsize);
    kind.f_type == TMPFS
        && !state.f_flag.contains(StatVfsMountFlags::NOEXEC)
        && free_bytes >= FREE_BYTES_MIN
        && available_bytes().is_some_and(|available| available >= FREE_BYTES_MIN)
}

/// The memory that can be taken without swapping, as the kernel estimates it.
fn available_bytes() -> Option<u64> {
    let lines = BufReader::new(File::open("/proc/meminfo").ok()?).lines();
    let line = lines.map_while(Result::ok).find(|line| line.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Removes the folders of runs that were killed.
fn remove_forsaken(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|id| id.parse::<u32>().ok());
        let is_gone = |id| fs::symlink_metadata(format!("/proc/{id}")).is_err();
        if process.is_some_and(is_gone) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_runs_that_are_gone_are_removed_and_no_others() {
        let parent = tempfile::tempdir().unwrap();
        let own = format!("{PREFIX}{}", std::process::id());
        // Numbers end far below this.
        let gone = format!("{PREFIX}{}", u32::MAX);
        for name in [own.as_str(), &gone, "pgbr.other", "other"] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        remove_forsaken(parent.path());
        let mut left: Vec<_> = fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        let mut expected = [own.as_str(), "pgbr.other", "other"].map(std::ffi::OsString::from);
        expected.sort();
        assert_eq!(left, expected);
        assert!(available_bytes().is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn a_folder_goes_with_the_run() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("run");
        fs::create_dir_all(path.join("below")).unwrap();
        drop(Scratch(Some(path.clone())));
        assert!(fs::symlink_metadata(&path).is_err());
    }
}
