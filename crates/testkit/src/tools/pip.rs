//! Packages for Python, into a folder of their own.

use std::path::Path;

use super::{debian, installer, run};
use crate::error::{Error, Result};
use crate::user;

/// Installs packages and what they need into `dir`, as `options` of `pip install` say besides.
///
/// # Errors
/// [`Error::Missing`] without pip for a user who cannot install it; when a package is not to be had.
pub(super) fn install(dir: &Path, options: &[&str], packages: &[&str]) -> Result<()> {
    let pip = || run(installer("python3").args(["-m", "pip", "--version"]));
    if pip().is_err() {
        if !user::is_root() {
            return Err(Error::Missing(format!("python3 with pip is needed for {}", packages.join(", "))));
        }
        debian::install(&["python3", "python3-pip"])?;
        pip()?;
    }
    let always = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"];
    run(installer("python3").args(always).args(options).arg("--target").arg(dir).args(packages)).map(drop)
}
