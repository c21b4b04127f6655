//! [`ManifestName`]: the name of a file, link, path or target in a manifest.

use std::borrow::Borrow;
use std::fmt;

/// The root of a cluster's own directory (`MANIFEST_TARGET_PGDATA`).
pub const PG_DATA: &str = "pg_data";
/// The root of the tablespaces (`MANIFEST_TARGET_PGTBLSPC`).
pub const PG_TBLSPC: &str = "pg_tblspc";

/// A name in a manifest: `pg_data` or `pg_tblspc`, or something below one of them. Bytes, not surely UTF-8.
///
/// No name has an empty part, `.`, `..`, a NUL byte or a newline, so joined to a directory it stays below it
/// (faults.md HI01), and it can be written in a manifest (BK22).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManifestName(Box<[u8]>);

/// Why bytes are no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManifestNameError {
    /// The first part is something else.
    #[error("the name is not below pg_data or pg_tblspc")]
    Root,
    /// Two slashes in a row, or one at the end.
    #[error("the name has an empty part")]
    EmptyPart,
    /// `.` or `..`.
    #[error("the name has a relative part")]
    RelativePart,
    /// A NUL byte or a newline.
    #[error("the name has a NUL byte or a newline, which a manifest cannot hold")]
    Unwritable,
}

impl ManifestName {
    /// Takes a name.
    ///
    /// # Errors
    /// [`ManifestNameError`] for what is no name.
    pub fn parse(name: &[u8]) -> Result<Self, ManifestNameError> {
        Self::check(name)?;
        Ok(Self(name.into()))
    }

    /// Whether bytes are a name, without keeping them.
    ///
    /// # Errors
    /// As [`ManifestName::parse`].
    pub fn check(name: &[u8]) -> Result<(), ManifestNameError> {
        let mut parts = name.split(|byte| *byte == b'/');
        if !parts.next().is_some_and(|root| root == PG_DATA.as_bytes() || root == PG_TBLSPC.as_bytes()) {
            return Err(ManifestNameError::Root);
        }
        for part in parts {
            match part {
                b"" => return Err(ManifestNameError::EmptyPart),
                b"." | b".." => return Err(ManifestNameError::RelativePart),
                _ => {}
            }
        }
        if memchr::memchr2(0, b'\n', name).is_some() {
            return Err(ManifestNameError::Unwritable);
        }
        Ok(())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What stands below `pg_data`; `None` for `pg_data` itself and for tablespaces.
    pub fn below_pg_data(&self) -> Option<&[u8]> {
        self.0.strip_prefix(PG_DATA.as_bytes())?.strip_prefix(b"/")
    }

    /// The name of the directory that holds this entry; `None` for a root.
    pub fn parent(&self) -> Option<&[u8]> {
        let slash = memchr::memrchr(b'/', &self.0)?;
        self.0.get(..slash)
    }

    /// The last part.
    pub fn base_name(&self) -> &[u8] {
        let start = memchr::memrchr(b'/', &self.0).map_or(0, |slash| slash + 1);
        self.0.get(start..).unwrap_or_default()
    }
}

impl Borrow<[u8]> for ManifestName {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// Replaces what is not UTF-8 by U+FFFD.
impl fmt::Display for ManifestName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for ManifestName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hi01_names_that_leave_their_root_are_refused() {
        for (bad, error) in [
            (&b"pg_data/../../etc/x"[..], ManifestNameError::RelativePart),
            (b"pg_data/./x", ManifestNameError::RelativePart),
            (b"pg_data/x/..", ManifestNameError::RelativePart),
            (b"pg_data//x", ManifestNameError::EmptyPart),
            (b"pg_data/", ManifestNameError::EmptyPart),
            (b"//x", ManifestNameError::Root),
            (b"/etc/passwd", ManifestNameError::Root),
            (b"", ManifestNameError::Root),
            (b"pg_data2/x", ManifestNameError::Root),
            (b"..", ManifestNameError::Root),
            (b"pg_data/a\0b", ManifestNameError::Unwritable),
            (b"pg_data/a\nb", ManifestNameError::Unwritable),
        ] {
            assert_eq!(ManifestName::parse(bad), Err(error), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn bk22_odd_names_are_names() {
        for good in [
            &b"pg_data"[..],
            b"pg_tblspc/16384",
            b"pg_data/...",
            b"pg_data/ a=b",
            b"pg_data/\xff\t#[",
            b"pg_data/a\\b\"c",
        ] {
            assert_eq!(ManifestName::parse(good).unwrap().as_bytes(), good);
        }
    }

    #[test]
    fn names_have_parts() {
        let name = ManifestName::parse(b"pg_data/base/1/112").unwrap();
        assert_eq!(name.base_name(), b"112");
        assert_eq!(name.parent(), Some(&b"pg_data/base/1"[..]));
        assert_eq!(name.below_pg_data(), Some(&b"base/1/112"[..]));
        assert_eq!(ManifestName::parse(b"pg_data").unwrap().parent(), None);
    }
}
