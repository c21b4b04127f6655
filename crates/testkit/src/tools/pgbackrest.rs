//! Releases of the original, as Debian's packages of three suites, unpacked side by side.
//!
//! The newest one needs a newer C library than the system has: it gets its own beside it. The program must start
//! itself again for its workers, so its loader is written into it instead of naming it when starting.

use std::fs;
use std::path::{Path, PathBuf};

use super::{INSTALL_LIMIT, Installed, debian, ensure, in_path, installer, run};
use crate::error::{Context, Error, Result};
use crate::process;
use crate::stock::Release;
use crate::user;

/// An installed release of the original.
#[derive(Debug, Clone)]
pub struct Program {
    /// Full path of the program.
    pub binary: PathBuf,
    /// The version it prints, such as `2.55.1`.
    pub version: String,
}

/// Libraries of the original that a plain system may lack.
const LIBRARIES: [&str; 6] = ["libpq5", "libssh2-1", "libxml2", "liblz4-1", "libzstd1", "libbz2-1.0"];

/// The program of this release, installed now if it is missing.
///
/// # Errors
/// When the package is not to be had any more or does not run here.
pub fn install(release: Release) -> Result<Program> {
    let Installed { dir, version } =
        ensure(&format!("pgbackrest/{release}"), |partial, dir| build(release, partial, dir))?;
    Ok(Program { binary: dir.join("pgbackrest"), version })
}

fn build(release: Release, partial: &Path, dir: &Path) -> Result<String> {
    let root = partial.join("root");
    debian::unpack(Some(release.suite()), &["pgbackrest"], &root)?;
    let program = partial.join("pgbackrest");
    fs::copy(root.join("usr/bin/pgbackrest"), &program).context("copy to", &program)?;
    super::open_to_all(partial)?;
    let missing = missing_libraries(&program)?;
    if user::is_root() && missing.iter().any(|name| !release.own_libraries().contains(&name.as_str())) {
        debian::install(&LIBRARIES)?;
    }
    if let Ok(version) = version_of(&program) {
        return Ok(version);
    }
    if !release.own_packages().is_empty() {
        debian::unpack(Some(release.suite()), release.own_packages(), &root)?;
    }
    if !user::is_root() {
        debian::unpack(None, &LIBRARIES, &root)?;
    }
    let library = Path::new("root/usr/lib").join(multiarch());
    point_at(&program, &partial.join(&library), &dir.join(&library))?;
    version_in_place(partial, dir)
}

/// The names that the loader does not find.
fn missing_libraries(program: &Path) -> Result<Vec<String>> {
    // It fails for a program that needs a newer C library, and has printed the rest by then.
    let printed = process::run(installer("ldd").arg(program), INSTALL_LIMIT)?.stdout;
    let missing = printed.lines().filter(|line| line.ends_with("not found"));
    Ok(missing.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// Writes into the program where its libraries will be, and its loader if there is one among them.
fn point_at(program: &Path, library: &Path, library_in_place: &Path) -> Result<()> {
    let patchelf = patchelf()?;
    let paths = format!("{}:/usr/lib/{}", library_in_place.display(), multiarch());
    run(installer(&patchelf).args(["--force-rpath", "--set-rpath", &paths]).arg(program))?;
    for entry in fs::read_dir(library).context("list", library)? {
        let name = entry.context("list", library)?.file_name();
        if name.to_string_lossy().starts_with("ld-linux") {
            run(installer(&patchelf).arg("--set-interpreter").arg(library_in_place.join(name)).arg(program))?;
        }
    }
    Ok(())
}

/// Runs the program through a link at its final place, which `partial` takes over right afterwards.
fn version_in_place(partial: &Path, dir: &Path) -> Result<String> {
    if fs::symlink_metadata(dir).is_ok() {
        fs::remove_dir_all(dir).context("remove", dir)?;
    }
    std::os::unix::fs::symlink(partial, dir).context("link", dir)?;
    super::open_to_all(partial)?;
    let version = version_of(&dir.join("pgbackrest"));
    fs::remove_file(dir).context("remove link", dir)?;
    version
}

fn version_of(program: &Path) -> Result<String> {
    let printed = run(user::command(program).arg("version"))?;
    match printed.trim().strip_prefix("pgBackRest ") {
        Some(version) => Ok(version.to_owned()),
        None => Err(Error::Unexpected(format!("{} version printed {printed:?}", program.display()))),
    }
}

/// patchelf of the system, or unpacked.
pub(super) fn patchelf() -> Result<PathBuf> {
    if let Some(found) = in_path("patchelf") {
        return Ok(found);
    }
    let installed = ensure("patchelf", |partial, _| {
        debian::unpack(None, &["patchelf"], partial)?;
        Ok(run(installer(partial.join("usr/bin/patchelf")).arg("--version"))?.trim().to_owned())
    })?;
    Ok(installed.dir.join("usr/bin/patchelf"))
}

/// Debian's name of the folder for libraries of this machine.
pub(super) fn multiarch() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "aarch64-linux-gnu",
        _ => "x86_64-linux-gnu",
    }
}
