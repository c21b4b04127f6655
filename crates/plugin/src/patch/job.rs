//! The sidecar in the Job that recovers a cluster.

use serde_json::Value;

use super::{Sidecar, difference, spec};
use crate::lenient::{InputError, Node, json};

/// The roles of Jobs that ask the plugin: the whole recovery, and the WAL after a volume snapshot. A Job's main container
/// has the name of its role.
const ROLES: [&str; 2] = ["full-recovery", "snapshot-recovery"];

/// The label of a Job's pods with its role ends like this; forks have another domain before it.
const ROLE_LABEL_END: &str = "/jobRole";

/// The patch that gives a recovery's Job its sidecar; empty for every other Job, and when it has it.
///
/// # Errors
/// [`InputError`] for what is no Job, or one whose main container is not there.
pub fn patch(job: &[u8], sidecar: &Sidecar<'_>) -> Result<Vec<u8>, InputError> {
    let before = json(job, "the object definition")?;
    Node::root(&before, "the object definition")?;
    let Some(role) = recovery_role(&before) else { return Ok(Vec::new()) };
    let mut after = before.clone();
    let Some(pod_spec) = after.pointer_mut("/spec/template/spec") else {
        return Err(InputError::new("spec.template.spec", "is missing"));
    };
    spec::inject(pod_spec, "spec.template.spec", role, "restore", sidecar)?;
    difference(&before, &after)
}

/// The role of the Job, if it is a recovery.
fn recovery_role(job: &Value) -> Option<&'static str> {
    let labels = job.pointer("/spec/template/metadata/labels")?.as_object()?;
    let role = labels.iter().find(|(label, _)| label.ends_with(ROLE_LABEL_END))?.1.as_str()?;
    ROLES.into_iter().find(|known| *known == role)
}
