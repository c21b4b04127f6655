//! A stored file decoded and stored anew: in another place, with another compression, under another passphrase.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::open::WritableRepository;
use super::stored_file::{decode_failed, encode_failed};
use crate::clock::Random;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::order::{self, LoadSpec, StoreSpec};
use crate::filter::{ChainReport, Codecs, Compression, Digest, FilterError, Form, Passphrase, SinkClosed};
use crate::format::CompressType;
use crate::progress::Context;
use crate::storage::{ByteRange, Condition, Durability, StoragePath};
use crate::transfer::{self, PieceReader, PieceWriter, StoreTarget};

/// Pieces of plain bytes on their way from one half to the other.
const QUEUE_PIECES: usize = 2;

/// A file as it is stored.
#[derive(Debug, Clone)]
pub struct StoredAs<C> {
    /// Where.
    pub path: StoragePath,
    /// How it is compressed.
    pub compress: C,
    /// What encrypts it.
    pub passphrase: Option<Passphrase>,
}

impl WritableRepository {
    /// Stores the file `from` again as `to`. `plain` is what it must hold.
    ///
    /// # Errors
    /// [`ErrorKind::Checksum`] when it holds something else, what is wrong with it, and the storage's.
    pub async fn recode(
        &self,
        from: StoredAs<CompressType>,
        to: StoredAs<Compression>,
        plain: Digest,
        context: &Context,
    ) -> Result<ChainReport> {
        let (sender, receiver) = sync_channel(QUEUE_PIECES);
        let target = StoreTarget {
            storage: Arc::clone(self.storage()),
            path: to.path.clone(),
            condition: Condition::None,
            durability: Durability::Deferred,
            keep_empty: true,
            size_max_bytes: None,
        };
        let (codecs, random) = (context.codecs.clone(), Arc::clone(&context.random));
        let (storage, path) = (Arc::clone(self.storage()), from.path.clone());
        let reading = transfer::load(storage.as_ref(), &path, ByteRange::ALL, None, &context.budget, {
            let codecs = codecs.clone();
            move |stored| decode(&from, plain, stored, &sender, &codecs)
        });
        let writing =
            transfer::store(target, &context.budget, move |out| encode(&to, &receiver, out, &codecs, random.as_ref()));
        let (read, written) = tokio::join!(reading, writing);
        read?;
        Ok(written?.result)
    }
}

/// Hands the plain bytes over; an empty piece says that they are all there and right.
fn decode(
    from: &StoredAs<CompressType>,
    expected: Digest,
    stored: &mut PieceReader,
    queue: &SyncSender<Vec<u8>>,
    codecs: &Codecs,
) -> Result<()> {
    let name = from.path.as_str();
    let failed = |error: FilterError| decode_failed(name, &error);
    let spec = LoadSpec {
        compress: from.compress,
        cipher: from.passphrase.as_ref(),
        form: Form::Standard,
        plain_size_max_bytes: Some(expected.size_bytes),
    };
    let mut chain = order::load(&spec, codecs).map_err(failed)?;
    let mut sink =
        |piece: &[u8]| if piece.is_empty() { Ok(()) } else { queue.send(piece.to_vec()).map_err(|_| SinkClosed) };
    stored.all(|piece| chain.write(piece, &mut sink).map_err(failed))?;
    let report = chain.finish(&mut sink).map_err(failed)?;
    if report.plain != expected {
        let (found, expected) = (report.plain, expected);
        let message = format!(
            "'{name}' holds {} bytes with checksum {} instead of {} with {}",
            found.size_bytes, found.sha1, expected.size_bytes, expected.sha1
        );
        return Err(Error::new(ErrorKind::Checksum, message));
    }
    drop(queue.send(Vec::new()));
    Ok(())
}

fn encode(
    to: &StoredAs<Compression>,
    queue: &Receiver<Vec<u8>>,
    out: &mut PieceWriter,
    codecs: &Codecs,
    random: &dyn Random,
) -> Result<ChainReport> {
    let name = to.path.as_str();
    let failed = |error: FilterError| encode_failed(name, &error);
    let spec = StoreSpec { compress: to.compress, cipher: to.passphrase.as_ref(), form: Form::Standard, pages: None };
    let mut chain = order::store(&spec, codecs, random).map_err(failed)?;
    let mut sink = |piece: &[u8]| out.write(piece);
    while let Ok(piece) = queue.recv() {
        if piece.is_empty() {
            return chain.finish(&mut sink).map_err(failed);
        }
        chain.write(&piece, &mut sink).map_err(failed)?;
    }
    Err(Error::new(ErrorKind::Term, format!("what was to be stored as '{name}' could not be read")))
}
