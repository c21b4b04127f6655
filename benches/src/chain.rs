//! The filter chain of `archive-push` alone: what a push cannot be faster than on one core.

use pgbr_repo::clock::SystemRandom;
use pgbr_repo::filter::order::{self, StoreSpec};
use pgbr_repo::filter::{ChainReport, Codecs, Compression, FilterError, Form, Passphrase, SealChain};
use pgbr_repo::format::CompressType;

/// Bytes that a push hands to the chain at once.
const READ_BYTES: usize = 128 * 1024;

/// The room that a push gives the gz encoder for its output.
const GZ_ROOM_BYTES_MAX: usize = 10 * 1024 * 1024;

/// A chain that runs over one input after the other, keeping its codecs.
#[derive(Debug)]
pub struct StoreRun {
    compress: Compression,
    cipher: Option<Passphrase>,
    codecs: Codecs,
}

impl StoreRun {
    /// Hash, compress, encrypt (with a passphrase), hash.
    #[must_use]
    pub fn new(compress: Compression, cipher: Option<Passphrase>) -> Self {
        Self { compress, cipher, codecs: Codecs::new(1) }
    }

    /// Runs over `plain`; what comes out goes nowhere.
    ///
    /// # Errors
    /// As [`order::store_whole`].
    pub fn run(&self, plain: &[u8]) -> Result<ChainReport, FilterError> {
        self.run_into(plain, &mut |_| {})
    }

    /// Runs over `plain` and keeps what comes out.
    ///
    /// # Errors
    /// As [`order::store_whole`].
    pub fn stored(&self, plain: &[u8]) -> Result<Vec<u8>, FilterError> {
        let mut stored = Vec::new();
        self.run_into(plain, &mut |piece| stored.extend_from_slice(piece))?;
        Ok(stored)
    }

    fn run_into(&self, plain: &[u8], take: &mut dyn FnMut(&[u8])) -> Result<ChainReport, FilterError> {
        let spec =
            StoreSpec { compress: self.compress, cipher: self.cipher.as_ref(), form: Form::Standard, pages: None };
        let mut sink = |piece: &[u8]| {
            take(piece);
            Ok(())
        };
        if self.compress.kind() == CompressType::Gz {
            return order::store_whole(&spec, plain, GZ_ROOM_BYTES_MAX, &self.codecs, &SystemRandom, &mut sink);
        }
        let mut chain = order::store(&spec, &self.codecs, &SystemRandom)?;
        for piece in plain.chunks(READ_BYTES) {
            chain.write(piece, &mut sink)?;
        }
        chain.finish(&mut sink)
    }
}

/// The chain of `verify` and `restore` that runs over one input after the other, keeping its codecs.
#[derive(Debug)]
pub struct LoadRun {
    kind: CompressType,
    cipher: Option<Passphrase>,
    codecs: Codecs,
}

impl LoadRun {
    /// Hash, decrypt (with a passphrase), decompress, hash.
    #[must_use]
    pub fn new(kind: CompressType, cipher: Option<Passphrase>) -> Self {
        Self { kind, cipher, codecs: Codecs::new(1) }
    }

    /// Runs over what [`StoreRun::stored`] made of `plain_bytes`; what comes out goes nowhere.
    ///
    /// # Errors
    /// As [`order::load`] and the chain that it makes.
    pub fn run(&self, stored: &[u8], plain_bytes: u64) -> Result<ChainReport, FilterError> {
        let spec = order::LoadSpec {
            compress: self.kind,
            cipher: self.cipher.as_ref(),
            form: Form::Standard,
            plain_size_max_bytes: Some(plain_bytes),
        };
        let mut chain = order::load(&spec, &self.codecs)?;
        for piece in stored.chunks(READ_BYTES) {
            chain.write(piece, &mut |_| Ok(()))?;
        }
        chain.finish(&mut |_| Ok(()))
    }
}

/// Encryption and the hash behind it, alone.
///
/// # Errors
/// As [`order::seal`] and the chain that it makes.
pub fn seal(passphrase: &Passphrase, codecs: &Codecs, bytes: &[u8]) -> Result<(), FilterError> {
    let mut chain: SealChain = order::seal(passphrase, Form::Standard, codecs, &SystemRandom)?;
    for piece in bytes.chunks(READ_BYTES) {
        chain.write(piece, &mut |_| Ok(()))?;
    }
    chain.finish(&mut |_| Ok(())).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input;

    #[test]
    fn a_run_stores_what_can_be_loaded_again() {
        let plain = input::heap(1024 * 1024);
        let passphrase = Passphrase::new("bench").unwrap();
        for kind in [CompressType::Gz, CompressType::Zst, CompressType::Lz4] {
            let run = StoreRun::new(Compression::with_default_level(kind), Some(passphrase.clone()));
            let stored = run.stored(&plain).unwrap();
            let spec = order::LoadSpec {
                compress: kind,
                cipher: Some(&passphrase),
                form: Form::Standard,
                plain_size_max_bytes: Some(plain.len() as u64),
            };
            let mut loaded = Vec::new();
            let mut chain = order::load(&spec, &Codecs::new(1)).unwrap();
            let mut sink = |piece: &[u8]| {
                loaded.extend_from_slice(piece);
                Ok(())
            };
            chain.write(&stored, &mut sink).unwrap();
            chain.finish(&mut sink).unwrap();
            assert_eq!(loaded, plain, "{kind:?}");
        }
    }
}
