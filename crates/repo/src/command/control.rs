//! `pg_control` of a data directory, typed: which cluster it is.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::pgdata::{ControlReadError, DataRoots, LinkPolicy, Target, read_control};
use crate::postgres::{ControlFile, PgVersion};

/// Reads and checks `global/pg_control` below `pg_path`. Blocking.
///
/// # Errors
/// [`ErrorKind::FileMissing`], [`ErrorKind::FileRead`], or [`ErrorKind::Checksum`] and [`ErrorKind::VersionNotSupported`]
/// for content that cannot be used.
pub fn read(pg_path: &Path, version_force: Option<PgVersion>) -> Result<ControlFile> {
    let roots = DataRoots::open(&[Target::data(pg_path.as_os_str().as_bytes())], &LinkPolicy::Any)?;
    let parse = |bytes: &[u8]| match version_force {
        Some(version) => ControlFile::parse_forced(version, bytes),
        None => ControlFile::parse(bytes),
    };
    match read_control(&roots, parse) {
        Ok(read) => Ok(read.control),
        Err(ControlReadError::File(error)) => Err(error.into()),
        Err(invalid @ ControlReadError::Invalid { .. }) => Err(invalid_control(&invalid)),
    }
}

/// The error for a pg_control that is not one.
pub(crate) fn invalid_control(error: &ControlReadError<crate::postgres::control_file::ControlFileError>) -> Error {
    use crate::postgres::control_file::ControlFileError;
    let kind = match error {
        ControlReadError::Invalid { reason: ControlFileError::Crc { .. }, .. } => ErrorKind::Checksum,
        ControlReadError::Invalid { reason: ControlFileError::UnknownVersion { .. }, .. } => {
            ErrorKind::VersionNotSupported
        }
        _ => ErrorKind::Format,
    };
    Error::new(kind, error.to_string())
}
