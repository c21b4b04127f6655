//! The custom resource `Archive` (plugin-surface §3): every field of the original with its name and type, checks that
//! are never stricter, and a status.
//!
//! Enumerations are texts here and are checked where they are used, with the name of the field in the message: an
//! Archive with one bad value must still be readable, or the watch of all Archives would stop at it.

mod condition;
mod rules;
mod schema;
mod status;

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use condition::{Truth, Wanted, error_text, shortened, time};
pub use status::{ArchiveStatus, EffectiveRepository, RepositoryStatus, StanzaStatus, VerificationStatus};

/// Where and how clusters keep their WAL and backups.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "pgbackrest.cnpg.opera.com",
    version = "v1",
    kind = "Archive",
    plural = "archives",
    singular = "archive",
    namespaced,
    status = "ArchiveStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Where and how PostgreSQL clusters keep their WAL and backups.",
    printcolumn = r#"{"name":"Bucket","type":"string","jsonPath":".spec.configuration.repositories[0].bucket"}"#,
    printcolumn = r#"{"name":"Valid","type":"string","jsonPath":".status.conditions[?(@.type==\"Valid\")].status"}"#,
    printcolumn = r#"{"name":"Archiving","type":"string","jsonPath":".status.stanzas[0].conditions[?(@.type==\"Archiving\")].status"}"#,
    printcolumn = r#"{"name":"Last backup","type":"date","jsonPath":".status.stanzas[0].lastSuccessfulBackupTime"}"#,
    printcolumn = r#"{"name":"Recoverable from","type":"string","jsonPath":".status.stanzas[0].firstRecoverabilityPoint"}"#,
    printcolumn = r#"{"name":"Missing WAL","type":"integer","jsonPath":".status.stanzas[0].repositories[0].missingWalFiles"}"#,
    printcolumn = r#"{"name":"Next expiry","type":"string","priority":1,"jsonPath":".status.stanzas[0].repositories[0].nextExpiry"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveSpec {
    /// Repositories and how WAL and backups get there and back.
    pub configuration: Configuration,
    /// The container that is added to the clusters' pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_sidecar_configuration: Option<SidecarConfiguration>,
}

/// Repositories and how WAL and backups get there and back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// The repositories; the first is repo1. WAL goes to all of them, a backup to one.
    // As many as pgBackRest knows; without an end the API server would find the rules about each too expensive.
    #[schemars(length(max = 256))]
    pub repositories: Vec<Repository>,
    /// How WAL and backups are compressed: gz (the default), bz2, lz4, zst or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["", "gz", "bz2", "lz4", "zst", "none", null]))]
    pub compression: Option<String>,
    /// The stanza, when the plugin parameter of the same name does not say it; else the cluster's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stanza: Option<String>,
    /// When a missing stanza is made: with the first WAL (OnFirstArchive), with a backup (OnBackup) or never (Disabled).
    #[serde(default = "on_first_archive", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["", "OnFirstArchive", "OnBackup", "Disabled", null]))]
    pub create_stanza: Option<String>,
    /// Archiving and fetching of WAL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<WalConfiguration>,
    /// Backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataConfiguration>,
    /// Restores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreConfiguration>,
    /// Log lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogConfiguration>,
}

#[expect(clippy::unnecessary_wraps, reason = "the field is optional, and this is its default")]
fn on_first_archive() -> Option<String> {
    Some("OnFirstArchive".to_owned())
}

#[expect(clippy::unnecessary_wraps, reason = "the field is optional, and this is its default")]
fn shared_key() -> Option<String> {
    Some("shared".to_owned())
}

/// One repository: a bucket of an S3 server and a path in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::repository()))]
pub struct Repository {
    /// The bucket (`repo-s3-bucket`).
    #[schemars(length(min = 1))]
    pub bucket: String,
    /// The path in the bucket, which begins with a slash (`repo-path`).
    pub destination_path: String,
    /// The server: host, host:port or URL (`repo-s3-endpoint`).
    #[serde(default, rename = "endpointURL", skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// Accept any certificate of the server. Left out, the certificate is verified.
    #[serde(default, rename = "disableVerifyTLS", skip_serializing_if = "Option::is_none")]
    pub disable_verify_tls: Option<bool>,
    /// The certificates that may sign the server's (`repo-storage-ca-file`).
    #[serde(default, rename = "endpointCA", skip_serializing_if = "Option::is_none")]
    pub endpoint_ca: Option<SecretKey>,
    /// The cipher of the repository: aes-256-cbc. Left out, nothing is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["", "aes-256-cbc", "none", null]))]
    pub encryption: Option<String>,
    /// The passphrase, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_key: Option<SecretKey>,
    /// How the server knows us.
    #[serde(default, rename = "s3Credentials", skip_serializing_if = "Option::is_none")]
    pub s3_credentials: Option<S3Credentials>,
    /// How long backups are kept. Left out, they are kept for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// One value of a Secret in the cluster's namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct SecretKey {
    /// The Secret's name.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// How an S3 server knows us.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::credentials()))]
pub struct S3Credentials {
    /// shared (the keys below), auto (what the machine gives) or web-id (a token of the service account).
    #[serde(default = "shared_key", skip_serializing_if = "Option::is_none")]
    pub key_type: Option<String>,
    /// The access key's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<SecretKey>,
    /// The secret access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<SecretKey>,
    /// The region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// host (the default) or path: where the bucket's name is in a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri_style: Option<String>,
}

/// How long backups and WAL are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// How many full backups, or how many days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_999_999))]
    pub full: Option<i32>,
    /// What `full` counts: count (the default) or time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["", "count", "time", null]))]
    pub full_type: Option<String>,
    /// How many differential backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_999_999))]
    pub diff: Option<i32>,
    /// For how many backups WAL is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_999_999))]
    pub archive: Option<i32>,
    /// Which backups `archive` counts: full (the default), diff or incr.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["", "full", "diff", "incr", null]))]
    pub archive_type: Option<String>,
    /// For how many days the manifests of expired backups are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_999_999))]
    pub history: Option<i32>,
}

/// Archiving and fetching of WAL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WalConfiguration {
    /// How many WAL files are pushed, or fetched ahead, at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_parallel: Option<i32>,
    /// Further options of archive-push, as on its command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_additional_command_args: Option<Vec<String>>,
    /// Further options of archive-get, as on its command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_additional_command_args: Option<Vec<String>>,
}

/// Backups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataConfiguration {
    /// How many files are copied at a time (`process-max`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub jobs: Option<i32>,
    /// Begin with a checkpoint at once (`start-fast`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immediate_checkpoint: Option<bool>,
    /// Annotations of each backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// Further options of backup, as on its command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_command_args: Option<Vec<String>>,
}

/// Restores.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreConfiguration {
    /// How many files are restored at a time (`process-max`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub jobs: Option<i32>,
    /// Further options of restore, as on its command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_command_args: Option<Vec<String>>,
}

/// Log lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogConfiguration {
    /// What the engine logs: off, error, warn (the default), info, detail, debug or trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["", "off", "error", "warn", "info", "detail", "debug", "trace", null]))]
    pub level_stderr: Option<String>,
}

/// The container that is added to the clusters' pods. The values are Kubernetes' own and are passed on as they are, so
/// that no field of a newer version is lost on the way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SidecarConfiguration {
    /// Environment variables; PGBACKREST_* are options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::env")]
    pub env: Option<Vec<Value>>,
    /// Requests and limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::resources")]
    pub resources: Option<Value>,
    /// In place of the restricted security context that is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::security_context")]
    pub security_context: Option<Value>,
}

impl Repository {
    /// The keys of Secrets that the repository refers to.
    fn secret_keys(&self) -> impl Iterator<Item = &SecretKey> {
        let credentials = self.s3_credentials.as_ref();
        let keys = [
            self.endpoint_ca.as_ref(),
            self.encryption_key.as_ref(),
            credentials.and_then(|credentials| credentials.access_key_id.as_ref()),
            credentials.and_then(|credentials| credentials.secret_access_key.as_ref()),
        ];
        keys.into_iter().flatten()
    }
}

impl ArchiveSpec {
    /// The keys of Secrets that the repositories refer to.
    pub fn secret_keys(&self) -> impl Iterator<Item = &SecretKey> {
        self.configuration.repositories.iter().flat_map(Repository::secret_keys)
    }
}

/// The definition of the resource, for the manifest.
pub fn definition() -> Value {
    use kube::CustomResourceExt;
    serde_json::to_value(Archive::crd()).unwrap_or(Value::Null)
}
