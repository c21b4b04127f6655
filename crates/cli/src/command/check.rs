//! `check`

use std::time::Duration;

use pgbr_config::engine::database::{self, Connected};
use pgbr_config::engine::repositories;
use pgbr_config::opt;
use pgbr_repo::command::check::{CheckOptions, CheckedRepository, CheckedServer, check};
use pgbr_repo::db::Database;
use pgbr_repo::db::check::{ARCHIVE_PROGRAMS, ArchiveRules};
use pgbr_repo::error::ErrorKind;

use super::standard_output;
use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// Checks the stanza, or each one that has a section in the configuration.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    if session.options().boolean(opt::REPORT) {
        standard_output::print(&session.configuration_report()?)?;
        return Ok(Outcome::Done);
    }
    if session.options().is_set(opt::STANZA) {
        return check_stanza(session).await;
    }
    let stanzas = &session.parsed.stanzas;
    if stanzas.is_empty() {
        session
            .context
            .warn("no stanzas found to check\nHINT: are there non-empty stanza sections in the configuration?");
    }
    for stanza in stanzas {
        session.context.info(format!("check stanza '{stanza}'"));
        check_stanza(&session.for_stanza(stanza)?).await?;
    }
    Ok(Outcome::Done)
}

async fn check_stanza(session: &Session) -> Result<Outcome, Failure> {
    let options = session.options();
    let connected = database::connect_all(options, &session.context).await?;
    let (primaries, standbys): (Vec<_>, Vec<_>) =
        connected.into_iter().partition(|connected| !connected.session.identity().in_recovery);
    if primaries.len() > 1 {
        return Err(Failure::new(ErrorKind::DbConnect, "more than one primary cluster found"));
    }
    let primary = primaries.first().map(|connected| server(session, connected)).transpose()?;
    let standby = standbys.first().map(|connected| server(session, connected)).transpose()?;
    let archive = options
        .boolean(opt::ARCHIVE_CHECK)
        .then(|| ArchiveRules { refuse_always: options.boolean(opt::ARCHIVE_MODE_CHECK), programs: &ARCHIVE_PROGRAMS });
    let check_options = CheckOptions {
        archive,
        archive_timeout: options.time(opt::ARCHIVE_TIMEOUT).unwrap_or(Duration::from_secs(60)),
        standby_expected: options.string_id(opt::BACKUP_STANDBY).is_some_and(|wanted| wanted != "n"),
    };
    check(primary, standby, &repositories(session)?, check_options, &session.context).await?;
    Ok(Outcome::Done)
}

fn server<'a>(session: &'a Session, connected: &'a Connected) -> Result<CheckedServer<'a>, Failure> {
    let pg_path = session.options().pg(connected.index).require(opt::PG_PATH)?;
    let control = session.control_file(pg_path.as_ref())?;
    Ok(CheckedServer {
        database: &connected.session,
        pg_path,
        version: control.version(),
        system_id: control.system_id(),
    })
}

fn repositories(session: &Session) -> Result<Vec<CheckedRepository>, Failure> {
    let options = session.options();
    let indexes = repositories::chosen(options).into_iter();
    let paths = indexes.map(|index| options.repo(index).path(opt::REPO_PATH).unwrap_or_default().to_owned());
    let opened = session.repositories()?.into_iter().zip(paths);
    Ok(opened.map(|(repository, path)| CheckedRepository { repository, path }).collect())
}
