//! [`CipherPass`]: the passphrase of what lies below an info file.

use std::fmt;

use secrecy::{ExposeSecret, SecretSlice};

/// A passphrase, as its text stands in an info file: for generated ones 64 characters of base64, which are used as
/// they are. Never printed; wiped when dropped.
pub struct CipherPass(SecretSlice<u8>);

impl CipherPass {
    /// Takes the bytes of a passphrase.
    pub fn new(pass: Vec<u8>) -> Self {
        Self(SecretSlice::from(pass))
    }

    /// The bytes, for the key derivation and for writing the info file.
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

impl Clone for CipherPass {
    fn clone(&self) -> Self {
        Self::new(self.expose().to_vec())
    }
}

impl PartialEq for CipherPass {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for CipherPass {}

impl fmt::Debug for CipherPass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CipherPass(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_never_printed() {
        assert_eq!(format!("{:?}", CipherPass::new(b"swordfish".to_vec())), "CipherPass(redacted)");
    }
}
