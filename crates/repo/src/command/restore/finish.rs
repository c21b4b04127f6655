//! The last steps: recovery settings, durability, and `pg_control` in its place (repository-behaviour.md §5.1).

use std::io::Read;

use super::file::{CONTROL_FILE_TEMPORARY, Restorer};
use super::options::RestoreOptions;
use super::recovery::{self, RecoveryOptions, RecoveryType};
use crate::error::{Error, ErrorKind, Result};
use crate::format::BackupLabel;
use crate::pgdata::clean::BACKUP_MANIFEST;
use crate::pgdata::{
    DataRoots, DisplayPath, EntryMode, Existing, ExistingFile, FileAttributes, Ids, SyncPolicy, TargetFile,
    sync_file_systems, write_file,
};
use crate::postgres::control_file::ControlFileError;
use crate::postgres::data_path::{CONTROL_FILE, PGDATA_NAME, file_name};
use crate::postgres::{ControlFile, PgVersion};
use crate::progress::Context;

/// The largest file with settings that is read and written again.
const SETTINGS_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Bits of the data directory's mode that files of the restore's own get.
const OWN_FILE_MODE: u32 = 0o644;

/// Leaves the marker of an unfinished restore, by which a later one knows that it may go on. Blocking.
///
/// The original leaves the whole manifest there, with the passphrase of the backup; nobody reads it.
///
/// # Errors
/// Those of writing.
pub(super) fn write_marker(roots: &DataRoots, label: BackupLabel, now_s: i64) -> Result<()> {
    let text = format!("The restore of backup {label} into this directory is not finished.\n");
    let attributes = own_attributes(roots, now_s)?;
    Ok(write_file(roots, &in_pgdata(BACKUP_MANIFEST), text.as_bytes(), attributes)?)
}

/// Writes the recovery settings. `now` is local time. Blocking.
///
/// # Errors
/// [`ErrorKind::OptionInvalid`] for settings that the version does not have, or those of reading and writing.
pub(super) fn write_recovery(
    roots: &DataRoots,
    options: &RecoveryOptions,
    version: PgVersion,
    now_s: i64,
    now: &str,
    context: &Context,
) -> Result<()> {
    let path = |name: &str| match roots.locate(&in_pgdata(name)) {
        Ok((directory, below)) => DisplayPath(&directory.path_of(&below)).to_string(),
        Err(_) => name.to_owned(),
    };
    let settings =
        if recovery::uses_signal_files(version) { file_name::POSTGRESQL_AUTO_CONF } else { file_name::RECOVERY_CONF };
    if options.recovery_type == RecoveryType::Preserve {
        let (directory, below) = roots.locate(&in_pgdata(settings))?;
        if directory.info_of(&below)?.is_none() {
            let path = path(settings);
            context.warn(format!("recovery type is preserve but recovery file does not exist at '{path}'"));
        }
        return Ok(());
    }
    let attributes = own_attributes(roots, now_s)?;
    if !recovery::uses_signal_files(version) {
        if let Some(text) = recovery::recovery_conf(options, version, now)? {
            context.info(format!("write {}", path(settings)));
            write_file(roots, &in_pgdata(settings), text.as_bytes(), attributes)?;
        }
        return Ok(());
    }
    let existing = read_settings(roots, &in_pgdata(settings))?;
    if existing.is_none() {
        context.warn(format!("{settings} does not exist -- creating to contain recovery settings"));
    }
    let content = recovery::auto_conf(existing.as_deref(), options, version, now)?;
    let updated = if existing.is_some() { "updated " } else { "" };
    context.info(format!("write {updated}{}", path(settings)));
    write_file(roots, &in_pgdata(settings), &content, attributes)?;
    if let Some(signal) = recovery::signal_file(&options.recovery_type) {
        write_file(roots, &in_pgdata(signal), b"", attributes)?;
    }
    Ok(())
}

/// Removes the marker and makes everything durable: one call for each file system. Blocking.
///
/// # Errors
/// Those of removing and syncing.
pub(super) fn make_durable(roots: &DataRoots) -> Result<()> {
    let (directory, below) = roots.locate(&in_pgdata(BACKUP_MANIFEST))?;
    directory.remove_file(&below)?;
    Ok(sync_file_systems(roots)?)
}

/// Gives `pg_control` its name; from now on a server can start. In an online backup its checkpoint is replaced by one
/// that cannot be, so that the server starts from `backup_label` or not at all. Blocking.
///
/// # Errors
/// Those of reading a pg_control that is none, and of writing.
pub(super) fn place_control(restorer: &Restorer, options: &RestoreOptions, context: &Context) -> Result<()> {
    let roots = &restorer.roots;
    let (directory, temporary) = roots.locate(CONTROL_FILE_TEMPORARY.as_bytes())?;
    let (_, control) = roots.locate(CONTROL_FILE.as_bytes())?;
    match restorer.manifest.file(CONTROL_FILE.as_bytes()) {
        Some(row) => {
            if restorer.manifest.options().online {
                let attributes = restorer.layout.attributes(row);
                let content = read_small(roots, CONTROL_FILE_TEMPORARY.as_bytes())?.unwrap_or_default();
                let content = invalidated(&content, options.version_force)?;
                let mut file = TargetFile::create(roots, CONTROL_FILE_TEMPORARY.as_bytes(), Existing::Replace)?;
                file.append(&content)?;
                file.finish(attributes, SyncPolicy::EachFile)?;
            }
            context.info("restore global/pg_control (performed last to ensure aborted restores cannot be started)");
            directory.rename(&temporary, &control)?;
        }
        None => context.warn("backup does not contain 'global/pg_control' -- cluster will not start"),
    }
    if let Some((global, _)) = control.split() {
        directory.sync(&global)?;
    }
    Ok(())
}

fn invalidated(content: &[u8], version_force: Option<PgVersion>) -> Result<Vec<u8>> {
    let parsed = match version_force {
        Some(version) => ControlFile::parse_forced(version, content),
        None => ControlFile::parse(content),
    };
    let control = parsed.map_err(|error| {
        let kind = match error {
            ControlFileError::Crc { .. } => ErrorKind::Checksum,
            ControlFileError::UnknownVersion { .. } => ErrorKind::VersionNotSupported,
            _ => ErrorKind::Format,
        };
        Error::new(kind, format!("the restored pg_control cannot be used: {error}"))
    })?;
    let mut file = control.invalidated();
    // What stands behind the bytes that count stays as it is.
    file.extend_from_slice(content.get(file.len()..).unwrap_or_default());
    Ok(file)
}

fn read_settings(roots: &DataRoots, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let content = read_small(roots, name)?;
    if content.as_ref().is_some_and(|content| content.len() as u64 >= SETTINGS_BYTES_MAX) {
        return Err(Error::new(ErrorKind::FileRead, format!("'{}' is too large", DisplayPath(name))));
    }
    Ok(content)
}

fn read_small(roots: &DataRoots, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(file) = ExistingFile::open(roots, name)? else { return Ok(None) };
    let mut content = Vec::new();
    file.take(SETTINGS_BYTES_MAX)
        .read_to_end(&mut content)
        .map_err(|error| Error::new(ErrorKind::FileRead, format!("unable to read '{}': {error}", DisplayPath(name))))?;
    Ok(Some(content))
}

/// Owner and mode of files that the restore itself makes: those of the data directory, without its search bits.
fn own_attributes(roots: &DataRoots, now_s: i64) -> Result<FileAttributes> {
    let directory = roots
        .directory(PGDATA_NAME.as_bytes())
        .ok_or_else(|| Error::new(ErrorKind::Assert, "there is no data directory"))?;
    let info = directory.info()?;
    Ok(FileAttributes {
        mode: EntryMode::file(info.mode & OWN_FILE_MODE),
        owner: Ids { user: info.user, group: info.group },
        modified_s: now_s,
    })
}

fn in_pgdata(name: &str) -> Vec<u8> {
    format!("{PGDATA_NAME}/{name}").into_bytes()
}
