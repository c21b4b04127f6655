//! What a cluster's pods may do: one Role and one RoleBinding for each Cluster, with exact names.
//!
//! A list of names that is empty would mean all (faults.md KG16), so a rule without names is left out.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Map, Value, json};

use crate::cluster::Cluster;
use crate::ids::{self, stanza_lease};
use crate::lenient::InputError;
use crate::parameters;
use crate::resource::ArchiveSpec;

const LEASE_GROUP: &str = "coordination.k8s.io";

const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

/// The name of a cluster's Role and RoleBinding (plugin-surface K17).
pub fn name(cluster: &str) -> String {
    format!("{cluster}-pgbackrest")
}

/// What the pods of a cluster with these Archives may do with them. Their Secrets are files in the sidecar.
fn archive_rules(archives: &BTreeMap<String, ArchiveSpec>) -> Vec<PolicyRule> {
    let names: Vec<String> = archives.keys().cloned().collect();
    let all = [
        rule(ids::API_GROUP, ids::ARCHIVE_PLURAL, &["get", "list", "watch"], names.clone()),
        rule(ids::API_GROUP, "archives/status", &["get", "patch", "update"], names),
    ];
    all.into_iter().flatten().collect()
}

/// What they may do besides, for the work in the background (plugin-surface.md §9.2: the operator holds all of it).
///
/// A new object has no name yet and so a right to create none either; Backups are named by people.
fn upkeep_rules(cluster: &Cluster, archives: &BTreeMap<String, ArchiveSpec>) -> Vec<PolicyRule> {
    let Some(own) = parameters::own(cluster) else { return Vec::new() };
    let Some(archive) = archives.get(&own.archive) else { return Vec::new() };
    let mut rules = vec![nameless("events.k8s.io", "events", &["create", "patch"])];
    if let Ok(stanza) = parameters::stanza(&own, archive, cluster) {
        let numbers = (1_u32..).zip(&archive.configuration.repositories).map(|(number, _)| number);
        let names = numbers.map(|number| stanza_lease(&own.archive, stanza.as_str(), number)).collect();
        if let Some(named) = rule(LEASE_GROUP, "leases", &["get", "update"], names) {
            rules.extend([nameless(LEASE_GROUP, "leases", &["create"]), named]);
        }
    }
    // The operator can give no right that it does not have: in another group the administrator has to.
    if cluster.api_version.is_empty() || cluster.api_version.split('/').next() == Some(ids::CNPG_GROUP) {
        rules.push(nameless(ids::CNPG_GROUP, "backups", &["delete", "get", "list", "patch"]));
        // Whether it is being deleted: then none of its backups is.
        rules.extend(rule(ids::CNPG_GROUP, "clusters", &["get"], vec![cluster.name.clone()]));
    }
    rules
}

fn nameless(group: &str, resource: &str, verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}

fn rule(group: &str, resource: &str, verbs: &[&str], names: Vec<String>) -> Option<PolicyRule> {
    (!names.is_empty()).then(|| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        resource_names: Some(names),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    })
}

/// The Role of a cluster.
///
/// # Errors
/// [`InputError`] when the Cluster has no uid: nothing could own the Role.
pub fn role(cluster: &Cluster, archives: &BTreeMap<String, ArchiveSpec>) -> Result<Role, InputError> {
    let mut rules = archive_rules(archives);
    rules.extend(upkeep_rules(cluster, archives));
    Ok(Role { metadata: metadata(cluster)?, rules: Some(rules) })
}

/// The RoleBinding of a cluster: its Role for the service account of its pods.
///
/// # Errors
/// [`InputError`] when the Cluster has no uid.
pub fn role_binding(cluster: &Cluster) -> Result<RoleBinding, InputError> {
    Ok(RoleBinding {
        metadata: metadata(cluster)?,
        role_ref: RoleRef { api_group: RBAC_GROUP.to_owned(), kind: "Role".to_owned(), name: name(&cluster.name) },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: cluster.service_account().to_owned(),
            namespace: Some(cluster.namespace.clone()),
            ..Subject::default()
        }]),
    })
}

fn metadata(cluster: &Cluster) -> Result<ObjectMeta, InputError> {
    if cluster.uid.is_empty() {
        return Err(InputError::new("metadata.uid", "is missing"));
    }
    let labels = ["app.kubernetes.io/managed-by", "app.kubernetes.io/name"];
    let labels = labels.map(|label| (label.to_owned(), ids::SERVICE_ACCOUNT.to_owned()));
    let api_version = if cluster.api_version.is_empty() { "postgresql.cnpg.io/v1" } else { &cluster.api_version };
    Ok(ObjectMeta {
        name: Some(name(&cluster.name)),
        namespace: Some(cluster.namespace.clone()),
        labels: Some(labels.into()),
        owner_references: Some(vec![OwnerReference {
            api_version: api_version.to_owned(),
            kind: "Cluster".to_owned(),
            name: cluster.name.clone(),
            uid: cluster.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    })
}

/// Whether pods of a cluster still have the original's sidecar, which reads Secrets through the Role of the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Originals {
    /// Nobody has looked.
    Unknown,
    /// None has.
    Gone,
}

/// Why an object that is there cannot be made ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// The original's sidecars may still live by it.
    #[error("it lets the original's sidecars read their Secrets, and some may run")]
    Needed,
    /// Something else owns it.
    #[error("it belongs to {kind} {name}: remove it, or rename the Cluster")]
    Owned {
        /// The owner's kind.
        kind: String,
        /// The owner's name.
        name: String,
    },
    /// A binding refers to another role, which cannot be changed.
    #[error("it refers to {kind} {name}, which Kubernetes does not let change: remove the binding, it is made anew")]
    Bound {
        /// The role's kind.
        kind: String,
        /// The role's name.
        name: String,
    },
}

/// The merge patch that makes the present Role the wanted one; `None` when it is. The present version is part of the
/// patch, so that a change in between is a conflict.
///
/// # Errors
/// [`Foreign`] when the Role is somebody else's, or the original's and perhaps in use.
pub fn role_patch(present: &Role, wanted: &Role, originals: Originals) -> Result<Option<Value>, Foreign> {
    let mut changes = metadata_changes(&present.metadata, &wanted.metadata)?;
    let resources = present.rules.iter().flatten().filter_map(|rule| rule.resources.as_ref()).flatten();
    // Whoever changes a Role has to hold all that it gives, and this right is one that the operator's side does not have.
    if originals == Originals::Unknown && resources.into_iter().any(|resource| resource == "secrets") {
        return Err(Foreign::Needed);
    }
    if present.rules != wanted.rules {
        changes.insert("rules".to_owned(), json!(wanted.rules));
    }
    Ok(versioned(changes, &present.metadata))
}

/// The same for a RoleBinding.
///
/// # Errors
/// [`Foreign`] when the RoleBinding is somebody else's or refers to another role.
pub fn role_binding_patch(present: &RoleBinding, wanted: &RoleBinding) -> Result<Option<Value>, Foreign> {
    let is_same = |role: &RoleRef| role.kind == wanted.role_ref.kind && role.name == wanted.role_ref.name;
    if !is_same(&present.role_ref) {
        let RoleRef { kind, name, .. } = present.role_ref.clone();
        return Err(Foreign::Bound { kind, name });
    }
    let mut changes = metadata_changes(&present.metadata, &wanted.metadata)?;
    let named = |binding: &RoleBinding| -> Vec<(String, String, Option<String>)> {
        let subjects = binding.subjects.iter().flatten();
        subjects.map(|it| (it.kind.clone(), it.name.clone(), it.namespace.clone())).collect()
    };
    if named(present) != named(wanted) {
        changes.insert("subjects".to_owned(), json!(wanted.subjects));
    }
    Ok(versioned(changes, &present.metadata))
}

/// Changes of labels and owner. An owner of an earlier Cluster of the same name gives way; any other controller does not.
fn metadata_changes(present: &ObjectMeta, wanted: &ObjectMeta) -> Result<Map<String, Value>, Foreign> {
    let mut changes = Map::new();
    let owners = present.owner_references.iter().flatten();
    let ours = wanted.owner_references.iter().flatten();
    let is_ours = |owner: &OwnerReference| ours.clone().any(|our| owner.kind == our.kind && owner.name == our.name);
    if let Some(other) = owners.clone().find(|owner| owner.controller == Some(true) && !is_ours(owner)) {
        return Err(Foreign::Owned { kind: other.kind.clone(), name: other.name.clone() });
    }
    if !ours.clone().all(|our| owners.clone().any(|owner| owner.uid == our.uid && owner.controller == Some(true))) {
        let kept = owners.filter(|owner| !is_ours(owner)).chain(ours.clone());
        changes.insert("ownerReferences".to_owned(), json!(kept.collect::<Vec<_>>()));
    }
    let labels: BTreeMap<&String, &String> = wanted
        .labels
        .iter()
        .flatten()
        .filter(|(label, value)| present.labels.as_ref().and_then(|labels| labels.get(*label)) != Some(*value))
        .collect();
    if !labels.is_empty() {
        changes.insert("labels".to_owned(), json!(labels));
    }
    let metadata = (!changes.is_empty()).then(|| ("metadata".to_owned(), Value::Object(changes)));
    Ok(metadata.into_iter().collect())
}

fn versioned(mut changes: Map<String, Value>, present: &ObjectMeta) -> Option<Value> {
    if changes.is_empty() {
        return None;
    }
    let metadata = changes.entry("metadata").or_insert_with(|| json!({}));
    if let (Value::Object(metadata), Some(version)) = (metadata, &present.resource_version) {
        metadata.insert("resourceVersion".to_owned(), json!(version));
    }
    Some(Value::Object(changes))
}
