//! The container that is added to a Pod or Job.

use serde_json::{Map, Value, json};

use super::Sidecar;
use super::quantity::canonical;
use super::same::without_nulls;
use super::secrets;
use crate::ids;

/// The variable of the first versions for a folder of WAL that was fetched ahead, and its value; kept for what users do
/// with it.
const SPOOL_VARIABLE: (&str, &str) = ("SPOOL_DIRECTORY", "/controller/wal-restore-spool");

/// The container beside `main`, whose variables and mounts it shares; the mount of Secrets is its own.
pub(super) fn container(sidecar: &Sidecar<'_>, role: &str, main: &Map<String, Value>, has_secrets: bool) -> Value {
    let mounts = main.get("volumeMounts").and_then(Value::as_array).cloned().unwrap_or_default();
    let mounts: Vec<Value> = mounts.into_iter().chain(has_secrets.then(secrets::mount)).collect();
    let mut container = json!({
        "name": ids::SIDECAR_CONTAINER,
        "image": sidecar.image,
        "args": arguments(sidecar, role),
        "env": environment(sidecar, main),
        "restartPolicy": "Always",
        "securityContext": security_context(sidecar),
        "startupProbe": {
            "exec": { "command": ["/manager", "healthcheck", "unix"] },
            // The pod's next container waits for this: ask often, and give up late.
            "periodSeconds": 1,
            "timeoutSeconds": 10,
            "failureThreshold": 60,
        },
        "volumeMounts": mounts,
    });
    if let Value::Object(fields) = &mut container {
        if let Some(policy) = &sidecar.cluster.image_pull_policy {
            fields.insert("imagePullPolicy".to_owned(), json!(policy));
        }
        if let Some(resources) = resources(sidecar) {
            fields.insert("resources".to_owned(), resources);
        }
    }
    container
}

fn arguments(sidecar: &Sidecar<'_>, role: &str) -> Vec<String> {
    let limit = sidecar.limit.map(|limit| format!("--{}={}", ids::LIMIT_FLAG, limit.argument()));
    std::iter::once(role.to_owned()).chain(limit).collect()
}

/// The variables: those of the main container, ours, and those of the Archives. The first of a name wins.
fn environment(sidecar: &Sidecar<'_>, main: &Map<String, Value>) -> Vec<Value> {
    let cluster = sidecar.cluster;
    let mut variables = Variables::default();
    for variable in main.get("env").and_then(Value::as_array).into_iter().flatten() {
        variables.add(variable.clone());
    }
    let folder = (ids::SECRETS_VARIABLE, ids::SECRETS_FOLDER);
    let names = [("NAMESPACE", cluster.namespace.as_str()), ("CLUSTER_NAME", &cluster.name)];
    for (name, value) in names.into_iter().chain([SPOOL_VARIABLE, folder]) {
        variables.add(json!({ "name": name, "value": value }));
    }
    for (at, archive) in sidecar.archives.iter().enumerate() {
        let configuration = archive.instance_sidecar_configuration.as_ref();
        for variable in configuration.and_then(|configuration| configuration.env.as_ref()).into_iter().flatten() {
            // An option for another Archive's repository would change this one's.
            let is_option = name_of(variable).is_some_and(|name| name.starts_with(ids::OPTION_VARIABLE_PREFIX));
            if at == 0 || !is_option {
                variables.add(canonical_variable(variable));
            }
        }
    }
    variables.list
}

#[derive(Default)]
struct Variables {
    list: Vec<Value>,
}

impl Variables {
    fn add(&mut self, variable: Value) {
        let Some(name) = name_of(&variable) else { return };
        if !self.list.iter().any(|known| name_of(known) == Some(name)) {
            self.list.push(variable);
        }
    }
}

fn name_of(variable: &Value) -> Option<&str> {
    variable.get("name").and_then(Value::as_str).filter(|name| !name.is_empty())
}

/// A variable as Kubernetes writes it again.
fn canonical_variable(variable: &Value) -> Value {
    let mut variable = without_nulls(variable);
    if let Some(divisor) = variable.pointer_mut("/valueFrom/resourceFieldRef/divisor") {
        *divisor = canonical_quantity(divisor);
    }
    variable
}

fn canonical_quantity(value: &Value) -> Value {
    let text = match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    // What is no quantity is refused by the API server, in its own words.
    json!(canonical(&text).unwrap_or(text))
}

/// The resources of the first Archive.
fn resources(sidecar: &Sidecar<'_>) -> Option<Value> {
    let configuration = sidecar.archives.first()?.instance_sidecar_configuration.as_ref()?;
    let mut resources = without_nulls(configuration.resources.as_ref()?);
    for part in ["limits", "requests"] {
        if let Some(Value::Object(quantities)) = resources.get_mut(part) {
            for quantity in quantities.values_mut() {
                *quantity = canonical_quantity(quantity);
            }
        }
    }
    Some(resources).filter(|resources| resources.as_object().is_some_and(|fields| !fields.is_empty()))
}

/// The first Archive's security context, or what the restricted profile of Kubernetes asks for.
fn security_context(sidecar: &Sidecar<'_>) -> Value {
    let configuration = sidecar.archives.first().and_then(|archive| archive.instance_sidecar_configuration.as_ref());
    match configuration.and_then(|configuration| configuration.security_context.as_ref()) {
        Some(context) if !context.is_null() => without_nulls(context),
        _ => json!({
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "seccompProfile": { "type": "RuntimeDefault" },
        }),
    }
}
