//! SHA-1 and size of the bytes that pass: what a manifest records of every file, plain and stored.

use std::fmt;
use std::str::FromStr;

use sha1::Digest as _;

/// A SHA-1 checksum. Text form: 40 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha1(pub [u8; 20]);

impl Sha1 {
    /// The checksum of bytes held whole.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha1::Sha1::digest(bytes).into())
    }
}

impl fmt::Display for Sha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Sha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha1({self})")
    }
}

/// A text that is no SHA-1 checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-1 checksum is 40 lower-case hex digits")]
pub struct Sha1ParseError;

impl FromStr for Sha1 {
    type Err = Sha1ParseError;

    fn from_str(text: &str) -> Result<Self, Sha1ParseError> {
        // pgBackRest writes and compares lower case only; another spelling of the same number is another text.
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(Sha1ParseError);
        }
        let mut bytes = [0; 20];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| Sha1ParseError)?;
        Ok(Self(bytes))
    }
}

/// Size and checksum of a run of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// How many bytes.
    pub size_bytes: u64,
    /// Their checksum.
    pub sha1: Sha1,
}

impl Digest {
    /// The digest of bytes held whole.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.observe(bytes);
        hasher.digest()
    }
}

/// The observer that counts and hashes.
#[derive(Debug, Clone, Default)]
pub struct Hasher {
    size_bytes: u64,
    sha1: sha1::Sha1,
}

impl Hasher {
    /// Takes the next bytes into account.
    pub fn observe(&mut self, bytes: &[u8]) {
        self.size_bytes = self.size_bytes.saturating_add(bytes.len() as u64);
        self.sha1.update(bytes);
    }

    /// Takes the next bytes into account for the size only; the checksum is meaningless from then on.
    pub(super) fn count(&mut self, bytes: usize) {
        self.size_bytes = self.size_bytes.saturating_add(bytes as u64);
    }

    /// How many bytes there were so far.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Size and checksum of all bytes so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest { size_bytes: self.size_bytes, sha1: Sha1(self.sha1.clone().finalize().into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_known_text() {
        let digest = Digest::of(b"15\n");
        assert_eq!(digest.size_bytes, 3);
        assert_eq!(digest.sha1.to_string(), "587b596f04f7db9c2cad3d6b87dd2b3a05de4f35");
    }

    #[test]
    fn text_form_round_trips_and_refuses_the_rest() {
        let text = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
        assert_eq!(text.parse::<Sha1>().unwrap(), Sha1::of(b""));
        assert_eq!(text.parse::<Sha1>().unwrap().to_string(), text);
        for wrong in ["", "da39", &text.to_uppercase(), &format!("{text}00"), &text.replace('d', "g")] {
            assert_eq!(wrong.parse::<Sha1>(), Err(Sha1ParseError), "{wrong}");
        }
    }
}
