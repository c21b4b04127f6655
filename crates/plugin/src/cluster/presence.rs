//! Whether a Cluster is there and stays, as the API server knows it now.

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};

use super::Cluster;
use crate::ids;
use crate::operator::objects::{ObjectError, within};

/// What the API server says about a Cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// It is there, and nobody deletes it.
    Stays(Box<Cluster>),
    /// It is not there, or is being deleted.
    Goes,
}

/// Asks for a Cluster of the group and version in `api_version` (CloudNativePG's when it is empty).
///
/// # Errors
/// [`ObjectError`] when the API server did not say; [`ObjectError::Input`] for a Cluster that cannot be read.
pub async fn presence(client: Client, api_version: &str, namespace: &str, name: &str) -> Result<Presence, ObjectError> {
    let (group, version) = api_version.split_once('/').unwrap_or((ids::CNPG_GROUP, "v1"));
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, "Cluster"), "clusters");
    let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
    let found = within(format!("get clusters '{namespace}/{name}'"), api.get_opt(name)).await?;
    let Some(object) = found.filter(|object| object.metadata.deletion_timestamp.is_none()) else {
        return Ok(Presence::Goes);
    };
    let bytes = serde_json::to_vec(&object).unwrap_or_default();
    Ok(Presence::Stays(Box::new(Cluster::parse(&bytes)?)))
}
