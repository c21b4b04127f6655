//! Client programs of `PostgreSQL` (psql, pgbench, `pg_waldump`, ...), from the distribution's package.

use std::fs;
use std::path::{Path, PathBuf};

use super::{ensure, in_path, run};
use crate::error::{Error, Result};
use crate::user;

/// Where Debian's packages put the programs of each major version.
const DEBIAN_FOLDER: &str = "/usr/lib/postgresql";

/// The full path of a client program, installed now if it is missing.
///
/// psql and pgbench talk to every server version; `pg_waldump`, `pg_controldata` and `pg_checksums` only read the files
/// of their own major version, which is the distribution's ([`find_for`]).
///
/// # Errors
/// When it is not to be had.
pub fn find(program: &str) -> Result<PathBuf> {
    if let Some(found) = look(program) {
        return Ok(found);
    }
    if user::is_root() {
        super::debian::install(&["postgresql", "postgresql-client"])?;
    } else {
        unpack()?;
    }
    look(program).ok_or_else(|| Error::Missing(format!("{program} is not to be had, not even after installing it")))
}

/// The client program that belongs to this major version, if the distribution has it.
#[must_use]
pub fn find_for(program: &str, version: crate::postgres::Version) -> Option<PathBuf> {
    candidates(program).into_iter().find(|path| {
        let folder = path.parent().and_then(Path::parent).and_then(Path::file_name);
        folder.is_some_and(|name| name.to_string_lossy() == version.to_string())
    })
}

/// The newest of the installed ones; Debian's `/usr/bin/psql` is a slow wrapper and comes last.
fn look(program: &str) -> Option<PathBuf> {
    candidates(program).pop().or_else(|| in_path(program))
}

fn candidates(program: &str) -> Vec<PathBuf> {
    let mut roots = vec![PathBuf::from(DEBIAN_FOLDER)];
    if let Ok(tools) = super::root() {
        roots.push(tools.join("clients").join(DEBIAN_FOLDER.trim_start_matches('/')));
    }
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for root in roots {
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            let path = entry.path().join("bin").join(program);
            let major = entry.file_name().to_string_lossy().parse();
            if let (Ok(major), true) = (major, path.is_file()) {
                found.push((major, path));
            }
        }
    }
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// Without root: the packages unpacked, with the client library beside the programs.
fn unpack() -> Result<()> {
    let mut packages = super::debian::depends("postgresql")?;
    packages.extend(super::debian::depends("postgresql-client")?);
    packages.retain(|name| name.starts_with("postgresql-") && !name.starts_with("postgresql-common"));
    packages.push("libpq5".to_owned());
    let names: Vec<&str> = packages.iter().map(String::as_str).collect();
    ensure("clients", |partial, dir| {
        super::debian::unpack(None, &names, partial)?;
        let library = Path::new("usr/lib").join(super::pgbackrest::multiarch());
        if partial.join(&library).is_dir() {
            let patchelf = super::pgbackrest::patchelf()?;
            for program in ["psql", "pgbench"] {
                for path in programs(partial, program) {
                    let mut command = super::installer(&patchelf);
                    run(command.args(["--force-rpath", "--set-rpath"]).arg(dir.join(&library)).arg(path))?;
                }
            }
        }
        Ok(names.join(" "))
    })?;
    Ok(())
}

fn programs(root: &Path, program: &str) -> Vec<PathBuf> {
    let folder = root.join(DEBIAN_FOLDER.trim_start_matches('/'));
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().join("bin").join(program)).filter(|path| path.is_file()).collect()
}
