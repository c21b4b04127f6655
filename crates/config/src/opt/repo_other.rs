//! Stores that cannot be used yet (Azure, GCS), or never will be (SFTP).

use super::key::*;
use super::row::*;
use super::why;
use crate::command::set::*;

options! {
    "storage account"
    REPO_AZURE_ACCOUNT: RepoKey<Secret> = global("repo-azure-account", REPOSITORY)
        .when("repo-type", &["azure"]).background().refused(why::AZURE);

    "container"
    REPO_AZURE_CONTAINER: RepoKey<Text> = global("repo-azure-container", REPOSITORY)
        .when("repo-type", &["azure"]).background().refused(why::AZURE);

    "endpoint of the store"
    REPO_AZURE_ENDPOINT: RepoKey<Secret> = global("repo-azure-endpoint", REPOSITORY)
        .default("blob.core.windows.net").when("repo-type", &["azure"]).background().refused(why::AZURE);

    "shared key or signature"
    REPO_AZURE_KEY: RepoKey<Secret> = global("repo-azure-key", REPOSITORY)
        .optional().when("repo-azure-key-type", &["shared", "sas"]).background().refused(why::AZURE);

    "what repo-azure-key holds"
    REPO_AZURE_KEY_TYPE: RepoKey<StringId> = global("repo-azure-key-type", REPOSITORY)
        .default("shared").allowed(&["shared", "sas", "auto"]).when("repo-type", &["azure"]).background()
        .refused(why::AZURE);

    "put the account into the host name or into the path"
    REPO_AZURE_URI_STYLE: RepoKey<StringId> = global("repo-azure-uri-style", REPOSITORY)
        .default("host").allowed(&["host", "path"]).when("repo-type", &["azure"]).background().refused(why::AZURE);

    "bucket"
    REPO_GCS_BUCKET: RepoKey<Text> = global("repo-gcs-bucket", REPOSITORY)
        .when_set("repo-gcs-key-type").background().refused(why::GCS);

    "endpoint of the store"
    REPO_GCS_ENDPOINT: RepoKey<Text> = global("repo-gcs-endpoint", REPOSITORY)
        .default("storage.googleapis.com").when_set("repo-gcs-key-type").background().refused(why::GCS);

    "file with the key, or a token"
    REPO_GCS_KEY: RepoKey<Secret> = global("repo-gcs-key", REPOSITORY)
        .when("repo-gcs-key-type", &["service", "token"]).background().refused(why::GCS);

    "what repo-gcs-key holds"
    REPO_GCS_KEY_TYPE: RepoKey<StringId> = global("repo-gcs-key-type", REPOSITORY)
        .default("service").allowed(&["service", "token", "auto"]).when("repo-type", &["gcs"]).background()
        .refused(why::GCS);

    "project that is charged for requests"
    REPO_GCS_USER_PROJECT: RepoKey<Text> = global("repo-gcs-user-project", REPOSITORY)
        .optional().background().refused(why::GCS);

    "host"
    REPO_SFTP_HOST: RepoKey<Text> = global("repo-sftp-host", REPOSITORY)
        .when("repo-type", &["sftp"]).background().refused(why::SFTP);

    "expected fingerprint of the host"
    REPO_SFTP_HOST_FINGERPRINT: RepoKey<Text> = global("repo-sftp-host-fingerprint", REPOSITORY)
        .optional().when("repo-sftp-host-key-check-type", &["fingerprint", "strict"]).background()
        .refused(why::SFTP);

    "how the host is recognised"
    REPO_SFTP_HOST_KEY_CHECK_TYPE: RepoKey<StringId> = global("repo-sftp-host-key-check-type", REPOSITORY)
        .default("strict").allowed(&["accept-new", "fingerprint", "none", "strict"]).when("repo-type", &["sftp"])
        .background().refused(why::SFTP);

    "hash of the fingerprint"
    REPO_SFTP_HOST_KEY_HASH_TYPE: RepoKey<StringId> = global("repo-sftp-host-key-hash-type", REPOSITORY)
        .allowed(&["md5", "sha1", "sha256"]).when("repo-type", &["sftp"]).background().refused(why::SFTP);

    "port"
    REPO_SFTP_HOST_PORT: RepoKey<Integer> = global("repo-sftp-host-port", REPOSITORY)
        .default("22").range("1", "65535").when("repo-type", &["sftp"]).background().refused(why::SFTP);

    "user"
    REPO_SFTP_HOST_USER: RepoKey<Text> = global("repo-sftp-host-user", REPOSITORY)
        .when("repo-type", &["sftp"]).background().refused(why::SFTP);

    "file with known hosts"
    REPO_SFTP_KNOWN_HOST: RepoKey<List> = global("repo-sftp-known-host", REPOSITORY)
        .optional().when("repo-sftp-host-key-check-type", &["accept-new", "strict"]).background().refused(why::SFTP);

    "file with the private key"
    REPO_SFTP_PRIVATE_KEY_FILE: RepoKey<Text> = global("repo-sftp-private-key-file", REPOSITORY)
        .when("repo-type", &["sftp"]).background().refused(why::SFTP);

    "passphrase of the private key"
    REPO_SFTP_PRIVATE_KEY_PASSPHRASE: RepoKey<Secret> = global("repo-sftp-private-key-passphrase", REPOSITORY)
        .optional().when("repo-type", &["sftp"]).background().refused(why::SFTP);

    "file with the public key"
    REPO_SFTP_PUBLIC_KEY_FILE: RepoKey<Text> = global("repo-sftp-public-key-file", REPOSITORY)
        .optional().when("repo-type", &["sftp"]).background().refused(why::SFTP);
}
