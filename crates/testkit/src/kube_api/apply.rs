//! Server-side apply, as far as one manager for each keyed item needs it: objects are merged, an item of a list with a key
//! replaces the one with its key and leaves the others, any other list is replaced. Who owns which field is not kept.

use serde_json::Value;

/// The keys of the lists that are maps in the definitions that the server knows.
const KEYS: [(&str, &str); 3] = [("stanzas", "name"), ("conditions", "type"), ("repositories", "number")];

/// The object with these fields applied.
pub(super) fn applied(mut object: Value, fields: &Value) -> Value {
    merge(&mut object, fields, "");
    object
}

fn merge(into: &mut Value, from: &Value, field: &str) {
    let key = KEYS.iter().find(|(list, _)| *list == field).map(|(_, key)| *key);
    match (into, from, key) {
        (Value::Object(into), Value::Object(from), _) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value, name);
            }
        }
        (Value::Array(into), Value::Array(from), Some(key)) => {
            for item in from {
                match into.iter_mut().find(|present| present[key] == item[key]) {
                    Some(present) => *present = item.clone(),
                    None => into.push(item.clone()),
                }
            }
        }
        (into, from, _) => *into = from.clone(),
    }
}
