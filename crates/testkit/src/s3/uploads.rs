//! The unfinished uploads of a server: s3s-fs does not list them, and answers for finished ones with a wrong code.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::fault::{RequestInfo, S3Operation};
use super::service::percent_decode;

/// Uploads by id: bucket and key.
#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<BTreeMap<String, (String, String)>>);

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (String, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request names an upload that was never begun here or is over.
    pub(super) fn is_unknown(&self, request: &RequestInfo) -> bool {
        let about_upload = matches!(
            request.operation,
            S3Operation::UploadPart | S3Operation::CompleteMultipartUpload | S3Operation::AbortMultipartUpload
        );
        about_upload && parameter(request, "uploadId").is_none_or(|id| !self.lock().contains_key(&id))
    }

    /// Takes note of a request that succeeded with this answer.
    pub(super) fn note(&self, request: &RequestInfo, answer: &[u8]) {
        let text = String::from_utf8_lossy(answer);
        if request.operation == S3Operation::CreateMultipartUpload {
            let id = text.split_once("<UploadId>").and_then(|(_, rest)| rest.split_once("</UploadId>"));
            if let Some((id, _)) = id {
                self.lock().insert(id.to_owned(), (request.bucket.clone(), request.key.clone()));
            }
        } else if let Some(id) = parameter(request, "uploadId")
            && !text.contains("<Error>")
        {
            self.lock().remove(&id);
        }
    }

    /// The answer to ListMultipartUploads; all uploads were begun at the beginning of 2026.
    pub(super) fn list(&self, request: &RequestInfo) -> Bytes {
        let prefix = parameter(request, "prefix").unwrap_or_default();
        let mut body = "<?xml version=\"1.0\"?><ListMultipartUploadsResult><IsTruncated>false</IsTruncated>".to_owned();
        for (id, (bucket, key)) in self.lock().iter() {
            if *bucket == request.bucket && key.starts_with(&prefix) {
                let key = key.replace('&', "&amp;").replace('<', "&lt;");
                body.push_str(&format!(
                    "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>2026-01-01T00:00:00Z</Initiated></Upload>"
                ));
            }
        }
        body.push_str("</ListMultipartUploadsResult>");
        body.into()
    }
}

/// A parameter of the query, decoded.
pub(super) fn parameter(request: &RequestInfo, name: &str) -> Option<String> {
    let mut terms = request.query.split('&').filter_map(|term| term.split_once('='));
    terms.find(|(other, _)| *other == name).map(|(_, value)| percent_decode(value))
}
