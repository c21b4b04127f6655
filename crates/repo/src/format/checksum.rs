//! [`Checksum`]: the SHA-1 by which the format names and checks content.

use std::fmt;

/// A SHA-1, written as 40 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checksum(pub [u8; 20]);

impl Checksum {
    /// The SHA-1 of no bytes, which the format implies for empty files (`HASH_TYPE_SHA1_ZERO` of pgBackRest).
    pub const EMPTY: Checksum = Checksum([
        0xda, 0x39, 0xa3, 0xee, 0x5e, 0x6b, 0x4b, 0x0d, 0x32, 0x55, 0xbf, 0xef, 0x95, 0x60, 0x18, 0x90, 0xaf, 0xd8,
        0x07, 0x09,
    ]);

    /// Reads 40 digits; `None` for anything else, upper-case digits included, since they could not be written again.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.iter().any(u8::is_ascii_uppercase) {
            return None;
        }
        let mut bytes = [0; 20];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// Appends the 40 digits.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut digits = [0; 40];
        // 20 bytes always fit 40 digits.
        _ = hex::encode_to_slice(self.0, &mut digits);
        out.extend_from_slice(&digits);
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Checksum({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha1::{Digest, Sha1};

    #[test]
    fn the_empty_checksum_is_the_sha1_of_nothing() {
        assert_eq!(<[u8; 20]>::from(Sha1::digest(b"")), Checksum::EMPTY.0);
    }

    #[test]
    fn a_checksum_has_one_text() {
        let text = "dfe40935642c2445b4783ef3796135d93d10442f";
        let checksum = Checksum::parse(text.as_bytes()).unwrap();
        assert_eq!(checksum.to_string(), text);
        let mut out = Vec::new();
        checksum.write(&mut out);
        assert_eq!(out, text.as_bytes());
        for bad in [&text.to_uppercase(), "", &text[1..], &format!("{text}0"), &text.replace('d', "g")] {
            assert_eq!(Checksum::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
