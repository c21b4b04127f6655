//! Programs that read a server's files without a server (`pg_controldata`, `pg_waldump`): each understands its own major
//! version only, and a Debian suite has one version.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Installed, debian, ensure, pgbackrest, run};
use crate::error::{Error, Result};
use crate::postgres::Version;
use crate::user;

/// The suite that has a version; there is none for 14 and 16.
const fn suite(version: Version) -> Option<&'static str> {
    match version {
        Version::V13 => Some("bullseye"),
        Version::V15 => Some("bookworm"),
        Version::V17 => Some("trixie"),
        Version::V18 => Some("sid"),
        Version::V14 | Version::V16 => None,
    }
}

/// The program of this major version, ready for its arguments; installed now if it is missing.
///
/// # Errors
/// [`Error::Missing`] when no suite has the version, or the package is not to be had any more or does not run here.
pub fn command(program: &str, version: Version) -> Result<Command> {
    let suite = suite(version)
        .ok_or_else(|| Error::Missing(format!("no package of {program} for PostgreSQL {version} is known")))?;
    let Installed { dir, .. } = ensure(&format!("readers/{version}"), |partial, _| build(suite, version, partial))?;
    Ok(reader(&dir, program, version))
}

fn build(suite: &str, version: Version, partial: &Path) -> Result<String> {
    let package = format!("postgresql-{version}");
    debian::unpack(Some(suite), &[&package], partial)?;
    if run(reader(partial, "pg_controldata", version).arg("--version")).is_err() {
        // Built for a newer C library than the system's: it gets its own.
        debian::unpack(Some(suite), &["libc6"], partial)?;
    }
    super::open_to_all(partial)?;
    Ok(run(reader(partial, "pg_controldata", version).arg("--version"))?.trim().to_owned())
}

/// Started by the loader that came with it, if one did.
fn reader(dir: &Path, program: &str, version: Version) -> Command {
    let program = dir.join(format!("usr/lib/postgresql/{version}/bin")).join(program);
    let own = dir.join("usr/lib").join(pgbackrest::multiarch());
    let system = Path::new("/usr/lib").join(pgbackrest::multiarch());
    match loader(&own) {
        None => user::command(program),
        Some(loader) => {
            let mut command = user::command(loader);
            command.arg("--library-path").arg(format!("{}:{}", own.display(), system.display())).arg(program);
            command
        }
    }
}

fn loader(folder: &Path) -> Option<PathBuf> {
    let mut entries = std::fs::read_dir(folder).ok()?.flatten();
    entries.find(|entry| entry.file_name().to_string_lossy().starts_with("ld-linux")).map(|entry| entry.path())
}
