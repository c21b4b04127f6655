//! Real files for tests: `formats/samples/postgres`.

use std::path::Path;

/// The bytes of a sample.
pub(crate) fn sample(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../formats/samples/postgres").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("sample {}: {error}", path.display()))
}
