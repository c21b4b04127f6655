//! Bytes in, bytes or a result out: compression, encryption, hashes, page checksums, block incremental rebuild.
//! Synchronous; no I/O and no clock.
//!
//! There are two kinds of filter only. An observer looks at the bytes that pass and yields a result at the end (hash
//! and size, page checksums); a transform turns bytes into other bytes (compress, decompress, encrypt,
//! decrypt). Every filter works through buffers of a fixed size, so the memory of a [`Chain`] does not depend on what
//! flows through it. In which order filters run is said once, in [`order`].

pub mod block_delta;
pub mod block_incr;
mod chain;
mod cipher;
mod codecs;
pub mod compress;
mod error;
mod form;
mod hash;
mod observer;
pub mod order;
mod page_checksum;
mod passphrase;
mod piece;
mod transform;

pub use chain::{Chain, ChainReport, SealChain, Sink};
pub use codecs::{Codecs, Encoding, WholePlace};
pub use compress::{Compression, LevelError};
pub use error::{DecryptError, FilterError, SinkClosed, StreamFault};
pub use form::Form;
pub use hash::{Digest, Hasher};
pub use page_checksum::{PageCheck, PageOutcome, PageReport, SuspectPage};
pub use passphrase::{Passphrase, PassphraseError};
pub use piece::PIECE_BYTES_MAX;
