//! The schemas of Kubernetes' own types in an Archive: environment variables, resources and a security context.
//!
//! They are complete, since the API server deletes what a schema does not name, and written here because the client
//! library's are those of one version of Kubernetes (`fileKeyRef` is newer than that).

use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// What Kubernetes takes as a quantity (`resource.Quantity`).
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

fn text() -> Value {
    json!({ "type": "string" })
}

fn boolean() -> Value {
    json!({ "type": "boolean" })
}

fn number() -> Value {
    json!({ "type": "integer", "format": "int64" })
}

fn quantity() -> Value {
    json!({ "anyOf": [{ "type": "integer" }, { "type": "string" }], "pattern": QUANTITY, "x-kubernetes-int-or-string": true })
}

/// An object with these fields, some of them required.
fn object<const N: usize>(required: &[&str], fields: [(&str, Value); N]) -> Value {
    let properties: Map<String, Value> = fields.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    let mut schema = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// An object that is replaced as a whole by an apply.
fn atomic(mut schema: Value) -> Value {
    schema["x-kubernetes-map-type"] = json!("atomic");
    schema
}

fn made(value: Value, description: &str) -> Schema {
    let mut fields = match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    fields.insert("description".to_owned(), json!(description));
    fields.insert("nullable".to_owned(), json!(true));
    Schema::from(fields)
}

/// Takes the defaults of a status' fields away: the API server would write them into every object.
pub(super) fn without_defaults(schema: &mut Schema) {
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut);
    for field in fields.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        field.remove("default");
    }
}

/// A list of `EnvVar`.
pub(super) fn env(_: &mut SchemaGenerator) -> Schema {
    let key_of = || {
        let name = json!({ "type": "string", "default": "" });
        atomic(object(&["key"], [("key", text()), ("name", name), ("optional", boolean())]))
    };
    let field = atomic(object(&["fieldPath"], [("apiVersion", text()), ("fieldPath", text())]));
    let optional = json!({ "type": "boolean", "default": false });
    let file = atomic(object(
        &["key", "path", "volumeName"],
        [("key", text()), ("optional", optional), ("path", text()), ("volumeName", text())],
    ));
    let resource =
        atomic(object(&["resource"], [("containerName", text()), ("divisor", quantity()), ("resource", text())]));
    let value_from = object(
        &[],
        [
            ("configMapKeyRef", key_of()),
            ("fieldRef", field),
            ("fileKeyRef", file),
            ("resourceFieldRef", resource),
            ("secretKeyRef", key_of()),
        ],
    );
    let variable = object(&["name"], [("name", text()), ("value", text()), ("valueFrom", value_from)]);
    let list = json!({ "type": "array", "items": variable, "x-kubernetes-list-type": "atomic" });
    made(list, "Environment variables of the container; PGBACKREST_* are options.")
}

/// `ResourceRequirements`.
pub(super) fn resources(_: &mut SchemaGenerator) -> Schema {
    let claim = object(&["name"], [("name", text()), ("request", text())]);
    let claims = json!({
        "type": "array", "items": claim, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
    });
    let quantities = || json!({ "type": "object", "additionalProperties": quantity() });
    let resources = object(&[], [("claims", claims), ("limits", quantities()), ("requests", quantities())]);
    made(resources, "Requests and limits of the container.")
}

/// `SecurityContext`.
pub(super) fn security_context(_: &mut SchemaGenerator) -> Schema {
    let profile = || object(&["type"], [("localhostProfile", text()), ("type", text())]);
    let names = || json!({ "type": "array", "items": text(), "x-kubernetes-list-type": "atomic" });
    let se_linux = object(&[], [("level", text()), ("role", text()), ("type", text()), ("user", text())]);
    let windows = object(
        &[],
        [
            ("gmsaCredentialSpec", text()),
            ("gmsaCredentialSpecName", text()),
            ("hostProcess", boolean()),
            ("runAsUserName", text()),
        ],
    );
    let context = object(
        &[],
        [
            ("allowPrivilegeEscalation", boolean()),
            ("appArmorProfile", profile()),
            ("capabilities", object(&[], [("add", names()), ("drop", names())])),
            ("privileged", boolean()),
            ("procMount", text()),
            ("readOnlyRootFilesystem", boolean()),
            ("runAsGroup", number()),
            ("runAsNonRoot", boolean()),
            ("runAsUser", number()),
            ("seLinuxOptions", se_linux),
            ("seccompProfile", profile()),
            ("windowsOptions", windows),
        ],
    );
    made(context, "In place of the restricted security context that is the default.")
}
