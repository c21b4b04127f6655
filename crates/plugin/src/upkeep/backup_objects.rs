//! Backup objects follow the repository: one whose backup is in no repository any more is removed.
//!
//! What is not proved to be gone stays: the objects are listed before the repositories are read, so that a backup that ends
//! meanwhile is not missed; every repository must have answered with its list; an object that does not say where its backup
//! is goes only when this process saw it expire; and never more than half of them at once (faults.md KG19).

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Preconditions};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::ids;
use crate::operator::objects::{ObjectError, within};

/// Objects in one answer of the API server.
const PAGE_OBJECTS: u32 = 200;

/// A finished Backup of this plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupObject {
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.resourceVersion`
    pub version: String,
    /// Somebody deleted it, and it waits for its finalizers.
    pub is_deleting: bool,
    /// The label of its backup.
    pub label: String,
    /// The Archive and the stanza that it was made in, where the object says it.
    pub place: Option<(String, String)>,
}

impl BackupObject {
    /// A finished Backup of this cluster, by this plugin, for all it says in this place.
    pub(super) fn of(object: &DynamicObject, cluster: &str, archive: &str, stanza: &str) -> Option<Self> {
        let text = |path: &str| object.data.pointer(path).and_then(Value::as_str);
        let is_ours = text("/spec/cluster/name") == Some(cluster)
            && text("/spec/method") == Some("plugin")
            && text("/spec/pluginConfiguration/name") == Some(ids::PLUGIN_NAME)
            && text("/status/phase") == Some("completed");
        let label = text("/status/backupId").filter(|label| is_ours && !label.is_empty())?;
        let metadata = |key: &str| text(&format!("/status/pluginMetadata/{key}")).map(str::to_owned);
        let place = metadata("archive").zip(metadata("stanza"));
        let is_elsewhere =
            place.as_ref().is_some_and(|place| (place.0.as_str(), place.1.as_str()) != (archive, stanza));
        (!is_elsewhere).then(|| Self { label: label.to_owned(), place, ..Self::named(&object.metadata) })
    }

    /// An object of which only this is known.
    pub(super) fn named(metadata: &ObjectMeta) -> Self {
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            version: metadata.resource_version.clone().unwrap_or_default(),
            is_deleting: metadata.deletion_timestamp.is_some(),
            ..Self::default()
        }
    }
}

/// The kind of Backups in the group of this Cluster.
pub fn resource(cluster: &Cluster) -> ApiResource {
    resource_of(&cluster.api_version)
}

/// The kind of Backups in the group and version of this text; CloudNativePG's when it is empty.
pub fn resource_of(api_version: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or((ids::CNPG_GROUP, "v1"));
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, "Backup"), "backups")
}

/// The Backups of the cluster.
pub fn api(client: Client, cluster: &Cluster) -> Api<DynamicObject> {
    Api::namespaced_with(client, &cluster.namespace, &resource(cluster))
}

/// The finished Backups of this cluster, by this plugin, that are not said to be in another place.
///
/// # Errors
/// [`ObjectError`]
pub async fn list(
    api: &Api<DynamicObject>,
    cluster: &str,
    archive: &str,
    stanza: &str,
) -> Result<Vec<BackupObject>, ObjectError> {
    let all = list_all(api).await?;
    Ok(all.iter().filter_map(|object| BackupObject::of(object, cluster, archive, stanza)).collect())
}

/// All Backups of the namespace.
///
/// # Errors
/// [`ObjectError`]
pub async fn list_all(api: &Api<DynamicObject>) -> Result<Vec<DynamicObject>, ObjectError> {
    let mut found = Vec::new();
    let mut parameters = ListParams::default().limit(PAGE_OBJECTS);
    loop {
        let page = within("list backups".to_owned(), api.list(&parameters)).await?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// Which of the objects are to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Orphans {
    /// These.
    Some(Vec<BackupObject>),
    /// So many of so many would go that it is more likely a mistake.
    TooMany(usize, usize),
}

/// Decides, with the labels of every repository, and those that this process expired.
pub fn orphans(objects: &[BackupObject], labels: &BTreeSet<String>, expired: &BTreeSet<String>) -> Orphans {
    let present: Vec<&BackupObject> = objects.iter().filter(|object| !object.is_deleting).collect();
    let gone = present.iter().filter(|object| !labels.contains(&object.label));
    let (seen, unseen): (Vec<&BackupObject>, Vec<&BackupObject>) =
        gone.partition(|object| expired.contains(&object.label));
    let unseen: Vec<&BackupObject> = unseen.into_iter().filter(|object| object.place.is_some()).collect();
    if unseen.len().saturating_mul(2) > present.len() - seen.len() {
        return Orphans::TooMany(unseen.len(), present.len());
    }
    Orphans::Some(seen.into_iter().chain(unseen).cloned().collect())
}

/// Removes an object, if it still is the one that was looked at.
///
/// # Errors
/// [`ObjectError`]; that it is gone or another is none.
pub async fn remove(api: &Api<DynamicObject>, object: &BackupObject) -> Result<(), ObjectError> {
    let preconditions = Preconditions { uid: Some(object.uid.clone()), resource_version: Some(object.version.clone()) };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match within(format!("delete backups '{}'", object.name), api.delete(&object.name, &parameters)).await {
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
        done => done.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(labels: &[&str], placed: bool) -> Vec<BackupObject> {
        let object = |label: &&str| BackupObject {
            name: format!("b-{label}"),
            label: (*label).to_owned(),
            place: placed.then(|| ("store".to_owned(), "demo".to_owned())),
            ..BackupObject::default()
        };
        labels.iter().map(object).collect()
    }

    fn set(labels: &[&str]) -> BTreeSet<String> {
        labels.iter().map(|label| (*label).to_owned()).collect()
    }

    fn gone(objects: &[BackupObject], labels: &[&str], expired: &[&str]) -> Option<Vec<String>> {
        match orphans(objects, &set(labels), &set(expired)) {
            Orphans::Some(gone) => Some(gone.into_iter().map(|object| object.label).collect()),
            Orphans::TooMany(..) => None,
        }
    }

    #[test]
    fn kg19_never_most_of_the_objects_at_once() {
        let four = objects(&["a", "b", "c", "d"], true);
        assert_eq!(gone(&four, &["a", "b", "c", "d"], &[]), Some(vec![]));
        assert_eq!(gone(&four, &["b", "c", "d", "e"], &[]), Some(vec!["a".to_owned()]));
        assert_eq!(gone(&four, &["c", "d"], &[]), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(gone(&four, &["d"], &[]), None);
        assert_eq!(gone(&four, &[], &[]), None);
        assert_eq!(gone(&objects(&["a"], true), &[], &[]), None);
        assert_eq!(gone(&[], &[], &[]), Some(vec![]));
        // What this process expired is proved to be gone, and does not make room for others.
        assert_eq!(gone(&four, &["d"], &["a", "b", "c"]).map(|gone| gone.len()), Some(3));
        assert_eq!(gone(&four, &["d"], &["a", "b"]).map(|gone| gone.len()), Some(3));
        assert_eq!(gone(&four, &[], &["a", "b"]), None);
    }

    #[test]
    fn kg19_an_object_that_does_not_say_where_its_backup_is_stays_unless_it_was_seen_to_expire() {
        let old = objects(&["a", "b", "c"], false);
        assert_eq!(gone(&old, &["b", "c"], &[]), Some(vec![]));
        assert_eq!(gone(&old, &["b", "c"], &["a"]), Some(vec!["a".to_owned()]));
    }

    #[test]
    fn kg19_only_finished_objects_of_this_cluster_and_place_count() {
        let object = |change: &dyn Fn(&mut Value)| {
            let mut object = serde_json::json!({
                "apiVersion": "postgresql.cnpg.io/v1", "kind": "Backup",
                "metadata": {"name": "b", "namespace": "n", "uid": "u", "resourceVersion": "7"},
                "spec": {"cluster": {"name": "demo"}, "method": "plugin",
                    "pluginConfiguration": {"name": "pgbackrest.cnpg.opera.com"}},
                "status": {"phase": "completed", "backupId": "20260101-000000F",
                    "pluginMetadata": {"archive": "store", "stanza": "demo"}},
            });
            change(&mut object);
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            BackupObject::of(&object, "demo", "store", "demo")
        };
        let whole = object(&|_| {}).unwrap();
        assert_eq!((whole.label.as_str(), whole.version.as_str(), whole.is_deleting), ("20260101-000000F", "7", false));
        let changes: [(&str, Value); 6] = [
            ("/spec/cluster/name", "other".into()),
            ("/spec/method", "volumeSnapshot".into()),
            ("/spec/pluginConfiguration/name", "barman-cloud.cloudnative-pg.io".into()),
            ("/status/phase", "running".into()),
            ("/status/backupId", "".into()),
            ("/status/pluginMetadata/stanza", "other".into()),
        ];
        for (path, value) in changes {
            assert_eq!(object(&|it| *it.pointer_mut(path).unwrap() = value.clone()), None, "{path}");
        }
        let old = object(&|it| it["status"]["pluginMetadata"] = serde_json::json!({"name": "x"})).unwrap();
        assert_eq!(old.place, None);
    }
}
