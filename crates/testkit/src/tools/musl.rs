//! A C compiler for musl, the C library of static programs: the system's compiler with other headers and libraries.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{debian, ensure, in_path, run};
use crate::error::{Context, Result};

/// `musl-gcc` for this machine; unpacked now if it is missing.
///
/// # Errors
/// When it is not to be had.
pub fn compiler() -> Result<PathBuf> {
    if let Some(found) = in_path("musl-gcc") {
        return Ok(found);
    }
    Ok(ensure("musl", install)?.dir.join("musl-gcc"))
}

/// Debian's packages, with the places in the compiler's specification changed to where they are.
fn install(partial: &Path, dir: &Path) -> Result<String> {
    debian::unpack(None, &["musl", "musl-dev", "musl-tools"], partial)?;
    let folder = format!("{}-linux-musl", std::env::consts::ARCH);
    let place = partial.join("usr/lib").join(&folder).join("musl-gcc.specs");
    let mut specification = fs::read_to_string(&place).context("read", &place)?;
    for system in ["/usr/lib/", "/usr/include/"] {
        let ours = format!("{}{system}{folder}", dir.display());
        specification = specification.replace(&format!("{system}{folder}"), &ours);
    }
    fs::write(partial.join("specs"), specification).context("write", partial)?;
    let compiler = partial.join("musl-gcc");
    let script = format!("#!/bin/sh\nexec \"${{REALGCC:-gcc}}\" \"$@\" -specs '{}/specs'\n", dir.display());
    fs::write(&compiler, script).context("write", &compiler)?;
    fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755)).context("set mode of", &compiler)?;
    Ok(run(super::installer("gcc").arg("-dumpversion"))?.trim().to_owned())
}
