//! The size of WAL segments, their names, and ranges of names.

use std::fmt;
use std::str::FromStr;

use super::hex_field::{HEX_FIELD_LEN, parse_hex_field};
use super::lsn::Lsn;
use super::timeline::Timeline;

/// The size of a cluster's WAL segments: a power of two from 1 MiB to 1 GiB, chosen at `initdb`.
///
/// It is read from `pg_control` or from a segment's header. Nothing may assume the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalSegmentSize(u32);

/// A number that no WAL segment can have as its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("wal segment size is {size_bytes} bytes: expected a power of two from 1048576 to 1073741824")]
pub struct WalSegmentSizeError {
    /// The number.
    pub size_bytes: u64,
}

impl WalSegmentSize {
    /// 1 MiB, PostgreSQL's `WalSegMinSize`.
    pub const MIN: Self = Self(1024 * 1024);
    /// 1 GiB, PostgreSQL's `WalSegMaxSize`.
    pub const MAX: Self = Self(1024 * 1024 * 1024);
    /// 16 MiB, what `initdb` takes when nothing else is asked for.
    pub const DEFAULT: Self = Self(16 * 1024 * 1024);

    /// A size in bytes.
    ///
    /// # Errors
    /// [`WalSegmentSizeError`] for anything but a power of two from 1 MiB to 1 GiB.
    pub fn new(size_bytes: u32) -> Result<Self, WalSegmentSizeError> {
        if size_bytes.is_power_of_two() && (Self::MIN.0..=Self::MAX.0).contains(&size_bytes) {
            Ok(Self(size_bytes))
        } else {
            Err(WalSegmentSizeError { size_bytes: size_bytes.into() })
        }
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// Segments that share the middle part of the name: 4 GiB in all, so 4096 down to 4 of them.
    #[must_use]
    pub const fn segments_per_log(self) -> u32 {
        // The largest segment number fits 32 bits and one more than it does too, since a segment has at least 1 MiB.
        u32::MAX / self.0 + 1
    }
}

impl TryFrom<u64> for WalSegmentSize {
    type Error = WalSegmentSizeError;

    fn try_from(size_bytes: u64) -> Result<Self, Self::Error> {
        u32::try_from(size_bytes).map_err(|_| WalSegmentSizeError { size_bytes }).and_then(Self::new)
    }
}

/// The name of a WAL segment: timeline, log and segment number, eight upper-case hexadecimal digits each.
///
/// Names order as their texts do. A name alone does not tell the segment size, so a segment number that is too large
/// for a cluster's size is found only by the methods that are given the size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalSegmentName {
    timeline: Timeline,
    log: u32,
    segment: u32,
}

/// A text that is no name of a WAL segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid wal segment name '{text}': expected 24 upper-case hexadecimal digits that begin with a timeline")]
pub struct WalSegmentNameError {
    /// What was read.
    pub text: String,
}

impl WalSegmentName {
    /// Characters of a name.
    pub const LEN: usize = 3 * HEX_FIELD_LEN;

    /// A name from its parts.
    #[must_use]
    pub fn new(timeline: Timeline, log: u32, segment: u32) -> Self {
        Self { timeline, log, segment }
    }

    /// Reads a name.
    ///
    /// # Errors
    /// [`WalSegmentNameError`] for anything but 24 digits of `0-9A-F` of which the first eight are not all zero.
    pub fn parse(text: &str) -> Result<Self, WalSegmentNameError> {
        Self::from_digits(text.as_bytes()).ok_or_else(|| WalSegmentNameError { text: text.to_owned() })
    }

    fn from_digits(digits: &[u8]) -> Option<Self> {
        let (fields, []) = digits.as_chunks::<HEX_FIELD_LEN>() else { return None };
        let [timeline, log, segment] = fields else { return None };
        Some(Self {
            timeline: parse_hex_field(timeline).and_then(Timeline::new)?,
            log: parse_hex_field(log)?,
            segment: parse_hex_field(segment)?,
        })
    }

    /// The timeline that the segment was written on.
    #[must_use]
    pub fn timeline(self) -> Timeline {
        self.timeline
    }

    /// The middle part: the upper half of the segment's LSNs.
    #[must_use]
    pub fn log(self) -> u32 {
        self.log
    }

    /// The last part: the number of the segment within its log.
    #[must_use]
    pub fn segment(self) -> u32 {
        self.segment
    }

    /// The first 16 digits: the directory that a repository keeps the segment in.
    #[must_use]
    pub fn first16(self) -> String {
        format!("{}{:08X}", self.timeline.to_hex(), self.log)
    }

    /// Whether a segment of this number exists at this size.
    #[must_use]
    pub fn fits(self, size: WalSegmentSize) -> bool {
        self.segment < size.segments_per_log()
    }

    /// The position of the segment's first byte; `None` when the name is impossible for the size.
    #[must_use]
    pub fn start_lsn(self, size: WalSegmentSize) -> Option<Lsn> {
        self.fits(size).then(|| Lsn((u64::from(self.log) << 32) + u64::from(self.segment) * u64::from(size.bytes())))
    }

    /// The segment that follows on the same timeline; `None` after the last one there can be, and when the name is
    /// impossible for the size.
    #[must_use]
    pub fn next(self, size: WalSegmentSize) -> Option<Self> {
        Self::from_number(self.timeline, self.number(size)?.checked_add(1)?, size)
    }

    /// The segment before on the same timeline; `None` before the first one there can be, and when the name is
    /// impossible for the size.
    #[must_use]
    pub fn previous(self, size: WalSegmentSize) -> Option<Self> {
        Self::from_number(self.timeline, self.number(size)?.checked_sub(1)?, size)
    }

    /// The names from `start` to `stop`, both included.
    ///
    /// # Errors
    /// [`WalSegmentRangeError`]: two timelines, a stop before the start, names impossible for the size, or more than
    /// `count_max` names.
    pub fn range(
        start: Self,
        stop: Self,
        size: WalSegmentSize,
        count_max: u64,
    ) -> Result<WalSegmentRange, WalSegmentRangeError> {
        if start.timeline != stop.timeline {
            return Err(WalSegmentRangeError::Timelines { start, stop });
        }
        let number =
            |name: Self| name.number(size).ok_or(WalSegmentRangeError::Size { name, size_bytes: size.bytes() });
        let (first, last) = (number(start)?, number(stop)?);
        let Some(distance) = last.checked_sub(first) else {
            return Err(WalSegmentRangeError::Backwards { start, stop });
        };
        if distance >= count_max {
            return Err(WalSegmentRangeError::TooMany { start, stop, count_max });
        }
        Ok(WalSegmentRange { timeline: start.timeline, size, next: first, end: last + 1 })
    }

    /// The number of the segment counted from the beginning of the WAL (PostgreSQL's `XLogSegNo`).
    pub(crate) fn number(self, size: WalSegmentSize) -> Option<u64> {
        self.fits(size).then(|| u64::from(self.log) * u64::from(size.segments_per_log()) + u64::from(self.segment))
    }

    /// The segment of this number; `None` beyond the last one that there can be.
    pub(crate) fn from_number(timeline: Timeline, number: u64, size: WalSegmentSize) -> Option<Self> {
        let per_log = u64::from(size.segments_per_log());
        let log = u32::try_from(number / per_log).ok()?;
        let segment = u32::try_from(number % per_log).ok()?;
        Some(Self { timeline, log, segment })
    }
}

impl fmt::Display for WalSegmentName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:08X}{:08X}{:08X}", self.timeline.number(), self.log, self.segment)
    }
}

impl fmt::Debug for WalSegmentName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "WalSegmentName({self})")
    }
}

impl FromStr for WalSegmentName {
    type Err = WalSegmentNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Consecutive segment names of one timeline; made by [`WalSegmentName::range`].
#[derive(Debug, Clone)]
pub struct WalSegmentRange {
    timeline: Timeline,
    size: WalSegmentSize,
    /// Number of the segment to yield next, and the number after the last one.
    next: u64,
    end: u64,
}

/// Two names that do not span a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WalSegmentRangeError {
    /// The names are of two timelines.
    #[error("wal range {start} to {stop} crosses timelines")]
    Timelines {
        /// First segment asked for.
        start: WalSegmentName,
        /// Last segment asked for.
        stop: WalSegmentName,
    },
    /// The last segment comes before the first one.
    #[error("wal range {start} to {stop} runs backwards")]
    Backwards {
        /// First segment asked for.
        start: WalSegmentName,
        /// Last segment asked for.
        stop: WalSegmentName,
    },
    /// The segment number is too large for the segment size.
    #[error("wal segment {name} cannot exist with a segment size of {size_bytes} bytes")]
    Size {
        /// The name.
        name: WalSegmentName,
        /// The cluster's segment size.
        size_bytes: u32,
    },
    /// The range has more names than the caller allows.
    #[error("wal range {start} to {stop} has more than {count_max} segments")]
    TooMany {
        /// First segment asked for.
        start: WalSegmentName,
        /// Last segment asked for.
        stop: WalSegmentName,
        /// The caller's ceiling.
        count_max: u64,
    },
}

impl WalSegmentRange {
    /// Names that are still to come.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.end - self.next
    }
}

impl Iterator for WalSegmentRange {
    type Item = WalSegmentName;

    fn next(&mut self) -> Option<WalSegmentName> {
        if self.next == self.end {
            return None;
        }
        let name = WalSegmentName::from_number(self.timeline, self.next, self.size);
        self.next += 1;
        name
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let remaining = usize::try_from(self.remaining());
        (remaining.unwrap_or(usize::MAX), remaining.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> WalSegmentName {
        WalSegmentName::parse(text).unwrap()
    }

    fn size(mib: u32) -> WalSegmentSize {
        WalSegmentSize::new(mib * 1024 * 1024).unwrap()
    }

    #[test]
    fn hi15_impossible_segment_sizes_are_refused() {
        for bytes in [0, 1, 3, 512 * 1024, 1024 * 1024 - 1, 3 * 1024 * 1024, 2 * 1024 * 1024 * 1024, u32::MAX] {
            assert_eq!(WalSegmentSize::new(bytes), Err(WalSegmentSizeError { size_bytes: bytes.into() }));
        }
        assert!(WalSegmentSize::try_from((1_u64 << 32) + 1024 * 1024).is_err());
    }

    #[test]
    fn reads_the_parts_of_a_name() {
        let name = name("0000000A0000000B000000C0");
        assert_eq!(name.timeline().number(), 10);
        assert_eq!(name.log(), 11);
        assert_eq!(name.segment(), 0xC0);
        assert_eq!(name.first16(), "0000000A0000000B");
        assert_eq!(name.start_lsn(WalSegmentSize::DEFAULT).unwrap().to_string(), "B/C0000000");
    }

    #[test]
    fn pu17_odd_segment_names_are_refused() {
        for text in [
            "",
            "00000001000000010000001",
            "0000000100000001000000010",
            "00000001000000010000000a",
            "00000001000000010000000G",
            "00000001000000010000000:",
            "000000010000000100000001\n",
            "../000000010000000100001",
            "00000001 000000010000001",
            "+0000001000000010000000 ",
            "000000000000000100000001",
            "00000001000000010000000\u{c4}",
        ] {
            assert_eq!(WalSegmentName::parse(text), Err(WalSegmentNameError { text: text.to_owned() }));
        }
    }

    #[test]
    fn pu20_the_next_segment_wraps_at_the_log_boundary_of_each_size() {
        for (mib, last) in [
            (1, "000000010000000100000FFF"),
            (16, "0000000100000001000000FF"),
            (64, "00000001000000010000003F"),
            (1024, "000000010000000100000003"),
        ] {
            assert_eq!(name(last).next(size(mib)), Some(name("000000010000000200000000")), "{mib} MiB");
            assert_eq!(name("000000010000000200000000").previous(size(mib)), Some(name(last)), "{mib} MiB");
        }
    }

    #[test]
    fn pu20_a_name_too_large_for_the_size_has_no_position_and_no_neighbours() {
        let name = name("000000010000000100000100");
        assert_eq!(name.start_lsn(WalSegmentSize::DEFAULT), None);
        assert_eq!(name.next(WalSegmentSize::DEFAULT), None);
        assert_eq!(name.previous(WalSegmentSize::DEFAULT), None);
        assert_eq!(name.start_lsn(size(1)), Some(Lsn(0x1_1000_0000)));
    }

    #[test]
    fn the_wal_ends_somewhere() {
        assert_eq!(name("00000001FFFFFFFF000000FF").next(WalSegmentSize::DEFAULT), None);
        assert_eq!(name("000000010000000000000000").previous(WalSegmentSize::DEFAULT), None);
    }

    #[test]
    fn a_range_holds_both_ends() {
        let range = |start, stop| WalSegmentName::range(name(start), name(stop), WalSegmentSize::DEFAULT, 10).unwrap();
        let names: Vec<_> =
            range("0000000200000001000000FE", "000000020000000200000001").map(|name| name.to_string()).collect();
        let expected = [
            "0000000200000001000000FE",
            "0000000200000001000000FF",
            "000000020000000200000000",
            "000000020000000200000001",
        ];
        assert_eq!(names, expected);
        assert_eq!(range("000000020000000100000000", "000000020000000100000000").count(), 1);
        assert_eq!(range("00000001FFFFFFFF000000FF", "00000001FFFFFFFF000000FF").count(), 1);
    }

    #[test]
    fn impossible_ranges_are_refused() {
        let range = |start, stop, count_max| {
            WalSegmentName::range(name(start), name(stop), WalSegmentSize::DEFAULT, count_max).map(Iterator::count)
        };
        let (low, high) = ("000000010000000000000001", "00000001FFFFFFFF00000001");
        assert!(matches!(range(low, high, 1000), Err(WalSegmentRangeError::TooMany { .. })));
        assert!(matches!(range(low, low, 0), Err(WalSegmentRangeError::TooMany { .. })));
        assert!(matches!(range(high, low, 1000), Err(WalSegmentRangeError::Backwards { .. })));
        assert!(matches!(range(low, "000000020000000000000001", 9), Err(WalSegmentRangeError::Timelines { .. })));
        assert!(matches!(range(low, "000000010000000000000100", 999), Err(WalSegmentRangeError::Size { .. })));
        assert_eq!(range(low, "0000000100000000000000FF", 255), Ok(255));
        assert!(range(low, "0000000100000000000000FF", 254).is_err());
    }

    fn any_name() -> impl Strategy<Value = WalSegmentName> {
        (1_u32.., any::<u32>(), any::<u32>())
            .prop_map(|(timeline, log, segment)| WalSegmentName::new(Timeline::new(timeline).unwrap(), log, segment))
    }

    fn any_size() -> impl Strategy<Value = WalSegmentSize> {
        (20_u32..=30).prop_map(|shift| WalSegmentSize::new(1 << shift).unwrap())
    }

    proptest! {
        #[test]
        fn text_round_trip(name in any_name()) {
            prop_assert_eq!(name.to_string().len(), WalSegmentName::LEN);
            prop_assert_eq!(WalSegmentName::parse(&name.to_string()), Ok(name));
        }

        #[test]
        fn names_order_as_their_texts(a in any_name(), b in any_name()) {
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn pu20_neighbours_are_one_segment_apart(lsn: u64, size in any_size()) {
            let name = Lsn(lsn).segment(Timeline::FIRST, size);
            if let Some(next) = name.next(size) {
                let gap = next.start_lsn(size).unwrap().bytes_since(name.start_lsn(size).unwrap());
                prop_assert_eq!(gap, Some(u64::from(size.bytes())));
                prop_assert_eq!(next.previous(size), Some(name));
                prop_assert!(name < next);
            }
        }

        #[test]
        fn pu20_a_range_is_what_next_walks_through(lsn in 0..u64::MAX / 2, count in 1_u64..50, size in any_size()) {
            let start = Lsn(lsn).segment(Timeline::FIRST, size);
            let stop = Lsn(lsn + (count - 1) * u64::from(size.bytes())).segment(Timeline::FIRST, size);
            let names: Vec<_> = WalSegmentName::range(start, stop, size, count).unwrap().collect();
            let mut walked = vec![start];
            while let Some(&last) = walked.last().filter(|&&last| last != stop) {
                walked.push(last.next(size).unwrap());
            }
            prop_assert_eq!(names.len() as u64, count);
            prop_assert_eq!(names, walked);
        }

        #[test]
        fn any_text_is_answered(text in ".{0,30}") {
            let _answer = WalSegmentName::parse(&text);
        }
    }
}
