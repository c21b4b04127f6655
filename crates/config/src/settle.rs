//! Rules that look at several options at once, and settings that follow from others (pgBackRest's `config/load.c`).

use crate::command::Command;
use crate::error::{ConfigError, ErrorClass, option_invalid, option_invalid_value};
use crate::given::Source;
use crate::opt::{self, Family, Key, Repo, Support, ValueKind};
use crate::set::{OptionSet, RepoIndex, Value};

/// Distance that is kept between the timeouts of the server and of the protocol.
const TIMEOUT_DISTANCE_MS: i64 = 30_000;
/// Least timeout of the server that is worth that distance.
const DB_TIMEOUT_MIN_MS: i64 = 15_000;

/// Applies the rules in the order of the original, since the first mistake decides the exit code.
pub(crate) fn settle(set: &mut OptionSet, help: bool, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    if !help {
        require_repo_for_deletion(set)?;
    }
    check_paths_differ(set)?;
    settle_timeouts(set)?;
    check_one_side_remote(set)?;
    settle_retention(set, help, warnings);
    check_bucket_names(set)?;
    settle_compression(set, warnings);
    settle_sftp_check(set, warnings)?;
    check_target_time(set)?;
    if set.source(opt::STOP_AUTO).is_some_and(|source| source != Source::Default) {
        warnings.push("option 'stop-auto' is deprecated\nHINT: no supported PostgreSQL needs it; remove it".to_owned());
    }
    Ok(())
}

/// Refuses what pgBackRest can do and this program cannot.
pub(crate) fn refuse_unsupported(set: &OptionSet) -> Result<(), ConfigError> {
    let unsupported = |message: String| Err(ConfigError::new(ErrorClass::FeatureNotSupported, message));
    if let Some(reason) = set.command.facts().refused {
        return unsupported(format!("command '{}' is not supported because {reason}", set.command));
    }
    let given = || {
        opt::rows().flat_map(|row| set.numbers(row).iter().map(move |number| (row, *number))).filter_map(
            |(row, number)| {
                let entry = set.entry(row, number).filter(|entry| entry.source != Source::Default)?;
                Some((row, row.numbered(number), entry.value.as_ref()?))
            },
        )
    };
    // Words come first: a type of store that is refused says more than the options of that store.
    for (row, name, value) in given() {
        let refused = row.refused_values.iter().find(|(word, _)| matches!(value, Value::Text(text) if text == word));
        if let Some((word, reason)) = refused {
            return unsupported(format!("'{name}={word}' is not supported because {reason}"));
        }
    }
    for (row, name, _) in given() {
        if let Support::Refused(reason) = row.support {
            return unsupported(format!("option '{name}' is not supported because {reason}"));
        }
    }
    Ok(())
}

fn require_repo_for_deletion(set: &OptionSet) -> Result<(), ConfigError> {
    let obvious = set.repo == [1];
    if set.command != Command::StanzaDelete || set.is_set(opt::REPO) || obvious {
        return Ok(());
    }
    let message = format!("{} command requires option: repo", set.command);
    Err(ConfigError::new(ErrorClass::OptionRequired, message).hint("say from which repository the stanza is to go"))
}

fn check_paths_differ(set: &OptionSet) -> Result<(), ConfigError> {
    let local = |index: &RepoIndex| {
        let repo = set.repo(*index);
        let of_files = matches!(repo.string_id(opt::REPO_TYPE), Some("posix" | "cifs"));
        of_files && !repo.is_set(opt::REPO_HOST)
    };
    let indexes: Vec<RepoIndex> = set.repos().filter(local).collect();
    for one in &indexes {
        for other in indexes.iter().filter(|other| *other != one) {
            let (first, second) = (set.repo(*one), set.repo(*other));
            let same_type = first.string_id(opt::REPO_TYPE) == second.string_id(opt::REPO_TYPE);
            if same_type && first.path(opt::REPO_PATH) == second.path(opt::REPO_PATH) {
                let entry = set.entry(opt::REPO_PATH.row(), other.number());
                let path = entry.and_then(|entry| entry.shown.as_deref()).unwrap_or_default();
                let message = format!("local {one} and {other} paths are both '{path}' but must be different");
                return Err(option_invalid_value(message));
            }
        }
    }
    Ok(())
}

/// The protocol has to wait longer than the server may take; the one of the two that is a default gives way.
fn settle_timeouts(set: &mut OptionSet) -> Result<(), ConfigError> {
    let number = |set: &OptionSet, name| match set.entry(opt::row(name)?, 0)?.value {
        Some(Value::Integer(number)) => Some(number),
        _ => None,
    };
    let (Some(db_ms), Some(protocol_ms)) = (number(set, "db-timeout"), number(set, "protocol-timeout")) else {
        return Ok(());
    };
    if protocol_ms > db_ms {
        return Ok(());
    }
    if set.source(opt::PROTOCOL_TIMEOUT) == Some(Source::Default) {
        let longer = Value::Integer(db_ms.saturating_add(TIMEOUT_DISTANCE_MS));
        set.put(opt::PROTOCOL_TIMEOUT.row(), 0, longer, Source::Default);
    } else if set.source(opt::DB_TIMEOUT) == Some(Source::Default) {
        let shorter = protocol_ms.saturating_sub(TIMEOUT_DISTANCE_MS);
        let shorter = if shorter >= DB_TIMEOUT_MIN_MS { shorter } else { protocol_ms / 2 };
        set.put(opt::DB_TIMEOUT.row(), 0, Value::Integer(shorter), Source::Default);
    } else {
        let shown = |name| opt::row(name).and_then(|row| set.entry(row, 0)?.shown.clone()).unwrap_or_default();
        let (db, protocol) = (shown("db-timeout"), shown("protocol-timeout"));
        return Err(option_invalid_value(format!("'{protocol}' is not valid for 'protocol-timeout' option"))
            .hint(format!("it should be longer than 'db-timeout' ({db})")));
    }
    Ok(())
}

fn check_one_side_remote(set: &OptionSet) -> Result<(), ConfigError> {
    let pg = set.pgs().any(|index| set.pg(index).is_set(opt::PG_HOST));
    let repo = set.repos().any(|index| set.repo(index).is_set(opt::REPO_HOST));
    if pg && repo {
        return Err(ConfigError::new(ErrorClass::Config, "pg and repo hosts cannot both be configured as remote"));
    }
    Ok(())
}

fn settle_retention(set: &mut OptionSet, help: bool, warnings: &mut Vec<String>) {
    let indexes: Vec<RepoIndex> = set.repos().collect();
    for index in indexes.iter().filter(|_| !help) {
        let repo = set.repo(*index);
        if let (Some(kind), false) =
            (repo.string_id(opt::REPO_RETENTION_FULL_TYPE), repo.is_set(opt::REPO_RETENTION_FULL))
        {
            warnings.push(format!(
                "option '{index}-retention-full' is not set for '{index}-retention-full-type={kind}', the repository \
                 may run out of space\nHINT: to keep all full backups and not be warned, set \
                 '{index}-retention-full' to its maximum."
            ));
        }
    }
    for index in indexes {
        settle_archive_retention(set, index, warnings);
    }
}

/// Where nobody said for how many backups WAL is kept, it follows from the number of backups.
fn settle_archive_retention(set: &mut OptionSet, index: RepoIndex, warnings: &mut Vec<String>) {
    let repo = set.repo(index);
    let Some(kind) = repo.string_id(opt::REPO_RETENTION_ARCHIVE_TYPE) else { return };
    let diff = repo.integer(opt::REPO_RETENTION_DIFF);
    if repo.is_set(opt::REPO_RETENTION_ARCHIVE) {
        if kind == "diff" && diff.is_none() {
            warnings.push(format!(
                "option '{index}-retention-diff' is not set for '{index}-retention-archive-type=diff'\nHINT: to keep \
                 all differential backups and not be warned, set '{index}-retention-diff' to its maximum."
            ));
        }
        return;
    }
    let off = format!("WAL segments will not be expired: option '{index}-retention-archive-type={kind}' but");
    let follows = match kind {
        "full" if repo.string_id(opt::REPO_RETENTION_FULL_TYPE) == Some("count") => {
            repo.integer(opt::REPO_RETENTION_FULL)
        }
        "diff" => {
            if diff.is_none() {
                warnings.push(format!(
                    "{off} neither option '{index}-retention-archive' nor option '{index}-retention-diff' is set"
                ));
            }
            diff
        }
        "incr" => {
            warnings.push(format!("{off} option '{index}-retention-archive' is not set"));
            None
        }
        _ => None,
    };
    if let Some(count) = follows {
        set.put(opt::REPO_RETENTION_ARCHIVE.row(), index.number(), Value::Integer(count), Source::Default);
    }
}

/// Certificates of a store are for `*.endpoint`, and the star stands for one label.
fn check_bucket_names(set: &OptionSet) -> Result<(), ConfigError> {
    for index in set.repos() {
        let repo = set.repo(index);
        let Some(bucket) = repo.text(opt::REPO_S3_BUCKET) else { continue };
        let host_style = repo.string_id(opt::REPO_S3_URI_STYLE) == Some("host");
        if repo.boolean(opt::REPO_STORAGE_VERIFY_TLS) && host_style && bucket.contains('.') {
            return Err(option_invalid_value(format!("'{bucket}' is not valid for option '{index}-s3-bucket'"))
                .hint("a wildcard certificate does not cover names with further dots (RFC 2818)")
                .hint(format!("use a bucket without dots, or set '{index}-s3-uri-style=path'")));
        }
    }
    Ok(())
}

fn settle_compression(set: &mut OptionSet, warnings: &mut Vec<String>) {
    let given = |source: Option<Source>| source.is_some_and(|source| source != Source::Default);
    if !given(set.source(opt::COMPRESS)) {
        return;
    }
    if given(set.source(opt::COMPRESS_TYPE)) {
        warnings.push(
            "'compress' and 'compress-type' options should not both be set\nHINT: 'compress-type' has replaced \
             'compress'."
                .to_owned(),
        );
    } else if !set.boolean(opt::COMPRESS) {
        set.put(opt::COMPRESS_TYPE.row(), 0, Value::Text("none".to_owned()), Source::Argument);
        set.put(opt::COMPRESS_LEVEL.row(), 0, Value::Integer(0), Source::Default);
        if let Some(entry) = set.entries.get_mut(&(opt::COMPRESS_TYPE.row().name, 0)) {
            entry.derived = true;
        }
    }
}

fn settle_sftp_check(set: &mut OptionSet, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    for index in set.repos().collect::<Vec<_>>() {
        let repo = set.repo(index);
        let Some(check) = repo.string_id(opt::REPO_SFTP_HOST_KEY_CHECK_TYPE) else { continue };
        let fingerprint = repo.is_set(opt::REPO_SFTP_HOST_FINGERPRINT);
        let defaulted = is_default(set, index, opt::REPO_SFTP_HOST_KEY_CHECK_TYPE);
        let (option, other) = (format!("{index}-sftp-host-fingerprint"), format!("{index}-sftp-host-key-check-type"));
        match (check, fingerprint) {
            (_, true) if defaulted => {
                warnings.push(format!("option '{option}' without option '{other}' = 'fingerprint' is deprecated"));
                let value = Value::Text("fingerprint".to_owned());
                set.put(opt::REPO_SFTP_HOST_KEY_CHECK_TYPE.row(), index.number(), value, Source::Default);
            }
            ("fingerprint", false) => {
                let message = format!("{} command requires option: {option}", set.command);
                return Err(ConfigError::new(ErrorClass::OptionRequired, message));
            }
            ("fingerprint", true) | (_, false) => {}
            (_, true) => {
                let message = format!("option '{option}' not valid without option '{other}' = 'fingerprint'");
                return Err(option_invalid(message));
            }
        }
    }
    Ok(())
}

fn is_default<K: ValueKind>(set: &OptionSet, index: RepoIndex, key: Key<K, Repo>) -> bool
where
    Repo: Family,
{
    set.repo(index).source(key) == Some(Source::Default)
}

/// Not every store has versions, and damage differs between repositories: a time is meant for one of them.
fn check_target_time(set: &OptionSet) -> Result<(), ConfigError> {
    if set.is_set(opt::REPO_TARGET_TIME) && !set.is_given(opt::REPO) {
        return Err(option_invalid("option 'repo-target-time' not valid without option 'repo'"));
    }
    Ok(())
}
