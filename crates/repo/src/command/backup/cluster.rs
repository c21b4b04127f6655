//! The cluster that is backed up: `pg_control`, the stanza it belongs to, the clock.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use super::options::BackupOptions;
use crate::db::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BackupInfo, HistoryId};
use crate::pgdata::{
    Accounts, ControlRead, ControlReadError, DataRoots, LinkPolicy, Scan, ScanOptions, Target, read_control, scan,
};
use crate::postgres::control_file::ControlFileError;
use crate::postgres::{ControlFile, DataLayout, PgVersion};
use crate::progress::{Context, blocking};

/// Tries to see the clock of the server advance to the next second.
const CLOCK_TRIES: u32 = 3;

/// The cluster, and its place in the stanza.
#[derive(Debug)]
pub(super) struct Cluster {
    /// As it was when the backup began.
    pub(super) control: ControlFile,
    /// Where things are in its data directory.
    pub(super) layout: DataLayout,
    /// Its generation in backup.info.
    pub(super) history_id: HistoryId,
    /// Whether its pages are checked.
    pub(super) checksum_page: bool,
}

impl Cluster {
    /// Reads `pg_control` and finds the cluster in backup.info.
    ///
    /// # Errors
    /// [`ErrorKind::BackupMismatch`] when the stanza is for another cluster, else what is wrong with `pg_control`.
    pub(super) async fn identify(
        info: &BackupInfo,
        options: &BackupOptions,
        online: bool,
        context: &Context,
    ) -> Result<Self> {
        let control = current_control(options).await?;
        let current = info.history().current();
        if !current.is_cluster(control.version(), control.system_id()) {
            let message = format!(
                "PostgreSQL version {}, system-id {} do not match stanza version {}, system-id {}",
                control.version(),
                control.system_id(),
                current.version,
                current.system_id
            );
            return Err(Error::new(ErrorKind::BackupMismatch, message).hint("is this the correct stanza?"));
        }
        let layout = DataLayout::new(control.version(), control.catalog_version());
        let checksum_page = match options.pages.check {
            // A cluster that does not run has false alarms: pages that recovery would repair.
            None => online && control.has_data_checksums(),
            Some(true) if online && !control.has_data_checksums() => {
                context.warn(
                    "checksum-page option set to true but checksums are not enabled on the cluster, resetting to false",
                );
                false
            }
            Some(check) => check,
        };
        Ok(Self { control, layout, history_id: current.id, checksum_page })
    }
}

/// `pg_control` as it is now.
pub(super) async fn current_control(options: &BackupOptions) -> Result<ControlFile> {
    control_at(&options.pg_path, options.version_force).await
}

/// `pg_control` of a data directory as it is now.
pub(super) async fn control_at(pg_path: &Path, version_force: Option<PgVersion>) -> Result<ControlFile> {
    let path = pg_path.to_owned();
    blocking(move || {
        let roots = DataRoots::open(&[Target::data(path.as_os_str().as_bytes())], &LinkPolicy::Any)?;
        Ok(control_in(&roots, version_force)?.control)
    })
    .await
}

/// `pg_control` with the bytes that a backup stores. Blocking.
pub(super) fn control_in(roots: &DataRoots, version_force: Option<PgVersion>) -> Result<ControlRead<ControlFile>> {
    let parse = |bytes: &[u8]| match version_force {
        Some(version) => ControlFile::parse_forced(version, bytes),
        None => ControlFile::parse(bytes),
    };
    read_control(roots, parse).map_err(|error| match error {
        ControlReadError::File(error) => error.into(),
        ControlReadError::Invalid { reason, .. } => {
            let kind = match reason {
                ControlFileError::Crc { .. } => ErrorKind::Checksum,
                ControlFileError::UnknownVersion { .. } => ErrorKind::VersionNotSupported,
                _ => ErrorKind::Format,
            };
            Error::new(kind, error.to_string())
        }
    })
}

/// Lists the files of a data directory. `tablespaces` are those that the server knows; `None` offline. Blocking.
pub(super) fn scan_directory(
    pg_path: &[u8],
    layout: &DataLayout,
    tablespaces: Option<&[(u32, String)]>,
    exclude: &[Vec<u8>],
    links: &LinkPolicy,
) -> Result<Scan> {
    let accounts = Accounts::system()
        .map_err(|error| Error::new(ErrorKind::FileRead, format!("unable to read the list of users: {error}")))?;
    let online = tablespaces.is_some();
    let scan_options = ScanOptions { layout, online, exclude, tablespaces, links, accounts: &accounts };
    Ok(scan(pg_path, scan_options)?)
}

/// The time, seconds since the Unix epoch: that of the server where there is one.
pub(super) async fn now_s(database: Option<&dyn Database>, context: &Context) -> Result<i64> {
    match database {
        Some(database) => Ok(database.time_ms().await?.div_euclid(1000)),
        None => Ok(context.clock.now_s()),
    }
}

/// Waits for the next second and tells the one before it. What changes from now on has a later modification time than
/// everything that was scanned, so that the next backup sees the change (faults.md BK08).
///
/// # Errors
/// [`ErrorKind::Kernel`] when the clock of the server does not advance.
pub(super) async fn end_of_second_s(database: Option<&dyn Database>, context: &Context) -> Result<i64> {
    let Some(database) = database else { return Ok(context.clock.now_s()) };
    let mut now_ms = database.time_ms().await?;
    let second = now_ms.div_euclid(1000);
    for _ in 0..CLOCK_TRIES {
        let left_ms = second.saturating_add(1).saturating_mul(1000).saturating_sub(now_ms).clamp(0, 1000);
        tokio::time::sleep(Duration::from_millis(left_ms.unsigned_abs())).await;
        now_ms = database.time_ms().await?;
        if now_ms.div_euclid(1000) > second {
            return Ok(second);
        }
    }
    let message = format!("PostgreSQL clock has not advanced to the next second after {CLOCK_TRIES} tries");
    Err(Error::new(ErrorKind::Kernel, message))
}
