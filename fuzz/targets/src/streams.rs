//! Compressed and encrypted streams.

use pgbr_repo::clock::{Random, RandomUnavailable};
use pgbr_repo::filter::order::{self, LoadSpec, StoreSpec};
use pgbr_repo::filter::{Codecs, Compression, FilterError, Form, Passphrase};
use pgbr_repo::format::CompressType;

/// What a stream may become; a bomb stops there.
const PLAIN_BYTES_MAX: u64 = 256 * 1024;

pub(crate) fn gz(bytes: &[u8]) {
    stream(CompressType::Gz, bytes);
}

pub(crate) fn lz4(bytes: &[u8]) {
    stream(CompressType::Lz4, bytes);
}

pub(crate) fn zst(bytes: &[u8]) {
    stream(CompressType::Zst, bytes);
}

pub(crate) fn bz2(bytes: &[u8]) {
    stream(CompressType::Bz2, bytes);
}

/// A stream that is decompressed: the first byte chooses form and cut.
fn stream(compress: CompressType, bytes: &[u8]) {
    let (knob, stored) = super::knob(bytes);
    let form = form(knob);
    check(&Stored { compress, passphrase: None, form }, stored, cut(knob));
}

/// An encrypted stream, uncompressed or compressed by gz: as the bytes are, and with the magic they should have.
pub(crate) fn cipher(bytes: &[u8]) {
    let (knob, stored) = super::knob(bytes);
    let compress = if knob & 4 == 0 { CompressType::None } else { CompressType::Gz };
    let passphrase = passphrase();
    let with_magic = [b"Salted__", stored].concat();
    check(&Stored { compress, passphrase: Some(&passphrase), form: form(knob) }, stored, cut(knob));
    check(&Stored { compress, passphrase: Some(&passphrase), form: Form::Standard }, &with_magic, cut(knob));
}

/// A slice of a bundle, as a manifest that is wrong may cut it: the first bytes say where it begins and how long it is.
pub(crate) fn bundle(bytes: &[u8]) {
    let Some(([knob, kind, offset, size], bundle)) = bytes.split_first_chunk() else { return };
    let begin = bundle.len() * usize::from(*offset) / 256;
    let end = begin + (bundle.len() - begin) * usize::from(*size) / 255;
    let types = CompressType::ALL;
    let passphrase = passphrase();
    let stored = Stored {
        compress: types[usize::from(*kind) % types.len()],
        passphrase: (*kind & 128 != 0).then_some(&passphrase),
        form: form(*knob),
    };
    check(&stored, &bundle[begin..end], cut(*knob));
}

/// Plain bytes through every store chain and back.
pub(crate) fn round_trip(bytes: &[u8]) {
    let (knob, plain) = super::knob(bytes);
    let passphrase = passphrase();
    let codecs = Codecs::new(1);
    for kind in CompressType::ALL {
        for cipher in [None, Some(&passphrase)] {
            let spec =
                StoreSpec { compress: Compression::with_default_level(kind), cipher, form: form(knob), pages: None };
            let mut stored = Vec::new();
            let mut chain = order::store(&spec, &codecs, &Counted).expect("a chain");
            let mut sink = |piece: &[u8]| {
                stored.extend_from_slice(piece);
                Ok(())
            };
            for piece in plain.chunks(cut(knob)) {
                chain.write(piece, &mut sink).expect("plain bytes are stored");
            }
            let report = chain.finish(&mut sink).expect("plain bytes are stored");
            assert_eq!(report.plain.size_bytes, plain.len() as u64);
            let how = Stored { compress: kind, passphrase: cipher, form: form(knob) };
            assert!(how.load(&stored, cut(knob)).is_ok_and(|loaded| loaded == plain), "what is stored is loaded");
        }
    }
}

/// How bytes are stored.
struct Stored<'a> {
    compress: CompressType,
    passphrase: Option<&'a Passphrase>,
    form: Form,
}

impl Stored<'_> {
    fn spec(&self, plain_size_max_bytes: u64) -> LoadSpec<'_> {
        LoadSpec {
            compress: self.compress,
            cipher: self.passphrase,
            form: self.form,
            plain_size_max_bytes: Some(plain_size_max_bytes),
        }
    }

    fn load(&self, stored: &[u8], cut: usize) -> Result<Vec<u8>, FilterError> {
        let mut plain = Vec::new();
        let mut sink = |piece: &[u8]| {
            assert!(!piece.is_empty(), "no piece is empty");
            plain.extend_from_slice(piece);
            assert!(plain.len() as u64 <= PLAIN_BYTES_MAX, "the ceiling holds");
            Ok(())
        };
        let mut chain = order::load(&self.spec(PLAIN_BYTES_MAX), &Codecs::new(0))?;
        for piece in stored.chunks(cut) {
            chain.write(piece, &mut sink)?;
        }
        let report = chain.finish(&mut sink)?;
        assert_eq!(report.stored.size_bytes, stored.len() as u64, "all that came is counted");
        assert_eq!(report.plain.size_bytes, plain.len() as u64, "all that went is counted");
        Ok(plain)
    }

    /// As files of a bundle are read: with the exact size, all at once.
    fn load_whole(&self, stored: &[u8], size_bytes: u64) -> Result<Vec<u8>, FilterError> {
        let mut plain = Vec::new();
        let mut sink = |piece: &[u8]| {
            plain.extend_from_slice(piece);
            assert!(plain.len() as u64 <= size_bytes, "the ceiling holds");
            Ok(())
        };
        order::load_whole(&self.spec(size_bytes), stored, 1024 * 1024, &Codecs::new(0), &mut sink)?;
        Ok(plain)
    }
}

fn check(how: &Stored<'_>, stored: &[u8], cut: usize) {
    let whole = how.load(stored, stored.len().max(1));
    let pieces = how.load(stored, cut);
    assert_eq!(whole.is_ok(), pieces.is_ok(), "the cut does not decide");
    let (Ok(whole), Ok(pieces)) = (whole, pieces) else { return };
    assert!(whole == pieces, "the cut does not change what is read");
    let size_bytes = whole.len() as u64;
    assert!(how.load_whole(stored, size_bytes).is_ok_and(|again| again == whole), "both readers read the same");
    if let Some(less) = size_bytes.checked_sub(1) {
        assert!(how.load_whole(stored, less).is_err(), "one byte too many is an error");
    }
}

fn form(knob: u8) -> Form {
    if knob & 1 == 0 { Form::Standard } else { Form::Raw }
}

/// Bytes of a piece.
fn cut(knob: u8) -> usize {
    match knob >> 4 {
        0 => 1,
        1 => 7,
        2 => 512,
        other => usize::from(other) * 4099,
    }
}

fn passphrase() -> Passphrase {
    Passphrase::new(*b"fuzz").expect("a passphrase")
}

/// Salts that are the same in every run.
#[derive(Debug)]
struct Counted;

impl Random for Counted {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomUnavailable> {
        for (byte, number) in buffer.iter_mut().zip((0..=255_u8).cycle()) {
            *byte = number;
        }
        Ok(())
    }
}
