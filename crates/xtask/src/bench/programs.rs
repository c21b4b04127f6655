//! The optimised programs that are measured.

use std::path::PathBuf;

use pgbr_testkit::engine::Engine;
use pgbr_testkit::stock::{self, Release};

use crate::{Failure, cargo};

/// `pgbr`, built now, or the one that `PGBR_BINARY` names.
pub(super) fn ours() -> Result<Engine, Failure> {
    let binary = match std::env::var_os("PGBR_BINARY") {
        Some(path) => PathBuf::from(path),
        None => build("pgbr", "pgbr")?,
    };
    Ok(Engine::at("pgbr".to_owned(), &binary)?)
}

/// The newest release of the original.
pub(super) fn stock() -> Result<Engine, Failure> {
    Ok(stock::find(Release::V2_60)?.engine)
}

/// `pgbr-bench`, built now.
pub(super) fn pgbr_bench() -> Result<PathBuf, Failure> {
    build("pgbr-benches", "pgbr-bench")
}

/// Each package alone: together they would be built with each other's features.
fn build(package: &str, program: &str) -> Result<PathBuf, Failure> {
    cargo::run(&mut cargo::command(&["build", "--release", "--locked", "--package", package, "--bin", program]))?;
    let output = cargo::command(&["metadata", "--format-version=1", "--no-deps", "--locked"]).output()?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|error| Failure::new(format!("cargo metadata: {error}")))?;
    let target = metadata.pointer("/target_directory").and_then(serde_json::Value::as_str);
    let target = target.ok_or_else(|| Failure::new("cargo metadata names no target_directory"))?;
    Ok(PathBuf::from(target).join("release").join(program))
}
