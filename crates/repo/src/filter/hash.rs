//! SHA-1 and size of the bytes that pass: what a manifest records of every file, plain and stored.

use sha1::Digest as _;

use crate::format::Checksum;

/// Size and checksum of a run of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// How many bytes.
    pub size_bytes: u64,
    /// Their checksum.
    pub sha1: Checksum,
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
        Digest { size_bytes: self.size_bytes, sha1: Checksum(self.sha1.clone().finalize().into()) }
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
}
