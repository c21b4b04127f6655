//! Writes JSON at the end of a buffer.

/// Appends `text` as a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    write_escaped(out, text);
    out.push(b'"');
}

/// Appends `text` escaped as inside a JSON string, without quotes.
fn write_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut clean = 0;
    for (at, &byte) in text.iter().enumerate() {
        let escape = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            _ => continue,
        };
        out.extend_from_slice(text.get(clean..at).unwrap_or_default());
        out.extend_from_slice(&[b'\\', escape]);
        clean = at + 1;
    }
    out.extend_from_slice(text.get(clean..).unwrap_or_default());
}

/// Appends a number.
pub fn write_u64(out: &mut Vec<u8>, mut value: u64) {
    // 20 digits hold any u64. Formatting by hand, since a manifest has millions of numbers.
    let mut digits = [0_u8; 20];
    let mut used = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
        used += 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

/// Appends a number with sign.
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    write_u64(out, value.unsigned_abs());
}

/// Appends `true` or `false`.
pub fn write_bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Attributes of an object that this code does not know, in ascending order of their keys: key and value as they
/// stood in the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnknownAttributes(Vec<RawMember>);

/// A key and its value, both as they stand in the file.
type RawMember = (Box<[u8]>, Box<[u8]>);

impl UnknownAttributes {
    /// Keeps one more attribute; `key` sorts after all that are kept already, as it does in an object that is read.
    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        self.0.push((key.into(), value.into()));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Writes an object: keys go in ascending order, unknown attributes find their place between them.
#[derive(Debug)]
pub struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    unknown: &'a [RawMember],
    begun: bool,
}

impl<'a> ObjectWriter<'a> {
    /// Begins an object at the end of `out`.
    pub fn new(out: &'a mut Vec<u8>, unknown: Option<&'a UnknownAttributes>) -> Self {
        out.push(b'{');
        Self { out, unknown: unknown.map_or(&[], |unknown| &unknown.0), begun: false }
    }

    /// Begins a member; its value is then appended to the returned buffer.
    pub fn key(&mut self, key: &str) -> &mut Vec<u8> {
        while let Some(((name, value), rest)) = self.unknown.split_first()
            && **name < *key.as_bytes()
        {
            self.member(name, value);
            self.unknown = rest;
        }
        self.key_raw(key.as_bytes());
        self.out
    }

    /// A member that is a string.
    pub fn string(&mut self, key: &str, value: &[u8]) {
        write_string(self.key(key), value);
    }

    /// A member that is a number.
    pub fn u64(&mut self, key: &str, value: u64) {
        write_u64(self.key(key), value);
    }

    /// A member that is a number with sign.
    pub fn i64(&mut self, key: &str, value: i64) {
        write_i64(self.key(key), value);
    }

    /// A member that is true or false.
    pub fn bool(&mut self, key: &str, value: bool) {
        write_bool(self.key(key), value);
    }

    /// Ends the object.
    pub fn end(mut self) {
        while let Some(((name, value), rest)) = self.unknown.split_first() {
            self.member(name, value);
            self.unknown = rest;
        }
        self.out.push(b'}');
    }

    fn member(&mut self, key: &[u8], value: &[u8]) {
        self.key_raw(key);
        self.out.extend_from_slice(value);
    }

    fn key_raw(&mut self, key: &[u8]) {
        self.out.extend_from_slice(if self.begun { b",\"" } else { b"\"" });
        self.out.extend_from_slice(key);
        self.out.extend_from_slice(b"\":");
        self.begun = true;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{JsonReader, validate};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn in07_unknown_attributes_keep_their_place() {
        let mut unknown = UnknownAttributes::default();
        unknown.push(b"a", b"1");
        unknown.push(b"ba", b"{\"x\": [ ]}");
        unknown.push(b"z", b"null");
        let mut out = Vec::new();
        let mut object = ObjectWriter::new(&mut out, Some(&unknown));
        object.u64("b", 7);
        object.bool("c", true);
        object.end();
        assert_eq!(String::from_utf8(out).unwrap(), "{\"a\":1,\"b\":7,\"ba\":{\"x\": [ ]},\"c\":true,\"z\":null}");
    }

    proptest! {
        #[test]
        fn strings_round_trip(text in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            prop_assert_eq!(validate(&out), Ok(()));
            prop_assert_eq!(JsonReader::new(&out).string().unwrap().into_owned(), text);
        }

        #[test]
        fn numbers_round_trip(unsigned in any::<u64>(), signed in any::<i64>()) {
            let mut out = Vec::new();
            write_u64(&mut out, unsigned);
            prop_assert_eq!(String::from_utf8_lossy(&out), unsigned.to_string());
            out.clear();
            write_i64(&mut out, signed);
            prop_assert_eq!(String::from_utf8_lossy(&out), signed.to_string());
            prop_assert_eq!(JsonReader::new(&out).i64(), Ok(signed));
        }
    }
}
