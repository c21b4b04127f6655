//! The sidecar in an instance's Pod.

use super::{Sidecar, difference, spec};
use crate::lenient::{InputError, Node, json};

/// The container of PostgreSQL in an instance's Pod.
const MAIN_CONTAINER: &str = "postgres";

/// The patch that gives the Pod its sidecar; empty when it has it.
///
/// # Errors
/// [`InputError`] for what is no Pod of an instance.
pub fn patch(pod: &[u8], sidecar: &Sidecar<'_>) -> Result<Vec<u8>, InputError> {
    let before = json(pod, "the object definition")?;
    Node::root(&before, "the object definition")?;
    let mut after = before.clone();
    let Some(pod_spec) = after.get_mut("spec") else { return Err(InputError::new("spec", "is missing")) };
    spec::inject(pod_spec, "spec", MAIN_CONTAINER, "instance", sidecar)?;
    difference(&before, &after)
}
