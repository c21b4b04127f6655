//! What is in the image: a few entries, all of root's, in the order of their paths.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::Failure;

/// The users that pods run the program as: PostgreSQL's beside PostgreSQL, nobody's beside the operator. Names of owners
/// go into backups.
const ACCOUNTS: &str = "\
root:x:0:0:root:/:/sbin/nologin
postgres:x:26:26:postgres:/:/sbin/nologin
nonroot:x:65532:65532:nonroot:/:/sbin/nologin
";

const GROUPS: &str = "root:x:0:\npostgres:x:26:\nnonroot:x:65532:\n";

/// One file, link or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Relative to the root.
    pub(super) path: &'static str,
    pub(super) content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Folder,
    File { mode: u32, bytes: Vec<u8> },
    Link(&'static str),
}

/// The mode of folders.
pub(super) const FOLDER_MODE: u32 = 0o755;

/// The image of a program, with the PEM file of the certificate authorities and, where it is known, what the program is
/// made of. Folders come before what is in them.
pub(super) fn entries(program: Vec<u8>, authorities: Vec<u8>, materials: Option<&str>) -> Vec<Entry> {
    let entry = |path, content| Entry { path, content };
    let text = |bytes: Vec<u8>| Content::File { mode: 0o644, bytes };
    let mut entries = vec![
        entry("etc", Content::Folder),
        entry("etc/group", text(GROUPS.into())),
        entry("etc/passwd", text(ACCOUNTS.into())),
        entry("etc/ssl", Content::Folder),
        entry("etc/ssl/certs", Content::Folder),
        // Where the program looks for the system's authorities.
        entry("etc/ssl/certs/ca-certificates.crt", text(authorities)),
        // What the pods of the original start, and probes run.
        entry("manager", Content::Link("pgbr")),
        entry("pgbr", Content::File { mode: 0o755, bytes: program }),
        entry("usr", Content::Folder),
        entry("usr/local", Content::Folder),
        entry("usr/local/bin", Content::Folder),
        entry("usr/local/bin/pgbr", Content::Link("/pgbr")),
    ];
    if let Some(materials) = materials {
        entries.extend([
            entry("usr/share", Content::Folder),
            entry("usr/share/pgbr", Content::Folder),
            entry("usr/share/pgbr/sbom.cdx.json", text(materials.into())),
        ]);
    }
    entries
}

/// Writes the entries into a new folder, for `Containerfile`.
pub(super) fn write(entries: &[Entry], folder: &Path) -> Result<(), Failure> {
    let failed = |path: &Path, error: &std::io::Error| Failure::new(format!("{}: {error}", path.display()));
    fs::create_dir(folder).map_err(|error| failed(folder, &error))?;
    for entry in entries {
        let path = folder.join(entry.path);
        let written = match &entry.content {
            Content::Folder => fs::create_dir(&path).and_then(|()| set_mode(&path, FOLDER_MODE)),
            Content::Link(target) => symlink(target, &path),
            Content::File { mode, bytes } => fs::write(&path, bytes).and_then(|()| set_mode(&path, *mode)),
        };
        written.map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
