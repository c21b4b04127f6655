//! From an [`OptionSet`] to the engine's typed options: what every program that reads pgBackRest's options needs, whether
//! they came from a command line or from a custom resource.
//!
//! Variables of the environment that no option stands for (those of cloud credentials) are handed in.

pub mod archive;
pub mod backup;
pub mod database;
pub mod expire;
pub mod goal;
pub mod repositories;
pub mod restore;

use std::path::{Path, PathBuf};

use pgbr_repo::command::archive::ClusterIdentity;
use pgbr_repo::command::control;
use pgbr_repo::error::{Error, ErrorKind, Result};
use pgbr_repo::filter::Compression;
use pgbr_repo::format::CompressType;
use pgbr_repo::postgres::{ControlFile, PgVersion};

use crate::{ConfigError, ErrorClass, OptionSet, opt};

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        let kind = match error.class {
            ErrorClass::Config => ErrorKind::Config,
            ErrorClass::Format => ErrorKind::Format,
            ErrorClass::CommandRequired => ErrorKind::CommandRequired,
            ErrorClass::OptionInvalid => ErrorKind::OptionInvalid,
            ErrorClass::OptionInvalidValue => ErrorKind::OptionInvalidValue,
            ErrorClass::OptionRequired => ErrorKind::OptionRequired,
            ErrorClass::FileOpen => ErrorKind::FileOpen,
            ErrorClass::FileRead => ErrorKind::FileRead,
            ErrorClass::CommandInvalid => ErrorKind::CommandInvalid,
            ErrorClass::PathOpen => ErrorKind::PathOpen,
            ErrorClass::FileMissing => ErrorKind::FileMissing,
            ErrorClass::FeatureNotSupported => ErrorKind::FeatureNotSupported,
            ErrorClass::PathMissing => ErrorKind::PathMissing,
            ErrorClass::ParamInvalid => ErrorKind::ParamInvalid,
        };
        Error::new(kind, error.with_hints())
    }
}

/// The number of workers.
pub fn workers(options: &OptionSet) -> usize {
    options.integer(opt::PROCESS_MAX).and_then(|workers| usize::try_from(workers).ok()).unwrap_or(1).max(1)
}

/// The first data directory, where the command has one.
pub fn pg_path(options: &OptionSet) -> Option<PathBuf> {
    let pg = options.pgs().next()?;
    options.pg(pg).path(opt::PG_PATH).map(PathBuf::from)
}

/// The first data directory of a command that needs one.
///
/// # Errors
/// [`ErrorKind::OptionRequired`] without one.
pub fn require_pg_path(options: &OptionSet) -> Result<PathBuf> {
    match options.pgs().next() {
        Some(pg) => Ok(options.pg(pg).require(opt::PG_PATH)?.into()),
        None => Err(Error::new(
            ErrorKind::OptionRequired,
            format!("{} command requires option: pg1-path", options.command()),
        )),
    }
}

/// The version that `pg-version-force` demands.
///
/// # Errors
/// [`ErrorKind::OptionInvalidValue`] for a text that is no version.
pub fn forced_version(options: &OptionSet) -> Result<Option<PgVersion>> {
    let forced = options.text(opt::PG_VERSION_FORCE).map(PgVersion::parse).transpose();
    forced.map_err(|error| Error::new(ErrorKind::OptionInvalidValue, error.to_string()))
}

/// pg_control of a data directory.
///
/// # Errors
/// As [`control::read`] and [`forced_version`].
pub fn control_file(options: &OptionSet, pg_path: &Path) -> Result<ControlFile> {
    control::read(pg_path, forced_version(options)?)
}

/// The cluster in a data directory.
///
/// # Errors
/// As [`control_file`].
pub fn cluster(options: &OptionSet, pg_path: &Path) -> Result<ClusterIdentity> {
    let control = control_file(options, pg_path)?;
    Ok(ClusterIdentity { version: control.version(), system_id: control.system_id() })
}

/// The compression that the options ask for.
///
/// # Errors
/// [`ErrorKind::OptionInvalidValue`] for a level that the method does not have.
pub fn compression(options: &OptionSet) -> Result<Compression> {
    let kind = CompressType::parse(options.string_id(opt::COMPRESS_TYPE).unwrap_or("gz"))
        .map_err(|error| Error::new(ErrorKind::OptionInvalidValue, error.to_string()))?;
    if kind == CompressType::None {
        return Ok(Compression::NONE);
    }
    let level = match options.integer(opt::COMPRESS_LEVEL).map(i32::try_from) {
        Some(Ok(level)) => level,
        _ => kind.level_default(),
    };
    Compression::new(kind, level).map_err(|error| Error::new(ErrorKind::OptionInvalidValue, error.to_string()))
}
