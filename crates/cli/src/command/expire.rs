//! `expire`, and what `backup` does after itself.

use std::num::NonZeroU32;

use jiff::tz::TimeZone;
use pgbr_config::{RepoOptions, opt};
use pgbr_repo::command::expire::{
    ExpireRequest, ExpiredBackups, FullUnit, RepositoryRules, Retention, WalRetention, expire,
};
use pgbr_repo::error::ErrorKind;
use pgbr_repo::format::{BackupLabel, BackupType};
use pgbr_repo::postgres::WalSegmentName;
use pgbr_repo::repository::WritableRepository;

use crate::exit::{Failure, Outcome};
use crate::repositories;
use crate::session::Session;

/// Expires in every chosen repository, each by its own rules. A backup goes on with this when it is done: its options
/// then are what they are for `expire`, and what only `expire` knows is not set.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    session.test_stop()?;
    let options = session.options();
    let request = ExpireRequest {
        backups: expired_backups(session)?,
        archive_before: archive_before(session)?,
        end_at_page_errors: options.boolean(opt::CHECKSUM_PAGE_ERROR),
        dry_run: options.boolean(opt::DRY_RUN),
        time_zone: TimeZone::system(),
    };
    let stanza = session.stanza()?;
    let mut targets = Vec::new();
    for index in repositories::chosen(options) {
        let repository = repositories::open(options, index, &stanza, &|name| session.variable(name))?;
        targets.push((WritableRepository::new(repository), rules(&options.repo(index))?));
    }
    expire(&targets, &request, &session.context).await?;
    Ok(Outcome::Done)
}

fn expired_backups(session: &Session) -> Result<ExpiredBackups, Failure> {
    let options = session.options();
    let is_oldest = options.boolean(opt::OLDEST);
    match options.text(opt::SET) {
        Some(_) if is_oldest => {
            Err(Failure::new(ErrorKind::OptionInvalid, "--oldest and --set cannot be used together"))
        }
        Some(label) => BackupLabel::parse(label).map(ExpiredBackups::Set).map_err(|_| {
            let message = format!("'{label}' is not a valid backup label format");
            Failure::new(ErrorKind::OptionInvalidValue, message)
        }),
        None if is_oldest => Ok(ExpiredBackups::Oldest),
        None => Ok(ExpiredBackups::Retention),
    }
}

fn archive_before(session: &Session) -> Result<Option<WalSegmentName>, Failure> {
    let Some(text) = session.options().text(opt::ARCHIVE_EXPIRE_BEFORE) else { return Ok(None) };
    WalSegmentName::parse(text).map(Some).map_err(|_| {
        let message = format!("'{text}' is not a valid WAL segment name for option '--archive-expire-before'");
        Failure::new(ErrorKind::OptionInvalidValue, message)
    })
}

fn rules(repo: &RepoOptions<'_>) -> Result<RepositoryRules, Failure> {
    let count = |key| repo.integer(key).and_then(|count| u32::try_from(count).ok()).and_then(NonZeroU32::new);
    let kind = repo.string_id(opt::REPO_RETENTION_ARCHIVE_TYPE).unwrap_or("full");
    let kind = BackupType::from_name(kind.as_bytes()).ok_or_else(|| {
        let message = format!("'{kind}' is not allowed for 'repo-retention-archive-type' option");
        Failure::new(ErrorKind::OptionInvalidValue, message)
    })?;
    let full_unit = match repo.string_id(opt::REPO_RETENTION_FULL_TYPE) {
        Some("time") => FullUnit::Days,
        _ => FullUnit::Count,
    };
    let retention = Retention {
        full_unit,
        full: count(opt::REPO_RETENTION_FULL),
        diff: count(opt::REPO_RETENTION_DIFF),
        wal: WalRetention { kind, count: count(opt::REPO_RETENTION_ARCHIVE) },
        history_days: repo.integer(opt::REPO_RETENTION_HISTORY).and_then(|days| u32::try_from(days).ok()),
    };
    let symlinks = repo.boolean(opt::REPO_SYMLINK);
    Ok(RepositoryRules { retention, symlinks, path: repo.require(opt::REPO_PATH)?.to_owned() })
}
