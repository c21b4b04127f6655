//! How stored files are compressed (repository-format.md §5.2).

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A compression type, named as in the option `compress-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CompressType {
    /// Stored as it is.
    None,
    /// gzip.
    Gz,
    /// bzip2.
    Bz2,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zst,
}

/// A text that names no compression type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a compression type: expected none, gz, bz2, lz4 or zst")]
pub struct CompressTypeError(pub String);

impl CompressType {
    /// All types.
    pub const ALL: [Self; 5] = [Self::None, Self::Gz, Self::Bz2, Self::Lz4, Self::Zst];

    /// What a file name ends with, the dot included; empty for none.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gz => ".gz",
            Self::Bz2 => ".bz2",
            Self::Lz4 => ".lz4",
            Self::Zst => ".zst",
        }
    }

    /// The name in options and manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gz => "gz",
            Self::Bz2 => "bz2",
            Self::Lz4 => "lz4",
            Self::Zst => "zst",
        }
    }

    /// Finds a type by its name.
    ///
    /// # Errors
    /// [`CompressTypeError`] for any other text.
    pub fn parse(name: &str) -> Result<Self, CompressTypeError> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| CompressTypeError(name.to_owned()))
    }

    /// The level when `compress-level` is not set (pgBackRest `src/common/compress/helper.c`).
    #[must_use]
    pub fn level_default(self) -> i32 {
        match self {
            Self::None => 0,
            Self::Gz => 6,
            Self::Bz2 => 9,
            Self::Lz4 => 1,
            Self::Zst => 3,
        }
    }

    /// The levels that `compress-level` may have (pgBackRest `src/common/compress/helper.c`).
    #[must_use]
    pub fn level_range(self) -> RangeInclusive<i32> {
        match self {
            Self::None => 0..=0,
            Self::Gz => -1..=9,
            Self::Bz2 => 1..=9,
            Self::Lz4 => -5..=12,
            Self::Zst => -7..=22,
        }
    }
}

impl fmt::Display for CompressType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CompressType {
    type Err = CompressTypeError;

    fn from_str(name: &str) -> Result<Self, CompressTypeError> {
        Self::parse(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_defaults_are_in_range() {
        for kind in CompressType::ALL {
            assert_eq!(CompressType::parse(kind.name()), Ok(kind));
            assert!(kind.level_range().contains(&kind.level_default()));
        }
        assert!(CompressType::parse("gzip").is_err());
    }
}
