//! `restore`

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use pgbr_config::{OptionSet, opt, render};
use pgbr_repo::command::restore::recovery::{RecoveryOptions, TargetAction};
use pgbr_repo::command::restore::{DatabaseChoice, PageErrors, RestoreOptions, restore};
use pgbr_repo::error::ErrorKind;
use pgbr_repo::pgdata::{LinkPolicy, MapOptions};

use crate::exit::{Failure, Outcome};
use crate::goal::{recovery_type, set};
use crate::repositories::chosen;
use crate::session::Session;

/// Restores a backup.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    if let Some(parameter) = session.parsed.parameters.first() {
        return Err(Failure::new(ErrorKind::ParamInvalid, format!("command does not allow parameters: {parameter}")));
    }
    restore(&session.repositories()?, &options(session)?, &session.context).await?;
    Ok(Outcome::Done)
}

fn options(session: &Session) -> Result<RestoreOptions, Failure> {
    let options = session.options();
    Ok(RestoreOptions {
        map: map(session)?,
        set: set(options)?,
        delta: options.boolean(opt::DELTA),
        force: options.boolean(opt::FORCE),
        recovery: recovery(session)?,
        recovery_by_default: !options.is_given(opt::TYPE),
        databases: DatabaseChoice {
            include: options.list(opt::DB_INCLUDE).to_vec(),
            exclude: options.list(opt::DB_EXCLUDE).to_vec(),
        },
        page_errors: if options.boolean(opt::CHECKSUM_PAGE_ERROR) { PageErrors::Refuse } else { PageErrors::Warn },
        workers: session.workers(),
        read_over_bytes: read_over_bytes(options),
        links: LinkPolicy::Any,
        version_force: session.forced_version()?,
        spool: spool(session)?,
        time_zone: TimeZone::system(),
    })
}

fn map(session: &Session) -> Result<MapOptions, Failure> {
    let options = session.options();
    let pairs = |pairs: &[(String, String)]| -> BTreeMap<String, Vec<u8>> {
        pairs.iter().map(|(name, path)| (name.clone(), path.clone().into_bytes())).collect()
    };
    Ok(MapOptions {
        pgdata: session.require_pg_path()?.as_os_str().as_bytes().to_vec(),
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

fn spool(session: &Session) -> Result<Option<PathBuf>, Failure> {
    let stanza = session.stanza()?;
    let directory = |path: &str| PathBuf::from(path).join("archive").join(stanza.as_str());
    Ok(session.options().path(opt::SPOOL_PATH).map(directory))
}

fn recovery(session: &Session) -> Result<RecoveryOptions, Failure> {
    let options = session.options();
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
        restore_command: restore_command(options),
    })
}

/// What PostgreSQL runs to fetch WAL: this program, with the options that lead to what this run found.
fn restore_command(options: &OptionSet) -> String {
    let program = match options.text(opt::CMD) {
        Some(program) => program.to_owned(),
        None => std::env::current_exe().map_or_else(|_| "pgbr".to_owned(), |path| path.display().to_string()),
    };
    let mut words = vec![program];
    words.extend(render::restore_command_options(options));
    words.push("archive-get %f \"%p\"".to_owned());
    words.join(" ")
}
