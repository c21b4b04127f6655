//! The `pgbr` binary of this build.

use std::path::PathBuf;

use crate::engine::Engine;

/// How to run the binary that was built together with the running test or developer command.
///
/// `PGBR_BINARY` names another one.
///
/// # Panics
/// When it is not built, or cannot be made reachable for the user that runs it.
#[must_use]
pub fn engine() -> Engine {
    let binary = binary();
    Engine::at("pgbr".to_owned(), &binary).unwrap_or_else(|error| panic!("pgbr cannot be run: {error}"))
}

/// The path of the binary: in the target folder of the running executable.
///
/// # Panics
/// When it is not built.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PGBR_BINARY") {
        return PathBuf::from(path);
    }
    let running = std::env::current_exe().unwrap_or_else(|error| panic!("own path is not known: {error}"));
    // Tests are in target/PROFILE/deps, other programs in target/PROFILE.
    let found = running.ancestors().skip(1).take(2).map(|folder| folder.join("pgbr")).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("pgbr is not built beside {}: run `cargo build --package pgbr` first", running.display())
    })
}
