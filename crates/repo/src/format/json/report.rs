//! Pieces of which reports as JSON are made.

use super::write::ObjectWriter;

/// Appends an array.
pub fn write_array<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// Appends an object; members come in ascending order of their keys.
pub fn write_object(out: &mut Vec<u8>, write: impl FnOnce(&mut ObjectWriter<'_>)) {
    let mut object = ObjectWriter::new(out, None);
    write(&mut object);
    object.end();
}

/// The text to print. What the original would print as a raw control character, which no reader of JSON takes, is
/// escaped here; what is not UTF-8 is replaced (faults.md HI19).
pub fn printable(json: &[u8]) -> String {
    let mut text = String::with_capacity(json.len());
    for character in String::from_utf8_lossy(json).chars() {
        if character.is_control() {
            text.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            text.push(character);
        }
    }
    text
}
