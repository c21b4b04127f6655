//! `repo-get`: the bytes of one object, decrypted, as a stream.

use std::io::{self, Write};
use std::sync::Arc;

use super::path::follow_latest;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::order::{self, LoadSpec};
use crate::filter::{Codecs, FilterError, Form, Passphrase, SinkClosed};
use crate::format::path::{PassphraseScope, passphrase_scope};
use crate::format::{BackupLabel, CompressType, Stanza};
use crate::progress::Context;
use crate::repository::{RepoIndex, Repository};
use crate::storage::{ByteRange, Storage, StoragePath};
use crate::transfer::{self, PieceReader};

/// The repository to read from.
#[derive(Debug, Clone)]
pub struct GetSource {
    /// Its number.
    pub index: RepoIndex,
    /// Where its objects live.
    pub storage: Arc<dyn Storage>,
    /// The user's passphrase, in an encrypted repository.
    pub passphrase: Option<Passphrase>,
    /// The only stanza of which objects may be read, if the user named one.
    pub stanza: Option<Stanza>,
}

/// What to do with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoding {
    /// Decrypt them in an encrypted repository. They stay compressed.
    Decrypt,
    /// Leave them as they are stored.
    Raw,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    /// All bytes were written.
    Delivered,
    /// Whoever reads the output wants no more of it.
    ReaderLeft,
    /// The object does not exist: a fact.
    Missing,
}

/// Writes the object at `path` to `out`.
///
/// # Errors
/// - [`ErrorKind::OptionInvalidValue`] when the path does not tell the passphrase, or is not of the stanza that the user
///   named,
/// - those of the info files and the manifest that hold the passphrase,
/// - the storage's, [`ErrorKind::Crypto`] for bytes that do not decrypt, [`ErrorKind::FileWrite`] for the output; some
///   bytes may have been written then.
pub async fn get<W>(source: &GetSource, path: StoragePath, decoding: Decoding, out: W, context: &Context) -> Result<Got>
where
    W: Write + Send + 'static,
{
    let path = follow_latest(source.storage.as_ref(), path).await?;
    let passphrase = match decoding {
        Decoding::Raw => None,
        Decoding::Decrypt => passphrase(source, &path, context).await?,
    };
    let (name, codecs) = (path.to_string(), context.codecs.clone());
    let storage = source.storage.as_ref();
    let copied = transfer::load(storage, &path, ByteRange::ALL, None, &context.budget, move |stored| {
        copy(stored, &name, passphrase.as_ref(), &codecs, out)
    });
    match copied.await {
        Err(error) if error.kind() == ErrorKind::FileMissing => Ok(Got::Missing),
        outcome => outcome,
    }
}

/// The passphrase that the place of an object tells.
async fn passphrase(source: &GetSource, path: &StoragePath, context: &Context) -> Result<Option<Passphrase>> {
    let Some(own) = &source.passphrase else { return Ok(None) };
    let unknown = || {
        let why = format!("unable to determine cipher passphrase for '{path}'");
        Error::new(ErrorKind::OptionInvalidValue, why)
    };
    let (stanza, scope) = passphrase_scope(path).ok_or_else(unknown)?;
    if let Some(named) = source.stanza.as_ref().filter(|named| **named != stanza) {
        let why = format!("stanza name '{named}' given in option doesn't match the given path");
        return Err(Error::new(ErrorKind::OptionInvalidValue, why));
    }
    let repository = Repository::new(source.index, stanza, Arc::clone(&source.storage), Some(own.clone()));
    match scope {
        PassphraseScope::Main => Ok(Some(own.clone())),
        PassphraseScope::Archive => {
            let info = repository.archive_info(context).await?;
            repository.dependent_passphrase("archive.info", info.archive_pass())
        }
        PassphraseScope::Manifest => repository.manifest_passphrase(&repository.backup_info(context).await?),
        PassphraseScope::Backup(directory) => {
            let label = BackupLabel::parse(&directory).map_err(|_| unknown())?;
            let manifest_passphrase = repository.manifest_passphrase(&repository.backup_info(context).await?)?;
            let manifest = repository.manifest(&label, manifest_passphrase.as_ref(), context).await?;
            repository.backup_passphrase(&manifest)
        }
    }
}

fn copy(
    stored: &mut PieceReader,
    name: &str,
    passphrase: Option<&Passphrase>,
    codecs: &Codecs,
    mut out: impl Write,
) -> Result<Got> {
    let failed = |error: FilterError| match error {
        FilterError::SinkClosed(_) => Error::new(ErrorKind::FileWrite, "the output takes no more"),
        error => Error::new(ErrorKind::Crypto, format!("unable to decrypt '{name}': {error}"))
            .hint("is the passphrase right, and was the file encrypted?"),
    };
    let spec =
        LoadSpec { compress: CompressType::None, cipher: passphrase, form: Form::Standard, plain_size_max_bytes: None };
    let mut chain = order::load(&spec, codecs).map_err(failed)?;
    let mut refused: Option<io::Error> = None;
    let mut sink = |bytes: &[u8]| {
        out.write_all(bytes).map_err(|error| {
            refused = Some(error);
            SinkClosed
        })
    };
    let copied = stored
        .all(|piece| chain.write(piece, &mut sink).map_err(failed))
        .and_then(|()| chain.finish(&mut sink).map(drop).map_err(failed));
    match refused.map_or_else(|| out.flush().err(), Some) {
        None => copied.map(|()| Got::Delivered),
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Got::ReaderLeft),
        Some(error) => {
            Err(Error::new(ErrorKind::FileWrite, format!("unable to write '{name}' to the output: {error}")))
        }
    }
}
