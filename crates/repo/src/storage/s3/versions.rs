//! ListObjectVersions: what a bucket held at a time, one page at a time, with every key checked.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::EncodingType;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;

use super::S3Storage;
use super::error::Failure;
use super::list::{Malformed, Object, decode};
use crate::storage::{ErrorClass, Operation, PageToken, StorageError, StoragePath};

/// A content that the store keeps under an id of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredVersion {
    pub(super) id: String,
    pub(super) tag: Option<String>,
    pub(super) size_bytes: u64,
    pub(super) modified_s: i64,
}

/// One thing that happened to a key: a content was written, or (`None`) it was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    key: String,
    modified_s: i64,
    written: Option<StoredVersion>,
}

/// What a page tells of a time.
pub(super) struct PastPage {
    /// The objects that there were then.
    pub(super) objects: Vec<Object>,
    /// The common prefixes of now: the store does not tell when they began to be.
    pub(super) prefixes: Vec<String>,
    /// The last key for which this page, or one before, has decided.
    pub(super) decided: Option<String>,
    /// Where the listing goes on.
    pub(super) next: Option<Place>,
}

/// A place in a listing of versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The versions of one key may be on two pages: of this one nothing more is to be told.
    pub(super) decided: Option<String>,
    key_marker: String,
    version_marker: Option<String>,
}

impl Place {
    pub(super) fn token(&self) -> PageToken {
        let mut text = url::form_urlencoded::Serializer::new(String::new());
        text.append_pair("key", &self.key_marker);
        for (name, value) in [("version", &self.version_marker), ("decided", &self.decided)] {
            if let Some(value) = value {
                text.append_pair(name, value);
            }
        }
        PageToken(text.finish())
    }

    pub(super) fn parse(token: &PageToken) -> Self {
        let mut place = Self::default();
        for (name, value) in url::form_urlencoded::parse(token.0.as_bytes()) {
            match name.as_ref() {
                "key" => place.key_marker = value.into_owned(),
                "version" => place.version_marker = Some(value.into_owned()),
                "decided" => place.decided = Some(value.into_owned()),
                _ => {}
            }
        }
        place
    }
}

impl S3Storage {
    /// The next page of what was below `prefix` at `at_s`; at most `keys_max` changes are looked at.
    pub(super) async fn list_past(
        &self,
        path: &StoragePath,
        prefix: &str,
        recurse: bool,
        keys_max: Option<i32>,
        place: Option<&Place>,
        at_s: i64,
    ) -> Result<PastPage, StorageError> {
        let order = DocumentOrder::default();
        let answer = self
            .client
            .list_object_versions()
            .bucket(&self.bucket)
            .set_prefix((!prefix.is_empty()).then(|| prefix.to_owned()))
            .set_delimiter((!recurse).then(|| "/".to_owned()))
            .set_max_keys(keys_max)
            .set_key_marker(place.map(|place| place.key_marker.clone()))
            .set_version_id_marker(place.and_then(|place| place.version_marker.clone()))
            .set_request_payer(self.request_payer.clone())
            .customize()
            .interceptor(order.clone())
            .send()
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let failure = self.failure(error).await;
                // As in a listing of objects: a bucket can be missing, a directory cannot.
                let class = if failure.class == ErrorClass::Missing { ErrorClass::Permanent } else { failure.class };
                return Err(Failure { class, ..failure }.into_error(Operation::List, path));
            }
        };
        past_page(&answer, &order.take(), place, at_s)
            .map_err(|malformed| self.refuse(&malformed).into_error(Operation::List, path))
    }
}

fn past_page(
    answer: &ListObjectVersionsOutput,
    order: &[Kind],
    place: Option<&Place>,
    at_s: i64,
) -> Result<PastPage, Malformed> {
    let encoded = answer.encoding_type() == Some(&EncodingType::Url);
    let changes = changes(answer, order, encoded)?;
    let mut prefixes = Vec::with_capacity(answer.common_prefixes().len());
    for prefix in answer.common_prefixes() {
        let prefix = prefix.prefix().ok_or_else(|| Malformed::transient("the listing has a nameless prefix"))?;
        prefixes.push(decode(prefix, encoded)?);
    }
    let mut decided = place.and_then(|place| place.decided.clone());
    let objects = as_of(changes, at_s, &mut decided);
    let next = next_place(answer, encoded, place, &decided)?;
    Ok(PastPage { objects, prefixes, decided, next })
}

/// Of each key's changes, newest first, the first one that is not newer than the time decides: pgBackRest's rule, whole
/// seconds included.
fn as_of(changes: Vec<Change>, at_s: i64, decided: &mut Option<String>) -> Vec<Object> {
    let mut objects = Vec::new();
    for change in changes {
        if change.modified_s > at_s || decided.as_ref() == Some(&change.key) {
            continue;
        }
        *decided = Some(change.key.clone());
        if let Some(version) = change.written {
            objects.push(Object {
                key: change.key,
                size_bytes: version.size_bytes,
                modified_s: version.modified_s,
                version: Some(version),
            });
        }
    }
    objects
}

/// The changes of a page as the document has them. The SDK gives versions and delete markers in two lists, and times are
/// in whole seconds: only the document tells which of two changes within a second was the later one.
fn changes(answer: &ListObjectVersionsOutput, order: &[Kind], encoded: bool) -> Result<Vec<Change>, Malformed> {
    let time = |modified: Option<&DateTime>| {
        modified.map(DateTime::secs).ok_or_else(|| Malformed::transient("the listing has a version without a time"))
    };
    let key = |key: Option<&str>| {
        let key = key.ok_or_else(|| Malformed::transient("the listing has a version without a key"))?;
        decode(key, encoded)
    };
    let (mut versions, mut markers) = (answer.versions().iter(), answer.delete_markers().iter());
    let mut changes = Vec::with_capacity(order.len());
    for kind in order {
        let change = match kind {
            Kind::Version => versions.next().map(|version| {
                let modified_s = time(version.last_modified())?;
                let size_bytes = version.size().and_then(|size| u64::try_from(size).ok());
                let written = StoredVersion {
                    id: version.version_id().filter(|id| !id.is_empty()).unwrap_or("null").to_owned(),
                    tag: version.e_tag().map(str::to_owned),
                    size_bytes: size_bytes
                        .ok_or_else(|| Malformed::transient("the listing has a version without a size"))?,
                    modified_s,
                };
                Ok(Change { key: key(version.key())?, modified_s, written: Some(written) })
            }),
            Kind::Deletion => markers.next().map(|marker| {
                Ok(Change { key: key(marker.key())?, modified_s: time(marker.last_modified())?, written: None })
            }),
        };
        changes.push(change.unwrap_or_else(|| Err(Malformed::transient(MIXED_UP)))?);
    }
    if versions.next().is_some() || markers.next().is_some() {
        return Err(Malformed::transient(MIXED_UP));
    }
    Ok(changes)
}

const MIXED_UP: &str = "the listing of versions could not be read in its order";

/// Where the next page begins. S3 names the last version of this page; the original wants a continuation token, which no
/// listing of versions has, and fails on the second page.
fn next_place(
    answer: &ListObjectVersionsOutput,
    encoded: bool,
    current: Option<&Place>,
    decided: &Option<String>,
) -> Result<Option<Place>, Malformed> {
    if answer.is_truncated() != Some(true) {
        return Ok(None);
    }
    let key_marker = match answer.next_key_marker() {
        None | Some("") => return Err(Malformed::transient("the listing is cut and does not say where it goes on")),
        Some(key) => decode(key, encoded)?,
    };
    let version_marker = answer.next_version_id_marker().filter(|id| !id.is_empty()).map(str::to_owned);
    if current.is_some_and(|place| place.key_marker == key_marker && place.version_marker == version_marker) {
        return Err(Malformed::transient("the listing goes on where it is already"));
    }
    Ok(Some(Place { decided: decided.clone(), key_marker, version_marker }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Version,
    Deletion,
}

/// Notes in which order the elements of a listing of versions come.
#[derive(Debug, Clone, Default)]
struct DocumentOrder(Arc<Mutex<Vec<Kind>>>);

impl DocumentOrder {
    fn take(&self) -> Vec<Kind> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The kinds of a document's elements. Their names cannot be in a text: `<` is written otherwise there.
fn order_of(document: &[u8]) -> Vec<Kind> {
    let starts = |kind: Kind, tag: &'static [u8]| memchr::memmem::find_iter(document, tag).map(move |at| (at, kind));
    let mut found: Vec<_> =
        starts(Kind::Version, b"<Version>").chain(starts(Kind::Deletion, b"<DeleteMarker>")).collect();
    found.sort_unstable_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, kind)| kind).collect()
}

#[dyn_dispatch_hint]
impl Intercept for DocumentOrder {
    fn name(&self) -> &'static str {
        "DocumentOrder"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(document) = context.response().body().bytes() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = order_of(document);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, modified_s: i64, id: Option<&str>) -> Change {
        let written = id.map(|id| StoredVersion { id: id.to_owned(), tag: None, size_bytes: 1, modified_s });
        Change { key: key.to_owned(), modified_s, written }
    }

    fn at(at_s: i64, changes: &[Change], decided: Option<&str>) -> (Vec<(String, String)>, Option<String>) {
        let mut decided = decided.map(str::to_owned);
        let objects = as_of(changes.to_vec(), at_s, &mut decided);
        (objects.into_iter().map(|object| (object.key, object.version.unwrap().id)).collect(), decided)
    }

    fn ids(found: &[(String, String)]) -> Vec<&str> {
        found.iter().map(|(_, id)| id.as_str()).collect()
    }

    #[test]
    fn a_key_is_what_its_newest_change_until_the_time_made_of_it() {
        let changes = [
            change("a", 40, Some("a3")),
            change("a", 30, None),
            change("a", 20, Some("a2")),
            change("a", 10, Some("a1")),
            change("b", 30, Some("b1")),
        ];
        for (at_s, expected) in [
            (9, vec![]),
            (10, vec!["a1"]),
            (29, vec!["a2"]),
            (30, vec!["b1"]),
            (39, vec!["b1"]),
            (40, vec!["a3", "b1"]),
        ] {
            assert_eq!(ids(&at(at_s, &changes, None).0), expected, "{at_s}");
        }
    }

    #[test]
    fn of_changes_within_a_second_the_one_that_comes_first_counts() {
        assert_eq!(ids(&at(5, &[change("a", 5, None), change("a", 5, Some("a1"))], None).0), Vec::<&str>::new());
        assert_eq!(ids(&at(5, &[change("a", 5, Some("a2")), change("a", 5, None)], None).0), ["a2"]);
    }

    #[test]
    fn every_cut_into_pages_gives_the_same_objects() {
        let changes = [
            change("a", 30, None),
            change("a", 20, Some("a2")),
            change("a", 10, Some("a1")),
            change("b", 40, Some("b2")),
            change("b", 10, Some("b1")),
        ];
        for at_s in [9, 10, 20, 30, 40] {
            let whole = at(at_s, &changes, None);
            for cut in 0..=changes.len() {
                let (mut first, decided) = at(at_s, &changes[..cut], None);
                let (second, _) = at(at_s, &changes[cut..], decided.as_deref());
                first.extend(second);
                assert_eq!(first, whole.0, "{at_s} {cut}");
            }
        }
    }

    #[test]
    fn the_order_is_that_of_the_document() {
        let document =
            b"<R><Version><VersionId>1</VersionId></Version><DeleteMarker><VersionId>2</VersionId></DeleteMarker>\
            <Version><Key>&lt;Version></Key></Version></R>";
        assert_eq!(order_of(document), [Kind::Version, Kind::Deletion, Kind::Version]);
        let empty = ListObjectVersionsOutput::builder().build();
        assert!(changes(&empty, &[Kind::Version], false).is_err());
    }

    #[test]
    fn os14_a_page_that_leads_nowhere_is_refused() {
        let answer = |key: Option<&str>, id: Option<&str>| {
            ListObjectVersionsOutput::builder()
                .is_truncated(true)
                .set_next_key_marker(key.map(str::to_owned))
                .set_next_version_id_marker(id.map(str::to_owned))
                .build()
        };
        let decided = Some("k & k".to_owned());
        let place = next_place(&answer(Some("k=&"), Some("1")), false, None, &decided).ok().flatten().unwrap();
        assert_eq!(Place::parse(&place.token()), place);
        assert!(next_place(&answer(None, None), false, None, &decided).is_err());
        assert!(next_place(&answer(Some("k=&"), Some("1")), false, Some(&place), &decided).is_err());
        assert!(next_place(&answer(Some("k=&"), Some("2")), false, Some(&place), &decided).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_token_is_a_place(text: String) {
            Place::parse(&PageToken(text));
        }
    }
}
