//! Listing: ListObjectsV2, one page at a time, with every key checked.

use std::collections::HashSet;

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::EncodingType;
use percent_encoding::percent_decode_str;

use super::S3Storage;
use super::error::Failure;
use super::versions::StoredVersion;
use crate::storage::{
    Entry, EntryKind, ErrorClass, ListOptions, ListPage, ObjectVersion, Operation, PageToken, StorageError, StoragePath,
};

impl S3Storage {
    pub(super) async fn list_entries(
        &self,
        path: &StoragePath,
        options: &ListOptions,
        page: Option<PageToken>,
    ) -> Result<ListPage, StorageError> {
        let asked = Asked::new(self.directory_prefix(path), path, options)?;
        let answer = self.list_keys(path, &asked.prefix(), options.recurse, page.as_ref()).await?;
        let page =
            Page::of(&answer, page.as_ref()).and_then(|page| asked.entries(&page).map(|entries| (entries, page)));
        match page {
            Ok((entries, page)) => Ok(ListPage { entries, next: page.next }),
            Err(malformed) => Err(self.refuse(&malformed).into_error(Operation::List, path)),
        }
    }

    /// One page of the raw keys below a prefix, for removal: they need not be names that a repository has.
    pub(super) async fn list_raw_keys(
        &self,
        path: &StoragePath,
        prefix: &str,
        page: Option<&PageToken>,
    ) -> Result<(Vec<String>, Option<PageToken>), StorageError> {
        let answer = self.list_keys(path, prefix, true, page).await?;
        let checked = Page::of(&answer, page).and_then(|page| {
            let stray = page.objects.iter().find(|object| !object.key.starts_with(prefix));
            match stray {
                Some(object) => Err(Malformed::outside(&object.key)),
                None => Ok((page.objects.into_iter().map(|object| object.key).collect(), page.next)),
            }
        });
        checked.map_err(|malformed| self.refuse(&malformed).into_error(Operation::List, path))
    }

    async fn list_keys(
        &self,
        path: &StoragePath,
        prefix: &str,
        recurse: bool,
        page: Option<&PageToken>,
    ) -> Result<ListObjectsV2Output, StorageError> {
        let answer = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .set_prefix((!prefix.is_empty()).then(|| prefix.to_owned()))
            .set_delimiter((!recurse).then(|| "/".to_owned()))
            .set_continuation_token(page.map(|page| page.0.clone()))
            .set_request_payer(self.request_payer.clone())
            .send()
            .await;
        match answer {
            Ok(answer) => Ok(answer),
            Err(error) => {
                let failure = self.failure(error).await;
                // A bucket can be missing, a directory cannot: without objects it is empty.
                let class = if failure.class == ErrorClass::Missing { ErrorClass::Permanent } else { failure.class };
                Err(Failure { class, ..failure }.into_error(Operation::List, path))
            }
        }
    }

    pub(super) fn refuse(&self, malformed: &Malformed) -> Failure {
        Failure::new(malformed.class, self.redactions.clean(&malformed.detail))
    }
}

/// What a listing must not be.
pub(super) struct Malformed {
    class: ErrorClass,
    detail: String,
}

impl Malformed {
    pub(super) fn transient(detail: &str) -> Self {
        Self { class: ErrorClass::Transient, detail: detail.to_owned() }
    }

    fn outside(key: &str) -> Self {
        Self {
            class: ErrorClass::Permanent,
            detail: format!("the listing has key '{key}', which is not below the directory that was asked for"),
        }
    }
}

/// A page as the store means it: keys decoded, sizes and times typed.
pub(super) struct Page {
    pub(super) objects: Vec<Object>,
    pub(super) prefixes: Vec<String>,
    pub(super) next: Option<PageToken>,
}

pub(super) struct Object {
    pub(super) key: String,
    pub(super) size_bytes: u64,
    pub(super) modified_s: i64,
    /// The version that the listing is about, in a listing of versions.
    pub(super) version: Option<StoredVersion>,
}

impl Page {
    fn of(answer: &ListObjectsV2Output, current: Option<&PageToken>) -> Result<Self, Malformed> {
        let encoded = answer.encoding_type() == Some(&EncodingType::Url);
        let mut objects = Vec::with_capacity(answer.contents().len());
        for object in answer.contents() {
            let key = object.key().ok_or_else(|| Malformed::transient("the listing has an object without a key"))?;
            let size_bytes = object.size().and_then(|size| u64::try_from(size).ok());
            objects.push(Object {
                key: decode(key, encoded)?,
                size_bytes: size_bytes
                    .ok_or_else(|| Malformed::transient("the listing has an object without a size"))?,
                modified_s: object.last_modified().map_or(0, DateTime::secs),
                version: None,
            });
        }
        let mut prefixes = Vec::with_capacity(answer.common_prefixes().len());
        for prefix in answer.common_prefixes() {
            let prefix = prefix.prefix().ok_or_else(|| Malformed::transient("the listing has a nameless prefix"))?;
            prefixes.push(decode(prefix, encoded)?);
        }
        Ok(Self { objects, prefixes, next: next_page(answer, current)? })
    }
}

/// The token of the next page. One without token, or with the token of this page, would end the listing early or never
/// (faults.md OS14).
fn next_page(answer: &ListObjectsV2Output, current: Option<&PageToken>) -> Result<Option<PageToken>, Malformed> {
    if answer.is_truncated() != Some(true) {
        return Ok(None);
    }
    match answer.next_continuation_token() {
        None | Some("") => Err(Malformed::transient("the listing is cut and does not say where it goes on")),
        Some(token) if current.is_some_and(|current| current.0 == token) => {
            Err(Malformed::transient("the listing goes on where it is already"))
        }
        Some(token) => Ok(Some(PageToken(token.to_owned()))),
    }
}

/// Keys come encoded only from stores that do it unasked; S3 writes a blank as `+` then.
pub(super) fn decode(text: &str, encoded: bool) -> Result<String, Malformed> {
    if !encoded {
        return Ok(text.to_owned());
    }
    match percent_decode_str(&text.replace('+', " ")).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(Malformed::transient("the listing has a key that is not UTF-8")),
    }
}

/// The directory that was asked for.
pub(super) struct Asked<'a> {
    /// With the slash at its end; empty for a bucket's root.
    directory: String,
    name_prefix: &'a str,
    recurse: bool,
}

impl<'a> Asked<'a> {
    /// The entries of `directory`, whose path is `path`.
    pub(super) fn new(directory: String, path: &StoragePath, options: &'a ListOptions) -> Result<Self, StorageError> {
        let name_prefix = options.name_prefix.as_deref().unwrap_or_default();
        if name_prefix.contains('/') {
            let detail = "a name prefix with a slash";
            return Err(StorageError::new(ErrorClass::Permanent, Operation::List, path, detail));
        }
        Ok(Self { directory, name_prefix, recurse: options.recurse })
    }

    pub(super) fn prefix(&self) -> String {
        format!("{}{}", self.directory, self.name_prefix)
    }

    /// The entries of a page. A key that is not below the prefix, or whose rest is no path, refuses the whole page
    /// (faults.md HI13).
    pub(super) fn entries(&self, page: &Page) -> Result<Vec<Entry>, Malformed> {
        let mut entries = Vec::with_capacity(page.objects.len() + page.prefixes.len());
        let mut seen = HashSet::new();
        for object in &page.objects {
            let name = self.name(&object.key)?;
            // Consoles make "directories" as empty objects with a slash at the end; they are no files.
            if name.is_empty() || name.ends_with('/') {
                continue;
            }
            if !is_clean(name) || (!self.recurse && name.contains('/')) {
                return Err(Malformed::outside(&object.key));
            }
            if seen.insert(name) {
                entries.push(Entry {
                    name: name.to_owned(),
                    kind: EntryKind::Object,
                    size_bytes: object.size_bytes,
                    modified_s: object.modified_s,
                    version: object.version.as_ref().map(|version| ObjectVersion(version.id.clone())),
                });
            }
        }
        let mut seen = HashSet::new();
        for prefix in &page.prefixes {
            let name = self.name(prefix)?.strip_suffix('/').ok_or_else(|| Malformed::outside(prefix))?;
            if self.recurse || name.is_empty() || name.contains('/') || !is_clean(name) {
                return Err(Malformed::outside(prefix));
            }
            if seen.insert(name) {
                entries.push(Entry::directory(name));
            }
        }
        Ok(entries)
    }

    /// The key without the directory.
    fn name<'k>(&self, key: &'k str) -> Result<&'k str, Malformed> {
        match key.strip_prefix(&self.directory) {
            // The marker of the directory itself is listed too.
            Some(name) if name.is_empty() || name.starts_with(self.name_prefix) => Ok(name),
            _ => Err(Malformed::outside(key)),
        }
    }
}

fn is_clean(name: &str) -> bool {
    !name.contains(char::is_control) && StoragePath::parse(name).is_ok()
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::{CommonPrefix, Object as SdkObject};

    use super::*;

    fn listing(keys: &[&str], prefixes: &[&str]) -> ListObjectsV2Output {
        ListObjectsV2Output::builder()
            .set_contents(Some(keys.iter().map(|key| SdkObject::builder().key(*key).size(1).build()).collect()))
            .set_common_prefixes(Some(
                prefixes.iter().map(|prefix| CommonPrefix::builder().prefix(*prefix).build()).collect(),
            ))
            .build()
    }

    fn names(answer: &ListObjectsV2Output, recurse: bool) -> Result<Vec<String>, String> {
        let asked = Asked { directory: "repo/archive/".to_owned(), name_prefix: "0", recurse };
        let page = Page::of(answer, None).map_err(|malformed| malformed.detail)?;
        let entries = asked.entries(&page).map_err(|malformed| malformed.detail)?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }

    #[test]
    fn hi13_keys_outside_the_asked_prefix_are_refused() {
        assert_eq!(names(&listing(&["repo/archive/0a"], &["repo/archive/0b/"]), false).unwrap(), ["0a", "0b"]);
        for key in [
            "other",
            "repo/archive/1",
            "repo/archive",
            "repo/archive/0/../../x",
            "repo/archive/0//x",
            "repo/archive/0\n",
        ] {
            assert!(names(&listing(&[key], &[]), true).is_err(), "{key:?} was accepted");
        }
        for prefix in ["other/", "repo/archive/0", "repo/archive/", "repo/archive/0/1/", "repo/archive/1/"] {
            assert!(names(&listing(&[], &[prefix]), false).is_err(), "{prefix:?} was accepted");
        }
        // The delimiter was ignored.
        assert!(names(&listing(&["repo/archive/0/1"], &[]), false).is_err());
    }

    #[test]
    fn directory_markers_are_no_files() {
        let answer = listing(&["repo/archive/", "repo/archive/0/", "repo/archive/0/x"], &[]);
        assert_eq!(names(&answer, true).unwrap(), ["0/x"]);
    }

    #[test]
    fn os14_keys_that_come_encoded_are_decoded() {
        let mut answer = listing(&["repo/archive/0+a%2Bb%25%C3%A9"], &[]);
        assert_eq!(names(&answer, true).unwrap(), ["0+a%2Bb%25%C3%A9"]);
        answer = ListObjectsV2Output::builder()
            .set_contents(Some(answer.contents().to_vec()))
            .encoding_type(EncodingType::Url)
            .build();
        assert_eq!(names(&answer, true).unwrap(), ["0 a+b%é"]);
    }

    #[test]
    fn os14_a_page_that_leads_nowhere_is_refused() {
        let answer = |token: Option<&str>| {
            ListObjectsV2Output::builder()
                .is_truncated(true)
                .set_next_continuation_token(token.map(ToOwned::to_owned))
                .build()
        };
        let current = PageToken("a".to_owned());
        assert!(next_page(&answer(None), None).is_err());
        assert!(next_page(&answer(Some("a")), Some(&current)).is_err());
        assert!(
            next_page(&answer(Some("b")), Some(&current)).is_ok_and(|next| next == Some(PageToken("b".to_owned())))
        );
    }
}
