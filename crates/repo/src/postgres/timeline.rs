//! Timelines, their history files, and the question whether a backup lies on the path to a timeline.

use std::fmt;
use std::num::NonZeroU32;

use super::hex_field::parse_hex_field;
use super::lsn::Lsn;

/// The number of a timeline; never zero. A promotion begins a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeline(NonZeroU32);

/// A text or number that is no timeline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid timeline '{text}': expected {expected}")]
pub struct TimelineError {
    /// What was read.
    pub text: String,
    /// What a correct text looks like.
    pub expected: &'static str,
}

impl Timeline {
    /// The timeline of a cluster after `initdb`.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// A timeline from a number of a file or the server; `None` for zero, which PostgreSQL uses for "none".
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// Reads the eight upper-case hexadecimal digits of a file name.
    ///
    /// # Errors
    /// Any other text, and zero.
    pub fn from_hex(text: &str) -> Result<Self, TimelineError> {
        parse_hex_field(text.as_bytes()).and_then(Self::new).ok_or_else(|| TimelineError {
            text: text.to_owned(),
            expected: "8 upper-case hexadecimal digits, not all zero",
        })
    }

    /// Reads the number that a person gives as the target of a recovery: decimal, or hexadecimal after `0x`.
    ///
    /// # Errors
    /// Any other text, and zero.
    pub fn from_option(text: &str) -> Result<Self, TimelineError> {
        let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
        let digits_only = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
        u32::from_str_radix(digits, radix).ok().filter(|_| digits_only).and_then(Self::new).ok_or_else(|| {
            TimelineError {
                text: text.to_owned(),
                expected: "a decimal number, or a hexadecimal number after 0x, from 1 to 4294967295",
            }
        })
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0.get()
    }

    /// The eight upper-case hexadecimal digits of a file name.
    #[must_use]
    pub fn to_hex(self) -> String {
        format!("{:08X}", self.0)
    }

    /// The name of this timeline's history file, such as `00000002.history`. The first timeline has none.
    #[must_use]
    pub fn history_file_name(self) -> String {
        format!("{:08X}.history", self.0)
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Debug for Timeline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Timeline({})", self.0)
    }
}

/// One line of a history file: a timeline on the way, and where it was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineSwitch {
    /// The timeline that was left.
    pub timeline: Timeline,
    /// The first position that belongs to the next timeline.
    pub switch_lsn: Lsn,
    /// Why, in the server's words; bytes that are no UTF-8 are replaced.
    pub reason: String,
}

/// The content of a history file: the ancestors of one timeline, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineHistory {
    timeline: Timeline,
    switches: Vec<TimelineSwitch>,
}

/// A history file that PostgreSQL would not have written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimelineHistoryError {
    /// The file is larger than [`TimelineHistory::SIZE_MAX_BYTES`].
    #[error("history file has {size_bytes} bytes: expected at most {}", TimelineHistory::SIZE_MAX_BYTES)]
    TooLarge {
        /// Size of the file.
        size_bytes: usize,
    },
    /// A line that does not begin with a timeline and an LSN.
    #[error("invalid history line {line} '{text}': expected a timeline, an lsn and a reason")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// The line, shortened.
        text: String,
    },
    /// The timelines do not increase from line to line up to the file's own.
    #[error("history line {line} has timeline {found}: expected one above {above} and below {below}")]
    Order {
        /// Number of the line, from 1.
        line: usize,
        /// The timeline found.
        found: Timeline,
        /// The timeline of the line before, or zero.
        above: u32,
        /// The timeline that the file is for.
        below: Timeline,
    },
}

/// Whether a position on some timeline lies on the path that leads to another timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ancestry {
    /// It does: replay from there reaches the timeline.
    OnPath,
    /// Its timeline is an ancestor, but was left at or before the position.
    ForkedBefore {
        /// Where the path left the timeline.
        switch_lsn: Lsn,
    },
    /// Its timeline is no ancestor.
    NotAncestor,
}

impl TimelineHistory {
    /// The largest file that is read: tens of thousands of promotions. Real files have some dozen bytes for each.
    pub const SIZE_MAX_BYTES: usize = 4 * 1024 * 1024;

    /// Reads the history file of `timeline`, by the rules of PostgreSQL's `readTimeLineHistory()`.
    ///
    /// Empty lines and lines that begin with `#` are skipped. The fields of a line are separated by blanks or tabs: the
    /// timeline in decimal, the LSN, and the rest of the line as the reason.
    ///
    /// # Errors
    /// [`TimelineHistoryError`]: a file too large, a line of another form, timelines that do not increase.
    pub fn parse(timeline: Timeline, bytes: &[u8]) -> Result<Self, TimelineHistoryError> {
        if bytes.len() > Self::SIZE_MAX_BYTES {
            return Err(TimelineHistoryError::TooLarge { size_bytes: bytes.len() });
        }
        let mut switches: Vec<TimelineSwitch> = Vec::new();
        for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let text = line.trim_ascii();
            if text.is_empty() || text.starts_with(b"#") {
                continue;
            }
            let switch = parse_switch(text)
                .ok_or_else(|| TimelineHistoryError::Line { line: index + 1, text: shortened(text) })?;
            let above = switches.last().map_or(0, |last| last.timeline.number());
            if switch.timeline.number() <= above || switch.timeline >= timeline {
                let found = switch.timeline;
                return Err(TimelineHistoryError::Order { line: index + 1, found, above, below: timeline });
            }
            switches.push(switch);
        }
        Ok(Self { timeline, switches })
    }

    /// The timeline whose ancestors these are.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// The ancestors, oldest first, each with the position where it was left.
    #[must_use]
    pub fn switches(&self) -> &[TimelineSwitch] {
        &self.switches
    }

    /// Whether replay that begins at `lsn` of `timeline` can reach this history's timeline.
    ///
    /// The position where a timeline was left belongs to the next timeline already, so a backup that starts exactly
    /// there is not on the path (the original's `timelineVerify()` asks for a start before the switch).
    #[must_use]
    pub fn ancestry(&self, timeline: Timeline, lsn: Lsn) -> Ancestry {
        if timeline == self.timeline {
            return Ancestry::OnPath;
        }
        match self.switches.iter().find(|switch| switch.timeline == timeline) {
            Some(switch) if lsn < switch.switch_lsn => Ancestry::OnPath,
            Some(switch) => Ancestry::ForkedBefore { switch_lsn: switch.switch_lsn },
            None => Ancestry::NotAncestor,
        }
    }

    /// The timeline that the byte at `lsn` belongs to, on the path to this history's timeline.
    #[must_use]
    pub fn timeline_at(&self, lsn: Lsn) -> Timeline {
        self.switches.iter().find(|switch| lsn < switch.switch_lsn).map_or(self.timeline, |switch| switch.timeline)
    }
}

/// A line without the blanks around it.
fn parse_switch(text: &[u8]) -> Option<TimelineSwitch> {
    let (timeline, rest) = split_field(text);
    let (switch_lsn, reason) = split_field(rest);
    let digits = str::from_utf8(timeline).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let switch_lsn: Lsn = str::from_utf8(switch_lsn).ok()?.parse().ok()?;
    // Timelines do not end at position zero, where no record can be.
    (switch_lsn > Lsn(0)).then_some(TimelineSwitch {
        timeline: Timeline::new(digits.parse().ok()?)?,
        switch_lsn,
        reason: String::from_utf8_lossy(reason).into_owned(),
    })
}

/// The text before the first blank or tab, and what follows the blanks.
fn split_field(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    let (field, rest) = text.split_at(end);
    (field, rest.trim_ascii_start())
}

/// Enough of a line to recognise it in an error.
fn shortened(line: &[u8]) -> String {
    String::from_utf8_lossy(line).chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn timeline(number: u32) -> Timeline {
        Timeline::new(number).unwrap()
    }

    /// As written by PostgreSQL 15 after two promotions.
    const TWO_PROMOTIONS: &[u8] =
        b"1\t0/3000158\tno recovery target specified\n\n2\t0/5000000\tbefore 2026-11-22 06:18:31.388657+00\n";

    #[test]
    fn numbers_have_two_texts() {
        assert_eq!(timeline(255).to_hex(), "000000FF");
        assert_eq!(timeline(255).to_string(), "255");
        assert_eq!(timeline(255).history_file_name(), "000000FF.history");
        assert_eq!(Timeline::from_hex("000000FF"), Ok(timeline(255)));
        for text in ["00000000", "FF", "000000ff", "0000000FF", ""] {
            assert!(Timeline::from_hex(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_target_is_decimal_or_hexadecimal_after_0x() {
        assert_eq!(Timeline::from_option("10"), Ok(timeline(10)));
        assert_eq!(Timeline::from_option("0x10"), Ok(timeline(16)));
        assert_eq!(Timeline::from_option("0xfF"), Ok(timeline(255)));
        for text in ["", "0", "0x", "0x0", "+1", "-1", " 1", "a", "0X1", "4294967296", "0x100000000"] {
            assert!(Timeline::from_option(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_a_history_file() {
        let history = TimelineHistory::parse(timeline(3), TWO_PROMOTIONS).unwrap();
        assert_eq!(history.switches().len(), 2);
        assert_eq!(history.switches()[0].reason, "no recovery target specified");
        assert_eq!(history.switches()[1].switch_lsn, Lsn(0x500_0000));
    }

    #[test]
    fn skips_comments_and_reads_any_blanks_between_fields() {
        let history =
            TimelineHistory::parse(timeline(9), b"# note\r\n  4   A/1\t \r\n\t#\n5 B/2 \xFF\xFE why").unwrap();
        assert_eq!(history.switches()[0].timeline, timeline(4));
        assert_eq!(history.switches()[0].reason, "");
        assert_eq!(history.switches()[1].reason, "\u{FFFD}\u{FFFD} why");
    }

    #[test]
    fn refuses_lines_of_another_form() {
        for line in [
            "1",
            "1\t",
            "x\t0/1\ty",
            "0\t0/1\ty",
            "1\t0/0\ty",
            "1\t01\ty",
            "-1\t0/1\ty",
            "+1\t0/1",
            "1\t0/1/1",
            "4294967296\t0/1",
        ] {
            let error = TimelineHistory::parse(timeline(9), line.as_bytes()).unwrap_err();
            assert!(matches!(error, TimelineHistoryError::Line { line: 1, .. }), "{line}: {error}");
        }
    }

    #[test]
    fn refuses_timelines_out_of_order() {
        for file in ["2\t0/1\n2\t0/2", "2\t0/1\n1\t0/2", "3\t0/1", "4\t0/1"] {
            let error = TimelineHistory::parse(timeline(3), file.as_bytes()).unwrap_err();
            assert!(matches!(error, TimelineHistoryError::Order { .. }), "{file}: {error}");
        }
    }

    #[test]
    fn refuses_a_huge_file() {
        let file = vec![b'\n'; TimelineHistory::SIZE_MAX_BYTES + 1];
        assert!(matches!(TimelineHistory::parse(timeline(3), &file), Err(TimelineHistoryError::TooLarge { .. })));
    }

    #[test]
    fn a_backup_before_the_switch_is_on_the_path() {
        let history = TimelineHistory::parse(timeline(3), TWO_PROMOTIONS).unwrap();
        assert_eq!(history.ancestry(timeline(1), Lsn(0x300_0157)), Ancestry::OnPath);
        assert_eq!(history.ancestry(timeline(2), Lsn(0x400_0000)), Ancestry::OnPath);
        assert_eq!(history.ancestry(timeline(3), Lsn(0x900_0000)), Ancestry::OnPath);
    }

    #[test]
    fn a_backup_at_or_after_the_switch_is_not() {
        let history = TimelineHistory::parse(timeline(3), TWO_PROMOTIONS).unwrap();
        let forked = Ancestry::ForkedBefore { switch_lsn: Lsn(0x300_0158) };
        assert_eq!(history.ancestry(timeline(1), Lsn(0x300_0158)), forked);
        assert_eq!(history.ancestry(timeline(1), Lsn(0x900_0000)), forked);
    }

    #[test]
    fn a_timeline_on_another_branch_is_no_ancestor() {
        let history = TimelineHistory::parse(timeline(7), b"4\t0/5000000\tpromoted").unwrap();
        assert_eq!(history.ancestry(timeline(5), Lsn(1)), Ancestry::NotAncestor);
        assert_eq!(history.ancestry(timeline(8), Lsn(1)), Ancestry::NotAncestor);
    }

    #[test]
    fn positions_belong_to_the_timeline_of_their_stretch() {
        let history = TimelineHistory::parse(timeline(3), TWO_PROMOTIONS).unwrap();
        assert_eq!(history.timeline_at(Lsn(0x300_0157)), timeline(1));
        assert_eq!(history.timeline_at(Lsn(0x300_0158)), timeline(2));
        assert_eq!(history.timeline_at(Lsn(0x500_0000)), timeline(3));
    }

    proptest! {
        #[test]
        fn names_round_trip(number in 1_u32..) {
            prop_assert_eq!(Timeline::from_hex(&timeline(number).to_hex()), Ok(timeline(number)));
            prop_assert_eq!(Timeline::from_option(&number.to_string()), Ok(timeline(number)));
            prop_assert_eq!(Timeline::from_option(&format!("{number:#x}")), Ok(timeline(number)));
        }

        #[test]
        fn a_written_history_is_read_back(
            ancestors in prop::collection::btree_map(1_u32..1000, 1_u64.., 0..20),
            reason in "[ -~]{0,30}",
        ) {
            let file: String =
                ancestors.iter().map(|(number, lsn)| format!("{number}\t{}\t{reason}\n", Lsn(*lsn))).collect();
            let history = TimelineHistory::parse(timeline(1000), file.as_bytes()).unwrap();
            let pair = |switch: &TimelineSwitch| (switch.timeline.number(), switch.switch_lsn.0);
            let read: Vec<_> = history.switches().iter().map(pair).collect();
            prop_assert_eq!(read, ancestors.into_iter().collect::<Vec<_>>());
            prop_assert!(history.switches().iter().all(|switch| switch.reason == reason.trim_ascii()));
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>, number in 1_u32..) {
            if let Ok(history) = TimelineHistory::parse(timeline(number), &bytes) {
                prop_assert!(history.switches().is_sorted_by(|a, b| a.timeline < b.timeline));
            }
        }

        #[test]
        fn nearly_right_text_is_answered(text in "[0-9\t /#\n]{0,60}") {
            let _answer = TimelineHistory::parse(timeline(1000), text.as_bytes());
        }
    }
}
