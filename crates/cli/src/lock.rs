//! The original's lock and stop files (repository-behaviour.md §0.2, §0.3), so that ours and stock exclude each other on
//! one host: `<lock-path>/<stanza>-<type>-<repo key>.lock`, held by `flock`, with a line of JSON for other processes.
//!
//! A file that is left behind is harmless: who holds the lock is decided by `flock` alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgbr_repo::error::{Error, ErrorKind, Result};
use pgbr_repo::progress::Progress;
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

/// What a lock protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockType {
    /// Asynchronous archiving.
    Archive,
    /// Backup, expire and annotate.
    Backup,
    /// Restore.
    Restore,
}

impl LockType {
    /// All of them: the stanza commands.
    pub const ALL: [LockType; 3] = [LockType::Archive, LockType::Backup, LockType::Restore];

    fn name(self) -> &'static str {
        match self {
            LockType::Archive => "archive",
            LockType::Backup => "backup",
            LockType::Restore => "restore",
        }
    }
}

/// More than any lock file has; a longer one is not ours.
const CONTENT_BYTES_MAX: u64 = 4096;

/// How often the content of a lock file is read until it is complete, and the wait in between.
const CONTENT_READS_MAX: u32 = 5;
const CONTENT_WAIT: Duration = Duration::from_millis(4);

/// Locks held by this process; released, and their files removed, on drop.
#[derive(Debug)]
pub struct Locks {
    exec_id: String,
    held: Vec<(PathBuf, File)>,
    /// Progress last written, in hundredths of a per cent.
    written: Option<u64>,
}

impl Locks {
    /// Takes the locks of `types` for each repository of the stanza, or none.
    pub fn acquire(
        lock_path: &Path,
        stanza: &str,
        types: &[LockType],
        repo_keys: &[u32],
        exec_id: &str,
    ) -> Result<Self> {
        Self::take(lock_path, stanza, types, repo_keys, exec_id)?.map_err(|path| {
            Error::new(
                ErrorKind::LockAcquire,
                format!("unable to acquire lock on file '{}': {}", path.display(), io::Error::from(Errno::WOULDBLOCK)),
            )
            .hint("is another pgbr or pgBackRest process running?")
        })
    }

    /// As [`Locks::acquire`]; `None` when another process holds one of them.
    pub fn try_acquire(
        lock_path: &Path,
        stanza: &str,
        types: &[LockType],
        repo_keys: &[u32],
        exec_id: &str,
    ) -> Result<Option<Self>> {
        Ok(Self::take(lock_path, stanza, types, repo_keys, exec_id)?.ok())
    }

    /// The locks, or the file of the first that another process holds.
    fn take(
        lock_path: &Path,
        stanza: &str,
        types: &[LockType],
        repo_keys: &[u32],
        exec_id: &str,
    ) -> Result<Result<Self, PathBuf>> {
        let mut locks = Self { exec_id: exec_id.to_owned(), held: Vec::new(), written: None };
        for lock_type in types {
            for key in repo_keys {
                let path = file_path(lock_path, stanza, *lock_type, *key);
                match acquire_one(&path)? {
                    Some(file) => locks.held.push((path, file)),
                    None => return Ok(Err(path)),
                }
            }
        }
        locks.write(None)?;
        Ok(Ok(locks))
    }

    /// Lets go and leaves the files where they are, for a process that will take them again. Between each removal and the next
    /// lock another process of the original could lock a file that has no name any more, beside whoever makes a new one.
    pub fn leave(mut self) {
        self.held.clear();
    }

    /// Says how far the command is, as `info` shows it; written when it moved by at least a tenth of a per cent.
    pub fn progress(&mut self, progress: Progress) {
        let total = u128::from(progress.total_bytes.max(1));
        let percent = u64::try_from(u128::from(progress.done_bytes) * 10_000 / total).unwrap_or(10_000);
        if self.written.is_none_or(|written| percent >= written.saturating_add(10)) {
            self.written = Some(percent);
            // Whoever reads the file sees old progress; the command itself is not harmed.
            drop(self.write(Some((percent, progress))));
        }
    }

    /// Says nothing about progress any more: another command goes on under the same lock.
    pub fn forget_progress(&mut self) {
        self.written = None;
        drop(self.write(None));
    }

    fn write(&mut self, progress: Option<(u64, Progress)>) -> Result<()> {
        let pid = std::process::id();
        let exec_id = serde_json::Value::from(self.exec_id.as_str());
        let content = match progress {
            None => format!("{{\"execId\":{exec_id},\"pid\":{pid}}}"),
            Some((percent, Progress { done_bytes, total_bytes })) => format!(
                "{{\"execId\":{exec_id},\"pctCplt\":{percent},\"pid\":{pid},\"sz\":{total_bytes},\"szCplt\":{done_bytes}}}"
            ),
        };
        for (path, file) in &mut self.held {
            rewrite(file, content.as_bytes()).map_err(|error| {
                Error::new(ErrorKind::FileWrite, format!("unable to write '{}': {error}", path.display()))
            })?;
        }
        Ok(())
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        for (path, _file) in &self.held {
            // Removed while it is still held, so that nobody can have taken it in between.
            drop(fs::remove_file(path));
        }
    }
}

/// What another process says of itself in a lock that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Process number, if it says so.
    pub pid: Option<i32>,
    /// The run that it belongs to.
    pub exec_id: String,
    /// How far it is, if it says so.
    pub progress: Option<Progress>,
}

/// Whether a lock is held, and what its holder says. A file that cannot be opened counts as held by nobody; one that is
/// held and says nothing is held.
pub fn holder(lock_path: &Path, stanza: &str, lock_type: LockType, repo_key: u32) -> Option<Held> {
    holder_of(&file_path(lock_path, stanza, lock_type, repo_key))
}

/// As [`holder`], for a file of the lock directory.
pub fn holder_of(path: &Path) -> Option<Held> {
    let file = OpenOptions::new().read(true).custom_flags(no_follow()).open(path).ok()?;
    // Shared, so that two that look at the same time do not take each other for the holder.
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    // The holder empties the file before it writes it anew.
    let content = (0..CONTENT_READS_MAX).find_map(|read| {
        if read > 0 {
            std::thread::sleep(CONTENT_WAIT);
        }
        read_content(&file)
    });
    // What is no lock file of this kind counts as held by nobody, as in the original; an empty one is about to be written.
    if content.is_none() && file.metadata().ok()?.len() > 0 {
        return None;
    }
    let number = |key: &str| content.as_ref()?.get(key).and_then(serde_json::Value::as_u64);
    let progress = match (number("sz"), number("szCplt")) {
        (Some(total_bytes), Some(done_bytes)) => Some(Progress { done_bytes, total_bytes }),
        _ => None,
    };
    let exec_id = content.as_ref().and_then(|content| content.get("execId")?.as_str());
    let exec_id = exec_id.unwrap_or_default().to_owned();
    Some(Held { pid: number("pid").and_then(|pid| i32::try_from(pid).ok()), exec_id, progress })
}

fn read_content(file: &File) -> Option<serde_json::Value> {
    let mut content = String::new();
    let mut file = file;
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(CONTENT_BYTES_MAX).read_to_string(&mut content).ok()?;
    serde_json::from_str(&content).ok()
}

/// Fails when a stop file forbids the command.
pub fn test_stop(lock_path: &Path, stanza: Option<&str>) -> Result<()> {
    if let Some(stanza) = stanza
        && is_there(&stop_file(lock_path, Some(stanza)))?
    {
        return Err(Error::new(ErrorKind::Stop, format!("stop file exists for stanza {stanza}")));
    }
    if is_there(&stop_file(lock_path, None))? {
        return Err(Error::new(ErrorKind::Stop, "stop file exists for all stanzas"));
    }
    Ok(())
}

/// The stop file of a stanza, or of all.
pub fn stop_file(lock_path: &Path, stanza: Option<&str>) -> PathBuf {
    lock_path.join(format!("{}.stop", stanza.unwrap_or("all")))
}

/// Whether there is an entry; any other answer than yes or no is an error.
pub fn is_there(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => {
            Err(Error::new(ErrorKind::FileInfo, format!("unable to get info for '{}': {error}", path.display())))
        }
    }
}

/// Removes a file of the lock directory; whether it was there.
pub fn remove_if_there(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::new(ErrorKind::FileRemove, format!("unable to remove '{}': {error}", path.display()))),
    }
}

/// Creates the lock directory with the mode that the original gives it.
pub fn create_directory(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o770).create(path).map_err(|error| {
        Error::new(ErrorKind::PathCreate, format!("unable to create path '{}': {error}", path.display()))
    })
}

fn file_path(lock_path: &Path, stanza: &str, lock_type: LockType, repo_key: u32) -> PathBuf {
    lock_path.join(format!("{stanza}-{}-{repo_key}.lock", lock_type.name()))
}

/// The file with its lock; `None` when another process holds it.
fn acquire_one(path: &Path) -> Result<Option<File>> {
    let fail = |error: io::Error, hint: Option<String>| {
        let failed =
            Error::new(ErrorKind::LockAcquire, format!("unable to acquire lock on file '{}': {error}", path.display()));
        match hint {
            Some(hint) => failed.hint(hint),
            None => failed,
        }
    };
    let open =
        || OpenOptions::new().read(true).write(true).create(true).mode(0o640).custom_flags(no_follow()).open(path);
    loop {
        let opened = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_directory(path.parent().unwrap_or(Path::new("/")))?;
                open()
            }
            opened => opened,
        };
        let file = opened.map_err(|error| {
            let hint = (error.kind() == io::ErrorKind::PermissionDenied)
                .then(|| format!("does the user running pgbr have permissions on the '{}' file?", path.display()));
            fail(error, hint)
        })?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // Its last holder removed it before it let go, between our opening and our lock: that file excludes nobody.
            Ok(()) if !is_same_file(path, &file) => {}
            Ok(()) => return Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(fail(errno.into(), None)),
        }
    }
}

/// Whether the name still leads to the opened file.
fn is_same_file(path: &Path, file: &File) -> bool {
    match (fs::symlink_metadata(path), file.metadata()) {
        (Ok(named), Ok(opened)) => named.dev() == opened.dev() && named.ino() == opened.ino(),
        _ => false,
    }
}

fn rewrite(file: &mut File, content: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(content)?;
    // Not before: a reader would find nothing.
    file.set_len(content.len() as u64)
}

/// A link planted in a shared directory is not followed (faults.md HI17).
fn no_follow() -> i32 {
    i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_sees_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let mut first = Locks::acquire(&path, "demo", &[LockType::Backup], &[1, 3], "1-2").unwrap();
        let second = Locks::acquire(&path, "demo", &[LockType::Backup], &[3], "3-4").unwrap_err();
        assert_eq!(second.kind(), ErrorKind::LockAcquire);
        first.progress(Progress { done_bytes: 1, total_bytes: 4 });
        let held = holder(&path, "demo", LockType::Backup, 3).unwrap();
        assert_eq!(held.progress, Some(Progress { done_bytes: 1, total_bytes: 4 }));
        let text = fs::read_to_string(path.join("demo-backup-1.lock")).unwrap();
        assert!(text.starts_with("{\"execId\":\"1-2\",\"pctCplt\":2500,\"pid\":"), "{text}");
        fs::write(path.join("demo-backup-3.lock"), "damaged").unwrap();
        assert_eq!(holder(&path, "demo", LockType::Backup, 3), None);
        // Caught between two writes: held all the same.
        fs::write(path.join("demo-backup-3.lock"), "").unwrap();
        assert_eq!(
            holder(&path, "demo", LockType::Backup, 3),
            Some(Held { pid: None, exec_id: String::new(), progress: None })
        );
        drop(first);
        assert_eq!(holder(&path, "demo", LockType::Backup, 3), None);
        drop(Locks::acquire(&path, "demo", &LockType::ALL, &[1], "5-6").unwrap());
    }

    /// A file that its holder removes between another's opening and locking of it excludes nobody.
    #[test]
    fn tc04_of_many_that_take_turns_one_holds_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let (holders, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    // As many tries as it takes: the faster the file system, the more of them fail within a turn.
                    for _ in 0..1_000_000 {
                        if turns.load(Ordering::SeqCst) >= 400 {
                            break;
                        }
                        let taken = Locks::try_acquire(directory.path(), "demo", &[LockType::Archive], &[1], "1-2");
                        let Some(locks) = taken.unwrap() else { continue };
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        turns.fetch_add(1, Ordering::SeqCst);
                        // Long enough for another to make a new file.
                        std::thread::sleep(Duration::from_micros(50));
                        holders.fetch_sub(1, Ordering::SeqCst);
                        drop(locks);
                    }
                });
            }
        });
        assert!(turns.into_inner() >= 400, "nobody got the lock any more");
    }

    #[test]
    fn a_lock_that_was_left_keeps_its_file_and_nobody_out() {
        let directory = tempfile::tempdir().unwrap();
        let take = || Locks::try_acquire(directory.path(), "demo", &[LockType::Archive], &[1], "1-2").unwrap();
        let file = directory.path().join("demo-archive-1.lock");
        take().unwrap().leave();
        assert!(file.is_file() && holder_of(&file).is_none());
        let again = take().unwrap();
        assert!(take().is_none());
        drop(again);
        assert!(fs::symlink_metadata(&file).is_err());
    }

    #[test]
    fn hi17_sec08_a_planted_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let canary = directory.path().join("canary");
        fs::write(&canary, "untouched").unwrap();
        std::os::unix::fs::symlink(&canary, directory.path().join("demo-backup-1.lock")).unwrap();
        assert!(Locks::acquire(directory.path(), "demo", &[LockType::Backup], &[1], "1-2").is_err());
        assert_eq!(fs::read_to_string(&canary).unwrap(), "untouched");
    }

    #[test]
    fn stop_files_forbid_one_stanza_or_all() {
        let directory = tempfile::tempdir().unwrap();
        test_stop(directory.path(), Some("demo")).unwrap();
        fs::write(stop_file(directory.path(), Some("demo")), "").unwrap();
        assert_eq!(test_stop(directory.path(), Some("demo")).unwrap_err().kind(), ErrorKind::Stop);
        test_stop(directory.path(), Some("other")).unwrap();
        fs::write(stop_file(directory.path(), None), "").unwrap();
        assert_eq!(test_stop(directory.path(), Some("other")).unwrap_err().kind(), ErrorKind::Stop);
    }
}
