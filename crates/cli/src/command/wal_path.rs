//! The path that PostgreSQL hands over for `%p`: relative to the data directory, in which it starts the command.

use std::path::{Path, PathBuf};

use pgbr_repo::error::ErrorKind;

use crate::exit::Failure;
use crate::session::Session;

/// The absolute path of a WAL file.
pub fn resolve(session: &Session, text: &str) -> Result<PathBuf, Failure> {
    let path = Path::new(text);
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let Some(pg_path) = session.pg_path() else {
        return Err(Failure::new(
            ErrorKind::OptionRequired,
            format!(
                "option 'pg1-path' must be specified when relative wal paths are used\n\
                     HINT: is %f passed to {} instead of %p?\n\
                     HINT: PostgreSQL may pass relative paths even with %p depending on the environment.",
                session.command()
            ),
        ));
    };
    let current = std::env::current_dir().and_then(std::fs::canonicalize);
    let data = std::fs::canonicalize(&pg_path);
    match (current, data) {
        (Ok(current), Ok(data)) if current == data => Ok(pg_path.join(path)),
        (Ok(current), _) => Err(Failure::new(
            ErrorKind::OptionInvalidValue,
            format!(
                "PostgreSQL working directory '{}' is not the same as option pg1-path '{}'\n\
                     HINT: is the PostgreSQL data_directory configured the same as the pg1-path option?",
                current.display(),
                pg_path.display()
            ),
        )),
        (Err(error), _) => {
            Err(Failure::new(ErrorKind::PathOpen, format!("unable to get the working directory: {error}")))
        }
    }
}
