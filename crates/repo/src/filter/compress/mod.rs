//! Compression: the types a repository may have, each with its encoder and decoder.
//!
//! Encoded bytes may differ from the original's, which links other libraries; what they decode to may not. One stream
//! holds one frame, as the original writes it; decoders also take gzip and bzip2 streams of several members, which the
//! standard tools produce. Bytes behind the end are an error.

mod bz2;
pub(super) mod gz;
pub(super) mod lz4;
mod lz4_decode;
mod lz4_high;
mod stream;
mod zst;

use super::codecs::Codecs;
use super::error::FilterError;
use super::form::Form;
use super::transform::Transform;
use crate::format::compress_type::CompressType;

/// A compression type with a level that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    kind: CompressType,
    level: i32,
}

/// A level that a compression type does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{level} is not a {kind} compression level: expected {min} to {max}", kind = .kind.name(), min = .kind.level_range().start(), max = .kind.level_range().end())]
pub struct LevelError {
    /// The type.
    pub kind: CompressType,
    /// What was asked for.
    pub level: i32,
}

impl Compression {
    /// No compression.
    pub const NONE: Self = Self { kind: CompressType::None, level: 0 };

    /// The type with this level. Without compression the level does not matter.
    ///
    /// High zst levels need memory: for each chain 3.5 MiB at level 3, 90 MiB at 19, 834 MiB at 22.
    ///
    /// # Errors
    /// [`LevelError`] when the type does not have the level.
    pub fn new(kind: CompressType, level: i32) -> Result<Self, LevelError> {
        match kind {
            CompressType::None => Ok(Self::NONE),
            _ if kind.level_range().contains(&level) => Ok(Self { kind, level }),
            _ => Err(LevelError { kind, level }),
        }
    }

    /// The type with the level that it has by default.
    #[must_use]
    pub fn with_default_level(kind: CompressType) -> Self {
        Self { kind, level: kind.level_default() }
    }

    /// The type.
    #[must_use]
    pub fn kind(self) -> CompressType {
        self.kind
    }

    /// The level.
    #[must_use]
    pub fn level(self) -> i32 {
        self.level
    }
}

/// The encoder; none for no compression.
pub(super) fn encoder(
    compression: Compression,
    form: Form,
    codecs: &Codecs,
) -> Result<Option<Box<dyn Transform>>, FilterError> {
    let level = compression.level;
    Ok(Some(match compression.kind {
        CompressType::None => return Ok(None),
        CompressType::Gz => gz::encoder(level, form, codecs),
        CompressType::Bz2 => bz2::encoder(level, codecs),
        CompressType::Lz4 => lz4::encoder(level, form, codecs)?,
        CompressType::Zst => zst::encoder(level, codecs)?,
    }))
}

/// The decoder; none for no compression.
pub(super) fn decoder(
    kind: CompressType,
    form: Form,
    codecs: &Codecs,
) -> Result<Option<Box<dyn Transform>>, FilterError> {
    Ok(Some(match kind {
        CompressType::None => return Ok(None),
        CompressType::Gz => gz::decoder(form, codecs),
        CompressType::Bz2 => bz2::decoder(form, codecs),
        CompressType::Lz4 => Box::new(lz4_decode::Lz4Decoder::new()),
        CompressType::Zst => zst::decoder(codecs)?,
    }))
}
