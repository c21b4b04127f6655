//! Options of the engine's commands as most tests want them.

use std::path::Path;
use std::time::Duration;

use pgbr_repo::command::backup::{BackupOptions, BundleOptions, PageOptions, RecordedOptions, TimeZone};
use pgbr_repo::command::restore::recovery::RecoveryOptions;
use pgbr_repo::command::restore::{DatabaseChoice, PageErrors, RestoreOptions};
use pgbr_repo::filter::Compression;
use pgbr_repo::format::{Annotations, BackupType, CompressType};
use pgbr_repo::pgdata::{LinkPolicy, MapOptions};
use pgbr_repo::postgres::page::PageHeaderCheck;

pub(crate) fn backup_options(data: &Path) -> BackupOptions {
    BackupOptions {
        backup_type: BackupType::Full,
        pg_path: data.to_owned(),
        version_force: None,
        force: false,
        start_fast: true,
        db_timeout: Duration::from_secs(1800),
        archive_check: None,
        archive_timeout: Duration::from_secs(30),
        pages: PageOptions { check: Some(false), header_check: PageHeaderCheck::Upper, end_at_error: false },
        exclude: Vec::new(),
        links: LinkPolicy::Any,
        compress: Compression::with_default_level(CompressType::Zst),
        bundle: Some(BundleOptions { size_bytes: 100_000, limit_bytes: 200_000 }),
        block: None,
        delta: false,
        manifest_save_threshold_bytes: 1 << 30,
        resume: true,
        symlinks: true,
        annotations: Annotations::default(),
        time_zone: TimeZone::UTC,
        process_max: 2,
        recorded: RecordedOptions { buffer_size_bytes: 1024 * 1024, compress_level_network: 1, hardlink: false },
    }
}

pub(crate) fn restore_options(target: &Path) -> RestoreOptions {
    RestoreOptions {
        map: MapOptions { pgdata: target.to_str().unwrap().into(), ..MapOptions::default() },
        set: None,
        delta: false,
        force: false,
        recovery: RecoveryOptions { restore_command: "pgbr archive-get %f %p".to_owned(), ..Default::default() },
        recovery_by_default: true,
        databases: DatabaseChoice::default(),
        page_errors: PageErrors::Refuse,
        workers: 2,
        read_over_bytes: 64 * 1024,
        links: LinkPolicy::Any,
        version_force: None,
        spool: None,
        time_zone: TimeZone::UTC,
    }
}
