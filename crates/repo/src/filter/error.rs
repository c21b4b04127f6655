//! What can go wrong when bytes pass a chain.

use crate::clock::RandomUnavailable;
use crate::format::compress_type::CompressType;

/// The consumer of a chain's output does not want more: the chain stops at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the consumer of the output is gone")]
pub struct SinkClosed;

/// A chain failed. It cannot be used any further; what it already handed on must be thrown away.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FilterError {
    /// The sink refused a piece; its own error says why.
    #[error(transparent)]
    SinkClosed(#[from] SinkClosed),

    /// The chain was used after its end or after an error: a mistake of the caller.
    #[error("the filter chain has already ended")]
    Ended,

    /// The stored bytes do not decrypt.
    #[error("cannot decrypt: {0}")]
    Decrypt(#[from] DecryptError),

    /// The stored bytes do not decompress.
    #[error("cannot decompress {kind} data: {fault}", kind = .kind.name())]
    Decompress {
        /// The compression the bytes were said to have.
        kind: CompressType,
        /// What is wrong with them.
        fault: StreamFault,
    },

    /// The decoded bytes are more than the caller knows the file to have; decoding stopped there (faults.md HI05).
    #[error("decoded data is larger than the expected {size_max_bytes} bytes")]
    PlainTooLarge {
        /// The size that was not to be exceeded.
        size_max_bytes: u64,
    },

    /// The encoder itself failed; memory is the usual reason.
    #[error("cannot compress to {kind}: {reason}", kind = .kind.name())]
    Compress {
        /// The compression that was asked for.
        kind: CompressType,
        /// What the encoder says.
        reason: String,
    },

    /// No salt could be made (faults.md CR06).
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
}

/// What is wrong with a compressed stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamFault {
    /// The bytes end before the stream does.
    #[error("the stream ends too early")]
    Truncated,
    /// The stream ended and bytes follow.
    #[error("bytes follow the end of the stream")]
    TrailingBytes,
    /// The decoder refused the bytes.
    #[error("the stream is corrupt ({0})")]
    Corrupt(String),
    /// The decoder could not get the memory that the stream asks for.
    #[error("no memory for the decoder")]
    Memory,
}

/// What is wrong with an encrypted stream. There is no way to tell a wrong passphrase from damaged or plain bytes, so
/// each text names all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// The bytes do not begin with the magic of an encrypted stream.
    #[error("no cipher header found: is the file encrypted, and the cipher type right?")]
    NoMagic,
    /// There is no room for the header and one cipher block.
    #[error("{size_bytes} bytes are too few for an encrypted stream: is the file encrypted and complete?")]
    TooShort {
        /// The bytes that were there.
        size_bytes: u64,
    },
    /// The cipher text is cut inside a cipher block.
    #[error("the encrypted size {size_bytes} is not a multiple of 16: is the file encrypted and complete?")]
    NotWholeBlocks {
        /// The size of the cipher text without its header.
        size_bytes: u64,
    },
    /// The last cipher block does not decrypt to a padding.
    #[error(
        "bad padding: is the passphrase right and the file encrypted?{hint}",
        hint = if *.passphrase_ends_with_line_break { " (the passphrase ends with a line break, which counts)" } else { "" }
    )]
    BadPadding {
        /// Whether the passphrase ends with CR or LF, the usual accident of secrets that come from files.
        passphrase_ends_with_line_break: bool,
    },
}
