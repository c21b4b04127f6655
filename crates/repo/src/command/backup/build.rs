//! From a scan of the cluster to the manifest of a new backup (repository-format.md §4).

use super::cluster::Cluster;
use super::delta;
use super::options::BackupOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{self, BeginBackup, FileRow, LinkRow, ManifestOptions, Owner, PageChecksums, PathRow};
use crate::format::{BackupLabel, CipherPass, Manifest, ManifestBuilder, ManifestName, RawText};
use crate::pgdata::scan::OwnerNames;
use crate::pgdata::{DisplayPath, Scan, Target, TargetKind};
use crate::progress::Context;

/// What is known of a backup before its first file is copied.
#[derive(Debug)]
pub(super) struct Begin {
    pub(super) label: BackupLabel,
    pub(super) backup_pass: Option<CipherPass>,
    pub(super) timestamp_start_s: i64,
    /// The second in which the scan ended.
    pub(super) copy_start_s: i64,
    pub(super) online: bool,
}

/// Makes the manifest.
///
/// # Errors
/// [`ErrorKind::Format`] naming an entry that a manifest cannot hold, or when label and prior do not go together.
pub(super) fn manifest(
    scan: &Scan,
    begin: Begin,
    prior: Option<&Manifest>,
    cluster: &Cluster,
    options: &BackupOptions,
    context: &Context,
) -> Result<Manifest> {
    let version = cluster.control.version();
    let control_version = version.facts().map_or(cluster.control.control_version(), |facts| facts.control_version);
    let begun = BeginBackup {
        label: begin.label,
        backup_pass: begin.backup_pass,
        timestamp_start_s: begin.timestamp_start_s,
        version,
        catalog_version: cluster.control.catalog_version(),
        control_version,
        bundle: options.bundle.is_some(),
        block_incr: options.block.is_some(),
        options: ManifestOptions {
            archive_check: false,
            archive_copy: false,
            backup_standby: None,
            buffer_size_bytes: None,
            checksum_page: Some(cluster.checksum_page),
            compress_type: options.compress.kind(),
            compress_level: None,
            compress_level_network: None,
            delta: Some(options.delta),
            hardlink: false,
            online: begin.online,
            process_max: None,
        },
    };
    let mut builder = ManifestBuilder::new(begun, prior).map_err(|error| failed(&error))?;
    add_entries(&mut builder, scan, begin.timestamp_start_s, cluster, options)?;
    let mut manifest = builder.finish().map_err(|error| failed(&error))?;
    // An online backup waited for the end of the second in which it was scanned.
    manifest.header_mut().timestamp_copy_start_s = begin.copy_start_s.saturating_add(i64::from(begin.online));
    if !options.delta
        && let Some(reason) = delta::future(manifest.files(), begin.copy_start_s)
    {
        context.warn(reason.to_string());
        manifest.options_mut().delta = Some(true);
    }
    Ok(manifest)
}

fn add_entries(
    builder: &mut ManifestBuilder,
    scan: &Scan,
    timestamp_start_s: i64,
    cluster: &Cluster,
    options: &BackupOptions,
) -> Result<()> {
    for target in &scan.targets {
        let target = manifest_target(target)?;
        builder.add_target(target);
    }
    for path in &scan.paths {
        let (user, group) = owners(builder, &path.owner);
        builder.add_path(PathRow::new(name(&path.name)?, user, group, mode(path.mode)));
    }
    for link in &scan.links {
        let (user, group) = owners(builder, &link.owner);
        let row = LinkRow::new(name(&link.name)?, RawText::from(&link.destination[..]), user, group);
        builder.add_link(row.ok_or_else(|| unwritable(&link.name, "its text is empty or has a NUL byte"))?);
    }
    for file in &scan.files {
        let (user, group) = owners(builder, &file.owner);
        let mut row = FileRow::scanned(manifest::ScannedFile {
            name: name(&file.name)?,
            size_bytes: file.size_bytes,
            timestamp_s: file.modified_s,
            user,
            group,
            mode: mode(file.mode),
        });
        if let Some(block) = &options.block {
            row.block_incr = block.rules.blocks(file.size_bytes, timestamp_start_s.saturating_sub(file.modified_s));
        }
        if cluster.checksum_page && cluster.layout.is_page_checksummed(&file.name) {
            // That they are checked; the result replaces it.
            row.page_checksums = PageChecksums::Valid;
        }
        builder.add_file(row);
    }
    Ok(())
}

fn owners(builder: &mut ManifestBuilder, owner: &OwnerNames) -> (Owner, Owner) {
    let mut intern = |name: &Option<std::sync::Arc<str>>| match name {
        Some(name) => builder.owners_mut().intern(name.as_bytes()),
        None => Owner::UNNAMED,
    };
    (intern(&owner.user), intern(&owner.group))
}

fn manifest_target(target: &Target) -> Result<manifest::Target> {
    let path = RawText::from(&target.path[..]);
    let kind = match &target.kind {
        TargetKind::Data => manifest::TargetKind::PgData { path },
        TargetKind::DirectoryLink => manifest::TargetKind::DirectoryLink { path },
        TargetKind::FileLink(file) => manifest::TargetKind::FileLink { path, file: RawText::from(&file[..]) },
        TargetKind::Tablespace { oid, name } => {
            manifest::TargetKind::Tablespace { path, oid: *oid, tablespace_name: RawText::from(&name[..]) }
        }
    };
    manifest::Target::new(name(&target.name)?, kind).map_err(|error| unwritable(&target.name, error))
}

fn name(name: &[u8]) -> Result<ManifestName> {
    ManifestName::parse(name).map_err(|error| unwritable(name, error))
}

/// Permission bits; there are no others.
fn mode(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).unwrap_or_default()
}

fn unwritable(name: &[u8], reason: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Format, format!("'{}' cannot be in a manifest: {reason}", DisplayPath(name)))
}

fn failed(error: &manifest::BuildError) -> Error {
    Error::new(ErrorKind::Format, error.to_string())
}
