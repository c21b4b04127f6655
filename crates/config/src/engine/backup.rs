//! From options to a backup.

use std::path::PathBuf;
use std::time::Duration;

use pgbr_repo::command::backup::{
    ArchiveCheck, BackupOptions, BlockOptions, BlockRules, BundleOptions, PageOptions, RecordedOptions,
};
use pgbr_repo::error::{Error, ErrorKind, Result};
use pgbr_repo::format::{Annotations, BackupType};
use pgbr_repo::pgdata::LinkPolicy;
use pgbr_repo::postgres::page::PageHeaderCheck;

use super::{compression, forced_version, workers};
use crate::{OptionSet, RepoIndex, RepoOptions, opt};

/// How the options want a backup of the cluster at `pg_path` to be made in the repository `index`.
///
/// # Errors
/// [`ErrorKind::OptionInvalidValue`] for values that the grammar lets pass and the engine does not.
pub fn backup_options(options: &OptionSet, index: RepoIndex, pg_path: PathBuf) -> Result<BackupOptions> {
    let repo = &options.repo(index);
    let archive_check = options.boolean(opt::ARCHIVE_CHECK).then(|| ArchiveCheck {
        refuse_always: options.boolean(opt::ARCHIVE_MODE_CHECK),
        copy: options.boolean(opt::ARCHIVE_COPY),
    });
    let bundle = repo.boolean(opt::REPO_BUNDLE).then(|| BundleOptions {
        size_bytes: repo.size_bytes(opt::REPO_BUNDLE_SIZE).unwrap_or(20 * 1024 * 1024),
        limit_bytes: repo.size_bytes(opt::REPO_BUNDLE_LIMIT).unwrap_or(2 * 1024 * 1024),
    });
    let network_level = options.integer(opt::COMPRESS_LEVEL_NETWORK).and_then(|level| i32::try_from(level).ok());
    Ok(BackupOptions {
        backup_type: backup_type(options)?,
        pg_path,
        version_force: forced_version(options)?,
        force: options.boolean(opt::FORCE),
        start_fast: options.boolean(opt::START_FAST),
        db_timeout: options.time(opt::DB_TIMEOUT).unwrap_or(Duration::from_secs(1800)),
        archive_check,
        archive_timeout: options.time(opt::ARCHIVE_TIMEOUT).unwrap_or(Duration::from_secs(60)),
        pages: PageOptions {
            check: options.get(opt::CHECKSUM_PAGE),
            header_check: match options.boolean(opt::PAGE_HEADER_CHECK) {
                true => PageHeaderCheck::Upper,
                false => PageHeaderCheck::ChecksumOnly,
            },
            end_at_error: options.boolean(opt::CHECKSUM_PAGE_ERROR),
        },
        exclude: options.list(opt::EXCLUDE).iter().map(|path| path.as_bytes().to_vec()).collect(),
        links: LinkPolicy::Any,
        compress: compression(options)?,
        bundle,
        block: block_options(repo, index.number())?,
        delta: options.boolean(opt::DELTA),
        resume: options.boolean(opt::RESUME),
        manifest_save_threshold_bytes: options.size_bytes(opt::MANIFEST_SAVE_THRESHOLD).unwrap_or(1024 * 1024 * 1024),
        symlinks: repo.boolean(opt::REPO_SYMLINK),
        annotations: annotations(options)?,
        time_zone: jiff::tz::TimeZone::system(),
        process_max: u32::try_from(workers(options)).unwrap_or(1),
        recorded: RecordedOptions {
            buffer_size_bytes: options.size_bytes(opt::BUFFER_SIZE).unwrap_or(1024 * 1024),
            compress_level_network: network_level.unwrap_or_default(),
            hardlink: repo.boolean(opt::REPO_HARDLINK),
        },
    })
}

/// How files are cut into blocks, if they are.
fn block_options(repo: &RepoOptions<'_>, index: u16) -> Result<Option<BlockOptions>> {
    if !repo.boolean(opt::REPO_BLOCK) {
        return Ok(None);
    }
    let name = |key: &str| format!("repo{index}-{key}");
    let mut rules = BlockRules::default();
    let sizes = repo.hash(opt::REPO_BLOCK_SIZE_MAP);
    if !sizes.is_empty() {
        let sizes = pairs(sizes, &name("block-size-map"), size_u64, size_u32)?;
        rules = rules.with_sizes(sizes).map_err(|error| invalid(&error.to_string(), &name("block-size-map")))?;
    }
    let factors = repo.hash(opt::REPO_BLOCK_AGE_MAP);
    if !factors.is_empty() {
        rules = rules.with_factors(pairs(factors, &name("block-age-map"), number, number)?);
    }
    let checksums = repo.hash(opt::REPO_BLOCK_CHECKSUM_SIZE_MAP);
    if !checksums.is_empty() {
        let checksums = pairs(checksums, &name("block-checksum-size-map"), size_u32, number)?;
        rules = rules
            .with_checksums(checksums)
            .map_err(|error| invalid(&error.to_string(), &name("block-checksum-size-map")))?;
    }
    Ok(Some(BlockOptions {
        rules,
        size_super_full_bytes: repo.size_bytes(opt::REPO_BLOCK_SIZE_SUPER_FULL).unwrap_or(1024 * 1024),
        size_super_bytes: repo.size_bytes(opt::REPO_BLOCK_SIZE_SUPER).unwrap_or(256 * 1024),
    }))
}

/// The pairs of a map of numbers.
fn pairs<K, V>(
    map: &[(String, String)],
    option: &str,
    key: impl Fn(&str) -> Option<K>,
    value: impl Fn(&str) -> Option<V>,
) -> Result<Vec<(K, V)>> {
    let pair = |(own_key, own_value): &(String, String)| {
        let key = key(own_key).ok_or_else(|| invalid(own_key, option))?;
        Ok((key, value(own_value).ok_or_else(|| invalid(own_value, option))?))
    };
    map.iter().map(pair).collect()
}

fn size_u64(text: &str) -> Option<u64> {
    crate::value::size_bytes(text).and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0)
}

fn size_u32(text: &str) -> Option<u32> {
    size_u64(text).and_then(|size| u32::try_from(size).ok())
}

fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    text.parse().ok()
}

fn invalid(value: &str, option: &str) -> Error {
    Error::new(ErrorKind::OptionInvalidValue, format!("'{value}' is not valid for '{option}' option"))
}

fn backup_type(options: &OptionSet) -> Result<BackupType> {
    let name = options.string_id(opt::TYPE).unwrap_or("incr");
    BackupType::from_name(name.as_bytes())
        .ok_or_else(|| Error::new(ErrorKind::OptionInvalidValue, format!("'{name}' is not allowed for 'type' option")))
}

fn annotations(options: &OptionSet) -> Result<Annotations> {
    let mut annotations = Annotations::default();
    for (key, value) in options.hash(opt::ANNOTATION) {
        annotations.set(key, value).map_err(|error| Error::new(ErrorKind::OptionInvalidValue, error.to_string()))?;
    }
    Ok(annotations)
}
