//! `info`

use jiff::tz::TimeZone;
use pgbr_config::engine::repositories;
use pgbr_config::{RepoIndex, opt};
use pgbr_repo::command::info::{Activity, InfoOptions, InfoSource, Selection, info, render_json, render_text};
use pgbr_repo::error::ErrorKind;
use pgbr_repo::format::{BackupType, Stanza};
use pgbr_repo::progress::Progress;
use pgbr_repo::repository;

use super::standard_output;
use crate::exit::{Failure, Outcome};
use crate::lock::{self, LockType};
use crate::session::Session;

/// Prints what the repositories hold. What is wrong with them is part of that.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    let options = session.options();
    let progress_only = options.string_id(opt::DETAIL_LEVEL) == Some("progress");
    let info_options =
        InfoOptions { selection: selection(session)?, backup_type: backup_type(session)?, progress_only };
    if progress_only && options.text(opt::SET).is_some() {
        return Err(Failure::new(
            ErrorKind::OptionInvalid,
            "option 'set' cannot be used with option 'detail-level' = 'progress'",
        ));
    }
    let sources: Vec<InfoSource> =
        repositories::chosen(options).into_iter().map(|index| source(session, index)).collect::<Result<_, _>>()?;
    let lock_path = session.lock_path();
    let activities = |stanza: &Stanza, index: repository::RepoIndex, activity: Activity| -> Option<Progress> {
        let lock_type = match activity {
            Activity::Backup => LockType::Backup,
            Activity::Restore => LockType::Restore,
        };
        let held = lock::holder(&lock_path, stanza.as_str(), lock_type, index.number())?;
        Some(held.progress.unwrap_or_default())
    };
    let is_json = options.string_id(opt::OUTPUT) == Some("json");
    let context = if is_json { standard_output::quiet(&session.context) } else { session.context.clone() };
    let report = info(&sources, &info_options, &activities, &context).await?;
    let text = if is_json { render_json(&report) } else { render_text(&report, &TimeZone::system()) };
    standard_output::print(&text)?;
    Ok(Outcome::Done)
}

fn selection(session: &Session) -> Result<Selection, Failure> {
    let options = session.options();
    if !options.is_set(opt::STANZA) {
        return Ok(Selection::All);
    }
    let stanza = session.stanza()?;
    Ok(match options.text(opt::SET) {
        Some(label) => Selection::Backup(stanza, label.to_owned()),
        None => Selection::Stanza(stanza),
    })
}

fn backup_type(session: &Session) -> Result<Option<BackupType>, Failure> {
    let Some(name) = session.options().string_id(opt::TYPE) else { return Ok(None) };
    let backup_type = BackupType::from_name(name.as_bytes());
    backup_type.map(Some).ok_or_else(|| {
        Failure::new(ErrorKind::OptionInvalidValue, format!("'{name}' is not allowed for 'type' option"))
    })
}

fn source(session: &Session, index: RepoIndex) -> Result<InfoSource, Failure> {
    let number = repository::RepoIndex::new(index.number().into())
        .ok_or_else(|| Failure::new(ErrorKind::Assert, "a repository has no number"))?;
    let options = session.options();
    let passphrase = repositories::passphrase(&options.repo(index))?;
    let storage = match repositories::storage(options, index, &|name| session.variable(name)) {
        Ok(storage) => Ok(storage),
        // A file with certificates that is not there, say: the other repositories can still tell of theirs.
        Err(error) if error.kind() == ErrorKind::OptionInvalidValue => Err(error),
        Err(error) => return Err(error.into()),
    };
    Ok(InfoSource { index: number, storage, passphrase })
}
