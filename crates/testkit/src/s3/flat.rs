//! Stores objects under names that never meet those of folders. S3 has `a` beside `a/b`; in a folder one of the two
//! would be in the way of the other.

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, ListObjectsV2Input,
    ListObjectsV2Output, PutObjectInput, PutObjectOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result};
use s3s_fs::FileSystem;

/// What the name of every object's file ends with.
const MARK: char = '~';

/// s3s-fs, with [`MARK`] behind every key.
pub(super) struct FlatKeys(pub(super) FileSystem);

fn unmark(key: Option<String>) -> Option<String> {
    key.map(|key| key.strip_suffix(MARK).map_or(key.clone(), ToOwned::to_owned))
}

type Answer<T> = S3Result<S3Response<T>>;

#[async_trait::async_trait]
impl S3 for FlatKeys {
    async fn get_object(&self, mut request: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        request.input.key.push(MARK);
        self.0.get_object(request).await
    }

    async fn head_object(&self, mut request: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        request.input.key.push(MARK);
        self.0.head_object(request).await
    }

    async fn put_object(&self, mut request: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        request.input.key.push(MARK);
        self.0.put_object(request).await
    }

    async fn delete_object(&self, mut request: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        request.input.key.push(MARK);
        self.0.delete_object(request).await
    }

    async fn delete_objects(&self, mut request: S3Request<DeleteObjectsInput>) -> Answer<DeleteObjectsOutput> {
        for object in &mut request.input.delete.objects {
            object.key.push(MARK);
        }
        let mut answer = self.0.delete_objects(request).await?;
        for deleted in answer.output.deleted.iter_mut().flatten() {
            deleted.key = unmark(deleted.key.take());
        }
        for error in answer.output.errors.iter_mut().flatten() {
            error.key = unmark(error.key.take());
        }
        Ok(answer)
    }

    async fn list_objects_v2(&self, request: S3Request<ListObjectsV2Input>) -> Answer<ListObjectsV2Output> {
        let mut answer = self.0.list_objects_v2(request).await?;
        for object in answer.output.contents.iter_mut().flatten() {
            object.key = unmark(object.key.take());
        }
        Ok(answer)
    }

    async fn create_multipart_upload(
        &self,
        mut request: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        request.input.key.push(MARK);
        self.0.create_multipart_upload(request).await
    }

    async fn upload_part(&self, mut request: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        request.input.key.push(MARK);
        self.0.upload_part(request).await
    }

    async fn complete_multipart_upload(
        &self,
        mut request: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        request.input.key.push(MARK);
        self.0.complete_multipart_upload(request).await
    }

    async fn abort_multipart_upload(
        &self,
        mut request: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        request.input.key.push(MARK);
        self.0.abort_multipart_upload(request).await
    }
}
