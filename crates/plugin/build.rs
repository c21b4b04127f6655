//! Generates the messages, servers and clients of CNPG-I from `proto/` of the workspace, without any program beside cargo.

use std::error::Error;
use std::path::Path;

/// All files in one call: two packages are spread over two files each.
const FILES: [&str; 9] = [
    "identity.proto",
    "postgres.proto",
    "wal.proto",
    "restore_job.proto",
    "backup.proto",
    "operator.proto",
    "operator_lifecycle.proto",
    "reconciler.proto",
    "metrics.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", folder.display());
    let descriptors = protox::compile(FILES, [folder])?;
    tonic_prost_build::configure()
        // What a service does not override answers Unimplemented.
        .generate_default_stubs(true)
        // Maps are ordered: the same answer is the same bytes.
        .btree_map(".")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
