//! From options to an expire.

use std::num::NonZeroU32;

use jiff::tz::TimeZone;
use pgbr_repo::command::expire::{ExpireRequest, ExpiredBackups, FullUnit, RepositoryRules, Retention, WalRetention};
use pgbr_repo::error::{Error, ErrorKind, Result};
use pgbr_repo::format::{BackupLabel, BackupType, Stanza};
use pgbr_repo::postgres::WalSegmentName;
use pgbr_repo::repository::WritableRepository;

use super::repositories::{self, Variable};
use crate::{OptionSet, RepoOptions, opt};

/// What `expire` is asked for.
///
/// # Errors
/// [`ErrorKind::OptionInvalid`] for options that exclude each other, [`ErrorKind::OptionInvalidValue`] for texts that name no
/// backup or segment.
pub fn expire_request(options: &OptionSet) -> Result<ExpireRequest> {
    Ok(ExpireRequest {
        backups: expired_backups(options)?,
        archive_before: archive_before(options)?,
        end_at_page_errors: options.boolean(opt::CHECKSUM_PAGE_ERROR),
        dry_run: options.boolean(opt::DRY_RUN),
        time_zone: TimeZone::system(),
        permit: None,
    })
}

/// Every chosen repository with its rules.
///
/// # Errors
/// As [`repositories::open`].
pub fn expire_targets(
    options: &OptionSet,
    stanza: &Stanza,
    variable: Variable<'_>,
) -> Result<Vec<(WritableRepository, RepositoryRules)>> {
    let target = |index| {
        let repository = repositories::open(options, index, stanza, variable)?;
        Ok((WritableRepository::new(repository), rules(&options.repo(index))?))
    };
    repositories::chosen(options).into_iter().map(target).collect()
}

fn expired_backups(options: &OptionSet) -> Result<ExpiredBackups> {
    let is_oldest = options.boolean(opt::OLDEST);
    match options.text(opt::SET) {
        Some(_) if is_oldest => Err(Error::new(ErrorKind::OptionInvalid, "--oldest and --set cannot be used together")),
        Some(label) => BackupLabel::parse(label).map(ExpiredBackups::Set).map_err(|_| {
            let message = format!("'{label}' is not a valid backup label format");
            Error::new(ErrorKind::OptionInvalidValue, message)
        }),
        None if is_oldest => Ok(ExpiredBackups::Oldest),
        None => Ok(ExpiredBackups::Retention),
    }
}

fn archive_before(options: &OptionSet) -> Result<Option<WalSegmentName>> {
    let Some(text) = options.text(opt::ARCHIVE_EXPIRE_BEFORE) else { return Ok(None) };
    WalSegmentName::parse(text).map(Some).map_err(|_| {
        let message = format!("'{text}' is not a valid WAL segment name for option '--archive-expire-before'");
        Error::new(ErrorKind::OptionInvalidValue, message)
    })
}

fn rules(repo: &RepoOptions<'_>) -> Result<RepositoryRules> {
    let count = |key| repo.integer(key).and_then(|count| u32::try_from(count).ok()).and_then(NonZeroU32::new);
    let kind = repo.string_id(opt::REPO_RETENTION_ARCHIVE_TYPE).unwrap_or("full");
    let kind = BackupType::from_name(kind.as_bytes()).ok_or_else(|| {
        let message = format!("'{kind}' is not allowed for 'repo-retention-archive-type' option");
        Error::new(ErrorKind::OptionInvalidValue, message)
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
