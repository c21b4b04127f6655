//! Google's own gRPC and compiler of messages, as a client that shares nothing with ours: two packages for Python.

use std::path::Path;
use std::process::Command;

use super::{Installed, ensure, installer, pip, run};
use crate::error::Result;

/// Python with the packages `grpc` and `grpc_tools`, ready for a script's path; installed now if they are missing.
///
/// # Errors
/// When they are not to be had.
pub fn python() -> Result<Command> {
    let Installed { dir, .. } = ensure("grpc-python", |partial, _| install(partial))?;
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", dir).env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

fn install(partial: &Path) -> Result<String> {
    pip::install(partial, &[], &["grpcio", "grpcio-tools"])?;
    let version = ["-c", "import grpc, grpc_tools; print(grpc.__version__)"];
    Ok(run(installer("python3").env("PYTHONPATH", partial).args(version))?.trim().to_owned())
}
