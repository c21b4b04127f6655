//! Removing: single objects, batches with DeleteObjects, whole directories.

use std::sync::atomic::Ordering;

use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use base64::Engine;
use md5::{Digest, Md5};

use super::S3Storage;
use super::error::Failure;
use crate::storage::{ErrorClass, Operation, StorageError, StoragePath};

/// Most keys of one DeleteObjects (S3 API reference).
const KEYS_MAX: usize = 1000;

impl S3Storage {
    /// One DELETE; `path` names the object in errors.
    pub(super) async fn delete_key(&self, key: String, path: &StoragePath) -> Result<(), StorageError> {
        let answer = self
            .client
            .delete_object()
            .bucket(&self.bucket)
            .key(key)
            .set_request_payer(self.request_payer.clone())
            .send()
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) => match self.failure(error).await {
                failure if failure.class == ErrorClass::Missing => Ok(()),
                failure => Err(failure.into_error(Operation::Remove, path)),
            },
        }
    }

    pub(super) async fn delete_paths(&self, paths: &[StoragePath]) -> Result<Vec<StorageError>, StorageError> {
        let mut left = Vec::new();
        for batch in paths.chunks(KEYS_MAX) {
            let keys: Vec<_> = batch.iter().map(|path| (self.key(path), path.clone())).collect();
            left.extend(self.delete_batch(&keys).await?);
        }
        Ok(left)
    }

    /// Removes what the listing shows, page by page; the first object that stays is the error.
    pub(super) async fn delete_tree(&self, path: &StoragePath) -> Result<(), StorageError> {
        let prefix = self.directory_prefix(path);
        let mut page = None;
        let mut left = Vec::new();
        loop {
            let (keys, next) = self.list_raw_keys(path, &prefix, page.as_ref()).await?;
            let keys: Vec<_> = keys.into_iter().map(|key| self.named(key, path)).collect();
            for batch in keys.chunks(KEYS_MAX) {
                left.extend(self.delete_batch(batch).await?);
            }
            match next {
                None => break,
                next => page = next,
            }
        }
        let count = left.len();
        match left.into_iter().next() {
            None => Ok(()),
            Some(first) => {
                let detail = format!("{count} objects stay, the first is '{}': {}", first.location(), first.detail());
                Err(StorageError::new(first.class(), Operation::Remove, path, detail))
            }
        }
    }

    /// The path that a key has in errors; a key that is no path is known by its directory.
    fn named(&self, key: String, directory: &StoragePath) -> (String, StoragePath) {
        let below = key.strip_prefix(&self.directory_prefix(&StoragePath::root())).unwrap_or(&key);
        let path = StoragePath::parse(below).unwrap_or_else(|_| directory.clone());
        (key, path)
    }

    /// Removes up to [`KEYS_MAX`] keys; those that the batch could not remove are tried once alone, as pgBackRest does
    /// (`storageS3PathRemoveInternal`).
    async fn delete_batch(&self, keys: &[(String, StoragePath)]) -> Result<Vec<StorageError>, StorageError> {
        let Some((_, first)) = keys.first() else { return Ok(Vec::new()) };
        let refused = match self.single_deletes.load(Ordering::Relaxed) {
            true => None,
            false => match self.delete_objects(keys).await {
                Ok(refused) => Some(refused),
                Err(failure) if is_unknown_operation(&failure) => {
                    self.single_deletes.store(true, Ordering::Relaxed);
                    None
                }
                Err(failure) => return Err(failure.into_error(Operation::Remove, first)),
            },
        };
        let mut left = Vec::new();
        for (key, path) in keys {
            if refused.as_ref().is_none_or(|refused| refused.iter().any(|other| other == key))
                && let Err(error) = self.delete_key(key.clone(), path).await
            {
                left.push(error);
            }
        }
        Ok(left)
    }

    /// One DeleteObjects; returns the keys that the store could not remove.
    async fn delete_objects(&self, keys: &[(String, StoragePath)]) -> Result<Vec<String>, Failure> {
        let mut delete = Delete::builder().quiet(true);
        for (key, _) in keys {
            let object = ObjectIdentifier::builder().key(key).build();
            delete = delete.objects(object.map_err(|error| Failure::new(ErrorClass::Permanent, error.to_string()))?);
        }
        let delete = delete.build().map_err(|error| Failure::new(ErrorClass::Permanent, error.to_string()))?;
        let request = self.client.delete_objects().bucket(&self.bucket).delete(delete);
        let request = request.set_request_payer(self.request_payer.clone());
        let answer = match request.customize().interceptor(ContentMd5).send().await {
            Ok(answer) => answer,
            Err(error) => return Err(self.failure(error).await),
        };
        let refused = answer.errors().iter().filter(|error| error.code() != Some("NoSuchKey"));
        refused
            .map(|error| match error.key() {
                Some(key) if keys.iter().any(|(asked, _)| asked == key) => Ok(key.to_owned()),
                _ => Err(Failure::new(ErrorClass::Transient, "the answer names an object that was not to be removed")),
            })
            .collect()
    }
}

fn is_unknown_operation(failure: &Failure) -> bool {
    matches!(failure.code.as_deref(), Some("NotImplemented" | "MethodNotAllowed"))
        || matches!(failure.status, Some(405 | 501))
}

/// Sends Content-MD5 with the list of keys in place of the SDK's newer checksum. Some stores insist on the one, others
/// refuse the other; pgBackRest sends only Content-MD5 everywhere (faults.md OS19).
#[derive(Debug)]
struct ContentMd5;

#[dyn_dispatch_hint]
impl Intercept for ContentMd5 {
    fn name(&self) -> &'static str {
        "ContentMd5"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let digest = Md5::digest(request.body().bytes().ok_or("the list of keys is not in memory")?);
        let digest = base64::engine::general_purpose::STANDARD.encode(digest);
        let headers = request.headers_mut();
        let newer: Vec<String> = headers
            .iter()
            .map(|(name, _)| name.to_owned())
            .filter(|name| name.starts_with("x-amz-checksum-") || name == "x-amz-sdk-checksum-algorithm")
            .collect();
        for name in newer {
            headers.remove(name);
        }
        headers.insert("content-md5", digest);
        Ok(())
    }
}
