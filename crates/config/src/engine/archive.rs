//! From options to pushing and fetching WAL.

use std::path::PathBuf;

use pgbr_repo::command::archive::push::PushOptions;
use pgbr_repo::error::Result;
use pgbr_repo::resident::FetchOptions;

use super::repositories::stanza;
use super::{cluster, compression, pg_path, workers};
use crate::{OptionSet, opt};

/// How the options want files to be pushed. With a data directory, its cluster is the one whose WAL it must be.
///
/// # Errors
/// As [`compression`] and [`cluster`].
pub fn push_options(options: &OptionSet) -> Result<PushOptions> {
    Ok(PushOptions {
        header_check: options.boolean(opt::ARCHIVE_HEADER_CHECK),
        mode_check: options.boolean(opt::ARCHIVE_MODE_CHECK),
        compress: compression(options)?,
        cluster: pg_path(options).map(|path| cluster(options, &path)).transpose()?,
    })
}

/// How far ahead a process that stays fetches WAL, and where it keeps it.
///
/// # Errors
/// A [`ConfigError`](crate::ConfigError) where the command has no spool or stanza.
pub fn fetch_options(options: &OptionSet) -> Result<FetchOptions> {
    let spool = PathBuf::from(options.require(opt::SPOOL_PATH)?);
    Ok(FetchOptions {
        workers: workers(options),
        queue_max_bytes: options.size_bytes(opt::ARCHIVE_GET_QUEUE_MAX).unwrap_or(0),
        directory: spool.join("archive").join(stanza(options)?.as_str()).join("serve"),
    })
}
