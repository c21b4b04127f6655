//! Whether two containers are one to Kubernetes, which leaves empty values out when it writes an object again.

use serde_json::{Map, Value};

/// Whether the values are equal but for what is empty: null, `""`, `[]` and `{}`.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let keys = one.keys().chain(other.keys());
            let field = |fields: &Map<String, Value>, key: &String| fields.get(key).cloned().unwrap_or(Value::Null);
            keys.into_iter().all(|key| same(&field(one, key), &field(other, key)))
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (one, other) => one == other || (is_empty(one) && is_empty(other)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The value without its nulls.
pub(super) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(values) => Value::Array(values.iter().map(without_nulls).collect()),
        value => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_empty_is_absent_and_false_is_not() {
        let one = json!({ "name": "A", "value": "", "list": [], "deep": { "x": null }, "on": false });
        assert!(same(&one, &json!({ "name": "A", "on": false })));
        assert!(same(&json!({ "name": "A", "on": false }), &one));
        assert!(!same(&one, &json!({ "name": "A" })));
        assert!(!same(&one, &json!({ "name": "B", "on": false })));
        assert!(!same(&json!([1]), &json!([1, 2])));
    }
}
