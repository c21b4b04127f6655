//! The one error of the cluster directory: which path, what was tried, and what kind of failure it was.

use std::fmt;

use rustix::io::Errno;

/// What kind of failure it was. The number in each line is pgBackRest's error code (`src/build/error/error.yaml`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PgDataErrorKind {
    /// A tablespace link has no tablespace in the server's list (25).
    UnknownTablespace,
    /// A name or content that cannot be stored or restored (29).
    Format,
    /// A running server owns the data directory (38).
    Running,
    /// A destination that must be empty is not (40).
    NotEmpty,
    /// A file cannot be opened or asked for its attributes (41).
    FileOpen,
    /// A path that should be a regular file or a directory is now something else (41).
    ChangedType,
    /// Reading a file or a link failed (42).
    FileRead,
    /// A directory cannot be created (47).
    PathCreate,
    /// Making a file durable failed (52).
    FileSync,
    /// A directory cannot be opened, or not used by the current user (53).
    PathOpen,
    /// Making a directory or file system durable failed (54).
    PathSync,
    /// A file that must exist does not (55).
    FileMissing,
    /// A file or link cannot be removed (60).
    FileRemove,
    /// A directory cannot be removed (61).
    PathRemove,
    /// Writing a file failed, other than for lack of room (64).
    FileWrite,
    /// No room is left on the file system, or the quota is used up (64).
    NoSpace,
    /// Something other than a symbolic link stands where only links belong (69).
    LinkExpected,
    /// A link leads where it must not (70).
    LinkDestination,
    /// A directory that must exist does not (73).
    PathMissing,
    /// A file cannot be renamed (74).
    FileMove,
    /// A tablespace cannot be mapped as asked (76).
    TablespaceMap,
    /// A link cannot be mapped as asked (78).
    LinkMap,
    /// A mode cannot be set (83).
    FileMode,
    /// An owner cannot be set (88).
    FileOwner,
    /// A file that must not exist does (93).
    FileExists,
    /// A time cannot be set (98).
    FileInfo,
}

/// An operation on the cluster directory failed.
#[derive(Debug, Clone)]
pub struct PgDataError(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: PgDataErrorKind,
    path: Vec<u8>,
    message: String,
    errno: Option<Errno>,
}

impl PgDataError {
    /// A refusal by our own rules. `message` names the path where it helps, lower case, no full stop.
    pub fn new(kind: PgDataErrorKind, path: &[u8], message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, path: path.to_vec(), message: message.into(), errno: None }))
    }

    /// The system refused `action` (such as "open file") on `path`.
    pub fn system(kind: PgDataErrorKind, action: &str, path: &[u8], errno: Errno) -> Self {
        let kind = match errno {
            Errno::NOSPC | Errno::DQUOT => PgDataErrorKind::NoSpace,
            _ => kind,
        };
        let message = format!("unable to {action} '{}': {errno}", DisplayPath(path));
        Self(Box::new(Inner { kind, path: path.to_vec(), message, errno: Some(errno) }))
    }

    /// Something does not exist that had to.
    pub(crate) fn missing(kind: PgDataErrorKind, path: &[u8], message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, path: path.to_vec(), message: message.into(), errno: Some(Errno::NOENT) }))
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> PgDataErrorKind {
        self.0.kind
    }

    /// The path it is about: a name in a manifest or a path of the file system, as in the message.
    pub fn path(&self) -> &[u8] {
        &self.0.path
    }

    /// The system's own error, if one caused it.
    pub fn errno(&self) -> Option<Errno> {
        self.0.errno
    }
}

impl fmt::Display for PgDataError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.message)
    }
}

impl std::error::Error for PgDataError {}

/// A path of any bytes as text for messages: what is not UTF-8 becomes the replacement character and control
/// characters are escaped, so that a name cannot forge a log line.
#[derive(Debug, Clone, Copy)]
pub struct DisplayPath<'a>(pub &'a [u8]);

impl fmt::Display for DisplayPath<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in String::from_utf8_lossy(self.0).chars() {
            if character.is_control() {
                write!(formatter, "{}", character.escape_default())?;
            } else {
                write!(formatter, "{character}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_path_and_cannot_be_forged() {
        let error = PgDataError::system(PgDataErrorKind::FileOpen, "open file", b"a\nb\xff\xc3\xa4", Errno::ACCESS);
        assert_eq!(error.to_string(), "unable to open file 'a\\nb\u{fffd}ä': Permission denied (os error 13)");
        assert_eq!(error.path(), b"a\nb\xff\xc3\xa4");
        assert_eq!(error.kind(), PgDataErrorKind::FileOpen);
    }

    #[test]
    fn a_full_disk_is_its_own_kind() {
        let error = PgDataError::system(PgDataErrorKind::PathCreate, "create directory", b"x", Errno::NOSPC);
        assert_eq!(error.kind(), PgDataErrorKind::NoSpace);
    }
}
