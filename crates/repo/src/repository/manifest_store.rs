//! The manifest of a backup: main file, copy and history (repository-format.md §2.4, §4.9).
//!
//! Manifests may be hundreds of megabytes, so they are parsed and written while they stream.

use std::sync::Arc;

use super::open::{Repository, WritableRepository};
use super::stored_file::{decode_failed, encode_failed};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::order::{self, LoadSpec, StoreSpec};
use crate::filter::{Compression, Digest, FilterError, Form, Passphrase, SinkClosed};
use crate::format::manifest::{Manifest, ManifestReader};
use crate::format::{BackupInfo, BackupLabel, CompressType, FormatError, path};
use crate::progress::Context;
use crate::storage::{ByteRange, Condition, Durability, ObjectInfo, StoragePath};
use crate::transfer::{self, StoreTarget};

/// The largest manifest that is read: some ten million files.
const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// The level at which the original keeps manifests in the history.
const HISTORY_LEVEL: i32 = 9;

/// Which file of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestFile {
    /// `backup.manifest`: the backup is complete.
    Main,
    /// `backup.manifest.copy`: there from the start of the backup on.
    Copy,
}

impl Repository {
    /// The passphrase of the manifests, which backup.info holds.
    ///
    /// # Errors
    /// [`ErrorKind::Crypto`] when it is there in a repository without encryption, or the reverse.
    pub fn manifest_passphrase(&self, info: &BackupInfo) -> Result<Option<Passphrase>> {
        self.dependent_passphrase("backup.info", info.manifest_pass())
    }

    /// The passphrase of a backup's files, which its manifest holds.
    ///
    /// # Errors
    /// As for [`Repository::manifest_passphrase`].
    pub fn backup_passphrase(&self, manifest: &Manifest) -> Result<Option<Passphrase>> {
        self.dependent_passphrase("backup.manifest", manifest.backup_pass())
    }

    /// Reads the manifest of a backup, or its copy when the main file cannot be used.
    ///
    /// # Errors
    /// What is wrong with both, as for info files.
    pub async fn manifest(
        &self,
        label: &BackupLabel,
        passphrase: Option<&Passphrase>,
        context: &Context,
    ) -> Result<Manifest> {
        let first = match self.manifest_file(label, ManifestFile::Main, passphrase, context).await {
            Ok(manifest) => return Ok(manifest),
            Err(error) => error,
        };
        match self.manifest_file(label, ManifestFile::Copy, passphrase, context).await {
            Ok(manifest) => {
                context.warn(format!(
                    "{}: the manifest of {label} cannot be used, its copy is: {}",
                    self.index(),
                    first.listed()
                ));
                Ok(manifest)
            }
            Err(second) => {
                let kind = if first.kind() == ErrorKind::FileMissing { second.kind() } else { first.kind() };
                let main = path::manifest(self.stanza(), label);
                Err(Error::new(
                    kind,
                    format!("unable to load '{main}' or '{main}.copy':\n{}\n{}", first.listed(), second.listed()),
                ))
            }
        }
    }

    /// Reads one file of a manifest.
    ///
    /// # Errors
    /// Missing 55, checksum 26, format 29, cipher 95, or the storage's error.
    pub async fn manifest_file(
        &self,
        label: &BackupLabel,
        file: ManifestFile,
        passphrase: Option<&Passphrase>,
        context: &Context,
    ) -> Result<Manifest> {
        Ok(self.manifest_file_with_digest(label, file, passphrase, context).await?.0)
    }

    /// As [`Repository::manifest_file`], with the digest of its plain bytes: equal for a manifest and its copy.
    ///
    /// # Errors
    /// As for [`Repository::manifest_file`].
    pub async fn manifest_file_with_digest(
        &self,
        label: &BackupLabel,
        file: ManifestFile,
        passphrase: Option<&Passphrase>,
        context: &Context,
    ) -> Result<(Manifest, Digest)> {
        let path = manifest_path(self, label, file);
        let (name, passphrase, codecs) = (path.to_string(), passphrase.cloned(), context.codecs.clone());
        let parsed =
            transfer::load(self.storage().as_ref(), &path, ByteRange::ALL, None, &context.budget, move |stored| {
                let spec = LoadSpec {
                    compress: CompressType::None,
                    cipher: passphrase.as_ref(),
                    form: Form::Standard,
                    plain_size_max_bytes: Some(MANIFEST_BYTES_MAX),
                };
                let mut chain = order::load(&spec, &codecs).map_err(|error| decode_failed(&name, &error))?;
                let mut reader = ManifestReader::new();
                let mut refused: Option<FormatError> = None;
                let mut sink = |bytes: &[u8]| {
                    reader.feed(bytes).map_err(|error| {
                        refused = Some(error);
                        SinkClosed
                    })
                };
                let decoded = stored
                    .all(|piece| chain.write(piece, &mut sink).map_err(|error| decode_failed(&name, &error)))
                    .and_then(|()| chain.finish(&mut sink).map_err(|error| decode_failed(&name, &error)));
                Ok(match (refused, decoded) {
                    (Some(error), _) => Err(error),
                    (None, Err(error)) => return Err(error),
                    (None, Ok(report)) => reader.finish().map(|manifest| (manifest, report.plain)),
                })
            });
        parsed.await?.map_err(|error| self.format_failed(&path, &error))
    }
}

impl WritableRepository {
    /// Writes the copy of a manifest, which is there alone while the backup runs.
    ///
    /// # Errors
    /// The storage's.
    pub async fn save_manifest_copy(
        &self,
        manifest: &Arc<Manifest>,
        passphrase: Option<&Passphrase>,
        context: &Context,
    ) -> Result<ObjectInfo> {
        let path = path::manifest_copy(self.stanza(), &manifest.label());
        self.store_manifest(manifest, path, Compression::NONE, passphrase, context).await
    }

    /// Makes the backup complete: the main file, byte for byte as the copy.
    ///
    /// # Errors
    /// The storage's.
    pub async fn save_manifest_main(&self, label: &BackupLabel, context: &Context) -> Result<()> {
        let (from, to) = (path::manifest_copy(self.stanza(), label), path::manifest(self.stanza(), label));
        let storage = Arc::clone(self.storage());
        let budget = context.budget.clone();
        let target = self.target(to);
        // Two transfers with the bytes handed from one job to the other through a short queue.
        let (sender, receiver) = std::sync::mpsc::sync_channel::<bytes::Bytes>(2);
        let reading = transfer::load(storage.as_ref(), &from, ByteRange::ALL, None, &budget, move |stored| {
            while let Some(piece) = stored.next(usize::MAX)? {
                if sender.send(piece).is_err() {
                    return Ok(());
                }
            }
            // An empty piece says that the copy was read to its end; a closed queue without it is a failure.
            drop(sender.send(bytes::Bytes::new()));
            Ok(())
        });
        let writing = transfer::store(target, &budget, move |out| {
            while let Ok(piece) = receiver.recv() {
                if piece.is_empty() {
                    return Ok(());
                }
                out.write(&piece).map_err(|closed| encode_failed("backup.manifest", &closed.into()))?;
            }
            Err(Error::new(ErrorKind::Term, "the copy of the manifest could not be read"))
        });
        let (read, written) = tokio::join!(reading, writing);
        read?;
        written.map(drop)
    }

    /// Keeps the manifest in the history, which outlives the backup.
    ///
    /// # Errors
    /// The storage's.
    pub async fn save_manifest_history(
        &self,
        manifest: &Arc<Manifest>,
        passphrase: Option<&Passphrase>,
        context: &Context,
    ) -> Result<()> {
        let path = path::history_manifest(self.stanza(), &manifest.label());
        let compress = Compression::new(CompressType::Gz, HISTORY_LEVEL)
            .map_err(|error| Error::new(ErrorKind::Assert, error.to_string()))?;
        self.store_manifest(manifest, path, compress, passphrase, context).await.map(drop)
    }

    async fn store_manifest(
        &self,
        manifest: &Arc<Manifest>,
        path: StoragePath,
        compress: Compression,
        passphrase: Option<&Passphrase>,
        context: &Context,
    ) -> Result<ObjectInfo> {
        let (name, manifest, passphrase) = (path.to_string(), Arc::clone(manifest), passphrase.cloned());
        let (codecs, random) = (context.codecs.clone(), Arc::clone(&context.random));
        let stored = transfer::store(self.target(path), &context.budget, move |out| {
            let spec = StoreSpec { compress, cipher: passphrase.as_ref(), form: Form::Standard, pages: None };
            let failed = |error: FilterError| encode_failed(&name, &error);
            let mut chain = order::store(&spec, &codecs, random.as_ref()).map_err(failed)?;
            manifest.write(&mut |bytes| chain.write(bytes, &mut |stored| out.write(stored))).map_err(failed)?;
            chain.finish(&mut |stored| out.write(stored)).map_err(failed)?;
            Ok(())
        });
        stored.await?.object.ok_or_else(|| Error::new(ErrorKind::Assert, "a manifest was not stored"))
    }

    fn target(&self, path: StoragePath) -> StoreTarget {
        StoreTarget {
            storage: Arc::clone(self.storage()),
            path,
            condition: Condition::None,
            durability: Durability::Now,
            keep_empty: true,
            size_max_bytes: None,
        }
    }
}

fn manifest_path(repository: &Repository, label: &BackupLabel, file: ManifestFile) -> StoragePath {
    match file {
        ManifestFile::Main => path::manifest(repository.stanza(), label),
        ManifestFile::Copy => path::manifest_copy(repository.stanza(), label),
    }
}
