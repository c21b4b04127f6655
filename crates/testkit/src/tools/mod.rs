//! Programs that tests need and a machine may lack, installed below one folder.
//!
//! The folder is `.tools` of the workspace, or the one that `PGBR_TOOLS` names (several checkouts can share it). When
//! the tests run as root and the unprivileged user cannot reach the workspace, it is `pgbr-tools` in the folder for
//! temporary files. A lock file per tool keeps parallel test processes apart, and a tool appears under its name only
//! when it is complete.

pub mod clients;
mod debian;
pub mod grpc;
pub mod lock;
pub mod musl;
pub mod pgbackrest;
mod pip;
pub mod postgresql;
pub mod readers;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::process;
use crate::user;

/// Downloads are slow at times; beyond this something is stuck.
const INSTALL_LIMIT: Duration = Duration::from_secs(900);

/// Lies in every finished tool's folder: the path it was made for, then its version.
const MARKER: &str = ".complete";

/// The folder of all tools, created if missing.
///
/// # Errors
/// When it cannot be created, or somebody else owns it.
pub fn root() -> Result<PathBuf> {
    let root = match std::env::var_os("PGBR_TOOLS") {
        Some(path) => PathBuf::from(path),
        None if user::can_reach(&workspace()) => workspace().join(".tools"),
        None => std::env::temp_dir().join("pgbr-tools"),
    };
    fs::create_dir_all(&root).context("create folder", &root)?;
    let owner = fs::metadata(&root).context("look at", &root)?.uid();
    if user::is_root() && owner != 0 {
        // Root runs what lies here: nobody else may have put it there.
        return Err(Error::Unexpected(format!("{} belongs to user id {owner}, expected root", root.display())));
    }
    Ok(root)
}

/// The top folder of this workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// Installs everything and says what there is, a line each.
///
/// # Errors
/// When a tool that the tests cannot do without is not to be had. A missing release of the original is a line of the
/// answer and no error.
pub fn install_all() -> Result<Vec<String>> {
    let mut lines = vec![format!("tools: {}", root()?.display())];
    for version in crate::postgres::Version::ALL {
        let server = postgresql::install(version)?;
        lines.push(format!("PostgreSQL {}: {}", version, server.bin.display()));
    }
    for program in ["psql", "pgbench", "pg_controldata", "pg_waldump", "pg_checksums"] {
        lines.push(format!("{program}: {}", clients::find(program)?.display()));
    }
    for release in crate::stock::Release::ALL {
        lines.push(match pgbackrest::install(release) {
            Ok(found) => format!("pgBackRest {}: {}", found.version, found.binary.display()),
            Err(error) => format!("pgBackRest {release}: MISSING: {error}"),
        });
    }
    lines.push(match grpc::python() {
        Ok(_) => "grpcio for Python: there".to_owned(),
        Err(error) => format!("grpcio for Python: MISSING: {error}"),
    });
    Ok(lines)
}

/// A finished tool: its folder, and what it said its version is.
#[derive(Debug, Clone)]
pub(crate) struct Installed {
    pub(crate) dir: PathBuf,
    pub(crate) version: String,
}

/// Makes the tool `name` (a path below the root) unless it is there.
///
/// `build` fills a folder that is then renamed; it gets that folder and the final one, and answers the version.
pub(crate) fn ensure(name: &str, build: impl FnOnce(&Path, &Path) -> Result<String>) -> Result<Installed> {
    let dir = root()?.join(name);
    if let Some(found) = finished(&dir) {
        return Ok(found);
    }
    let _lock = lock::exclusive(&name.replace('/', "-"))?;
    if let Some(found) = finished(&dir) {
        return Ok(found);
    }
    let partial = root()?.join(format!("{name}.partial"));
    remove(&partial)?;
    fs::create_dir_all(&partial).context("create folder", &partial)?;
    let version = build(&partial, &dir)?;
    let marker = partial.join(MARKER);
    fs::write(&marker, format!("{}\n{version}\n", dir.display())).context("write", &marker)?;
    open_to_all(&partial)?;
    remove(&dir)?;
    fs::rename(&partial, &dir).context("rename to", &dir)?;
    Ok(Installed { dir, version })
}

/// A command for an installer: it runs as the caller, root included.
pub(crate) fn installer(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Runs an installer's command; anything but success is an error with its output.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    Ok(process::run(command, INSTALL_LIMIT)?.success()?.stdout)
}

/// The full path of a program in the `PATH`.
#[must_use]
pub fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A tool is finished if its marker names this very folder: some tools hold absolute paths and do not survive a move.
fn finished(dir: &Path) -> Option<Installed> {
    let marker = fs::read_to_string(dir.join(MARKER)).ok()?;
    let (place, version) = marker.split_once('\n')?;
    (Path::new(place) == dir).then(|| Installed { dir: dir.to_owned(), version: version.trim().to_owned() })
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.context("remove", dir),
    }
}

/// Lets every user read (and search or run) what the installer's umask may have closed.
fn open_to_all(path: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(path).context("look at", path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mode = metadata.mode();
    let run = if metadata.is_dir() || mode & 0o100 != 0 { 0o111 } else { 0 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o444 | run)).context("set mode of", path)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).context("list", path)? {
            open_to_all(&entry.context("list", path)?.path())?;
        }
    }
    Ok(())
}
