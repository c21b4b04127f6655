//! Pure functions from an object of the operator to its patch: the sidecar in Pods and Jobs, and each cluster's Role.
//!
//! The operator compares what the patch of a Pod makes with what runs, and replaces the Pod when they differ. So the same
//! input gives the same bytes, an object that is patched already gives no patch, and values are in Kubernetes' canonical
//! form. Containers, volumes and mounts are found by name or path, never by place: other plugins add theirs too.

mod container;
pub mod job;
pub mod pod;
mod quantity;
pub mod rbac;
mod same;
mod secrets;
mod spec;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::lenient::InputError;
use crate::limit::Limit;
use crate::resource::ArchiveSpec;

/// What a sidecar is made from.
#[derive(Debug, Clone, Copy)]
pub struct Sidecar<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The image, from the operator's own environment.
    pub image: &'a str,
    /// The Archives that the container will use. The first gives the resources, the security context and the variables
    /// that act as options; the others add what else they have in `env`.
    pub archives: &'a [&'a ArchiveSpec],
    /// What the repositories may be.
    pub limit: Option<&'a Limit>,
}

/// The JSON patch (RFC 6902) from one object to the other; empty when there is nothing to change.
fn difference(before: &Value, after: &Value) -> Result<Vec<u8>, InputError> {
    let patch = json_patch::diff(before, after);
    if patch.0.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::to_vec(&patch).map_err(|error| InputError::new("the object definition", error.to_string()))
}
