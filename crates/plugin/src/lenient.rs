//! Reading a few fields out of foreign JSON: what is unknown is ignored, `null` is absent, and what has the wrong type
//! is an [`InputError`] that names the field.

use std::collections::BTreeMap;

use serde_json::Value;

/// Why a message of the caller cannot be used. It names the field, so that a person finds it in the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct InputError {
    /// The field, from the object's root: `spec.plugins[0].parameters.pgbackrestObjectName`.
    pub place: String,
    /// What is wrong with it.
    pub problem: String,
}

impl InputError {
    /// An error at a place.
    pub fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into() }
    }
}

/// Longest piece of foreign text in an error, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// Foreign text for an error: bounded, on one line, without escapes of a terminal.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

/// A value and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    value: &'a Value,
    place: String,
}

impl<'a> Node<'a> {
    /// The root of an object of this kind.
    pub(crate) fn root(value: &'a Value, what: &str) -> Result<Self, InputError> {
        match value {
            Value::Object(_) => Ok(Self { value, place: String::new() }),
            _ => Err(InputError::new(what, "is not a JSON object")),
        }
    }

    /// An error about this value.
    pub(crate) fn wrong(&self, problem: impl Into<String>) -> InputError {
        InputError::new(self.place.clone(), problem)
    }

    fn wrong_type(&self, wanted: &str) -> InputError {
        let found = match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        self.wrong(format!("should be {wanted}, is {found}"))
    }

    /// A field of an object; `None` when it is absent or null.
    pub(crate) fn field(&self, name: &str) -> Result<Option<Self>, InputError> {
        let Value::Object(fields) = self.value else { return Err(self.wrong_type("an object")) };
        let place = if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) };
        Ok(fields.get(name).filter(|value| !value.is_null()).map(|value| Self { value, place }))
    }

    /// A text.
    pub(crate) fn text(&self) -> Result<&'a str, InputError> {
        self.value.as_str().ok_or_else(|| self.wrong_type("a text"))
    }

    /// A field's text; absent and empty are the same to Kubernetes.
    pub(crate) fn text_field(&self, name: &str) -> Result<Option<String>, InputError> {
        match self.field(name)? {
            Some(node) => Ok(Some(node.text()?).filter(|text| !text.is_empty()).map(str::to_owned)),
            None => Ok(None),
        }
    }

    /// A field that must be there with a text.
    pub(crate) fn required_text(&self, name: &str) -> Result<String, InputError> {
        let place = if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) };
        self.text_field(name)?.ok_or_else(|| InputError::new(place, "is missing"))
    }

    /// A field's boolean.
    pub(crate) fn bool_field(&self, name: &str) -> Result<Option<bool>, InputError> {
        match self.field(name)? {
            Some(node) => node.value.as_bool().map(Some).ok_or_else(|| node.wrong_type("a boolean")),
            None => Ok(None),
        }
    }

    /// A field's whole number of 32 bits without sign.
    pub(crate) fn u32_field(&self, name: &str) -> Result<Option<u32>, InputError> {
        match self.field(name)? {
            Some(node) => match node.value.as_u64().map(u32::try_from) {
                Some(Ok(number)) => Ok(Some(number)),
                _ => Err(node.wrong("should be a whole number below 4294967296")),
            },
            None => Ok(None),
        }
    }

    /// A field's list; absent and null are empty.
    pub(crate) fn list_field(&self, name: &str) -> Result<Vec<Self>, InputError> {
        let Some(node) = self.field(name)? else { return Ok(Vec::new()) };
        let Value::Array(values) = node.value else { return Err(node.wrong_type("a list")) };
        let named = |(at, value)| Self { value, place: format!("{}[{at}]", node.place) };
        Ok(values.iter().enumerate().map(named).filter(|node| !node.value.is_null()).collect())
    }

    /// A field's map of texts; absent and null are empty, a null value is an empty text.
    pub(crate) fn texts_field(&self, name: &str) -> Result<BTreeMap<String, String>, InputError> {
        let Some(node) = self.field(name)? else { return Ok(BTreeMap::new()) };
        let Value::Object(fields) = node.value else { return Err(node.wrong_type("an object")) };
        fields
            .iter()
            .map(|(key, value)| match value {
                Value::String(text) => Ok((key.clone(), text.clone())),
                Value::Null => Ok((key.clone(), String::new())),
                value => Err(Self { value, place: format!("{}.{}", node.place, shown(key)) }.wrong_type("a text")),
            })
            .collect()
    }

    /// Whether a field is there.
    pub(crate) fn has(&self, name: &str) -> Result<bool, InputError> {
        Ok(self.field(name)?.is_some())
    }
}

/// Parses JSON text.
pub(crate) fn json(bytes: &[u8], what: &str) -> Result<Value, InputError> {
    serde_json::from_slice(bytes).map_err(|error| InputError::new(what, format!("is not JSON: {error}")))
}

/// Longest name of an object: a DNS subdomain (RFC 1123), which Kubernetes demands of names.
const NAME_BYTES_MAX: usize = 253;

/// Whether a text can be the name of an object. What is more than a name could lead a request elsewhere.
pub(crate) fn is_object_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= NAME_BYTES_MAX && text.split('.').all(is_label)
}

/// A text as the name of an object.
pub(crate) fn object_name(text: String, place: &str) -> Result<String, InputError> {
    if is_object_name(&text) {
        Ok(text)
    } else {
        Err(InputError::new(place, format!("'{}' is not the name of a Kubernetes object", shown(&text))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        for good in ["minio-store", "a", "a.b-c.d", "0"] {
            assert!(is_object_name(good), "{good}");
        }
        let long = "x".repeat(254);
        for bad in ["", "A", "a/b", "../x", "a b", "-a", "a-", ".a", "a..b", "a?x=1", "a%2f", "ä", "a\n", &long] {
            assert!(!is_object_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn foreign_text_is_shown_on_one_line_and_bounded() {
        assert_eq!(shown("a\nb\u{1b}[0m"), "a\\nb\\u{1b}[0m");
        assert!(shown(&"x".repeat(1_000)).len() < 100);
    }
}
