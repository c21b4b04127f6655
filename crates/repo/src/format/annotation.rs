//! [`Annotations`]: what people noted about a backup, in its manifest and in backup.info.

use std::collections::BTreeMap;

use super::error::ValueProblem;
use super::json::{self, JsonReader};
use super::text::{RawText, shown};

/// Longest key and value that can be set, in bytes. A file with longer ones is still read.
const KEY_BYTES_MAX: usize = 1 << 10;
const VALUE_BYTES_MAX: usize = 64 << 10;

/// Keys and values, by key. A value is never empty: an empty one removes its key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Annotations(BTreeMap<RawText, RawText>);

/// An annotation cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("annotation '{key}' {reason}")]
pub struct AnnotationError {
    key: Box<str>,
    reason: &'static str,
}

impl Annotations {
    /// Sets a value, or removes the key when the value is empty, as the command `annotate` does.
    ///
    /// # Errors
    /// [`AnnotationError`] for a key that no reader of the format finds again (empty, or with a quote, backslash or
    /// control character), a NUL byte in the value, and for overlong ones.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), AnnotationError> {
        let reason = if key.is_empty() {
            "has an empty key"
        } else if key.contains(['"', '\\']) || key.contains(char::is_control) {
            "has a quote, backslash or control character in its key"
        } else if key.len() > KEY_BYTES_MAX {
            "has a key longer than 1024 bytes"
        } else if value.contains('\0') {
            "has a NUL byte in its value"
        } else if value.len() > VALUE_BYTES_MAX {
            "has a value longer than 65536 bytes"
        } else {
            if value.is_empty() {
                self.0.remove(key.as_bytes());
            } else {
                self.0.insert(RawText::from(key), RawText::from(value));
            }
            return Ok(());
        };
        Err(AnnotationError { key: shown(key.as_bytes()), reason })
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&RawText> {
        self.0.get(key.as_bytes())
    }

    /// Keys and values in ascending order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&RawText, &RawText)> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads an object of strings.
    pub(crate) fn read(reader: &mut JsonReader<'_>) -> Result<Self, ValueProblem> {
        let mut annotations = BTreeMap::new();
        let mut object = reader.object()?;
        while let Some(key) = object.next_key(reader)? {
            if key.contains(&b'\\') {
                return Err(ValueProblem::Refused("an annotation has an escape in its key"));
            }
            annotations.insert(RawText::from(key), RawText::from(reader.string()?.into_owned()));
        }
        Ok(Self(annotations))
    }

    /// Appends an object of strings.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (at, (key, value)) in self.0.iter().enumerate() {
            out.extend_from_slice(if at == 0 { b"\"" } else { b",\"" });
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            json::write_string(out, value.as_bytes());
        }
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_value_removes_the_key() {
        let mut annotations = Annotations::default();
        annotations.set("b", "2\n\"").unwrap();
        annotations.set("a", "1").unwrap();
        annotations.set("c", "").unwrap();
        let mut out = Vec::new();
        annotations.write(&mut out);
        assert_eq!(out, b"{\"a\":\"1\",\"b\":\"2\\n\\\"\"}");
        assert_eq!(Annotations::read(&mut JsonReader::new(&out)).unwrap(), annotations);
        annotations.set("a", "").unwrap();
        annotations.set("b", "").unwrap();
        assert!(annotations.is_empty());
    }

    #[test]
    fn hi19_annotations_that_cannot_be_stored_are_refused() {
        let long = "x".repeat(70_000);
        for (key, value) in
            [("", "v"), ("a\"b", "v"), ("a\\b", "v"), ("a\nb", "v"), ("a", "v\0"), (&long, "v"), ("a", &long)]
        {
            assert!(Annotations::default().set(key, value).is_err());
        }
    }
}
