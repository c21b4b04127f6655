//! What the API server checks before it takes an object: the definition's schema, as far as ours uses it.

use serde_json::Value;

/// The mistakes of an object against a schema, each with its place. A field that the schema does not name is one: the server
/// deletes it, which is never what its author meant.
pub(crate) fn mistakes(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, value, "", &mut found);
    found
}

fn check(schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    let mut say = |problem: String| found.push(format!("{place}: {problem}"));
    let is_of_type = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64(),
        Some("number") => value.is_number(),
        Some(other) => panic!("the schema has an unknown type {other} at {place}"),
        None if schema["x-kubernetes-int-or-string"] == true => value.is_i64() || value.is_string(),
        None => panic!("the schema has no type at {place}"),
    };
    if !is_of_type {
        return say(format!("{value} is no {}", schema["type"]));
    }
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        say(format!("{value} is none of {}", schema["enum"]));
    }
    if let Some(number) = value.as_f64() {
        let is_below = schema["minimum"].as_f64().is_some_and(|minimum| number < minimum);
        if is_below || schema["maximum"].as_f64().is_some_and(|maximum| number > maximum) {
            say(format!("{value} is out of range"));
        }
    }
    if let Some(text) = value.as_str()
        && schema["minLength"].as_u64().is_some_and(|minimum| u64::try_from(text.len()).unwrap() < minimum)
    {
        say("it is too short".to_owned());
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            say(format!("{name} is missing"));
        }
    }
    // There are no rules in CEL: a definition with some needs more than this.
    assert!(schema["x-kubernetes-validations"].is_null(), "{place} has rules");
    for (name, field) in value.as_object().into_iter().flatten() {
        let known = schema["properties"].get(name).or(schema.get("additionalProperties"));
        match known {
            Some(known) => check(known, field, &format!("{place}.{name}"), found),
            None => found.push(format!("{place}.{name}: there is no such field")),
        }
    }
    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
        check(&schema["items"], item, &format!("{place}[{at}]"), found);
    }
}
