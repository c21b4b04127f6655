//! The few fields of CloudNativePG's objects that we read.
//!
//! The objects come as JSON from callers of many versions (cnpg-i.md, section 2.1), so reading is lenient: unknown
//! fields, a missing `kind`, null lists and other API groups are all fine. A field that we do read and that has the
//! wrong type is an [`InputError`] which names it.

mod backup;
mod presence;

use std::collections::BTreeMap;

pub use backup::Backup;
pub use presence::{Presence, presence};

use crate::ids::{CNPG_GROUP, PARAMETER_ARCHIVE, PLUGIN_NAME};
pub use crate::lenient::InputError;
use crate::lenient::{Node, json, object_name};

/// Annotation that turns the check for an empty archive off, with the value `enabled`.
pub const SKIP_EMPTY_ARCHIVE_CHECK: &str = "cnpg.io/skipEmptyWalArchiveCheck";

/// A `Cluster`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cluster {
    /// `apiVersion`; empty when the caller left it out.
    pub api_version: String,
    /// `metadata.name`, a legal name.
    pub name: String,
    /// `metadata.namespace`, a legal name.
    pub namespace: String,
    /// `metadata.uid`; empty when there is none yet.
    pub uid: String,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `spec.plugins`, all of them, in order.
    pub plugins: Vec<Plugin>,
    /// `spec.externalClusters`.
    pub external_clusters: Vec<ExternalCluster>,
    /// `spec.bootstrap`.
    pub bootstrap: Bootstrap,
    /// `spec.replica`.
    pub replica: Option<Replica>,
    /// Whether `spec.walStorage` is there: WAL lies on a volume of its own.
    pub wal_storage: bool,
    /// The names in `spec.tablespaces`.
    pub tablespaces: Vec<String>,
    /// `spec.serviceAccountName`, which CloudNativePG has since 1.29.
    pub service_account_name: Option<String>,
    /// `spec.imagePullPolicy`.
    pub image_pull_policy: Option<String>,
    /// `status`.
    pub status: Status,
}

/// An entry of `spec.plugins`, or the `plugin` of an external cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plugin {
    /// `name`.
    pub name: String,
    /// `enabled`, which is true unless stated.
    pub enabled: bool,
    /// `isWALArchiver`.
    pub is_wal_archiver: bool,
    /// `parameters`.
    pub parameters: BTreeMap<String, String>,
}

/// An entry of `spec.externalClusters`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExternalCluster {
    /// `name`.
    pub name: String,
    /// `plugin`.
    pub plugin: Option<Plugin>,
    /// Whether there are `connectionParameters`: the other side can be reached over the network too.
    pub has_connection: bool,
}

/// `spec.bootstrap`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bootstrap {
    /// `recovery`.
    pub recovery: Option<Recovery>,
}

/// `spec.bootstrap.recovery`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// `source`: the name of an external cluster.
    pub source: Option<String>,
    /// `recoveryTarget`.
    pub target: Option<RecoveryTarget>,
    /// Whether `volumeSnapshots` is there: the data comes from them, only the WAL from us.
    pub volume_snapshots: bool,
}

/// `spec.bootstrap.recovery.recoveryTarget`, as texts: their meaning is the restore's business.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryTarget {
    /// `backupID`: a backup's label.
    pub backup_id: Option<String>,
    /// `targetTLI`: a timeline's number or `latest`.
    pub target_tli: Option<String>,
    /// `targetXID`.
    pub target_xid: Option<String>,
    /// `targetName`.
    pub target_name: Option<String>,
    /// `targetLSN`.
    pub target_lsn: Option<String>,
    /// `targetTime`.
    pub target_time: Option<String>,
    /// `targetImmediate`.
    pub target_immediate: bool,
    /// `exclusive`.
    pub exclusive: bool,
}

/// `spec.replica`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replica {
    /// `enabled`.
    pub enabled: Option<bool>,
    /// `self`: this cluster's name among the external clusters.
    pub self_name: Option<String>,
    /// `primary`: the name of the cluster that takes writes.
    pub primary: Option<String>,
    /// `source`: the name of the external cluster that is followed.
    pub source: Option<String>,
    /// `promotionToken`.
    pub promotion_token: Option<String>,
}

/// `status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// `currentPrimary`; `None` during the first bootstrap.
    pub current_primary: Option<String>,
    /// `targetPrimary`.
    pub target_primary: Option<String>,
    /// `timelineID`; `None` and 0 mean unknown.
    pub timeline_id: Option<u32>,
    /// `lastPromotionToken`.
    pub last_promotion_token: Option<String>,
}

impl Cluster {
    /// Reads a Cluster.
    ///
    /// # Errors
    /// [`InputError`] for what is no JSON object, has another `kind`, no legal name or namespace, or a field of the
    /// wrong type among those that we read.
    pub fn parse(bytes: &[u8]) -> Result<Self, InputError> {
        let value = json(bytes, "the cluster definition")?;
        let root = Node::root(&value, "the cluster definition")?;
        if let Some(kind) = root.text_field("kind")?
            && kind != "Cluster"
        {
            return Err(InputError::new("kind", format!("should be Cluster, is {}", crate::lenient::shown(&kind))));
        }
        let mut cluster = Self { api_version: root.text_field("apiVersion")?.unwrap_or_default(), ..Self::default() };
        cluster.read_metadata(&root)?;
        if let Some(spec) = root.field("spec")? {
            cluster.read_spec(&spec)?;
        }
        if let Some(status) = root.field("status")? {
            cluster.status = Status::read(&status)?;
        }
        Ok(cluster)
    }

    fn read_metadata(&mut self, root: &Node<'_>) -> Result<(), InputError> {
        let Some(metadata) = root.field("metadata")? else { return Err(InputError::new("metadata", "is missing")) };
        self.name = object_name(metadata.required_text("name")?, "metadata.name")?;
        self.namespace = object_name(metadata.required_text("namespace")?, "metadata.namespace")?;
        self.uid = metadata.text_field("uid")?.unwrap_or_default();
        self.annotations = metadata.texts_field("annotations")?;
        Ok(())
    }

    fn read_spec(&mut self, spec: &Node<'_>) -> Result<(), InputError> {
        self.plugins = spec.list_field("plugins")?.iter().map(Plugin::read).collect::<Result<_, _>>()?;
        self.external_clusters =
            spec.list_field("externalClusters")?.iter().map(ExternalCluster::read).collect::<Result<_, _>>()?;
        if let Some(bootstrap) = spec.field("bootstrap")? {
            self.bootstrap.recovery = bootstrap.field("recovery")?.as_ref().map(Recovery::read).transpose()?;
        }
        self.replica = spec.field("replica")?.as_ref().map(Replica::read).transpose()?;
        self.wal_storage = spec.has("walStorage")?;
        self.tablespaces =
            spec.list_field("tablespaces")?.iter().map(|node| node.required_text("name")).collect::<Result<_, _>>()?;
        self.service_account_name = spec
            .text_field("serviceAccountName")?
            .map(|name| object_name(name, "spec.serviceAccountName"))
            .transpose()?;
        self.image_pull_policy = spec.text_field("imagePullPolicy")?;
        Ok(())
    }

    /// The external cluster of this name.
    pub fn external_cluster(&self, name: &str) -> Option<&ExternalCluster> {
        self.external_clusters.iter().find(|external| external.name == name)
    }

    /// The service account of the cluster's pods (`GetServiceAccountName` in CloudNativePG's `cluster_funcs.go`).
    pub fn service_account(&self) -> &str {
        self.service_account_name.as_deref().unwrap_or(&self.name)
    }

    /// The label of the cluster's pods with its name. Forks have the domain of their API group in it.
    pub fn label(&self) -> String {
        let group = self.api_version.split('/').next().filter(|group| !group.is_empty()).unwrap_or(CNPG_GROUP);
        format!("{}/cluster", group.strip_prefix("postgresql.").unwrap_or(group))
    }

    /// Whether the cluster follows another one: told so, or another is the primary of its group.
    pub fn is_replica_cluster(&self) -> bool {
        let Some(replica) = &self.replica else { return false };
        let is_other = |primary: &String| replica.self_name.as_ref().unwrap_or(&self.name) != primary;
        replica.enabled.unwrap_or_else(|| replica.primary.as_ref().is_some_and(is_other))
    }

    /// Whether the check that a new cluster's archive is empty is turned off.
    pub fn skips_empty_archive_check(&self) -> bool {
        self.annotations.get(SKIP_EMPTY_ARCHIVE_CHECK).is_some_and(|value| value == "enabled")
    }
}

impl Plugin {
    fn read(node: &Node<'_>) -> Result<Self, InputError> {
        let parameters = node.texts_field("parameters")?;
        let name = node.text_field("name")?.unwrap_or_default();
        if name == PLUGIN_NAME
            && let Some(archive) = parameters.get(PARAMETER_ARCHIVE).filter(|name| !name.is_empty())
            && let Err(error) = object_name(archive.clone(), "")
        {
            let place = node.wrong("").place;
            return Err(InputError::new(format!("{place}.parameters.{}", PARAMETER_ARCHIVE), error.problem));
        }
        Ok(Self {
            name,
            enabled: node.bool_field("enabled")?.unwrap_or(true),
            is_wal_archiver: node.bool_field("isWALArchiver")?.unwrap_or(false),
            parameters,
        })
    }
}

impl ExternalCluster {
    fn read(node: &Node<'_>) -> Result<Self, InputError> {
        Ok(Self {
            name: node.text_field("name")?.unwrap_or_default(),
            plugin: node.field("plugin")?.as_ref().map(Plugin::read).transpose()?,
            has_connection: !node.texts_field("connectionParameters")?.is_empty(),
        })
    }
}

impl Recovery {
    fn read(node: &Node<'_>) -> Result<Self, InputError> {
        Ok(Self {
            source: node.text_field("source")?,
            target: node.field("recoveryTarget")?.as_ref().map(RecoveryTarget::read).transpose()?,
            volume_snapshots: node.has("volumeSnapshots")?,
        })
    }
}

impl RecoveryTarget {
    fn read(node: &Node<'_>) -> Result<Self, InputError> {
        Ok(Self {
            backup_id: node.text_field("backupID")?,
            target_tli: node.text_field("targetTLI")?,
            target_xid: node.text_field("targetXID")?,
            target_name: node.text_field("targetName")?,
            target_lsn: node.text_field("targetLSN")?,
            target_time: node.text_field("targetTime")?,
            target_immediate: node.bool_field("targetImmediate")?.unwrap_or(false),
            exclusive: node.bool_field("exclusive")?.unwrap_or(false),
        })
    }
}

impl Replica {
    fn read(node: &Node<'_>) -> Result<Self, InputError> {
        Ok(Self {
            enabled: node.bool_field("enabled")?,
            self_name: node.text_field("self")?,
            primary: node.text_field("primary")?,
            source: node.text_field("source")?,
            promotion_token: node.text_field("promotionToken")?,
        })
    }
}

impl Status {
    fn read(node: &Node<'_>) -> Result<Self, InputError> {
        Ok(Self {
            current_primary: node.text_field("currentPrimary")?,
            target_primary: node.text_field("targetPrimary")?,
            timeline_id: node.u32_field("timelineID")?,
            last_promotion_token: node.text_field("lastPromotionToken")?,
        })
    }
}

#[cfg(test)]
mod tests;
