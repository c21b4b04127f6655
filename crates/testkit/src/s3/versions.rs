//! A bucket with versioning: every content that a key had is kept, every deletion noted, as S3 does it.
//!
//! The current objects stay files in the bucket's folder. A copy of each content lies in a folder of its own, under its
//! id. What was in the bucket's folder before, or was put there behind the server's back, has no versions.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, ETag, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput,
    ListObjectVersionsInput, ListObjectVersionsOutput, ListObjectsV2Input, ListObjectsV2Output, PutObjectInput,
    PutObjectOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tempfile::TempDir;

use super::fault::RequestInfo;
use super::uploads::parameter;

/// S3's limit for a page of a listing.
const PAGE_MAX: usize = 1000;

/// What happened to a key.
#[derive(Debug, Clone)]
struct Change {
    id: String,
    at: Timestamp,
    /// ETag and bytes of the content; `None` for a deletion.
    written: Option<(String, u64)>,
}

/// What happened to the keys of all buckets.
#[derive(Debug)]
pub(super) struct Versions {
    /// By bucket and key, the oldest first.
    changes: Mutex<BTreeMap<(String, String), Vec<Change>>>,
    page_max: Mutex<usize>,
    copies: TempDir,
}

impl Versions {
    pub(super) fn new() -> io::Result<Self> {
        let copies = tempfile::tempdir()?;
        Ok(Self { changes: Mutex::default(), page_max: Mutex::new(PAGE_MAX), copies })
    }

    /// Pages of a listing have at most so many entries from now on.
    pub(super) fn set_page_max(&self, entries: usize) {
        *self.page_max.lock().unwrap_or_else(PoisonError::into_inner) = entries.clamp(1, PAGE_MAX);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Vec<Change>>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, bucket: &str, key: &str, id: String, written: Option<(String, u64)>) {
        let mut changes = self.lock();
        let change = Change { id, at: Timestamp::now(), written };
        changes.entry((bucket.to_owned(), key.to_owned())).or_default().push(change);
    }

    /// An id that no other version has.
    fn next_id(&self) -> String {
        let count: usize = self.lock().values().map(Vec::len).sum();
        format!("v{count:08}.{:x}", Timestamp::now().as_nanosecond())
    }

    fn copy_of(&self, bucket: &str, id: &str) -> PathBuf {
        self.copies.path().join(bucket).join(id)
    }

    /// The answer to ListObjectVersions: per key the newest first, deletions in their place among the contents.
    pub(super) fn list(&self, request: &RequestInfo) -> Bytes {
        let text = |name: &str| parameter(request, name).filter(|value| !value.is_empty());
        let prefix = text("prefix").unwrap_or_default();
        let delimiter = text("delimiter");
        let marker = text("key-marker").map(|key| (key, text("version-id-marker")));
        let asked = text("max-keys").and_then(|count| count.parse().ok()).unwrap_or(PAGE_MAX);
        let page_max = asked.min(*self.page_max.lock().unwrap_or_else(PoisonError::into_inner));
        let mut rows: Vec<Row> = Vec::new();
        let mut is_truncated = false;
        for ((bucket, key), changes) in self.lock().iter() {
            let Some(rest) = key.strip_prefix(&prefix).filter(|_| *bucket == request.bucket) else { continue };
            let group = delimiter.as_deref().and_then(|end| Some(format!("{prefix}{}{end}", rest.split_once(end)?.0)));
            let found = match group {
                Some(group) if rows.iter().any(|row| row.group && row.key == group) => Vec::new(),
                Some(group) if marker.as_ref().is_some_and(|(after, _)| *after >= group) => Vec::new(),
                Some(group) => vec![Row { xml: common_prefix(&group), key: group, id: String::new(), group: true }],
                None => after_marker(key, changes, marker.as_ref()),
            };
            for row in found {
                if rows.len() == page_max {
                    is_truncated = true;
                    break;
                }
                rows.push(row);
            }
        }
        document(&rows, is_truncated)
    }
}

/// One element of the answer.
struct Row {
    key: String,
    id: String,
    xml: String,
    group: bool,
}

/// The changes of a key that come behind the marker, the newest first.
fn after_marker(key: &str, changes: &[Change], marker: Option<&(String, Option<String>)>) -> Vec<Row> {
    let latest = changes.len().saturating_sub(1);
    let rows = changes.iter().enumerate().rev().map(|(number, change)| Row {
        key: key.to_owned(),
        id: change.id.clone(),
        xml: element(key, change, number == latest),
        group: false,
    });
    match marker {
        Some((after, _)) if key < after.as_str() => Vec::new(),
        Some((after, None)) if key == after => Vec::new(),
        Some((after, Some(id))) if key == after => rows.skip_while(|row| row.id != *id).skip(1).collect(),
        _ => rows.collect(),
    }
}

fn document(rows: &[Row], is_truncated: bool) -> Bytes {
    let mut body = "<?xml version=\"1.0\"?><ListVersionsResult>".to_owned();
    body.push_str(&format!("<IsTruncated>{is_truncated}</IsTruncated>"));
    if let Some(last) = rows.last().filter(|_| is_truncated) {
        body.push_str(&format!("<NextKeyMarker>{}</NextKeyMarker>", escape(&last.key)));
        if !last.group {
            body.push_str(&format!("<NextVersionIdMarker>{}</NextVersionIdMarker>", last.id));
        }
    }
    rows.iter().for_each(|row| body.push_str(&row.xml));
    body.push_str("</ListVersionsResult>");
    body.into()
}

fn common_prefix(prefix: &str) -> String {
    format!("<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escape(prefix))
}

/// Times have whole seconds, as those of S3.
fn element(key: &str, change: &Change, is_latest: bool) -> String {
    let common = format!(
        "<Key>{}</Key><VersionId>{}</VersionId><IsLatest>{is_latest}</IsLatest><LastModified>{}</LastModified>",
        escape(key),
        change.id,
        change.at.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    );
    match &change.written {
        Some((tag, size)) => {
            format!("<Version>{common}<ETag>&quot;{tag}&quot;</ETag><Size>{size}</Size></Version>")
        }
        None => format!("<DeleteMarker>{common}</DeleteMarker>"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// s3s-fs with versions.
pub(super) struct VersionedKeys {
    files: FileSystem,
    copies: FileSystem,
    root: PathBuf,
    versions: Arc<Versions>,
}

type Answer<T> = S3Result<S3Response<T>>;

impl VersionedKeys {
    pub(super) fn new(files: FileSystem, root: &Path, versions: Arc<Versions>) -> io::Result<Self> {
        let copies = FileSystem::new(versions.copies.path()).map_err(|error| io::Error::other(format!("{error:?}")))?;
        Ok(Self { files, copies, root: root.to_owned(), versions })
    }

    /// Keeps what the key has now.
    fn keep(&self, bucket: &str, key: &str, tag: Option<&ETag>) -> io::Result<String> {
        let id = self.versions.next_id();
        let copy = self.versions.copy_of(bucket, &id);
        if let Some(folder) = copy.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let size = std::fs::copy(self.root.join(bucket).join(key), copy)?;
        let tag = tag.map(|tag| tag.value().to_owned()).unwrap_or_default();
        self.versions.note(bucket, key, id.clone(), Some((tag, size)));
        Ok(id)
    }

    fn find(&self, bucket: &str, key: &str, id: &str) -> Option<Change> {
        let changes = self.versions.lock();
        changes.get(&(bucket.to_owned(), key.to_owned()))?.iter().find(|change| change.id == id).cloned()
    }
}

fn internal(error: &io::Error) -> s3s::S3Error {
    s3_error!(InternalError, "{error}")
}

#[async_trait::async_trait]
impl S3 for VersionedKeys {
    async fn get_object(&self, mut request: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        let Some(id) = request.input.version_id.take() else { return self.files.get_object(request).await };
        let change = self.find(&request.input.bucket, &request.input.key, &id);
        let Some(change) = change else { return Err(s3_error!(NoSuchVersion)) };
        let Some((tag, _)) = change.written else { return Err(s3_error!(MethodNotAllowed)) };
        request.input.key.clone_from(&id);
        let mut answer = self.copies.get_object(request).await?;
        answer.output.e_tag = Some(ETag::Strong(tag));
        answer.output.version_id = Some(id);
        Ok(answer)
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        match request.input.version_id {
            None => self.files.head_object(request).await,
            Some(_) => Err(s3_error!(NotImplemented)),
        }
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        let mut answer = self.files.put_object(request).await?;
        let kept = self.keep(&bucket, &key, answer.output.e_tag.as_ref());
        answer.output.version_id = Some(kept.map_err(|error| internal(&error))?);
        Ok(answer)
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        if request.input.version_id.is_some() {
            return Err(s3_error!(NotImplemented));
        }
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        let answer = self.files.delete_object(request).await?;
        self.versions.note(&bucket, &key, self.versions.next_id(), None);
        Ok(answer)
    }

    async fn delete_objects(&self, request: S3Request<DeleteObjectsInput>) -> Answer<DeleteObjectsOutput> {
        let bucket = request.input.bucket.clone();
        let keys: Vec<String> = request.input.delete.objects.iter().map(|object| object.key.clone()).collect();
        let answer = self.files.delete_objects(request).await?;
        let failed: Vec<_> = answer.output.errors.iter().flatten().filter_map(|error| error.key.clone()).collect();
        for key in keys.iter().filter(|key| !failed.contains(key)) {
            self.versions.note(&bucket, key, self.versions.next_id(), None);
        }
        Ok(answer)
    }

    async fn list_objects_v2(&self, request: S3Request<ListObjectsV2Input>) -> Answer<ListObjectsV2Output> {
        self.files.list_objects_v2(request).await
    }

    /// Only lets the request through: the answer's lists would tell contents and deletions apart, and so lose their
    /// order. [`Versions::list`] makes the document.
    async fn list_object_versions(&self, _: S3Request<ListObjectVersionsInput>) -> Answer<ListObjectVersionsOutput> {
        Ok(S3Response::new(ListObjectVersionsOutput::default()))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        self.files.create_multipart_upload(request).await
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        self.files.upload_part(request).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        let mut answer = self.files.complete_multipart_upload(request).await?;
        let kept = self.keep(&bucket, &key, answer.output.e_tag.as_ref());
        answer.output.version_id = Some(kept.map_err(|error| internal(&error))?);
        Ok(answer)
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        self.files.abort_multipart_upload(request).await
    }
}
