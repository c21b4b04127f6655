//! The names of the files that PostgreSQL hands to its archiver.

use std::fmt;
use std::str::FromStr;

use super::hex_field::parse_hex_field;
use super::timeline::Timeline;
use super::wal_segment::WalSegmentName;

const PARTIAL: &str = ".partial";
const BACKUP: &str = ".backup";
const HISTORY: &str = ".history";

/// The name of a file in the WAL directory that may be archived: nothing else has a place in an archive.
///
/// The order is that of the variants, not of the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalFileName {
    /// `000000010000000000000001`: a whole segment.
    Segment(WalSegmentName),
    /// `000000010000000000000001.partial`: the beginning of a segment that a promotion left on the old timeline.
    Partial(WalSegmentName),
    /// `000000010000000000000001.00000028.backup`: when and where a base backup began and ended.
    BackupHistory {
        /// The segment that the backup starts in.
        segment: WalSegmentName,
        /// Where in the segment it starts, in bytes.
        offset: u32,
    },
    /// `00000002.history`: the ancestors of a timeline.
    History(Timeline),
}

/// A name that PostgreSQL gives to no file for the archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid wal file name '{text}': expected a wal segment, .partial, .backup or .history file")]
pub struct WalFileNameError {
    /// What was read.
    pub text: String,
}

impl WalFileName {
    /// Reads a base name; a name with a directory is refused.
    ///
    /// # Errors
    /// [`WalFileNameError`] for any other form, lower-case digits included.
    pub fn parse(text: &str) -> Result<Self, WalFileNameError> {
        Self::from_text(text).ok_or_else(|| WalFileNameError { text: text.to_owned() })
    }

    fn from_text(text: &str) -> Option<Self> {
        if let Some(segment) = text.strip_suffix(PARTIAL) {
            WalSegmentName::parse(segment).ok().map(Self::Partial)
        } else if let Some(name) = text.strip_suffix(BACKUP) {
            let (segment, offset) = name.split_once('.')?;
            Some(Self::BackupHistory {
                segment: WalSegmentName::parse(segment).ok()?,
                offset: parse_hex_field(offset.as_bytes())?,
            })
        } else if let Some(timeline) = text.strip_suffix(HISTORY) {
            Timeline::from_hex(timeline).ok().map(Self::History)
        } else {
            WalSegmentName::parse(text).ok().map(Self::Segment)
        }
    }

    /// The segment that the name is about; `None` for a history file.
    #[must_use]
    pub fn segment(self) -> Option<WalSegmentName> {
        match self {
            Self::Segment(segment) | Self::Partial(segment) | Self::BackupHistory { segment, .. } => Some(segment),
            Self::History(_) => None,
        }
    }

    /// The timeline that the name is about.
    #[must_use]
    pub fn timeline(self) -> Timeline {
        match self {
            Self::Segment(segment) | Self::Partial(segment) | Self::BackupHistory { segment, .. } => segment.timeline(),
            Self::History(timeline) => timeline,
        }
    }

    /// Whether the file holds WAL and so begins with a [`WalHeader`](super::wal_header::WalHeader).
    #[must_use]
    pub fn holds_wal(self) -> bool {
        matches!(self, Self::Segment(_) | Self::Partial(_))
    }
}

impl fmt::Display for WalFileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(segment) => segment.fmt(formatter),
            Self::Partial(segment) => write!(formatter, "{segment}{PARTIAL}"),
            Self::BackupHistory { segment, offset } => write!(formatter, "{segment}.{offset:08X}{BACKUP}"),
            Self::History(timeline) => formatter.write_str(&timeline.history_file_name()),
        }
    }
}

impl FromStr for WalFileName {
    type Err = WalFileNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tells_the_kinds_apart() {
        let segment = WalSegmentName::parse("000000020000000000000005").unwrap();
        let parse = |text| WalFileName::parse(text).unwrap();
        assert_eq!(parse("000000020000000000000005"), WalFileName::Segment(segment));
        assert_eq!(parse("000000020000000000000005.partial"), WalFileName::Partial(segment));
        assert_eq!(
            parse("000000020000000000000005.000000D8.backup"),
            WalFileName::BackupHistory { segment, offset: 0xD8 }
        );
        assert_eq!(parse("00000002.history"), WalFileName::History(segment.timeline()));
    }

    #[test]
    fn pu17_odd_file_names_are_refused() {
        for text in [
            "",
            ".",
            "..",
            ".history",
            "../000000010000000000000001",
            "/000000010000000000000001",
            "pg_wal/000000010000000000000001",
            "000000010000000000000001\n",
            "000000010000000000000001\0",
            "00000001000000000000000a",
            "0000000100000000000000011",
            "000000010000000000000001.partial.partial",
            "000000010000000000000001.PARTIAL",
            "000000010000000000000001.backup",
            "000000010000000000000001.0000002.backup",
            "000000010000000000000001.0000002g.backup",
            "000000010000000000000001.00000028.00000028.backup",
            "00000000.history",
            "0000002.history",
            "0000000a.history",
            "00000002.history.tmp",
            "000000010000000000000001.ready",
            "000000010000000000000001-da39a3ee5e6b4b0d3255bfef95601890afd80709.gz",
        ] {
            assert_eq!(WalFileName::parse(text), Err(WalFileNameError { text: text.to_owned() }));
        }
    }

    fn any_name() -> impl Strategy<Value = WalFileName> {
        (0..4, 1_u32.., any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(kind, timeline, log, segment, offset)| {
            let timeline = Timeline::new(timeline).unwrap();
            let segment = WalSegmentName::new(timeline, log, segment);
            match kind {
                0 => WalFileName::Segment(segment),
                1 => WalFileName::Partial(segment),
                2 => WalFileName::BackupHistory { segment, offset },
                _ => WalFileName::History(timeline),
            }
        })
    }

    proptest! {
        #[test]
        fn text_round_trip(name in any_name()) {
            prop_assert_eq!(WalFileName::parse(&name.to_string()), Ok(name));
        }

        #[test]
        fn any_accepted_text_is_the_canonical_one(
            text in "[0-9A-F]{8,24}(\\.[0-9A-Fa-f]{8})?(\\.(partial|backup|history))?",
        ) {
            if let Ok(name) = WalFileName::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn any_text_is_answered(text: String) {
            let _answer = WalFileName::parse(&text);
        }

        #[test]
        fn a_truncated_name_is_not_the_same_name(name in any_name()) {
            let text = name.to_string();
            for end in 0..text.len() {
                prop_assert_ne!(WalFileName::parse(&text[..end]), Ok(name));
            }
        }
    }
}
