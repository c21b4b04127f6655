//! The secret a repository, or a part of it, is encrypted with.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretSlice};
use zeroize::{Zeroize, Zeroizing};

use crate::clock::{Random, RandomUnavailable};

/// Random bytes in a generated passphrase; its text has 64 characters (pgBackRest `src/common/crypto/common.c`).
const GENERATED_BYTES: usize = 48;

/// No passphrase of a person is near it; a whole file given by mistake is above it.
const PASSPHRASE_BYTES_MAX: usize = 1024 * 1024;

/// A passphrase: any bytes but none at all. The bytes count as they are, a line break at the end too. A clone shares
/// the same memory, which is wiped after the last use. Never printed.
#[derive(Clone)]
pub struct Passphrase(Arc<SecretSlice<u8>>);

/// Bytes that are no passphrase (faults.md CR02).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    /// There are no bytes.
    #[error("the cipher passphrase is empty")]
    Empty,
    /// A NUL byte, at which the original would end the passphrase.
    #[error("the cipher passphrase contains a NUL byte")]
    Nul,
    /// More than 1 MiB.
    #[error("the cipher passphrase is larger than {PASSPHRASE_BYTES_MAX} bytes")]
    TooLarge,
}

impl Passphrase {
    /// Takes the bytes as they are.
    ///
    /// # Errors
    /// [`PassphraseError`] for what cannot be a passphrase.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, PassphraseError> {
        let mut bytes = bytes.into();
        let refusal = match bytes.as_slice() {
            [] => PassphraseError::Empty,
            all if all.len() > PASSPHRASE_BYTES_MAX => PassphraseError::TooLarge,
            all if all.contains(&0) => PassphraseError::Nul,
            _ => return Ok(Self(Arc::new(SecretSlice::from(bytes)))),
        };
        bytes.zeroize();
        Err(refusal)
    }

    /// Makes a new passphrase as the original does: the base64 text of 48 random bytes. The text itself is the
    /// passphrase.
    ///
    /// # Errors
    /// [`RandomUnavailable`] when there are no random bytes.
    pub fn generate(random: &dyn Random) -> Result<Self, RandomUnavailable> {
        let mut bytes = Zeroizing::new([0; GENERATED_BYTES]);
        random.fill(&mut *bytes)?;
        Ok(Self(Arc::new(SecretSlice::from(STANDARD.encode(*bytes).into_bytes()))))
    }

    /// The bytes, for the key derivation and for the info file that stores the passphrase.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }

    /// Whether the last byte is CR or LF: allowed, but mostly an accident worth a warning.
    #[must_use]
    pub fn ends_with_line_break(&self) -> bool {
        matches!(self.expose().last(), Some(b'\n' | b'\r'))
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(redacted)")
    }
}

impl PartialEq for Passphrase {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Passphrase {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemRandom;

    #[derive(Debug)]
    struct Broken;

    impl Random for Broken {
        fn fill(&self, _: &mut [u8]) -> Result<(), RandomUnavailable> {
            Err(RandomUnavailable("no entropy".to_owned()))
        }
    }

    #[test]
    fn cr02_odd_passphrases_are_taken_as_they_are_or_refused() {
        assert_eq!(Passphrase::new(""), Err(PassphraseError::Empty));
        assert_eq!(Passphrase::new("a\0b"), Err(PassphraseError::Nul));
        assert_eq!(Passphrase::new(vec![b'x'; PASSPHRASE_BYTES_MAX + 1]), Err(PassphraseError::TooLarge));
        for (bytes, line_break) in [(&b"abc"[..], false), (b"abc\n", true), (b"abc\r\n", true), (b"\xff\xfe", false)] {
            let passphrase = Passphrase::new(bytes).unwrap();
            assert_eq!(passphrase.expose(), bytes);
            assert_eq!(passphrase.ends_with_line_break(), line_break);
        }
        assert!(Passphrase::new(vec![b'x'; PASSPHRASE_BYTES_MAX]).is_ok());
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        assert_eq!(format!("{:?}", Passphrase::new("swordfish").unwrap()), "Passphrase(redacted)");
    }

    #[test]
    fn generated_passphrases_are_64_characters_of_base64_and_differ() {
        let first = Passphrase::generate(&SystemRandom).unwrap();
        assert_eq!(first.expose().len(), 64);
        assert_eq!(STANDARD.decode(first.expose()).unwrap().len(), GENERATED_BYTES);
        assert_ne!(first, Passphrase::generate(&SystemRandom).unwrap());
    }

    #[test]
    fn cr06_no_passphrase_without_random_bytes() {
        assert!(Passphrase::generate(&Broken).is_err());
    }
}
