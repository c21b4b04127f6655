//! The path that people give to `repo-ls`, `repo-get` and `repo-rm`.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{Stanza, path};
use crate::storage::{EntryKind, Storage, StorageExt, StoragePath};

/// The path below the repository that `text` means: relative to it, or absolute in the directory `base` that it has.
///
/// # Errors
/// [`ErrorKind::ParamInvalid`] for a path with `//`, a relative name in it, or one outside of `base`.
pub fn resolve(text: &str, base: &str) -> Result<StoragePath> {
    let invalid = |why: String| Error::new(ErrorKind::ParamInvalid, why);
    if text.contains("//") {
        return Err(invalid(format!("path '{}' cannot contain //", text.escape_debug())));
    }
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    let base = base.trim_end_matches('/');
    let relative = if text.starts_with('/') {
        let below = trimmed.strip_prefix(base).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let below = below
            .ok_or_else(|| invalid(format!("absolute path '{}' is not in base path '{base}'", text.escape_debug())))?;
        below.strip_prefix('/').unwrap_or(below)
    } else {
        trimmed
    };
    // A name for "here" is harmless; one for "above" is not.
    let names: Vec<&str> = relative.split('/').filter(|name| *name != ".").collect();
    StoragePath::parse(&names.join("/")).map_err(|error| invalid(error.to_string()))
}

/// Puts the backup that `latest` of a stanza links to in its place: no other link in a repository is followed.
pub(super) async fn follow_latest(storage: &dyn Storage, given: StoragePath) -> Result<StoragePath> {
    let Some((link, rest)) = below_latest(&given) else { return Ok(given) };
    let kind = storage.info_optional(&link).await?.map(|info| info.kind);
    let Some(EntryKind::Link(target)) = kind else { return Ok(given) };
    let directory = link.parent().unwrap_or_default();
    let followed = directory.join(&target).and_then(|backup| backup.join(rest));
    followed.map_err(|error| Error::new(ErrorKind::LinkDestination, format!("'{link}' leads to '{target}': {error}")))
}

/// The link `latest` that a path goes through, and what stands behind it.
fn below_latest(given: &StoragePath) -> Option<(StoragePath, &str)> {
    let (root, below) = given.as_str().split_once('/')?;
    let (stanza, below) = below.split_once('/')?;
    let (name, rest) = below.split_once('/').unwrap_or((below, ""));
    let is_latest = root == path::backup_root().as_str() && name == path::LATEST;
    if is_latest { Some((path::latest(&Stanza::parse(stanza).ok()?), rest)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_relative_or_absolute_in_the_repository() {
        for (text, expected) in [
            ("", ""),
            ("archive", "archive"),
            ("archive/", "archive"),
            ("./archive/./demo", "archive/demo"),
            (".", ""),
            ("/repo", ""),
            ("/repo/", ""),
            ("/repo/backup/demo", "backup/demo"),
        ] {
            assert_eq!(resolve(text, "/repo").unwrap().as_str(), expected, "{text}");
        }
        assert_eq!(resolve("/", "/").unwrap().as_str(), "");
        assert_eq!(resolve("/backup", "/").unwrap().as_str(), "backup");
    }

    #[test]
    fn hi04_a_path_stays_in_the_repository() {
        for bad in
            ["a//b", "//", "/", "/other", "/repository/x", "..", "../x", "a/../../x", "/repo/..", "/repo/../etc", "a\0"]
        {
            assert_eq!(resolve(bad, "/repo").unwrap_err().kind(), ErrorKind::ParamInvalid, "{bad:?}");
        }
    }
}
