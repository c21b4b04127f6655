//! The names that an existing installation of the pgBackRest plugin for CloudNativePG depends on: whoever changes one of
//! them breaks somebody's cluster.
//!
//! `K1` to `K22` are the rows of the list that the tests below check, one each. The fields of the Archive (K3) are types in
//! their own module.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// K1: the name in `spec.plugins[].name`, in the label of the Service, and of the socket.
pub const PLUGIN_NAME: &str = "pgbackrest.cnpg.opera.com";

/// K2: the API group of the Archive.
pub const API_GROUP: &str = "pgbackrest.cnpg.opera.com";
/// K2: its version, served and stored.
pub const API_VERSION: &str = "v1";
/// K2: its kind.
pub const ARCHIVE_KIND: &str = "Archive";
/// K2: the kind of its lists.
pub const ARCHIVE_LIST_KIND: &str = "ArchiveList";
/// K2: its plural, as paths and roles have it.
pub const ARCHIVE_PLURAL: &str = "archives";
/// K2: its singular.
pub const ARCHIVE_SINGULAR: &str = "archive";

/// The API group of Clusters and Backups.
pub const CNPG_GROUP: &str = "postgresql.cnpg.io";
/// Group and version of Clusters and Backups, unless a Cluster says otherwise.
pub const CNPG_API_VERSION: &str = "postgresql.cnpg.io/v1";

/// K4: the plugin parameter that names an Archive in the Cluster's namespace.
pub const PARAMETER_ARCHIVE: &str = "pgbackrestObjectName";
/// K4: the plugin parameter that names the stanza.
pub const PARAMETER_STANZA: &str = "stanza";

/// K5: the Backup parameter for the type of a backup; any option of pgBackRest's `backup` is one.
pub const BACKUP_PARAMETER_TYPE: &str = "type";
/// K5: the Backup parameter for the repository.
pub const BACKUP_PARAMETER_REPOSITORY: &str = "repo";

/// K7: the type of a backup when none is asked for; without a full backup to build on it becomes one.
pub const BACKUP_TYPE_DEFAULT: &str = "incr";

/// K8: the compression when none is set: the original's default, whatever the description of the field says.
pub const COMPRESS_TYPE_DEFAULT: &str = "gz";
/// K8: its level.
pub const COMPRESS_LEVEL_DEFAULT: i64 = 6;

/// K10: the repository format, which stock pgBackRest reads and writes too.
pub const REPOSITORY_FORMAT: u32 = 5;

/// K11: the annotation of a backup that holds the name of [`backup_name`].
pub const BACKUP_NAME_ANNOTATION: &str = "cnpg-backup-name";

/// K12: keys of the plugin's metadata in the status of a Backup.
pub const METADATA_VERSION: &str = "version";
/// K12.
pub const METADATA_NAME: &str = "name";
/// K12.
pub const METADATA_DISPLAY_NAME: &str = "displayName";
/// K12: the value of [`METADATA_DISPLAY_NAME`], and what Identity says.
pub const DISPLAY_NAME: &str = "pgBackRestInstance";

/// K14: the name of the injected container.
pub const SIDECAR_CONTAINER: &str = "plugin-pgbackrest";

/// K15: the folder of the sockets in a pod.
pub const SOCKET_FOLDER: &str = "/plugins";
/// K15: the volume that is mounted there.
pub const SOCKET_VOLUME: &str = "plugins";

/// The folder of the Archives' Secrets in a sidecar, and the volume that is mounted there.
pub const SECRETS_FOLDER: &str = "/secrets/pgbackrest";
/// That volume.
pub const SECRETS_VOLUME: &str = "pgbackrest-secrets";
/// The sidecar's variable with [`SECRETS_FOLDER`]. A sidecar of the original has none.
pub const SECRETS_VARIABLE: &str = "PLUGIN_SECRETS_DIR";

/// K16: the user and group of PostgreSQL, and so of the sidecar.
pub const POSTGRES_UID: u32 = 26;

/// K18: the Service of the operator's end.
pub const SERVICE_NAME: &str = "pgbackrest";
/// K18: its label, with the plugin's name as value.
pub const SERVICE_LABEL_PLUGIN: &str = "cnpg.io/pluginName";
/// K18: its annotation for the secret with the operator's certificate.
pub const SERVICE_ANNOTATION_CLIENT_SECRET: &str = "cnpg.io/pluginClientSecret";
/// K18: its annotation for the secret with the plugin's certificate.
pub const SERVICE_ANNOTATION_SERVER_SECRET: &str = "cnpg.io/pluginServerSecret";
/// K18: its annotation for the port.
pub const SERVICE_ANNOTATION_PORT: &str = "cnpg.io/pluginPort";
/// K18: the port.
pub const SERVICE_PORT: u16 = 9090;

/// K19: the Deployment.
pub const DEPLOYMENT_NAME: &str = "pgbackrest";
/// K19: the label of its selector, which cannot be changed, with [`DEPLOYMENT_NAME`] as value.
pub const DEPLOYMENT_LABEL: &str = "app";
/// K19: its container.
pub const DEPLOYMENT_CONTAINER: &str = "pgbackrest";
/// K19: its service account.
pub const SERVICE_ACCOUNT: &str = "plugin-pgbackrest";

/// K20: the secret with the plugin's certificate.
pub const SERVER_SECRET: &str = "pgbackrest-server-tls";
/// K20: the secret with the operator's certificate.
pub const CLIENT_SECRET: &str = "pgbackrest-client-tls";
/// K20: the Certificate of the plugin.
pub const SERVER_CERTIFICATE: &str = "pgbackrest-server";
/// K20: the name that it is valid for.
pub const SERVER_CERTIFICATE_DNS_NAME: &str = "pgbackrest";
/// K20: the Certificate of the operator.
pub const CLIENT_CERTIFICATE: &str = "pgbackrest-client";

/// K21: the ClusterRole.
pub const CLUSTER_ROLE: &str = "plugin-pgbackrest";
/// K21: its binding, whose `roleRef` cannot be changed.
pub const CLUSTER_ROLE_BINDING: &str = "plugin-pgbackrest-binding";

/// K22: how a variable begins that acts as an option.
pub const OPTION_VARIABLE_PREFIX: &str = "PGBACKREST_";

/// The argument of a sidecar with what its repositories may be.
pub const LIMIT_FLAG: &str = "repository-limit";

/// The annotation of an Archive that lets the stanza of a cluster with a newer version of PostgreSQL be upgraded, whoever has
/// written it: `enabled`.
pub const UPGRADE_STANZA_ANNOTATION: &str = "pgbackrest.cnpg.opera.com/upgradeStanza";

/// The operator's variable with the image of the sidecar.
pub const SIDECAR_IMAGE_VARIABLE: &str = "SIDECAR_IMAGE";

/// Annotation of an Archive: with the value `enabled`, who deletes a Backup deletes the backup too.
pub const DELETE_BACKUPS_ANNOTATION: &str = "pgbackrest.cnpg.opera.com/deleteBackups";

/// The finalizer of Backups whose backup goes before them.
pub const BACKUP_FINALIZER: &str = "pgbackrest.cnpg.opera.com/backup";

/// K6: the stanza when nothing names one, also for a Cluster that is restored from another's Archive.
#[must_use]
pub fn default_stanza(cluster: &str) -> &str {
    cluster
}

/// K9: the number of a repository by its place in `spec.configuration.repositories`.
#[must_use]
pub fn repository_number(position: usize) -> usize {
    position.saturating_add(1)
}

/// K11, K12: the name of a backup that begins at this second: `backup-20261127020304`.
#[must_use]
pub fn backup_name(begin_s: i64) -> String {
    let begin = Timestamp::from_second(begin_s).unwrap_or_default().to_zoned(TimeZone::UTC);
    format!("backup-{}", begin.strftime("%Y%m%d%H%M%S"))
}

/// K17: the name of the Role and the RoleBinding of a Cluster.
#[must_use]
pub fn role_name(cluster: &str) -> String {
    format!("{cluster}-pgbackrest")
}

/// Longest name of a DNS label.
const LABEL_BYTES_MAX: usize = 63;

/// The name of the Lease of a stanza's repository: readable, a DNS label, and another for every other one.
#[must_use]
pub fn stanza_lease(archive: &str, stanza: &str, repository: u32) -> String {
    let whole = format!("{archive}/{stanza}/{repository}");
    // FNV-1a.
    let hash = whole
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let tail = format!("-repo{repository}-{hash:016x}");
    let readable = format!("pgbackrest-{archive}-{stanza}").to_ascii_lowercase();
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let head: String = readable.chars().map(letter).take(LABEL_BYTES_MAX - tail.len()).collect();
    format!("{head}{tail}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn k01_the_plugin_is_found_by_its_name() {
        assert_eq!(PLUGIN_NAME, "pgbackrest.cnpg.opera.com");
        assert!(PLUGIN_NAME.len() <= 63, "a label's value");
    }

    #[test]
    fn k02_the_archive_is_the_resource_that_exists() {
        assert_eq!(
            (API_GROUP, API_VERSION, ARCHIVE_KIND, ARCHIVE_LIST_KIND, ARCHIVE_PLURAL, ARCHIVE_SINGULAR),
            ("pgbackrest.cnpg.opera.com", "v1", "Archive", "ArchiveList", "archives", "archive")
        );
    }

    #[test]
    fn k04_plugin_parameters_have_their_names() {
        assert_eq!((PARAMETER_ARCHIVE, PARAMETER_STANZA), ("pgbackrestObjectName", "stanza"));
    }

    #[test]
    fn k05_backup_parameters_are_options_without_dashes() {
        assert_eq!((BACKUP_PARAMETER_TYPE, BACKUP_PARAMETER_REPOSITORY), ("type", "repo"));
    }

    #[test]
    fn k06_the_stanza_is_the_cluster() {
        assert_eq!(default_stanza("cluster-example"), "cluster-example");
    }

    #[test]
    fn k07_a_backup_is_incremental() {
        assert_eq!(BACKUP_TYPE_DEFAULT, "incr");
    }

    #[test]
    fn k08_compression_is_gz() {
        assert_eq!((COMPRESS_TYPE_DEFAULT, COMPRESS_LEVEL_DEFAULT), ("gz", 6));
    }

    #[test]
    fn k09_repositories_count_from_one() {
        assert_eq!((repository_number(0), repository_number(3)), (1, 4));
    }

    #[test]
    fn k10_the_format_is_the_originals() {
        assert_eq!(REPOSITORY_FORMAT, 5);
    }

    #[test]
    fn k11_a_backup_has_its_name_in_an_annotation() {
        assert_eq!(BACKUP_NAME_ANNOTATION, "cnpg-backup-name");
        assert_eq!(backup_name(1_795_745_384), "backup-20261127020944");
        assert_eq!(backup_name(i64::MAX), "backup-19700101000000");
    }

    #[test]
    fn k12_metadata_has_its_keys() {
        assert_eq!((METADATA_VERSION, METADATA_NAME, METADATA_DISPLAY_NAME), ("version", "name", "displayName"));
        assert_eq!(DISPLAY_NAME, "pgBackRestInstance");
    }

    #[test]
    fn k14_the_container_has_its_name() {
        assert_eq!(SIDECAR_CONTAINER, "plugin-pgbackrest");
    }

    #[test]
    fn k15_the_socket_has_its_place() {
        assert_eq!(format!("{SOCKET_FOLDER}/{PLUGIN_NAME}"), "/plugins/pgbackrest.cnpg.opera.com");
        assert_eq!(SOCKET_VOLUME, "plugins");
    }

    #[test]
    fn k16_the_user_is_postgresqls() {
        assert_eq!(POSTGRES_UID, 26);
    }

    #[test]
    fn k17_role_and_binding_are_named_after_the_cluster() {
        assert_eq!(role_name("cluster-example"), "cluster-example-pgbackrest");
    }

    #[test]
    fn k18_the_service_is_found_and_dialled() {
        assert_eq!((SERVICE_NAME, SERVICE_PORT), ("pgbackrest", 9090));
        assert_eq!(
            [
                SERVICE_LABEL_PLUGIN,
                SERVICE_ANNOTATION_CLIENT_SECRET,
                SERVICE_ANNOTATION_SERVER_SECRET,
                SERVICE_ANNOTATION_PORT
            ],
            ["cnpg.io/pluginName", "cnpg.io/pluginClientSecret", "cnpg.io/pluginServerSecret", "cnpg.io/pluginPort"]
        );
    }

    #[test]
    fn k19_the_deployment_can_be_applied_over() {
        assert_eq!((DEPLOYMENT_NAME, DEPLOYMENT_LABEL, DEPLOYMENT_CONTAINER), ("pgbackrest", "app", "pgbackrest"));
        assert_eq!(SERVICE_ACCOUNT, "plugin-pgbackrest");
    }

    #[test]
    fn k20_certificates_and_their_secrets_have_their_names() {
        assert_eq!((SERVER_SECRET, CLIENT_SECRET), ("pgbackrest-server-tls", "pgbackrest-client-tls"));
        assert_eq!((SERVER_CERTIFICATE, CLIENT_CERTIFICATE), ("pgbackrest-server", "pgbackrest-client"));
        assert_eq!(SERVER_CERTIFICATE_DNS_NAME, "pgbackrest");
    }

    #[test]
    fn k21_the_cluster_role_stays_bound() {
        assert_eq!((CLUSTER_ROLE, CLUSTER_ROLE_BINDING), ("plugin-pgbackrest", "plugin-pgbackrest-binding"));
    }

    #[test]
    fn k22_variables_act_as_options() {
        assert_eq!(OPTION_VARIABLE_PREFIX, "PGBACKREST_");
    }

    #[test]
    fn kg20_every_stanza_and_repository_has_a_lease_of_its_own() {
        let long = "a".repeat(200);
        let mut names = BTreeSet::new();
        for archive in ["store", "store.a", "store-a", long.as_str()] {
            for stanza in ["Demo_1", "demo_1", "demo-1", "s", long.as_str()] {
                for repository in [1, 2, 256] {
                    let name = stanza_lease(archive, stanza, repository);
                    assert!(name.len() <= 63 && name.starts_with("pgbackrest-"), "{name}");
                    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
                    assert!(name.bytes().all(legal) && !name.ends_with('-'), "{name}");
                    assert_eq!(name, stanza_lease(archive, stanza, repository));
                    assert!(names.insert(name));
                }
            }
        }
    }
}
