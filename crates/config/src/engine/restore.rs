//! From options to a restore.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use pgbr_repo::command::restore::recovery::{RecoveryOptions, TargetAction};
use pgbr_repo::command::restore::{DatabaseChoice, PageErrors, RestoreOptions};
use pgbr_repo::error::Result;
use pgbr_repo::pgdata::{LinkPolicy, MapOptions};

use super::goal::{recovery_type, set};
use super::repositories::{chosen, stanza};
use super::{forced_version, require_pg_path, workers};
use crate::{OptionSet, opt};

/// How the options want a backup to be restored. `restore_command` is what PostgreSQL is to fetch WAL with.
///
/// # Errors
/// [`pgbr_repo::error::ErrorKind::OptionRequired`] without a data directory or target, [`pgbr_repo::error::ErrorKind::OptionInvalidValue`] and
/// [`pgbr_repo::error::ErrorKind::BackupSetInvalid`] for texts that mean nothing.
pub fn restore_options(options: &OptionSet, restore_command: String) -> Result<RestoreOptions> {
    Ok(RestoreOptions {
        map: map(options)?,
        set: set(options)?,
        delta: options.boolean(opt::DELTA),
        force: options.boolean(opt::FORCE),
        recovery: recovery(options, restore_command)?,
        recovery_by_default: !options.is_given(opt::TYPE),
        databases: DatabaseChoice {
            include: options.list(opt::DB_INCLUDE).to_vec(),
            exclude: options.list(opt::DB_EXCLUDE).to_vec(),
        },
        page_errors: if options.boolean(opt::CHECKSUM_PAGE_ERROR) { PageErrors::Refuse } else { PageErrors::Warn },
        workers: workers(options),
        read_over_bytes: read_over_bytes(options),
        links: LinkPolicy::Any,
        version_force: forced_version(options)?,
        spool: spool(options)?,
        time_zone: TimeZone::system(),
    })
}

fn map(options: &OptionSet) -> Result<MapOptions> {
    let pairs = |pairs: &[(String, String)]| -> BTreeMap<String, Vec<u8>> {
        pairs.iter().map(|(name, path)| (name.clone(), path.clone().into_bytes())).collect()
    };
    Ok(MapOptions {
        pgdata: require_pg_path(options)?.as_os_str().as_bytes().to_vec(),
        tablespaces: pairs(options.hash(opt::TABLESPACE_MAP)),
        all_tablespaces: options.text(opt::TABLESPACE_MAP_ALL).map(|path| path.as_bytes().to_vec()),
        links: pairs(options.hash(opt::LINK_MAP)),
        link_all: options.boolean(opt::LINK_ALL),
    })
}

/// The repository is chosen later: the smallest gap suits all of them.
fn read_over_bytes(options: &OptionSet) -> u64 {
    let gaps =
        chosen(options).into_iter().filter_map(|index| options.repo(index).size_bytes(opt::REPO_STORAGE_READ_OVER));
    gaps.min().unwrap_or(0)
}

fn spool(options: &OptionSet) -> Result<Option<PathBuf>> {
    let stanza = stanza(options)?;
    let directory = |path: &str| PathBuf::from(path).join("archive").join(stanza.as_str());
    Ok(options.path(opt::SPOOL_PATH).map(directory))
}

fn recovery(options: &OptionSet, restore_command: String) -> Result<RecoveryOptions> {
    Ok(RecoveryOptions {
        recovery_type: recovery_type(options)?,
        target_exclusive: options.boolean(opt::TARGET_EXCLUSIVE),
        target_action: match options.string_id(opt::TARGET_ACTION) {
            Some("promote") => TargetAction::Promote,
            Some("shutdown") => TargetAction::Shutdown,
            _ => TargetAction::Pause,
        },
        target_timeline: options.text(opt::TARGET_TIMELINE).map(str::to_owned),
        archive_mode_off: options.string_id(opt::ARCHIVE_MODE) == Some("off"),
        settings: options.hash(opt::RECOVERY_OPTION).to_vec(),
        restore_command,
    })
}
