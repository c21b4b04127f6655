//! Reading archive.info and backup.info: the main file, or its copy when that cannot be used (repository-format.md §2.4).

use crate::error::{Error, ErrorKind, Result};
use crate::filter::Passphrase;
use crate::format::{ArchiveInfo, BackupInfo, CipherPass, CompressType, FormatError, path};
use crate::progress::Context;
use crate::storage::{ObjectVersion, StorageExt, StoragePath};

use super::archive::Archive;
use super::open::Repository;
use super::stored_file::decode_all;

/// The largest info file that is read: some 100,000 backups.
pub const INFO_BYTES_MAX: usize = 128 * 1024 * 1024;

impl Repository {
    /// Reads archive.info, or its copy when the main file cannot be used.
    ///
    /// # Errors
    /// What is wrong with both: missing 55, checksum 26, format 29, cipher 95, or the storage's error.
    pub async fn archive_info(&self, context: &Context) -> Result<ArchiveInfo> {
        let main = path::archive_info(self.stanza());
        self.load_info(&main, "archive.info", ArchiveInfo::parse, context).await.map_err(|error| {
            error
                .hint("archive.info cannot be opened but is required to push/get WAL segments.")
                .hint("is archive_command configured correctly in postgresql.conf?")
                .hint("has a stanza-create been performed?")
        })
    }

    /// Reads backup.info, or its copy when the main file cannot be used.
    ///
    /// # Errors
    /// As for [`Repository::archive_info`].
    pub async fn backup_info(&self, context: &Context) -> Result<BackupInfo> {
        let main = path::backup_info(self.stanza());
        self.load_info(&main, "backup.info", BackupInfo::parse, context).await.map_err(|error| {
            error
                .hint("backup.info cannot be opened and is required to perform a backup.")
                .hint("has a stanza-create been performed?")
        })
    }

    /// Reads one file of archive.info and its copy: `file` says which.
    ///
    /// # Errors
    /// As for [`Repository::archive_info`], of this file alone.
    pub async fn archive_info_file(&self, file: &StoragePath, context: &Context) -> Result<ArchiveInfo> {
        self.load_one(file, &ArchiveInfo::parse, context).await.content
    }

    /// Reads one file of backup.info and its copy: `file` says which.
    ///
    /// # Errors
    /// As for [`Repository::archive_info`], of this file alone.
    pub async fn backup_info_file(&self, file: &StoragePath, context: &Context) -> Result<BackupInfo> {
        self.load_one(file, &BackupInfo::parse, context).await.content
    }

    /// The archive of the current generation, with its passphrase.
    ///
    /// # Errors
    /// [`ErrorKind::Crypto`] for a passphrase that cannot be one.
    pub fn archive(&self, info: &ArchiveInfo, id: crate::format::ArchiveId) -> Result<Archive> {
        Ok(Archive::new(self.clone(), id, self.dependent_passphrase("archive.info", info.archive_pass())?))
    }

    /// The passphrase of the files that depend on an info file: there in an encrypted repository, and only there
    /// (faults.md CR05).
    ///
    /// # Errors
    /// [`ErrorKind::Crypto`] otherwise.
    pub fn dependent_passphrase(&self, name: &str, pass: Option<&CipherPass>) -> Result<Option<Passphrase>> {
        match (self.is_encrypted(), pass) {
            (false, None) => Ok(None),
            (true, Some(pass)) => Passphrase::new(pass.expose()).map(Some).map_err(|error| {
                Error::new(
                    ErrorKind::Crypto,
                    format!("the passphrase in {name} of {} is not one: {error}", self.index()),
                )
            }),
            (true, None) => Err(Error::new(
                ErrorKind::Crypto,
                format!("{name} of {} has no passphrase although the repository is encrypted", self.index()),
            )),
            (false, Some(_)) => Err(Error::new(
                ErrorKind::Crypto,
                format!("{name} of {} has a passphrase although the repository is not encrypted", self.index()),
            )),
        }
    }

    async fn load_info<T>(
        &self,
        main: &StoragePath,
        name: &str,
        parse: impl Fn(&[u8]) -> Result<T, FormatError>,
        context: &Context,
    ) -> Result<T> {
        let found = self.load_one(main, &parse, context).await;
        self.or_copy(main, name, found.content, &parse, context).await
    }

    /// The copy where the main file cannot be used.
    pub(super) async fn or_copy<T>(
        &self,
        main: &StoragePath,
        name: &str,
        found: Result<T>,
        parse: impl Fn(&[u8]) -> Result<T, FormatError>,
        context: &Context,
    ) -> Result<T> {
        let first = match found {
            Ok(info) => return Ok(info),
            Err(error) => error,
        };
        match self.load_one(&path::copy_of(main), &parse, context).await.content {
            Ok(info) => {
                context.warn(format!("{}: {name} cannot be used, its copy is: {}", self.index(), first.listed()));
                Ok(info)
            }
            Err(second) => Err(both_failed(main, &first, &second)),
        }
    }

    /// One file of a pair, and which version of it that was.
    pub(super) async fn load_one<T>(
        &self,
        file: &StoragePath,
        parse: impl Fn(&[u8]) -> Result<T, FormatError>,
        context: &Context,
    ) -> Found<T> {
        let (stored, info) = match self.storage().read_all_versioned(file, INFO_BYTES_MAX).await {
            Ok(read) => read,
            Err(error) => return Found { content: Err(error.into()), version: None },
        };
        let limit = INFO_BYTES_MAX as u64;
        let plain = decode_all(file.as_str(), &stored, CompressType::None, self.passphrase(), limit, &context.codecs);
        let parsed = |plain: Vec<u8>| parse(&plain).map_err(|error| self.format_failed(file, &error));
        Found { content: plain.and_then(parsed), version: info.version }
    }

    /// The error for a file that is not in its format; a wrong passphrase decrypts to such a file now and then.
    pub(crate) fn format_failed(&self, file: &StoragePath, error: &FormatError) -> Error {
        let kind = if error.is_checksum() { ErrorKind::Checksum } else { ErrorKind::Format };
        let failed = Error::new(kind, format!("unable to load '{file}': {error}"));
        if self.is_encrypted() { failed.hint("is the passphrase right, and was the file encrypted?") } else { failed }
    }
}

/// One file of a pair as it was found.
pub(super) struct Found<T> {
    /// What is in it, or why that is not known.
    pub(super) content: Result<T>,
    /// The version that was read; `None` where there is no file, or the store has no versions.
    pub(super) version: Option<ObjectVersion>,
}

/// One error out of two: a file that is there and damaged tells more than one that is missing.
fn both_failed(main: &StoragePath, first: &Error, second: &Error) -> Error {
    let missing = |error: &Error| error.kind() == ErrorKind::FileMissing;
    let kind = match (first.kind(), second.kind()) {
        (kind, _) if !missing(first) && missing(second) => kind,
        (_, kind) if missing(first) => kind,
        (first, second) if first == second => first,
        _ => ErrorKind::FileOpen,
    };
    Error::new(
        kind,
        format!("unable to load info file '{main}' or '{main}.copy':\n{}\n{}", first.listed(), second.listed()),
    )
}
