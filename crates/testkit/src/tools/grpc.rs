//! Google's own gRPC and compiler of messages, as a client that shares nothing with ours: two packages for Python.

use std::path::Path;
use std::process::Command;

use super::{Installed, debian, ensure, installer, run};
use crate::error::{Error, Result};
use crate::user;

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
    let pip = || run(installer("python3").args(["-m", "pip", "--version"]));
    if pip().is_err() {
        if !user::is_root() {
            return Err(Error::Missing("python3 with pip is needed for the independent gRPC client".to_owned()));
        }
        debian::install(&["python3", "python3-pip"])?;
        pip()?;
    }
    let options = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target"];
    run(installer("python3").args(options).arg(partial).args(["grpcio", "grpcio-tools"]))?;
    let version = ["-c", "import grpc, grpc_tools; print(grpc.__version__)"];
    Ok(run(installer("python3").env("PYTHONPATH", partial).args(version))?.trim().to_owned())
}
