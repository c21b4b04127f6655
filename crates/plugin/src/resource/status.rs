//! What is known about an Archive: its effective settings, and what its stanzas hold.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use pgbr_repo::storage::s3::S3Endpoint;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ArchiveSpec, Repository, schema};

/// The observed state of an Archive.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults)]
pub struct ArchiveStatus {
    /// The generation of the specification that `repositories` was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Warnings and mistakes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The settings that are in effect where it matters, defaults included.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["number"]))]
    pub repositories: Vec<EffectiveRepository>,
    /// What each cluster keeps here, written by the clusters' sidecars.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub stanzas: Vec<StanzaStatus>,
}

/// What one stanza holds. Times are RFC 3339.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults)]
pub struct StanzaStatus {
    /// The stanza.
    #[schemars(required)]
    pub name: String,
    /// The cluster that writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The UID of the Cluster whose archive this was found to be.
    #[serde(rename = "clusterUID", skip_serializing_if = "Option::is_none")]
    pub cluster_uid: Option<String>,
    /// The system identifier of the archive then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_id: Option<String>,
    /// Its version of PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgresql_version: Option<String>,
    /// The earliest point that can be restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_recoverability_point: Option<String>,
    /// The end of the last good backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_successful_backup_time: Option<String>,
    /// The label of the last good backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_backup_label: Option<String>,
    /// When the last backup failed, if one failed since the last good one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failed_backup_time: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// The last WAL file that was archived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_archived_wal: Option<String>,
    /// When it was archived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_archived_wal_time: Option<String>,
    /// When a WAL file could last not be archived, if that was after the last one that could.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failed_archive_time: Option<String>,
    /// Which file that was, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_archive_failure: Option<String>,
    /// How many WAL files wait on the primary to be archived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_wal_files: Option<i32>,
    /// The one that waits longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_waiting_wal: Option<String>,
    /// Since when it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_waiting_wal_time: Option<String>,
    /// What each repository holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["number"]))]
    pub repositories: Vec<RepositoryStatus>,
    /// How verifications of the repositories went, where they are verified now and then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["number"]))]
    pub verifications: Vec<VerificationStatus>,
    /// Reachable, Archiving, Continuous, Recoverable, Verified, RetentionApplied, Exclusive: false is what somebody should look at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What a stanza has in one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults)]
pub struct RepositoryStatus {
    /// 1 for the first.
    #[schemars(required)]
    pub number: i32,
    /// Whether it answered at the last look.
    pub reachable: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How many backups it lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backups: Option<i32>,
    /// What the backups take there, in bytes, without WAL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_bytes: Option<i64>,
    /// The end of the oldest backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_recoverability_point: Option<String>,
    /// The newest backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_backup_label: Option<String>,
    /// The newest WAL segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_archived_wal: Option<String>,
    /// How many WAL segments are missing that its backups, or recovery from them, need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_wal_files: Option<i64>,
    /// The first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_missing_wal: Option<String>,
    /// When retention removes something next, if it does: a time, or with which backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_expiry: Option<String>,
    /// The backups that go then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub next_expiring_backups: Vec<String>,
}

/// How the last verification of a repository went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults)]
pub struct VerificationStatus {
    /// 1 for the first.
    #[schemars(required)]
    pub number: i32,
    /// When everything in the repository was read last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_verification_time: Option<String>,
    /// When all of it was as it was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_successful_verification_time: Option<String>,
    /// What is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    /// Why the last try did not come to an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The settings of a repository whose omission must be safe (faults.md KG26).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults)]
pub struct EffectiveRepository {
    /// 1 for the first.
    #[schemars(required)]
    pub number: i32,
    /// Whether the server's certificate is verified: not over plain HTTP, which has none.
    #[serde(rename = "verifyTLS")]
    pub verify_tls: bool,
    /// The cipher, or none.
    pub encryption: String,
    /// Where the bucket's name is in a URL: host or path.
    pub uri_style: String,
    /// Where the credentials come from.
    pub key_type: String,
    /// How backups expire, in words.
    pub retention: String,
}

impl EffectiveRepository {
    fn of(number: i32, repository: &Repository) -> Self {
        let or = |text: Option<&String>, default: &str| match text {
            Some(text) if !text.is_empty() => text.clone(),
            _ => default.to_owned(),
        };
        let credentials = repository.s3_credentials.as_ref();
        let retention = match repository.retention.as_ref() {
            Some(retention) => match (retention.full, retention.full_type.as_deref()) {
                (Some(days), Some("time")) => format!("full backups of {days} days"),
                (Some(count), _) => format!("{count} full backups"),
                (None, _) => "all full backups".to_owned(),
            },
            None => "all full backups".to_owned(),
        };
        Self {
            number,
            verify_tls: !repository.disable_verify_tls.unwrap_or(false) && !is_plain(repository),
            encryption: or(repository.encryption.as_ref(), "none"),
            uri_style: or(credentials.and_then(|credentials| credentials.uri_style.as_ref()), "host"),
            key_type: or(credentials.and_then(|credentials| credentials.key_type.as_ref()), "shared"),
            retention,
        }
    }

    /// The effective settings of all repositories, in order.
    pub fn all(spec: &ArchiveSpec) -> Vec<Self> {
        let repositories = spec.configuration.repositories.iter();
        repositories.zip(1..).map(|(repository, number)| Self::of(number, repository)).collect()
    }
}

/// Whether there is no TLS at all.
fn is_plain(repository: &Repository) -> bool {
    let endpoint = repository.endpoint_url.as_deref().map(S3Endpoint::parse);
    endpoint.is_some_and(|endpoint| endpoint.is_ok_and(|endpoint| endpoint.is_plain_http()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kg26_sec04_what_is_left_out_is_safe_and_what_is_not_is_shown() {
        let spec: ArchiveSpec = serde_json::from_value(json!({
            "configuration": { "repositories": [
                { "bucket": "b", "destinationPath": "/" },
                { "bucket": "b", "destinationPath": "/", "disableVerifyTLS": true, "encryption": "aes-256-cbc",
                  "s3Credentials": { "keyType": "", "uriStyle": "path" }, "retention": { "full": 7, "fullType": "time" } },
                { "bucket": "b", "destinationPath": "/", "endpointURL": "http://minio:9000" },
                { "bucket": "b", "destinationPath": "/", "endpointURL": "https://minio:9000" },
            ] },
        }))
        .unwrap();
        assert_eq!(
            serde_json::to_value(EffectiveRepository::all(&spec)).unwrap(),
            json!([
                { "number": 1, "verifyTLS": true, "encryption": "none", "uriStyle": "host", "keyType": "shared",
                  "retention": "all full backups" },
                { "number": 2, "verifyTLS": false, "encryption": "aes-256-cbc", "uriStyle": "path", "keyType": "shared",
                  "retention": "full backups of 7 days" },
                { "number": 3, "verifyTLS": false, "encryption": "none", "uriStyle": "host", "keyType": "shared",
                  "retention": "all full backups" },
                { "number": 4, "verifyTLS": true, "encryption": "none", "uriStyle": "host", "keyType": "shared",
                  "retention": "all full backups" },
            ])
        );
    }
}
