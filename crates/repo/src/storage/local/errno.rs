//! What a system call's error number means for a repository.

use rustix::io::Errno;

use crate::storage::{ErrorClass, Operation, StorageError, StoragePath};

/// The failure of `operation` on `path`; `step` says what was being done.
pub(super) fn failure(operation: Operation, path: &StoragePath, step: &str, errno: Errno) -> StorageError {
    let detail = match errno {
        Errno::LOOP => format!("{step}: a symbolic link is in the way, and none is followed within a repository"),
        Errno::NOTDIR => format!("{step}: a file stands where a directory is expected"),
        _ => format!("{step}: {}", std::io::Error::from(errno)),
    };
    StorageError::new(class(errno), operation, path, detail)
}

/// The failure to make something durable. Never worth a second try: the kernel may have dropped the bytes it could not
/// write, and would then report the next sync as a success.
pub(super) fn sync_failure(path: &StoragePath, step: &str, errno: Errno) -> StorageError {
    let class = match class(errno) {
        lasting @ (ErrorClass::NoSpace | ErrorClass::Denied) => lasting,
        _ => ErrorClass::Permanent,
    };
    StorageError::new(class, Operation::Write, path, format!("{step}: {}", std::io::Error::from(errno)))
}

/// Whether nothing has the path. A file in the place of one of its directories is no answer to that: somebody moved the
/// repository away, or points into the wrong place, and what was there is unknown.
pub(super) fn is_absent(errno: Errno) -> bool {
    errno == Errno::NOENT
}

fn class(errno: Errno) -> ErrorClass {
    match errno {
        _ if is_absent(errno) => ErrorClass::Missing,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => ErrorClass::Denied,
        Errno::NOSPC | Errno::DQUOT => ErrorClass::NoSpace,
        // Network file systems and a process out of handles or memory: may pass.
        Errno::INTR
        | Errno::AGAIN
        | Errno::BUSY
        | Errno::STALE
        | Errno::TIMEDOUT
        | Errno::MFILE
        | Errno::NFILE
        | Errno::NOMEM
        | Errno::NOTEMPTY => ErrorClass::Transient,
        _ => ErrorClass::Permanent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os33_a_full_disk_and_a_full_quota_are_no_space() {
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            let error = failure(Operation::Write, &StoragePath::parse("a/b").unwrap(), "write", errno);
            assert_eq!(error.class(), ErrorClass::NoSpace);
            assert!(error.to_string().contains("'a/b'"), "{error}");
            assert_eq!(sync_failure(&StoragePath::root(), "sync", errno).class(), ErrorClass::NoSpace);
        }
    }

    #[test]
    fn only_absence_is_missing() {
        let classes =
            [Errno::ACCESS, Errno::IO, Errno::LOOP, Errno::NOTDIR, Errno::STALE, Errno::NAMETOOLONG].map(class);
        assert!(!classes.contains(&ErrorClass::Missing));
        assert_eq!(class(Errno::NOENT), ErrorClass::Missing);
        assert_eq!(class(Errno::ACCESS), ErrorClass::Denied);
    }

    #[test]
    fn a_failed_sync_is_not_tried_again() {
        assert_eq!(sync_failure(&StoragePath::root(), "sync", Errno::STALE).class(), ErrorClass::Permanent);
    }
}
