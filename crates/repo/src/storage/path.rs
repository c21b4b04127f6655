//! [`StoragePath`]: a path below the repository root that cannot leave it.

use std::fmt;

/// A path relative to the repository root: names joined by `/`, never empty names, never `.` or `..`, no NUL.
/// The root itself is the empty path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StoragePath(String);

/// A text is not a storage path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a path below the repository: {reason}")]
pub struct PathError {
    text: String,
    reason: &'static str,
}

impl StoragePath {
    /// The repository root.
    pub fn root() -> Self {
        Self::default()
    }

    /// Parses `text`, relative and without a leading or trailing `/`.
    ///
    /// # Errors
    /// [`PathError`] for an empty name, `.`, `..`, a NUL byte or an absolute path.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let fail = |reason| PathError { text: text.escape_debug().take(200).collect(), reason };
        if text.is_empty() {
            return Ok(Self::root());
        }
        for name in text.split('/') {
            match name {
                "" => return Err(fail("it has an empty name, or begins or ends with a slash")),
                "." | ".." => return Err(fail("it has a relative name")),
                _ if name.contains('\0') => return Err(fail("it has a NUL byte")),
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// This path with `below` added to it.
    ///
    /// # Errors
    /// [`PathError`] as for [`StoragePath::parse`].
    pub fn join(&self, below: &str) -> Result<Self, PathError> {
        let below = Self::parse(below)?;
        Ok(match (self.0.is_empty(), below.0.is_empty()) {
            (true, _) => below,
            (_, true) => self.clone(),
            _ => Self(format!("{}/{}", self.0, below.0)),
        })
    }

    /// The directory that holds this entry; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        Some(Self(self.0.rsplit_once('/').map_or(String::new(), |(parent, _)| parent.to_owned())))
    }

    /// The last name; empty for the root.
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// Whether `name`, a path as text, lies below this directory.
    pub fn contains(&self, name: &str) -> bool {
        self.0.is_empty() || name.strip_prefix(&self.0).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The path as text, `/` between names.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StoragePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hi04_sec09_a_path_never_leaves_the_root() {
        for bad in ["/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/.", "a\0b"] {
            assert!(StoragePath::parse(bad).is_err(), "{bad:?} was accepted");
            assert!(StoragePath::root().join(bad).is_err(), "{bad:?} was joined");
        }
    }

    #[test]
    fn joins_and_splits() {
        let path = StoragePath::parse("archive/demo").unwrap().join("archive.info").unwrap();
        assert_eq!(path.as_str(), "archive/demo/archive.info");
        assert_eq!(path.file_name(), "archive.info");
        assert_eq!(path.parent().unwrap().as_str(), "archive/demo");
        assert_eq!(StoragePath::parse("a").unwrap().parent(), Some(StoragePath::root()));
        assert_eq!(StoragePath::root().parent(), None);
    }
}
