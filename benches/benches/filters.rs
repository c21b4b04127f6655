//! Filters over one WAL segment and over pages of a heap: `cargo bench -p pgbr-benches --bench filters`.
//!
//! Every chain hashes what goes in and what comes out, since no other is ever used; `sha1` shows how much that is.

use std::sync::LazyLock;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use pgbr_benches::chain::{self, StoreRun};
use pgbr_benches::input::{self, SEGMENT_BYTES};
use pgbr_repo::filter::order::{self, LoadSpec};
use pgbr_repo::filter::{Codecs, Compression, Digest, Form, Passphrase};
use pgbr_repo::format::CompressType;

fn main() {
    divan::main();
}

static WAL: LazyLock<Vec<u8>> = LazyLock::new(|| input::segment().expect("the folder of segments is readable").0);
static HEAP: LazyLock<Vec<u8>> = LazyLock::new(|| input::heap(SEGMENT_BYTES));

const INPUTS: [&str; 2] = ["wal", "heap"];

fn bytes(name: &str) -> &'static [u8] {
    if name == "wal" { &WAL } else { &HEAP }
}

fn passphrase() -> Passphrase {
    Passphrase::new("bench").expect("is not empty")
}

fn store(bencher: Bencher<'_, '_>, name: &str, kind: CompressType, cipher: Option<Passphrase>) {
    let plain = bytes(name);
    let run = StoreRun::new(Compression::with_default_level(kind), cipher);
    bencher.counter(BytesCount::of_slice(plain)).bench(|| run.run(black_box(plain)).expect("memory is enough"));
}

fn load(bencher: Bencher<'_, '_>, name: &str, kind: CompressType, cipher: Option<&Passphrase>) {
    let plain = bytes(name);
    let stored = StoreRun::new(Compression::with_default_level(kind), cipher.cloned()).stored(plain);
    let stored = stored.expect("memory is enough");
    let codecs = Codecs::new(1);
    bencher.counter(BytesCount::of_slice(plain)).bench(|| {
        let spec =
            LoadSpec { compress: kind, cipher, form: Form::Standard, plain_size_max_bytes: Some(plain.len() as u64) };
        order::load_whole(&spec, black_box(&stored), SEGMENT_BYTES, &codecs, &mut |_| Ok(())).expect("was just stored")
    });
}

#[divan::bench(args = INPUTS, sample_count = 7, sample_size = 1)]
fn sha1(bencher: Bencher<'_, '_>, name: &str) {
    let plain = bytes(name);
    bencher.counter(BytesCount::of_slice(plain)).bench(|| Digest::of(black_box(plain)));
}

/// Cipher and hash behind it.
#[divan::bench(args = INPUTS, sample_count = 7, sample_size = 1)]
fn seal_aes(bencher: Bencher<'_, '_>, name: &str) {
    let (plain, passphrase, codecs) = (bytes(name), passphrase(), Codecs::new(1));
    bencher
        .counter(BytesCount::of_slice(plain))
        .bench(|| chain::seal(&passphrase, &codecs, black_box(plain)).expect("there are random bytes"));
}

#[divan::bench(args = INPUTS, sample_count = 7, sample_size = 1)]
fn store_none(bencher: Bencher<'_, '_>, name: &str) {
    store(bencher, name, CompressType::None, None);
}

#[divan::bench(args = INPUTS, sample_count = 7, sample_size = 1)]
fn store_lz4(bencher: Bencher<'_, '_>, name: &str) {
    store(bencher, name, CompressType::Lz4, None);
}

#[divan::bench(args = INPUTS, sample_count = 7, sample_size = 1)]
fn store_zst(bencher: Bencher<'_, '_>, name: &str) {
    store(bencher, name, CompressType::Zst, None);
}

#[divan::bench(args = INPUTS, sample_count = 5, sample_size = 1)]
fn store_gz(bencher: Bencher<'_, '_>, name: &str) {
    store(bencher, name, CompressType::Gz, None);
}

#[divan::bench(args = INPUTS, sample_count = 3, sample_size = 1)]
fn store_bz2(bencher: Bencher<'_, '_>, name: &str) {
    store(bencher, name, CompressType::Bz2, None);
}

#[divan::bench(args = INPUTS, sample_count = 7, sample_size = 1)]
fn store_zst_aes(bencher: Bencher<'_, '_>, name: &str) {
    store(bencher, name, CompressType::Zst, Some(passphrase()));
}

#[divan::bench(args = INPUTS, sample_count = 5, sample_size = 1)]
fn store_gz_aes(bencher: Bencher<'_, '_>, name: &str) {
    store(bencher, name, CompressType::Gz, Some(passphrase()));
}

#[divan::bench(args = INPUTS, sample_count = 7, sample_size = 1)]
fn load_lz4(bencher: Bencher<'_, '_>, name: &str) {
    load(bencher, name, CompressType::Lz4, None);
}

#[divan::bench(args = INPUTS, sample_count = 7, sample_size = 1)]
fn load_zst_aes(bencher: Bencher<'_, '_>, name: &str) {
    load(bencher, name, CompressType::Zst, Some(&passphrase()));
}

#[divan::bench(args = INPUTS, sample_count = 7, sample_size = 1)]
fn load_gz_aes(bencher: Bencher<'_, '_>, name: &str) {
    load(bencher, name, CompressType::Gz, Some(&passphrase()));
}
