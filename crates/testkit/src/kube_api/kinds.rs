//! The kinds that the server knows.

/// Group, version, plural, kind, and whether status is a subresource.
pub(super) struct Kind {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) plural: &'static str,
    pub(super) kind: &'static str,
    pub(super) has_status: bool,
}

const fn kind(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    has_status: bool,
) -> Kind {
    Kind { group, version, plural, kind, has_status }
}

pub(super) static KINDS: [Kind; 13] = [
    kind("pgbackrest.cnpg.opera.com", "v1", "archives", "Archive", true),
    kind("postgresql.cnpg.io", "v1", "clusters", "Cluster", true),
    kind("postgresql.cnpg.io", "v1", "backups", "Backup", true),
    kind("postgresql.cnpg.io", "v1", "scheduledbackups", "ScheduledBackup", true),
    kind("rbac.authorization.k8s.io", "v1", "roles", "Role", false),
    kind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", false),
    kind("coordination.k8s.io", "v1", "leases", "Lease", false),
    kind("events.k8s.io", "v1", "events", "Event", false),
    kind("", "v1", "events", "Event", false),
    kind("", "v1", "secrets", "Secret", false),
    kind("", "v1", "configmaps", "ConfigMap", false),
    kind("", "v1", "serviceaccounts", "ServiceAccount", false),
    kind("", "v1", "pods", "Pod", true),
];

impl Kind {
    /// `apiVersion` of its objects.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The kind whose objects say this about themselves; without an `apiVersion` the first of that name.
    pub(super) fn of_object(kind: &str, api_version: Option<&str>) -> Option<&'static Self> {
        KINDS.iter().find(|known| {
            known.kind == kind && api_version.is_none_or(|api_version| known.api_version() == api_version)
        })
    }

    /// The kind at a place in a request's path.
    pub(super) fn of_path(group: &str, version: &str, plural: &str) -> Option<&'static Self> {
        KINDS.iter().find(|known| known.group == group && known.version == version && known.plural == plural)
    }
}
