//! [`RawText`]: text as a repository stores it, which is bytes.
//!
//! File names, link targets, user names and annotations reach a repository as whatever bytes the system had. Nearly
//! always they are UTF-8, never surely, and what is written back must be what was read.

use std::fmt::{self, Debug, Display, Write};

/// Text that may not be UTF-8. Ordered by bytes, as everything in a repository is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RawText(Box<[u8]>);

impl RawText {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, if it is UTF-8.
    pub fn to_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for RawText {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl From<&[u8]> for RawText {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for RawText {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into_boxed_slice())
    }
}

impl std::borrow::Borrow<[u8]> for RawText {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<str> for RawText {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other.as_bytes()
    }
}

impl PartialEq<&str> for RawText {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == *other.as_bytes()
    }
}

/// Replaces what is not UTF-8 by U+FFFD and leaves the rest as it is, control characters too.
impl Display for RawText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl Debug for RawText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", self.0.escape_ascii())
    }
}

/// Longest form of a name inside an error, in characters: an error is one line of a log, whatever the input was.
const SHOWN_CHARS_MAX: usize = 200;

/// `bytes` for an error message: one line without control characters, cut after 200 characters.
pub fn shown(bytes: &[u8]) -> Box<str> {
    let mut text = String::new();
    for (count, character) in String::from_utf8_lossy(bytes).chars().enumerate() {
        if count == SHOWN_CHARS_MAX {
            text.push('…');
            break;
        }
        if character.is_control() {
            // Writing to a String cannot fail.
            _ = write!(text, "{}", character.escape_default());
        } else {
            text.push(character);
        }
    }
    text.into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_text_is_short_and_has_no_control_characters() {
        assert_eq!(&*shown(b"a\nb\x1b[31m\xff"), "a\\nb\\u{1b}[31m\u{fffd}");
        assert_eq!(shown(&[b'x'; 1000]).chars().count(), 201);
    }

    #[test]
    fn text_keeps_bytes_that_are_not_utf8() {
        let text = RawText::from(&b"caf\xe9"[..]);
        assert_eq!(text.as_bytes(), b"caf\xe9");
        assert_eq!(text.to_str(), None);
        assert_eq!(format!("{text:?}"), "\"caf\\xe9\"");
    }
}
