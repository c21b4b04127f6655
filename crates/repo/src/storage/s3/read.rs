//! Reading: GET with every number in the answer checked, HEAD.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream as SdkStream;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use futures_util::stream;
use secrecy::ExposeSecret;

use super::S3Storage;
use super::error::Failure;
use super::redact::Redactions;
use super::versions::StoredVersion;
use crate::storage::{
    ByteRange, ByteStream, EntryKind, ErrorClass, ObjectInfo, ObjectRead, ObjectVersion, Operation, StorageError,
    StoragePath,
};

/// Which content of an object is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// The one that is there.
    Current,
    /// The one with this ETag, if it is still there.
    Tagged(&'a ObjectVersion),
    /// One that the store keeps beside later ones.
    Stored(&'a StoredVersion),
}

impl<'a> Wanted<'a> {
    fn if_match(self) -> Option<&'a ObjectVersion> {
        match self {
            Wanted::Tagged(pin) => Some(pin),
            Wanted::Current | Wanted::Stored(_) => None,
        }
    }

    /// The ETag that the answer must have.
    fn tag(self) -> Option<&'a str> {
        match self {
            Wanted::Current => None,
            Wanted::Tagged(pin) => Some(&pin.0),
            Wanted::Stored(version) => version.tag.as_deref(),
        }
    }

    fn version_id(self) -> Option<String> {
        match self {
            Wanted::Stored(version) => Some(version.id.clone()),
            Wanted::Current | Wanted::Tagged(_) => None,
        }
    }
}

impl S3Storage {
    pub(super) async fn read_object(
        &self,
        path: &StoragePath,
        range: ByteRange,
        wanted: Wanted<'_>,
    ) -> Result<ObjectRead, StorageError> {
        let fail = |class, detail: String| StorageError::new(class, Operation::Read, path, detail);
        if range.length == Some(0) {
            // HTTP has no empty ranges.
            return self.read_nothing(path, range, wanted).await;
        }
        let last = match range.length {
            None => None,
            Some(length) => match range.offset.checked_add(length - 1) {
                Some(last) => Some(last),
                None => return Err(fail(ErrorClass::Permanent, "the range is beyond any object".to_owned())),
            },
        };
        let header = match (range.offset, last) {
            (0, None) => None,
            (offset, None) => Some(format!("bytes={offset}-")),
            (offset, Some(last)) => Some(format!("bytes={offset}-{last}")),
        };
        let (answer, status) = self.get(path, header, wanted).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.read_failed(path, range, wanted, error).await,
        };
        if let Some(expected) = wanted.tag()
            && answer.e_tag().is_some_and(|tag| !is_same_tag(tag, expected))
        {
            return Err(fail(ErrorClass::Conflict, "the object was replaced since it was first read".to_owned()));
        }
        let placed = match Placed::of(&answer, status, range) {
            Ok(Some(placed)) => placed,
            // A body without a length ends wherever the connection does (faults.md OS08): ask for the size.
            Ok(None) => {
                let size_bytes = self.wanted_info(path, wanted).await?.size_bytes;
                Placed { size_bytes, body_bytes: size_bytes }
            }
            Err(misplaced) => return Err(fail(misplaced.class, misplaced.detail)),
        };
        let info = ObjectInfo {
            kind: EntryKind::Object,
            size_bytes: placed.size_bytes,
            modified_s: answer.last_modified().map_or(0, aws_sdk_s3::primitives::DateTime::secs),
            version: match wanted.version_id() {
                Some(id) => Some(ObjectVersion(id)),
                None => answer.e_tag().map(|tag| ObjectVersion(tag.to_owned())),
            },
        };
        if let Wanted::Stored(version) = wanted
            && version.size_bytes != info.size_bytes
        {
            let what = format!("{} bytes instead of the version's {}", info.size_bytes, version.size_bytes);
            return Err(fail(ErrorClass::Permanent, format!("the store gives {what}: does it keep versions?")));
        }
        let body = exact_body(answer.body, placed.body_bytes, path.clone(), self.redactions.clone());
        Ok(ObjectRead { info, body })
    }

    /// One GET, and the status of its answer. A store that cannot compare versions (faults.md NP08) is asked again
    /// without, once; the version of the answer is compared anyway.
    async fn get(
        &self,
        path: &StoragePath,
        range: Option<String>,
        wanted: Wanted<'_>,
    ) -> (Result<GetObjectOutput, SdkError<GetObjectError, HttpResponse>>, u16) {
        let plain = self.plain_reads.load(Ordering::Relaxed) && wanted.if_match().is_some();
        let wanted = if plain { Wanted::Current } else { wanted };
        let (answer, status) = self.get_once(path, range.clone(), wanted).await;
        if wanted.if_match().is_some() && matches!(status, 400 | 501) {
            let (second, second_status) = self.get_once(path, range, Wanted::Current).await;
            if second.is_ok() {
                self.plain_reads.store(true, Ordering::Relaxed);
                return (second, second_status);
            }
        }
        (answer, status)
    }

    async fn get_once(
        &self,
        path: &StoragePath,
        range: Option<String>,
        wanted: Wanted<'_>,
    ) -> (Result<GetObjectOutput, SdkError<GetObjectError, HttpResponse>>, u16) {
        let status = Arc::new(AtomicU16::new(0));
        let customer_key = self.customer_key.as_ref();
        let answer = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(self.key(path))
            .set_range(range)
            .set_if_match(wanted.if_match().map(|pin| pin.0.clone()))
            .set_version_id(wanted.version_id())
            .set_request_payer(self.request_payer.clone())
            .set_sse_customer_algorithm(customer_key.map(|_| "AES256".to_owned()))
            .set_sse_customer_key(customer_key.map(|key| key.key.expose_secret().to_owned()))
            .set_sse_customer_key_md5(customer_key.map(|key| key.md5.expose_secret().to_owned()))
            .customize()
            .interceptor(StatusProbe(Arc::clone(&status)))
            .send()
            .await;
        (answer, status.load(Ordering::Relaxed))
    }

    async fn read_failed(
        &self,
        path: &StoragePath,
        range: ByteRange,
        wanted: Wanted<'_>,
        error: SdkError<GetObjectError, HttpResponse>,
    ) -> Result<ObjectRead, StorageError> {
        let failure = self.failure(error).await;
        if failure.status == Some(416) && range.length.is_none() {
            // From the end to the end there is nothing, which HTTP cannot say.
            return self.read_nothing(path, range, wanted).await;
        }
        Err(failure.into_error(Operation::Read, path))
    }

    /// The read of a range without bytes: the object must exist, reach to the offset and be the pinned one.
    async fn read_nothing(
        &self,
        path: &StoragePath,
        range: ByteRange,
        wanted: Wanted<'_>,
    ) -> Result<ObjectRead, StorageError> {
        let fail = |class, detail: String| Err(StorageError::new(class, Operation::Read, path, detail));
        let info = self.wanted_info(path, wanted).await?;
        if let (Some(pin), Some(version)) = (wanted.if_match(), &info.version)
            && !is_same_tag(&pin.0, &version.0)
        {
            return fail(ErrorClass::Conflict, "the object was replaced since it was first read".to_owned());
        }
        if range.offset > info.size_bytes {
            let detail = format!("offset {} is beyond the object's {} bytes", range.offset, info.size_bytes);
            return fail(ErrorClass::Permanent, detail);
        }
        if range.length.is_none() && range.offset < info.size_bytes {
            return fail(ErrorClass::Transient, format!("the store has no bytes from offset {}", range.offset));
        }
        Ok(ObjectRead { info, body: Box::pin(stream::empty()) })
    }

    async fn wanted_info(&self, path: &StoragePath, wanted: Wanted<'_>) -> Result<ObjectInfo, StorageError> {
        match wanted {
            Wanted::Stored(version) => Ok(version.info()),
            Wanted::Current | Wanted::Tagged(_) => self.object_info(path).await,
        }
    }

    pub(super) async fn object_info(&self, path: &StoragePath) -> Result<ObjectInfo, StorageError> {
        let customer_key = self.customer_key.as_ref();
        let answer = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(self.key(path))
            .set_request_payer(self.request_payer.clone())
            .set_sse_customer_algorithm(customer_key.map(|_| "AES256".to_owned()))
            .set_sse_customer_key(customer_key.map(|key| key.key.expose_secret().to_owned()))
            .set_sse_customer_key_md5(customer_key.map(|key| key.md5.expose_secret().to_owned()))
            .send()
            .await;
        match answer {
            Ok(answer) => info_of(&answer).ok_or_else(|| {
                StorageError::new(ErrorClass::Transient, Operation::Info, path, "the answer has no size")
            }),
            Err(error) => Err(self.error(Operation::Info, path, error).await),
        }
    }
}

fn info_of(answer: &HeadObjectOutput) -> Option<ObjectInfo> {
    Some(ObjectInfo {
        kind: EntryKind::Object,
        size_bytes: u64::try_from(answer.content_length()?).ok()?,
        modified_s: answer.last_modified().map_or(0, aws_sdk_s3::primitives::DateTime::secs),
        version: answer.e_tag().map(|tag| ObjectVersion(tag.to_owned())),
    })
}

/// Whether two ETags name one version. Stores differ in quotes and gateways mark tags as weak; nothing else is read
/// into a tag (faults.md OS26, NP08).
pub(super) fn is_same_tag(left: &str, right: &str) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").trim_matches('"').to_owned();
    bare(left) == bare(right)
}

/// Where the body of an answer belongs.
#[derive(Debug, PartialEq, Eq)]
struct Placed {
    /// Bytes of the whole object.
    size_bytes: u64,
    /// Bytes that the body must have.
    body_bytes: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Misplaced {
    class: ErrorClass,
    detail: String,
}

impl Placed {
    /// Checks status, Content-Range and Content-Length against the range that was asked for (faults.md OS09); `None`
    /// when the answer to a whole read does not say its length.
    fn of(answer: &GetObjectOutput, status: u16, range: ByteRange) -> Result<Option<Self>, Misplaced> {
        let length = match answer.content_length().map(u64::try_from) {
            None => None,
            Some(Ok(length)) => Some(length),
            Some(Err(_)) => return Err(misplaced("the answer has a negative length")),
        };
        Self::at(status, answer.content_range(), length, range)
    }

    fn at(
        status: u16,
        content_range: Option<&str>,
        length: Option<u64>,
        range: ByteRange,
    ) -> Result<Option<Self>, Misplaced> {
        if status == 200 {
            // A store may answer a range that is the whole object with the object.
            return match length {
                _ if range.offset != 0 => Err(misplaced("the store ignored the range")),
                Some(length) if range.length.is_none_or(|asked| asked == length) => {
                    Ok(Some(Self { size_bytes: length, body_bytes: length }))
                }
                None if range.length.is_none() => Ok(None),
                _ => Err(misplaced("the store ignored the range")),
            };
        }
        if status != 206 || range == ByteRange::ALL {
            return Err(misplaced(&format!("unexpected status {status}")));
        }
        let Some((first, last, size_bytes)) = content_range.and_then(parse_content_range) else {
            return Err(misplaced("the answer does not say which range it has"));
        };
        let asked_end = match range.length {
            None => size_bytes,
            Some(length) => range.offset.checked_add(length).ok_or_else(|| misplaced("the range is too long"))?,
        };
        if asked_end > size_bytes {
            return Err(Misplaced {
                class: ErrorClass::Permanent,
                detail: format!("the range ends at {asked_end}, the object has {size_bytes} bytes"),
            });
        }
        if first != range.offset || last.checked_add(1) != Some(asked_end) {
            return Err(misplaced(&format!(
                "the answer has bytes {first}-{last}, asked were {}-{}",
                range.offset,
                asked_end.saturating_sub(1)
            )));
        }
        let body_bytes = asked_end - first;
        if length.is_some_and(|length| length != body_bytes) {
            return Err(misplaced("the length of the answer is not that of its range"));
        }
        Ok(Some(Self { size_bytes, body_bytes }))
    }
}

fn misplaced(detail: &str) -> Misplaced {
    Misplaced { class: ErrorClass::Transient, detail: detail.to_owned() }
}

/// `bytes first-last/size`, each number in order.
fn parse_content_range(text: &str) -> Option<(u64, u64, u64)> {
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    let (range, size) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size) = (number(first)?, number(last)?, number(size)?);
    (first <= last && last < size).then_some((first, last, size))
}

struct Remaining {
    body: SdkStream,
    received_bytes: u64,
    expected_bytes: u64,
    path: StoragePath,
    redactions: Redactions,
}

/// The body, which must have exactly the expected length (faults.md OS07, OS08).
fn exact_body(body: SdkStream, expected_bytes: u64, path: StoragePath, redactions: Redactions) -> ByteStream {
    let state = Remaining { body, received_bytes: 0, expected_bytes, path, redactions };
    Box::pin(stream::try_unfold(state, |mut state| async move {
        loop {
            match state.body.next().await {
                Some(Ok(bytes)) => {
                    state.received_bytes = state.received_bytes.saturating_add(bytes.len() as u64);
                    if state.received_bytes > state.expected_bytes {
                        return Err(state.error("the body is longer than announced"));
                    }
                    if !bytes.is_empty() {
                        return Ok(Some((bytes, state)));
                    }
                }
                Some(Err(error)) => {
                    let failure = Failure::from_causes(&error, ErrorClass::Transient, &state.redactions);
                    return Err(state.error(&failure.detail));
                }
                None if state.received_bytes < state.expected_bytes => return Err(state.error("the body ends early")),
                None => return Ok(None),
            }
        }
    }))
}

impl Remaining {
    fn error(&self, what: &str) -> StorageError {
        let detail = format!("{what}, after {} of {} bytes", self.received_bytes, self.expected_bytes);
        StorageError::new(ErrorClass::Transient, Operation::Read, &self.path, detail)
    }
}

/// Tells the status of the answer, which the SDK does not show for a success.
#[derive(Debug)]
struct StatusProbe(Arc<AtomicU16>);

#[dyn_dispatch_hint]
impl Intercept for StatusProbe {
    fn name(&self) -> &'static str {
        "StatusProbe"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.store(context.response().status().as_u16(), Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: ByteRange = ByteRange { offset: 10, length: Some(5) };

    #[test]
    fn os09_a_range_must_be_the_one_that_was_asked_for() {
        let placed = Placed::at(206, Some("bytes 10-14/100"), Some(5), RANGE).unwrap().unwrap();
        assert_eq!(placed, Placed { size_bytes: 100, body_bytes: 5 });
        for (status, content_range, length) in [
            (200, None, Some(100)),
            (200, Some("bytes 10-14/100"), Some(5)),
            (206, None, Some(5)),
            (206, Some("bytes 11-15/100"), Some(5)),
            (206, Some("bytes 9-14/100"), Some(6)),
            (206, Some("bytes 10-15/100"), Some(6)),
            (206, Some("bytes 10-13/100"), Some(4)),
            (206, Some("bytes 10-14/100"), Some(6)),
            (206, Some("bytes 10-14/*"), Some(5)),
            (206, Some("bytes 10-14/14"), Some(5)),
            (206, Some("bytes -10-14/100"), Some(5)),
            (206, Some("bytes 10-18446744073709551616/100"), Some(5)),
            (204, None, Some(0)),
        ] {
            let placed = Placed::at(status, content_range, length, RANGE);
            assert_eq!(placed.unwrap_err().class, ErrorClass::Transient, "{status} {content_range:?} {length:?}");
        }
        assert!(Placed::at(206, Some("bytes 0-9/10"), Some(10), ByteRange::ALL).is_err());
    }

    #[test]
    fn a_range_beyond_the_end_is_permanent() {
        let placed = Placed::at(206, Some("bytes 10-12/13"), Some(3), RANGE);
        assert_eq!(placed.unwrap_err().class, ErrorClass::Permanent);
        let tail = ByteRange { offset: 10, length: None };
        let placed = Placed::at(206, Some("bytes 10-12/13"), Some(3), tail).unwrap().unwrap();
        assert_eq!(placed, Placed { size_bytes: 13, body_bytes: 3 });
    }

    #[test]
    fn os26_tags_are_opaque_but_for_their_quotes() {
        assert!(is_same_tag("\"a-1\"", "a-1") && is_same_tag("W/\"a\"", "\"a\""));
        assert!(!is_same_tag("\"a\"", "\"A\""));
    }

    proptest::proptest! {
        #[test]
        fn content_ranges_never_panic(text: String) {
            let _ = parse_content_range(&text);
        }

        #[test]
        fn content_ranges_round_trip(first in 0..1000_u64, length in 1..1000_u64, rest in 0..1000_u64) {
            let (last, size) = (first + length - 1, first + length + rest);
            let text = format!("bytes {first}-{last}/{size}");
            proptest::prop_assert_eq!(parse_content_range(&text), Some((first, last, size)));
        }
    }
}
