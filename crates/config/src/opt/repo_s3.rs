//! Object stores: what they share, and S3.

use super::key::*;
use super::row::*;
use super::why;
use crate::command::set::*;

options! {
    "certificate authorities of the store, as a file"
    REPO_STORAGE_CA_FILE: RepoKey<Text> = global("repo-storage-ca-file", REPOSITORY)
        .optional().when("repo-type", &["azure", "gcs", "s3"]).background()
        .deprecated(&[old_indexed("repo-azure-ca-file"), old_either("repo-s3-ca-file")]);

    "certificate authorities of the store, as a directory"
    REPO_STORAGE_CA_PATH: RepoKey<Path> = global("repo-storage-ca-path", REPOSITORY)
        .optional().when("repo-type", &["azure", "gcs", "s3"]).background()
        .deprecated(&[old_indexed("repo-azure-ca-path"), old_either("repo-s3-ca-path")]);

    "host to connect to instead of the endpoint"
    REPO_STORAGE_HOST: RepoKey<Text> = global("repo-storage-host", REPOSITORY)
        .optional().when("repo-type", &["azure", "s3"]).background()
        .deprecated(&[old_indexed("repo-azure-host"), old_either("repo-s3-host")]);

    "port of the store"
    REPO_STORAGE_PORT: RepoKey<Integer> = global("repo-storage-port", REPOSITORY)
        .default("443").range("1", "65535").when("repo-type", &["azure", "s3"]).background()
        .deprecated(&[old_indexed("repo-azure-port"), old_indexed("repo-s3-port")]);

    "files requested ahead of the one being read"
    REPO_STORAGE_PREFETCH: RepoKey<Integer> = global("repo-storage-prefetch", REPOSITORY)
        .default("3").range("0", "1024").when("repo-type", &["azure", "gcs", "s3"]).background();

    "bytes read over between two wanted ranges rather than asked for apart"
    REPO_STORAGE_READ_OVER: RepoKey<Size> = global("repo-storage-read-over", REPOSITORY)
        .default("64KiB").range("0B", "1MiB").when("repo-type", &["azure", "gcs", "s3"]).background();

    "key=value pair put on new objects"
    REPO_STORAGE_TAG: RepoKey<Hash> = global("repo-storage-tag", REPOSITORY)
        .optional().when("repo-type", &["azure", "gcs", "s3"]).background();

    "bytes in one part of a multipart upload"
    REPO_STORAGE_UPLOAD_CHUNK_SIZE: RepoKey<Size> = global("repo-storage-upload-chunk-size", REPOSITORY)
        .default_by(&[("azure", "4MiB"), ("gcs", "4MiB"), ("s3", "5MiB")])
        .range_by(&[("azure", "4MiB", "1GiB"), ("gcs", "4MiB", "1GiB"), ("s3", "5MiB", "1GiB")])
        .when("repo-type", &["azure", "gcs", "s3"]).background();

    "verify the certificate of the store"
    REPO_STORAGE_VERIFY_TLS: RepoKey<Boolean> = global("repo-storage-verify-tls", REPOSITORY)
        .default("y").when("repo-type", &["azure", "gcs", "s3"]).background()
        .deprecated(&[
            old_indexed("repo-azure-verify-tls"),
            old_either("repo-s3-verify-ssl"),
            old_indexed("repo-s3-verify-tls"),
        ]);

    "bucket"
    REPO_S3_BUCKET: RepoKey<Text> = global("repo-s3-bucket", REPOSITORY)
        .when("repo-type", &["s3"]).background().deprecated(&[old("repo-s3-bucket")]);

    "endpoint of the store"
    REPO_S3_ENDPOINT: RepoKey<Text> = global("repo-s3-endpoint", REPOSITORY)
        .when("repo-type", &["s3"]).background().deprecated(&[old("repo-s3-endpoint")]);

    "access key"
    REPO_S3_KEY: RepoKey<Secret> = global("repo-s3-key", REPOSITORY)
        .when("repo-s3-key-type", &["shared"]).background().deprecated(&[old("repo-s3-key")]);

    "secret access key"
    REPO_S3_KEY_SECRET: RepoKey<Secret> = global("repo-s3-key-secret", REPOSITORY)
        .when("repo-s3-key-type", &["shared"]).background().deprecated(&[old("repo-s3-key-secret")]);

    "where the access key comes from"
    REPO_S3_KEY_TYPE: RepoKey<StringId> = global("repo-s3-key-type", REPOSITORY)
        .default("shared").allowed(&["shared", "auto", "web-id", "pod-id", "process"]).when("repo-type", &["s3"])
        .background().refused_values(&[("process", why::CREDENTIAL_PROCESS)]);

    "KMS key with which the store encrypts new objects"
    REPO_S3_KMS_KEY_ID: RepoKey<Text> = global("repo-s3-kms-key-id", REPOSITORY)
        .optional().when("repo-type", &["s3"]).background();

    "program, and its arguments, that prints credentials"
    REPO_S3_PROCESS_CMD: RepoKey<List> = global("repo-s3-process-cmd", REPOSITORY)
        .when("repo-s3-key-type", &["process"]).background().refused(why::CREDENTIAL_PROCESS);

    "region"
    REPO_S3_REGION: RepoKey<Text> = global("repo-s3-region", REPOSITORY)
        .when("repo-type", &["s3"]).background().deprecated(&[old("repo-s3-region")]);

    "accept that requests are charged to us"
    REPO_S3_REQUESTER_PAYS: RepoKey<Boolean> = global("repo-s3-requester-pays", REPOSITORY)
        .default("n").when("repo-type", &["s3"]).background();

    "role of the instance whose credentials are used"
    REPO_S3_ROLE: RepoKey<Text> = global("repo-s3-role", REPOSITORY)
        .optional().when("repo-s3-key-type", &["auto"]).background();

    "service name in the signature"
    REPO_S3_SERVICE: RepoKey<Text> = global("repo-s3-service", REPOSITORY)
        .default("s3").when("repo-type", &["s3"]).background();

    "key that is sent with every request, with which the store encrypts"
    REPO_S3_SSE_CUSTOMER_KEY: RepoKey<Secret> = global("repo-s3-sse-customer-key", REPOSITORY)
        .optional().when("repo-type", &["s3"]).background();

    "host of the security token service"
    REPO_S3_STS_HOST: RepoKey<Text> = global("repo-s3-sts-host", REPOSITORY)
        .default("sts.amazonaws.com").when("repo-s3-key-type", &["web-id"]).background();

    "session token that belongs to the access key"
    REPO_S3_TOKEN: RepoKey<Secret> = global("repo-s3-token", REPOSITORY)
        .optional().when("repo-s3-key-type", &["shared"]).background();

    "put the bucket into the host name or into the path"
    REPO_S3_URI_STYLE: RepoKey<StringId> = global("repo-s3-uri-style", REPOSITORY)
        .default("host").allowed(&["host", "path"]).when("repo-type", &["s3"]).background();
}
