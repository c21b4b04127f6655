//! AES-256-CBC as `openssl enc -aes-256-cbc -md sha1` does it (repository-format.md §5.3).
//!
//! ```text
//! standard: "Salted__" (8) | salt (8) | cipher text
//! raw:                       salt (8) | cipher text
//! ```
//!
//! The cipher text is always padded (PKCS#7), so it has 1 to 16 bytes more than the plain text. It is not
//! authenticated: whoever decrypts must compare size and checksum before using the result.

use aes::Aes256;
use cipher::{Array, BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use sha1::Digest as _;
use zeroize::Zeroizing;

use super::codecs::Codecs;
use super::error::{DecryptError, FilterError};
use super::form::Form;
use super::passphrase::Passphrase;
use super::piece::PieceBuffer;
use super::transform::{Next, Transform};
use crate::clock::Random;

/// First bytes of a standard stream (OpenSSL `apps/enc.c`).
const MAGIC: &[u8; 8] = b"Salted__";
const SALT_BYTES: usize = 8;
const BLOCK_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
const IV_BYTES: usize = 16;

type Salt = [u8; SALT_BYTES];

/// Key and initialisation vector of one stream.
struct KeyIv {
    key: Zeroizing<[u8; KEY_BYTES]>,
    iv: Zeroizing<[u8; IV_BYTES]>,
}

impl KeyIv {
    /// OpenSSL's `EVP_BytesToKey` with SHA-1 and one iteration: D1 = SHA1(pass | salt), Di = SHA1(D(i-1) | pass |
    /// salt); the key is the first 32 bytes of D1 | D2 | D3, the vector the next 16.
    fn derive(passphrase: &Passphrase, salt: Salt) -> Self {
        const ROUND_BYTES: usize = 20;
        let mut derived = Zeroizing::new([0_u8; 3 * ROUND_BYTES]);
        let mut last: Option<Zeroizing<[u8; ROUND_BYTES]>> = None;
        for round in derived.chunks_exact_mut(ROUND_BYTES) {
            let mut hash = sha1::Sha1::new();
            if let Some(last) = &last {
                hash.update(**last);
            }
            hash.update(passphrase.expose());
            hash.update(salt);
            let result = Zeroizing::new(<[u8; ROUND_BYTES]>::from(hash.finalize()));
            round.copy_from_slice(&*result);
            last = Some(result);
        }
        let mut derived_keys = Self { key: Zeroizing::new([0; KEY_BYTES]), iv: Zeroizing::new([0; IV_BYTES]) };
        derived_keys.key.copy_from_slice(&derived[..KEY_BYTES]);
        derived_keys.iv.copy_from_slice(&derived[KEY_BYTES..KEY_BYTES + IV_BYTES]);
        derived_keys
    }
}

/// The transform that encrypts.
pub(super) struct Encrypt {
    header: Option<Vec<u8>>,
    cipher: cbc::Encryptor<Aes256>,
    plain: PieceBuffer,
}

impl Encrypt {
    /// A stream with a salt of its own.
    pub(super) fn new(
        passphrase: &Passphrase,
        form: Form,
        codecs: &Codecs,
        random: &dyn Random,
    ) -> Result<Self, FilterError> {
        let mut salt = Salt::default();
        random.fill(&mut salt)?;
        let keys = KeyIv::derive(passphrase, salt);
        let mut header = Vec::with_capacity(MAGIC.len() + SALT_BYTES);
        if form == Form::Standard {
            header.extend_from_slice(MAGIC);
        }
        header.extend_from_slice(&salt);
        Ok(Self {
            header: Some(header),
            cipher: cbc::Encryptor::new(&Array::from(*keys.key), &Array::from(*keys.iv)),
            plain: PieceBuffer::new(codecs),
        })
    }

    fn write_header(&mut self, next: &mut Next<'_>) -> Result<(), FilterError> {
        self.header.take().map_or(Ok(()), |header| next(&header))
    }

    /// Encrypts the whole buffer, which must hold whole cipher blocks, and hands it on. Blocks go to the cipher in
    /// bulk: one by one they take 2.6 times as long.
    fn encrypt_buffer(&mut self, next: &mut Next<'_>) -> Result<(), FilterError> {
        let (blocks, rest) = Array::slice_as_chunks_mut(self.plain.filled_mut());
        debug_assert!(rest.is_empty(), "only whole cipher blocks are encrypted");
        self.cipher.encrypt_blocks(blocks);
        self.plain.flush(next)
    }
}

impl Transform for Encrypt {
    fn write(&mut self, input: &[u8], next: &mut Next<'_>) -> Result<(), FilterError> {
        self.write_header(next)?;
        let mut rest = input;
        while !rest.is_empty() {
            rest = self.plain.fill(rest);
            if self.plain.is_full() {
                self.encrypt_buffer(next)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), FilterError> {
        self.write_header(next)?;
        // The buffer is never full here and its size is a multiple of the block, so the padding has room.
        let padding_bytes = BLOCK_BYTES - self.plain.len() % BLOCK_BYTES;
        let padding_byte = u8::try_from(padding_bytes).unwrap_or_default();
        self.plain.fill(&[padding_byte; BLOCK_BYTES][..padding_bytes]);
        self.encrypt_buffer(next)
    }
}

/// The transform that decrypts.
pub(super) struct Decrypt {
    passphrase: Passphrase,
    form: Form,
    header: Vec<u8>,
    cipher: Option<cbc::Decryptor<Aes256>>,
    encrypted: PieceBuffer,
    size_bytes: u64,
}

impl Decrypt {
    pub(super) fn new(passphrase: &Passphrase, form: Form, codecs: &Codecs) -> Self {
        Self {
            passphrase: passphrase.clone(),
            form,
            header: Vec::with_capacity(MAGIC.len() + SALT_BYTES),
            cipher: None,
            encrypted: PieceBuffer::new(codecs),
            size_bytes: 0,
        }
    }

    /// Takes what belongs to the header from `input` and returns the rest.
    fn read_header<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], DecryptError> {
        let magic: &[u8] = match self.form {
            Form::Standard => MAGIC,
            Form::Raw => &[],
        };
        let missing = (magic.len() + SALT_BYTES).saturating_sub(self.header.len());
        let (taken, rest) = input.split_at(missing.min(input.len()));
        self.header.extend_from_slice(taken);
        // A wrong magic is told as soon as it is seen, even if the input ends inside of it.
        let seen = self.header.len().min(magic.len());
        if self.header.get(..seen) != magic.get(..seen) {
            return Err(DecryptError::NoMagic);
        }
        if let Some(salt) = self.header.get(magic.len()..).and_then(|salt| Salt::try_from(salt).ok()) {
            let keys = KeyIv::derive(&self.passphrase, salt);
            self.cipher = Some(cbc::Decryptor::new(&Array::from(*keys.key), &Array::from(*keys.iv)));
        }
        Ok(rest)
    }

    /// Decrypts the whole buffer in place; it holds whole cipher blocks.
    fn decrypt_buffer(&mut self) {
        let (blocks, _) = Array::slice_as_chunks_mut(self.encrypted.filled_mut());
        if let Some(cipher) = &mut self.cipher {
            cipher.decrypt_blocks(blocks);
        }
    }
}

impl Transform for Decrypt {
    fn write(&mut self, input: &[u8], next: &mut Next<'_>) -> Result<(), FilterError> {
        let mut rest = input;
        if self.cipher.is_none() {
            rest = self.read_header(rest)?;
        }
        self.size_bytes = self.size_bytes.saturating_add(rest.len() as u64);
        while !rest.is_empty() {
            // Only when more follows is the buffer known not to hold the last block with the padding.
            if self.encrypted.is_full() {
                self.decrypt_buffer();
                self.encrypted.flush(next)?;
            }
            rest = self.encrypted.fill(rest);
        }
        Ok(())
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), FilterError> {
        if self.cipher.is_none() || self.size_bytes == 0 {
            return Err(DecryptError::TooShort { size_bytes: self.header.len() as u64 }.into());
        }
        if !self.size_bytes.is_multiple_of(BLOCK_BYTES as u64) {
            return Err(DecryptError::NotWholeBlocks { size_bytes: self.size_bytes }.into());
        }
        self.decrypt_buffer();
        let Some(padding_bytes) = padding_bytes(self.encrypted.filled_mut()) else {
            let passphrase_ends_with_line_break = self.passphrase.ends_with_line_break();
            return Err(DecryptError::BadPadding { passphrase_ends_with_line_break }.into());
        };
        self.encrypted.shorten(padding_bytes);
        self.encrypted.flush(next)
    }
}

/// The size of the padding at the end of `plain`, if it is one.
fn padding_bytes(plain: &[u8]) -> Option<usize> {
    let last = *plain.last()?;
    let count = usize::from(last);
    let padding = plain.get(plain.len().checked_sub(count)?..)?;
    ((1..=BLOCK_BYTES).contains(&count) && padding.iter().all(|byte| *byte == last)).then_some(count)
}
