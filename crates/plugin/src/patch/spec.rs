//! The sidecar in a pod's specification.

use serde_json::{Map, Value, json};

use super::Sidecar;
use super::container::container;
use super::same::same;
use crate::ids;
use crate::lenient::InputError;

/// CloudNativePG's first init container, which brings the instance manager. What comes after it may need us: newer
/// versions bootstrap in an init container, and a sidecar that starts before that one serves it.
const BOOTSTRAP_CONTROLLER: &str = "bootstrap-controller";

/// Adds the sidecar beside the container `main`, or renews it. `place` is where the specification is in its object.
pub(super) fn inject(
    spec: &mut Value,
    place: &str,
    main: &str,
    role: &str,
    sidecar: &Sidecar<'_>,
) -> Result<(), InputError> {
    let Value::Object(spec) = spec else { return Err(InputError::new(place, "should be an object")) };
    let containers = list(spec, place, "containers")?;
    let Some(main_container) = containers.iter_mut().filter_map(Value::as_object_mut).find(|it| is_named(it, main))
    else {
        return Err(InputError::new(format!("{place}.containers"), format!("no container is named {main}")));
    };
    let mounts = list(main_container, &format!("{place}.containers[{main}]"), "volumeMounts")?;
    if !mounts.iter().any(|mount| mounts_at(mount, ids::SOCKET_FOLDER)) {
        mounts.push(json!({ "name": ids::SOCKET_VOLUME, "mountPath": ids::SOCKET_FOLDER }));
    }
    let wanted = container(sidecar, role, main_container);
    let volumes = list(spec, place, "volumes")?;
    if !volumes.iter().filter_map(Value::as_object).any(|volume| is_named(volume, ids::SOCKET_VOLUME)) {
        volumes.push(json!({ "name": ids::SOCKET_VOLUME, "emptyDir": {} }));
    }
    let init_containers = list(spec, place, "initContainers")?;
    let at = |name| init_containers.iter().position(|it| it.as_object().is_some_and(|it| is_named(it, name)));
    match (at(ids::SIDECAR_CONTAINER), at(BOOTSTRAP_CONTROLLER)) {
        (Some(at), _) => {
            if let Some(present) = init_containers.get_mut(at).filter(|present| !same(present, &wanted)) {
                *present = wanted;
            }
        }
        (None, Some(bootstrap)) => init_containers.insert(bootstrap + 1, wanted),
        (None, None) => init_containers.push(wanted),
    }
    Ok(())
}

/// A list of an object, made when it is absent.
fn list<'a>(fields: &'a mut Map<String, Value>, place: &str, name: &str) -> Result<&'a mut Vec<Value>, InputError> {
    let value = fields.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().ok_or_else(|| InputError::new(format!("{place}.{name}"), "should be a list"))
}

fn is_named(fields: &Map<String, Value>, name: &str) -> bool {
    fields.get("name").and_then(Value::as_str) == Some(name)
}

fn mounts_at(mount: &Value, path: &str) -> bool {
    mount.get("mountPath").and_then(Value::as_str).is_some_and(|mounted| mounted.trim_end_matches('/') == path)
}
