//! A manifest of 100,000 rows: `cargo bench -p pgbr-benches --bench manifest`. A million rows and memory:
//! `cargo xtask bench manifest`.

use std::convert::Infallible;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use pgbr_benches::manifest;
use pgbr_repo::format::Manifest;

fn main() {
    divan::main();
}

const ROWS: usize = 100_000;

#[divan::bench(sample_count = 5, sample_size = 1)]
fn parse(bencher: Bencher<'_, '_>) {
    let text = manifest::generate(ROWS).expect("rows are in order").write_to_vec();
    bencher
        .counter(BytesCount::of_slice(&text))
        .counter(ItemsCount::new(ROWS))
        .bench(|| Manifest::parse(black_box(&text)).expect("was just written"));
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn write(bencher: Bencher<'_, '_>) {
    let manifest = manifest::generate(ROWS).expect("rows are in order");
    bencher.counter(ItemsCount::new(ROWS)).bench(|| {
        let mut written_bytes = 0;
        let Ok(()) = black_box(&manifest).write(&mut |bytes: &[u8]| -> Result<(), Infallible> {
            written_bytes += bytes.len();
            Ok(())
        });
        written_bytes
    });
}
