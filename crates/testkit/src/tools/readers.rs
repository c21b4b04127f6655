//! Programs that read a server's files without a server (`pg_controldata`, `pg_waldump`): each understands its own major
//! version only, and a Debian suite has one version.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Installed, debian, ensure, pgbackrest, pip, run};
use crate::error::{Error, Result};
use crate::postgres::Version;
use crate::user;

/// Where a version's programs are packaged.
#[derive(Clone, Copy)]
enum Source {
    /// A suite of Debian.
    Suite(&'static str),
    /// A whole server as a package for Python.
    Wheel { package: &'static str, bin: &'static str },
}

impl Source {
    const fn of(version: Version) -> Option<Self> {
        match version {
            Version::V13 => Some(Self::Suite("bullseye")),
            Version::V15 => Some(Self::Suite("bookworm")),
            Version::V16 => Some(Self::Wheel { package: "pgserver==0.1.4", bin: "pgserver/pginstall/bin" }),
            Version::V17 => Some(Self::Suite("trixie")),
            Version::V18 => Some(Self::Suite("sid")),
            Version::V14 => None,
        }
    }

    fn install(self, version: Version, partial: &Path) -> Result<()> {
        match self {
            Self::Suite(suite) => {
                let package = format!("postgresql-{version}");
                debian::unpack(Some(suite), &[&package], partial)?;
                if run(self.reader(partial, "pg_controldata", version).arg("--version")).is_err() {
                    // Built for a newer C library than the system's: it gets its own.
                    debian::unpack(Some(suite), &["libc6"], partial)?;
                }
                Ok(())
            }
            Self::Wheel { package, .. } => {
                // Only its programs are used, so neither the version of Python nor what the package needs matters.
                let binaries = ["--no-deps", "--only-binary=:all:", "--python-version=3.11"];
                let platform = ["--platform=manylinux2014_x86_64"];
                pip::install(partial, &[&binaries[..], &platform].concat(), &[package])
            }
        }
    }

    /// Started by the loader that came with it, if one did.
    fn reader(self, dir: &Path, program: &str, version: Version) -> Command {
        let bin = match self {
            Self::Suite(_) => dir.join(format!("usr/lib/postgresql/{version}/bin")),
            Self::Wheel { bin, .. } => dir.join(bin),
        };
        let program = bin.join(program);
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
}

/// The program of this major version, ready for its arguments; installed now if it is missing.
///
/// # Errors
/// [`Error::Missing`] when nobody packages the version, or the package is not to be had any more or does not run here.
pub fn command(program: &str, version: Version) -> Result<Command> {
    let source = Source::of(version)
        .ok_or_else(|| Error::Missing(format!("no package of {program} for PostgreSQL {version} is known")))?;
    let Installed { dir, .. } = ensure(&format!("readers/{version}"), |partial, _| build(source, version, partial))?;
    Ok(source.reader(&dir, program, version))
}

fn build(source: Source, version: Version, partial: &Path) -> Result<String> {
    source.install(version, partial)?;
    super::open_to_all(partial)?;
    Ok(run(source.reader(partial, "pg_controldata", version).arg("--version"))?.trim().to_owned())
}

fn loader(folder: &Path) -> Option<PathBuf> {
    let mut entries = std::fs::read_dir(folder).ok()?.flatten();
    entries.find(|entry| entry.file_name().to_string_lossy().starts_with("ld-linux")).map(|entry| entry.path())
}
