//! Whether an object has the shape that Kubernetes gives its kind: the OpenAPI description of the version that the clients are
//! made for, and what validation asks beyond it of kinds that the plugin writes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::schema::mistakes;

static SHAPES: LazyLock<BTreeMap<&'static str, Value>> = LazyLock::new(|| {
    [
        ("ConfigMap", shape::<ConfigMap>()),
        ("Event", shape::<Event>()),
        ("Job", shape::<Job>()),
        ("Lease", shape::<Lease>()),
        ("Pod", shape::<Pod>()),
        ("Role", shape::<Role>()),
        ("RoleBinding", shape::<RoleBinding>()),
        ("Secret", shape::<Secret>()),
    ]
    .into()
});

fn shape<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    open(&mut schema);
    schema
}

/// What has neither fields nor values described may have any.
fn open(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let is_free = fields.get("type").is_some_and(|it| it == "object")
                && !fields.contains_key("properties")
                && !fields.contains_key("additionalProperties");
            if is_free {
                fields
                    .insert("additionalProperties".to_owned(), json!({ "x-kubernetes-preserve-unknown-fields": true }));
            }
            fields.values_mut().for_each(open);
        }
        Value::Array(values) => values.iter_mut().for_each(open),
        _ => {}
    }
}

/// The mistakes of an object of one of Kubernetes' own kinds; none for a kind that is not looked at.
pub fn shape_mistakes(object: &Value) -> Vec<String> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let Some(shape) = SHAPES.get(kind) else { return Vec::new() };
    let mut found = mistakes(shape, &without_nulls(object));
    found.extend(validated(kind, object));
    found
}

/// To Kubernetes a field that is `null` is not there.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, field)| !field.is_null());
            Value::Object(kept.map(|(name, field)| (name.clone(), without_nulls(field))).collect())
        }
        Value::Array(values) => Value::Array(values.iter().map(without_nulls).collect()),
        value => value.clone(),
    }
}

/// What validation asks beyond the description (Kubernetes: `pkg/apis/*/validation`).
fn validated(kind: &str, object: &Value) -> Vec<String> {
    // It is bytes that Kubernetes counts.
    let bytes = |field: &str| object[field].as_str().map_or(0, str::len);
    let within = |field: &str, least: usize, most: usize| {
        let is_wrong = !(least..=most).contains(&bytes(field));
        is_wrong.then(|| format!(".{field}: it should have {least} to {most} bytes"))
    };
    let found = match kind {
        "Event" => vec![
            within("action", 1, 128),
            within("note", 0, 1024),
            within("reason", 1, 128),
            within("reportingController", 1, 128),
            within("reportingInstance", 1, 128),
            (object["eventTime"].is_null()).then(|| ".eventTime: is missing".to_owned()),
            (!["Normal", "Warning"].contains(&object["type"].as_str().unwrap_or_default()))
                .then(|| ".type: is neither Normal nor Warning".to_owned()),
        ],
        "Lease" => {
            let spec = &object["spec"];
            let is_below = |field: &str, least: i64| spec[field].as_i64().is_some_and(|number| number < least);
            vec![
                is_below("leaseDurationSeconds", 1).then(|| ".spec.leaseDurationSeconds: is not above 0".to_owned()),
                is_below("leaseTransitions", 0).then(|| ".spec.leaseTransitions: is below 0".to_owned()),
                (spec["holderIdentity"] == "").then(|| ".spec.holderIdentity: is empty".to_owned()),
            ]
        }
        "Role" => {
            let rules = object["rules"].as_array().into_iter().flatten();
            let lacks = |field: &str, rule: &Value| rule[field].as_array().is_none_or(Vec::is_empty);
            let wrong = |rule: &Value| {
                ["verbs", "apiGroups", "resources"].into_iter().find(|field| lacks(field, rule)).map(str::to_owned)
            };
            rules.map(|rule| wrong(rule).map(|field| format!(".rules: one has no {field}"))).collect()
        }
        _ => Vec::new(),
    };
    found.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_would_refuse_is_found() {
        let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": "a", "labels": { "x": "y" },
            "managedFields": [{ "manager": "m", "fieldsV1": { "f:a": {} } }], "annotations": null },
            "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["list"] }] });
        assert_eq!(shape_mistakes(&role), [] as [String; 0]);
        let with = |pointer: &str, value: Value| {
            let mut wrong = role.clone();
            *wrong.pointer_mut(pointer).unwrap() = value;
            shape_mistakes(&wrong)
        };
        assert_eq!(with("/rules/0/verbs", json!("list")).len(), 2);
        assert_eq!(with("/rules/0/verbs", json!([])), [".rules: one has no verbs"]);
        assert_eq!(with("/metadata/labels", json!({ "x": 1 })).len(), 1);
        assert_eq!(with("/metadata", json!({ "nme": "a" })), [".metadata.nme: there is no such field"]);
        let event = json!({ "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {}, "reason": "R", "action": "A", "type": "Normal",
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "c", "reportingInstance": "c",
            "note": "ä".repeat(513) });
        assert_eq!(shape_mistakes(&event), [".note: it should have 0 to 1024 bytes"]);
    }
}
