//! [`ArchiveId`]: the directory of a cluster generation's WAL, such as `17-1`.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use super::text::shown;
use crate::postgres::PgVersion;

/// The number of a cluster generation in the info files, from 1; it grows at a stanza upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HistoryId(NonZeroU32);

impl HistoryId {
    /// The id that a new stanza begins with.
    pub const FIRST: HistoryId = HistoryId(NonZeroU32::MIN);

    /// The id with this number; `None` for zero, which means "not known yet" in an unfinished manifest.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number.
    pub fn number(self) -> u32 {
        self.0.get()
    }

    /// The id after this one; `None` after the last.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    /// Reads decimal digits without a leading zero, so that an id has one text.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        if text.starts_with(['0', '+']) {
            return None;
        }
        text.parse().ok().map(Self)
    }
}

impl fmt::Display for HistoryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A cluster generation: `<PostgreSQL version>-<history id>`. Ordered by history id, oldest first, as the original
/// orders them (`archiveIdComparator`), then by version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ArchiveId {
    /// PostgreSQL version of the generation.
    pub version: PgVersion,
    /// Its number in the info files.
    pub history_id: HistoryId,
}

/// A text is no archive id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an archive id: expected a PostgreSQL version, '-' and a number from 1")]
pub struct ArchiveIdError(Box<str>);

impl ArchiveId {
    /// Reads an archive id.
    ///
    /// # Errors
    /// [`ArchiveIdError`] for every other text.
    pub fn parse(text: &str) -> Result<Self, ArchiveIdError> {
        let parts = text.rsplit_once('-').and_then(|(version, id)| {
            Some(Self { version: PgVersion::parse(version).ok()?, history_id: HistoryId::parse(id.as_bytes())? })
        });
        parts.ok_or_else(|| ArchiveIdError(shown(text.as_bytes())))
    }
}

impl Ord for ArchiveId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.history_id, self.version).cmp(&(other.history_id, other.version))
    }
}

impl PartialOrd for ArchiveId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for ArchiveId {
    type Err = ArchiveIdError;

    fn from_str(text: &str) -> Result<Self, ArchiveIdError> {
        Self::parse(text)
    }
}

impl fmt::Display for ArchiveId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.version, self.history_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_orders_archive_ids() {
        let id = |text: &str| ArchiveId::parse(text).unwrap();
        for text in ["15-1", "9.6-3", "18-4294967295"] {
            assert_eq!(id(text).to_string(), text);
        }
        assert!(id("9.6-2") < id("15-10") && id("18-2") < id("15-10"));
    }

    #[test]
    fn hi04_sec09_other_texts_are_refused() {
        for bad in [
            "",
            "15",
            "15-",
            "-1",
            "15-0",
            "15-01",
            "15-+1",
            "15-1/..",
            "../15-1",
            "15-4294967296",
            "a-1",
            "15-1 ",
            "15-1\n",
        ] {
            assert!(ArchiveId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
