//! [`StoredLsn`]: an LSN with the text in which it was stored.

use std::fmt;

use crate::postgres::Lsn;

/// An LSN as an info file holds it. PostgreSQL 19 pads the lower half with zeros and earlier versions do not, so the
/// text is kept for writing it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLsn {
    lsn: Lsn,
    text: Box<str>,
}

impl StoredLsn {
    /// Reads a text; `None` when it is no LSN.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        Some(Self { lsn: text.parse().ok()?, text: text.into() })
    }

    /// The position.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The text as stored.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl From<Lsn> for StoredLsn {
    fn from(lsn: Lsn) -> Self {
        Self { lsn, text: lsn.to_string().into() }
    }
}

impl fmt::Display for StoredLsn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.text)
    }
}
