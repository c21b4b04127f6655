//! Writing: whole objects, and uploads in parts.

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, ServerSideEncryption};
use bytes::Bytes;
use secrecy::ExposeSecret;

use super::S3Storage;
use super::options::PART_SIZE_BYTES_MAX;
use super::read::is_same_tag;
use crate::storage::{
    Condition, EntryKind, ErrorClass, ObjectInfo, ObjectVersion, Operation, PartTag, StorageError, StoragePath,
    UploadId, UploadPart,
};

/// Parts of the base size before they grow (pgBackRest `STORAGE_S3_SPLIT_DEFAULT`): 1 GiB in parts of 5 MiB.
const PARTS_OF_BASE_SIZE: u64 = 205;

/// The part from which on all have the largest size (pgBackRest `STORAGE_S3_SPLIT_MAX`): 10 000 parts make 5 TiB.
const PARTS_BELOW_MAX_SIZE: u64 = 9557;

/// Grown parts are multiples of this (pgBackRest `STORAGE_CHUNK_INCR`).
const PART_STEP_BYTES: u64 = 8 * 1024 * 1024;

/// Most parts of an upload (Amazon S3 user guide, "multipart upload limits").
const PARTS_MAX: u32 = 10_000;

/// The size of a part of an upload, by its number from 1: an object of any size up to 5 TiB fits into 10 000 parts
/// while small ones use small parts (pgBackRest `storage/write.c`, faults.md OS30).
pub(super) fn part_size_bytes(part_number: u32, base_bytes: usize) -> usize {
    let before = u64::from(part_number.saturating_sub(1));
    if before < PARTS_OF_BASE_SIZE {
        return base_bytes;
    }
    if before > PARTS_BELOW_MAX_SIZE {
        return PART_SIZE_BYTES_MAX;
    }
    let growth = PART_SIZE_BYTES_MAX as u64 - PART_STEP_BYTES;
    let grown = growth * (before - PARTS_OF_BASE_SIZE + 1) / (PARTS_BELOW_MAX_SIZE - PARTS_OF_BASE_SIZE);
    let stepped = usize::try_from(grown.next_multiple_of(PART_STEP_BYTES)).unwrap_or(PART_SIZE_BYTES_MAX);
    if grown <= base_bytes as u64 { base_bytes } else { stepped.min(PART_SIZE_BYTES_MAX) }
}

/// An ETag in the usual form that no content has.
const ETAG_OF_NOTHING: &str = "\"00000000000000000000000000000000\"";

/// What the headers `If-Match` and `If-None-Match` say.
struct Headers {
    if_match: Option<String>,
    if_none_match: Option<String>,
}

impl From<Condition> for Headers {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::None => Self { if_match: None, if_none_match: None },
            Condition::Absent => Self { if_match: None, if_none_match: Some("*".to_owned()) },
            Condition::Version(version) => Self { if_match: Some(version.0), if_none_match: None },
            Condition::Never => Self { if_match: Some(ETAG_OF_NOTHING.to_owned()), if_none_match: None },
        }
    }
}

impl S3Storage {
    pub(super) async fn put_object(
        &self,
        path: &StoragePath,
        body: Bytes,
        condition: Condition,
    ) -> Result<ObjectInfo, StorageError> {
        let size_bytes = body.len() as u64;
        let headers = Headers::from(condition);
        let customer_key = self.customer_key.as_ref();
        let answer = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.key(path))
            .body(ByteStream::from(body))
            .set_if_match(headers.if_match)
            .set_if_none_match(headers.if_none_match)
            .set_request_payer(self.request_payer.clone())
            .set_server_side_encryption(self.kms_key_id.as_ref().map(|_| ServerSideEncryption::AwsKms))
            .set_ssekms_key_id(self.kms_key_id.clone())
            .set_sse_customer_algorithm(customer_key.map(|_| "AES256".to_owned()))
            .set_sse_customer_key(customer_key.map(|key| key.key.expose_secret().to_owned()))
            .set_sse_customer_key_md5(customer_key.map(|key| key.md5.expose_secret().to_owned()))
            .set_tagging(self.tagging.clone())
            .send()
            .await;
        match answer {
            Ok(answer) => Ok(ObjectInfo {
                kind: EntryKind::Object,
                size_bytes,
                modified_s: self.clock.now_s(),
                version: Some(ObjectVersion(receipt(path, answer.e_tag())?)),
            }),
            Err(error) => Err(self.write_error(path, error).await),
        }
    }

    pub(super) async fn create_upload(&self, path: &StoragePath) -> Result<UploadId, StorageError> {
        let customer_key = self.customer_key.as_ref();
        let answer = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(self.key(path))
            .set_request_payer(self.request_payer.clone())
            .set_server_side_encryption(self.kms_key_id.as_ref().map(|_| ServerSideEncryption::AwsKms))
            .set_ssekms_key_id(self.kms_key_id.clone())
            .set_sse_customer_algorithm(customer_key.map(|_| "AES256".to_owned()))
            .set_sse_customer_key(customer_key.map(|key| key.key.expose_secret().to_owned()))
            .set_sse_customer_key_md5(customer_key.map(|key| key.md5.expose_secret().to_owned()))
            .set_tagging(self.tagging.clone())
            .send()
            .await;
        match answer.map(|answer| answer.upload_id) {
            Ok(Some(id)) if !id.is_empty() => Ok(UploadId(id)),
            Ok(_) => Err(unknown_outcome(path, "the answer has no upload id")),
            Err(error) => Err(self.write_error(path, error).await),
        }
    }

    pub(super) async fn put_part(
        &self,
        path: &StoragePath,
        upload: &UploadId,
        part: UploadPart,
    ) -> Result<PartTag, StorageError> {
        let number = part_number(path, part.number)?;
        let customer_key = self.customer_key.as_ref();
        let answer = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(self.key(path))
            .upload_id(&upload.0)
            .part_number(number)
            .body(ByteStream::from(part.body))
            .set_request_payer(self.request_payer.clone())
            .set_sse_customer_algorithm(customer_key.map(|_| "AES256".to_owned()))
            .set_sse_customer_key(customer_key.map(|key| key.key.expose_secret().to_owned()))
            .set_sse_customer_key_md5(customer_key.map(|key| key.md5.expose_secret().to_owned()))
            .send()
            .await;
        match answer {
            Ok(answer) => Ok(PartTag { number: part.number, tag: receipt(path, answer.e_tag())? }),
            Err(error) => Err(self.write_error(path, error).await),
        }
    }

    /// Completes an upload and looks at the object. An answer without ETag is no success, whatever its status
    /// (faults.md OS02, OS03).
    pub(super) async fn complete_upload(
        &self,
        path: &StoragePath,
        upload: &UploadId,
        parts: &[PartTag],
        condition: Condition,
    ) -> Result<ObjectInfo, StorageError> {
        let headers = Headers::from(condition);
        let mut list = CompletedMultipartUpload::builder();
        for part in parts {
            let number = part_number(path, part.number)?;
            list = list.parts(CompletedPart::builder().part_number(number).e_tag(&part.tag).build());
        }
        let answer = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(self.key(path))
            .upload_id(&upload.0)
            .multipart_upload(list.build())
            .set_if_match(headers.if_match)
            .set_if_none_match(headers.if_none_match)
            .set_request_payer(self.request_payer.clone())
            .send()
            .await;
        let tag = match answer {
            Ok(answer) => receipt(path, answer.e_tag())?,
            Err(error) => return Err(self.write_error(path, error).await),
        };
        let info = match self.object_info(path).await {
            Ok(info) => info,
            Err(error) => {
                return Err(unknown_outcome(path, &format!("the object is complete, but: {}", error.detail())));
            }
        };
        if info.version.as_ref().is_some_and(|version| !is_same_tag(&version.0, &tag)) {
            return Err(unknown_outcome(path, "the object is not the one that was completed"));
        }
        Ok(info)
    }

    pub(super) async fn abort_upload(&self, path: &StoragePath, upload: &UploadId) -> Result<(), StorageError> {
        self.abort_key(path, self.key(path), &upload.0).await
    }

    async fn abort_key(&self, path: &StoragePath, key: String, upload_id: &str) -> Result<(), StorageError> {
        let answer = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload_id)
            .set_request_payer(self.request_payer.clone())
            .send()
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) => match self.failure(error).await {
                failure if failure.class == ErrorClass::Missing => Ok(()),
                failure => Err(failure.into_error(Operation::Write, path)),
            },
        }
    }

    /// Aborts old uploads below a directory. A store that cannot list uploads is left to its own rules.
    pub(super) async fn abort_stale_uploads(
        &self,
        path: &StoragePath,
        begun_before_s: i64,
    ) -> Result<u64, StorageError> {
        let prefix = self.directory_prefix(path);
        let mut marker: Option<(Option<String>, Option<String>)> = None;
        let mut count = 0_u64;
        loop {
            let (key_marker, id_marker) = marker.clone().unwrap_or_default();
            let answer = self
                .client
                .list_multipart_uploads()
                .bucket(&self.bucket)
                .set_prefix((!prefix.is_empty()).then(|| prefix.clone()))
                .set_key_marker(key_marker)
                .set_upload_id_marker(id_marker)
                .set_request_payer(self.request_payer.clone())
                .send()
                .await;
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => match self.failure(error).await {
                    failure if failure.code.as_deref() == Some("NotImplemented") => return Ok(count),
                    failure => return Err(failure.into_error(Operation::List, path)),
                },
            };
            for upload in answer.uploads() {
                let begun_s = upload.initiated().map(DateTime::secs);
                let (Some(key), Some(id), Some(begun_s)) = (upload.key(), upload.upload_id(), begun_s) else {
                    continue;
                };
                if begun_s < begun_before_s && key.starts_with(&prefix) {
                    self.abort_key(path, key.to_owned(), id).await?;
                    count += 1;
                }
            }
            let next = (answer.next_key_marker, answer.next_upload_id_marker);
            if answer.is_truncated != Some(true) {
                return Ok(count);
            }
            if next.0.is_none() || marker.as_ref() == Some(&next) {
                let detail = "the listing of uploads does not go on";
                return Err(StorageError::new(ErrorClass::Transient, Operation::List, path, detail));
            }
            marker = Some(next);
        }
    }

    /// A failed write. `NoSuchKey` for a write is no absence that a caller could use.
    async fn write_error<E>(
        &self,
        path: &StoragePath,
        error: aws_sdk_s3::error::SdkError<E, aws_smithy_runtime_api::client::orchestrator::HttpResponse>,
    ) -> StorageError
    where
        E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + 'static,
    {
        let mut failure = self.failure(error).await;
        if failure.class == ErrorClass::Missing && failure.code.as_deref() != Some("NoSuchUpload") {
            failure.class = ErrorClass::Permanent;
        }
        failure.into_error(Operation::Write, path)
    }
}

/// The ETag that proves that the store took the bytes.
fn receipt(path: &StoragePath, tag: Option<&str>) -> Result<String, StorageError> {
    match tag {
        Some(tag) if !tag.is_empty() => Ok(tag.to_owned()),
        _ => Err(unknown_outcome(path, "the answer has no ETag, so nothing says that the bytes were stored")),
    }
}

fn unknown_outcome(path: &StoragePath, detail: &str) -> StorageError {
    StorageError::new(ErrorClass::Transient, Operation::Write, path, detail)
}

fn part_number(path: &StoragePath, number: u32) -> Result<i32, StorageError> {
    match i32::try_from(number) {
        Ok(signed) if (1..=PARTS_MAX).contains(&number) => Ok(signed),
        _ => {
            let detail = format!("part {number}, expected 1 to {PARTS_MAX}: the object is too large");
            Err(StorageError::new(ErrorClass::Permanent, Operation::Write, path, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn os30_parts_grow_so_that_the_largest_object_fits() {
        assert_eq!(part_size_bytes(1, 5 * MIB), 5 * MIB);
        assert_eq!(part_size_bytes(205, 5 * MIB), 5 * MIB);
        assert_eq!(part_size_bytes(9558, 5 * MIB), 1024 * MIB);
        assert_eq!(part_size_bytes(10_000, 5 * MIB), 1024 * MIB);
        let total: u64 = (1..=10_000).map(|number| part_size_bytes(number, 5 * MIB) as u64).sum();
        assert!(total >= 5 * 1024 * 1024 * MIB as u64, "10000 parts hold {total} bytes");
    }

    proptest::proptest! {
        #[test]
        fn os30_parts_never_shrink_nor_leave_their_bounds(number in 1_u32..10_000, base in 5 * MIB..=1024 * MIB) {
            let (size, next) = (part_size_bytes(number, base), part_size_bytes(number + 1, base));
            proptest::prop_assert!(base <= size && size <= next && next <= 1024 * MIB);
        }
    }
}
