//! The finalizer of Backups, put and taken without touching those of others.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::ids::BACKUP_FINALIZER;
use crate::operator::objects::{ObjectError, within};

/// How often a change is tried on a fresh object when another came in between.
const CONFLICTS_MAX: u32 = 4;

/// Whether the object has it.
#[must_use]
pub fn is_in(metadata: &ObjectMeta) -> bool {
    metadata.finalizers.iter().flatten().any(|finalizer| finalizer == BACKUP_FINALIZER)
}

/// Puts it, unless the object is being deleted: no finalizer can be added then.
///
/// # Errors
/// [`ObjectError`]; that the object is gone is none.
pub async fn add(api: &Api<DynamicObject>, name: &str) -> Result<(), ObjectError> {
    change(api, name, true).await
}

/// Takes it away.
///
/// # Errors
/// [`ObjectError`]; that the object is gone is none.
pub async fn remove(api: &Api<DynamicObject>, name: &str) -> Result<(), ObjectError> {
    change(api, name, false).await
}

async fn change(api: &Api<DynamicObject>, name: &str, wanted: bool) -> Result<(), ObjectError> {
    for _ in 0..CONFLICTS_MAX {
        let Some(object) = within(format!("get backups '{name}'"), api.get_opt(name)).await? else { return Ok(()) };
        let Some(patch) = patch(&object.metadata, wanted) else { return Ok(()) };
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
        match within(format!("patch backups '{name}'"), api.patch(name, &parameters, &patch)).await {
            Ok(_) => return Ok(()),
            // Changed, or gone, since it was read.
            Err(error) if matches!(error.code(), Some(409 | 404)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(ObjectError::Conflict { what: format!("patch backups '{name}'") })
}

/// The merge patch for it, bound to the version that was read: a list is replaced as a whole.
fn patch(metadata: &ObjectMeta, wanted: bool) -> Option<Value> {
    let is_late = wanted && metadata.deletion_timestamp.is_some();
    if is_in(metadata) == wanted || is_late {
        return None;
    }
    let mut finalizers = metadata.finalizers.clone().unwrap_or_default();
    match wanted {
        true => finalizers.push(BACKUP_FINALIZER.to_owned()),
        false => finalizers.retain(|finalizer| finalizer != BACKUP_FINALIZER),
    }
    Some(json!({ "metadata": { "finalizers": finalizers, "resourceVersion": metadata.resource_version } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finalizers_of_others_stay() {
        let metadata = |finalizers: &[&str]| ObjectMeta {
            finalizers: Some(finalizers.iter().map(|it| (*it).to_owned()).collect()),
            resource_version: Some("7".to_owned()),
            ..ObjectMeta::default()
        };
        let put = patch(&metadata(&["x/y"]), true).unwrap();
        assert_eq!(put["metadata"], json!({ "finalizers": ["x/y", BACKUP_FINALIZER], "resourceVersion": "7" }));
        let taken = patch(&metadata(&["x/y", BACKUP_FINALIZER, "a/b"]), false).unwrap();
        assert_eq!(taken["metadata"]["finalizers"], json!(["x/y", "a/b"]));
        assert_eq!(patch(&metadata(&["x/y"]), false), None);
        assert_eq!(patch(&metadata(&[BACKUP_FINALIZER]), true), None);
    }
}
