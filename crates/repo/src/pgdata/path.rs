//! Paths as bytes: those below a directory handle, which cannot leave it, and absolute ones, lexically resolved.

use super::error::{DisplayPath, PgDataError, PgDataErrorKind};

/// The longest path that is accepted, as PATH_MAX of Linux without the final zero byte.
const PATH_MAX_BYTES: usize = 4095;

/// A path below a directory: names joined by `/`, none empty, none `.` or `..`, no NUL. The directory itself is the
/// empty path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RelativePath(Vec<u8>);

impl RelativePath {
    /// The directory itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// Parses `path`.
    ///
    /// # Errors
    /// [`PgDataErrorKind::Format`] when a name is empty, `.` or `..`, when there is a NUL byte, or when the path is
    /// longer than the system accepts.
    pub fn parse(path: &[u8]) -> Result<Self, PgDataError> {
        let refuse = |reason: &str| {
            let message = format!("invalid path '{}': {reason}", DisplayPath(path));
            Err(PgDataError::new(PgDataErrorKind::Format, path, message))
        };
        if path.is_empty() {
            return Ok(Self::root());
        }
        if path.len() > PATH_MAX_BYTES {
            return refuse("it is too long");
        }
        for name in path.split(|&byte| byte == b'/') {
            match name {
                b"" => return refuse("it has an empty name, or begins or ends with a slash"),
                b"." | b".." => return refuse("it has a relative name"),
                _ if name.contains(&0) => return refuse("it has a NUL byte"),
                _ => {}
            }
        }
        Ok(Self(path.to_vec()))
    }

    /// This path with one name below it.
    ///
    /// # Errors
    /// As for [`RelativePath::parse`].
    pub fn join(&self, name: &[u8]) -> Result<Self, PgDataError> {
        let below = Self::parse(name)?;
        if self.0.is_empty() {
            return Ok(below);
        }
        Self::parse(&[&self.0, &b"/"[..], &below.0].concat())
    }

    /// The directory that holds the entry, and its name there; `None` for the root.
    pub fn split(&self) -> Option<(Self, &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => Some((Self(self.0.get(..slash)?.to_vec()), self.0.get(slash + 1..)?)),
            None => Some((Self::root(), &self.0)),
        }
    }

    /// The names from the top.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
    }

    /// The bytes, names joined by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is the directory itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

/// The absolute path that `text`, found in a link in the absolute directory `base`, stands for. Decided by the text
/// alone, as pgBackRest does (`strPathAbsolute()`); an absolute text with `..` or an empty name is refused.
///
/// # Errors
/// [`PgDataErrorKind::LinkDestination`] when `text` is empty, when it climbs above the root, or holds a NUL.
pub fn absolute(text: &[u8], base: &[u8]) -> Result<Vec<u8>, PgDataError> {
    let refuse = |reason: &str| {
        let message = format!("invalid link destination '{}' in '{}': {reason}", DisplayPath(text), DisplayPath(base));
        PgDataError::new(PgDataErrorKind::LinkDestination, text, message)
    };
    if text.contains(&0) || base.contains(&0) {
        return Err(refuse("it has a NUL byte"));
    }
    let is_absolute = text.starts_with(b"/");
    if !is_absolute && !base.starts_with(b"/") {
        return Err(refuse("the directory of the link is not absolute"));
    }
    let mut names: Vec<&[u8]> = if is_absolute {
        Vec::new()
    } else {
        base.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect()
    };
    let body = text.strip_prefix(b"/").unwrap_or(text);
    let body = body.strip_suffix(b"/").unwrap_or(body);
    for name in body.split(|&byte| byte == b'/') {
        match name {
            b"" if body.is_empty() => {}
            b"" => return Err(refuse("it has an empty name")),
            b"." => {}
            b".." if is_absolute => return Err(refuse("an absolute path must not climb")),
            b".." => {
                names.pop().ok_or_else(|| refuse("it climbs above the root"))?;
            }
            _ => names.push(name),
        }
    }
    let path = [&b"/"[..], &names.join(&b'/')].concat();
    if path.len() > PATH_MAX_BYTES { Err(refuse("it is too long")) } else { Ok(path) }
}

/// The directory part of a path: what stands before the last `/`, `/` for an entry of the root, empty without one.
pub fn parent(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(0) => b"/",
        Some(slash) => path.get(..slash).unwrap_or_default(),
        None => b"",
    }
}

/// The last name of a path: what stands after the last `/`.
pub fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// What is left of `path` below `directory`, both absolute and lexically clean: the empty path when they are equal,
/// `None` when it is not below.
pub fn below<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    if directory == b"/" {
        return path.strip_prefix(b"/");
    }
    let rest = path.strip_prefix(directory)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hi01_a_relative_path_cannot_leave_its_directory() {
        for bad in [&b"/"[..], b"/a", b"a/", b"a//b", b".", b"..", b"a/../b", b"./a", b"a/.", b"a/..", b"a\0b"] {
            assert!(RelativePath::parse(bad).is_err(), "{bad:?}");
            assert!(RelativePath::root().join(bad).is_err(), "{bad:?}");
        }
        assert!(RelativePath::parse(&vec![b'a'; PATH_MAX_BYTES + 1]).is_err());
        let path = RelativePath::parse(b"base/1/..2").unwrap();
        assert_eq!(path.split(), Some((RelativePath::parse(b"base/1").unwrap(), &b"..2"[..])));
        assert_eq!(path.names().count(), 3);
    }

    #[test]
    fn link_texts_become_absolute() {
        for (text, base, expected) in [
            ("/a/b", "/pg", Some("/a/b")),
            ("/a/b/", "/pg", Some("/a/b")),
            ("/", "/pg", Some("/")),
            ("../wal", "/pg/data", Some("/pg/wal")),
            ("./wal", "/pg/data", Some("/pg/data/wal")),
            ("..", "/pg", Some("/")),
            ("", "/pg", Some("/pg")),
            ("../..", "/pg", None),
            ("/a/../b", "/pg", None),
            ("/a//b", "/pg", None),
            ("a//b", "/pg", None),
            ("a", "pg", None),
        ] {
            let absolute = absolute(text.as_bytes(), base.as_bytes()).ok();
            assert_eq!(absolute.as_deref(), expected.map(str::as_bytes), "{text} in {base}");
        }
    }

    #[test]
    fn parts_of_paths() {
        assert_eq!((parent(b"/a/b"), last_name(b"/a/b")), (&b"/a"[..], &b"b"[..]));
        assert_eq!((parent(b"/a"), last_name(b"/a")), (&b"/"[..], &b"a"[..]));
        assert_eq!((parent(b"a"), last_name(b"a")), (&b""[..], &b"a"[..]));
        assert_eq!(below(b"/a/b", b"/a"), Some(&b"b"[..]));
        assert_eq!(below(b"/a", b"/a"), Some(&b""[..]));
        assert_eq!(below(b"/ab", b"/a"), None);
        assert_eq!(below(b"/ab", b"/"), Some(&b"ab"[..]));
    }

    proptest! {
        #[test]
        fn hi01_what_parses_joins_back(text in "[a./]{0,12}") {
            if let Ok(path) = RelativePath::parse(text.as_bytes()) {
                prop_assert!(path.names().all(|name| name != b"." && name != b".."));
                let names: Vec<&[u8]> = path.names().collect();
                prop_assert_eq!(names.join(&b'/'), text.into_bytes());
            }
        }

        #[test]
        fn absolute_paths_are_clean(text in "[a./]{0,12}", base in "/[a/]{0,6}") {
            if let Ok(path) = absolute(text.as_bytes(), base.as_bytes()) {
                prop_assert!(path.starts_with(b"/"));
                prop_assert!(path == b"/" || RelativePath::parse(&path[1..]).is_ok());
            }
        }
    }
}
