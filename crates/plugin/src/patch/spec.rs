//! The sidecar in a pod's specification.

use serde_json::{Map, Value, json};

use super::Sidecar;
use super::container::container;
use super::same::same;
use super::secrets;
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
    let secrets = secrets::volume(sidecar.archives);
    let wanted = container(sidecar, role, main_container, secrets.is_some());
    let volumes = list(spec, place, "volumes")?;
    if at(volumes, ids::SOCKET_VOLUME).is_none() {
        volumes.push(json!({ "name": ids::SOCKET_VOLUME, "emptyDir": {} }));
    }
    put(volumes, ids::SECRETS_VOLUME, secrets);
    let init_containers = list(spec, place, "initContainers")?;
    match (at(init_containers, ids::SIDECAR_CONTAINER), at(init_containers, BOOTSTRAP_CONTROLLER)) {
        (None, Some(bootstrap)) => init_containers.insert(bootstrap + 1, wanted),
        _ => put(init_containers, ids::SIDECAR_CONTAINER, Some(wanted)),
    }
    Ok(())
}

/// Gives the list what has this name, in its place if there is one already, or takes it away.
fn put(list: &mut Vec<Value>, name: &str, wanted: Option<Value>) {
    match (at(list, name), wanted) {
        (Some(at), Some(wanted)) => {
            if let Some(present) = list.get_mut(at).filter(|present| !same(present, &wanted)) {
                *present = wanted;
            }
        }
        (Some(at), None) => drop(list.remove(at)),
        (None, Some(wanted)) => list.push(wanted),
        (None, None) => {}
    }
}

/// The place in the list of what has this name.
fn at(list: &[Value], name: &str) -> Option<usize> {
    list.iter().position(|it| it.as_object().is_some_and(|it| is_named(it, name)))
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
