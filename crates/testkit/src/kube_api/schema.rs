//! What the API server checks before it takes an object: its schema, as far as those here have rules.

use cel::{Context, Program};
use serde_json::Value;

/// The mistakes of an object against a schema, each with its place. A field that the schema does not name is one: the server
/// deletes it, which is never what its author meant.
///
/// # Panics
/// When the schema, or a rule in it, is one that cannot be applied.
pub fn mistakes(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, value, "", &mut found);
    // As the API server: rules are about objects that are formed as they should be.
    if found.is_empty() {
        apply_rules(schema, value, "", &mut found);
    }
    found
}

fn apply_rules(schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    if value.is_null() {
        return;
    }
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        if !holds(rule["rule"].as_str().unwrap_or_default(), value) {
            found.push(format!("{place}: {}", rule["message"].as_str().unwrap_or_default()));
        }
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let known = schema["properties"].get(name).or(schema.get("additionalProperties"));
        apply_rules(known.unwrap_or(&Value::Null), field, &format!("{place}.{name}"), found);
    }
    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
        apply_rules(&schema["items"], item, &format!("{place}[{at}]"), found);
    }
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
        None if schema == &Value::Bool(true) || schema["x-kubernetes-preserve-unknown-fields"] == true => return,
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
        && schema["minLength"].as_u64().is_some_and(|minimum| (text.len() as u64) < minimum)
    {
        say("it is too short".to_owned());
    }
    if let Some(items) = value.as_array()
        && schema["maxItems"].as_u64().is_some_and(|maximum| items.len() as u64 > maximum)
    {
        say("there are too many".to_owned());
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            say(format!("{name} is missing"));
        }
    }
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

/// Whether a rule in CEL holds for a value. To rules a field that is `null` is not there.
fn holds(rule: &str, value: &Value) -> bool {
    let mut value = value.clone();
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, field| !field.is_null());
    }
    let program = Program::compile(rule).unwrap_or_else(|error| panic!("{rule}: {error}"));
    let mut context = Context::default();
    context.add_variable("self", value).unwrap_or_else(|error| panic!("{rule}: {error}"));
    match program.execute(&context) {
        Ok(cel::Value::Bool(holds)) => holds,
        other => panic!("{rule}: {other:?}"),
    }
}
