//! The position of a byte in the WAL.

use std::fmt;
use std::str::FromStr;

use super::timeline::Timeline;
use super::wal_segment::{WalSegmentName, WalSegmentSize};

/// A log sequence number: an offset in bytes from the beginning of the WAL, printed as `X/X` (upper half, lower half,
/// in hexadecimal).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// A text that is no LSN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid lsn '{text}': expected two hexadecimal numbers of at most 8 digits each, separated by a slash")]
pub struct LsnError {
    /// What was read.
    pub text: String,
}

impl Lsn {
    /// The upper half, as it stands in the middle of a segment's name.
    #[must_use]
    pub fn high(self) -> u32 {
        // The shift leaves 32 bits.
        u32::try_from(self.0 >> 32).unwrap_or(u32::MAX)
    }

    /// The lower half.
    #[must_use]
    pub fn low(self) -> u32 {
        let [a, b, c, d, ..] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// The position `bytes` later; `None` past the end of the WAL's address space.
    #[must_use]
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }

    /// The position `bytes` earlier; `None` before the beginning.
    #[must_use]
    pub fn checked_sub(self, bytes: u64) -> Option<Self> {
        self.0.checked_sub(bytes).map(Self)
    }

    /// Bytes from `earlier` to this position; `None` when `earlier` is the later one.
    #[must_use]
    pub fn bytes_since(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }

    /// The segment that holds the byte at this position.
    ///
    /// A position at a boundary belongs to the segment that begins there. For the position at which a backup stopped
    /// that segment may never be written to; see [`Lsn::segment_ending`].
    #[must_use]
    pub fn segment(self, timeline: Timeline, size: WalSegmentSize) -> WalSegmentName {
        WalSegmentName::new(timeline, self.high(), self.low() / size.bytes())
    }

    /// The segment that holds the last byte before this position; what `pg_walfile_name()` answered before PostgreSQL
    /// 17.
    ///
    /// `None` at position zero.
    #[must_use]
    pub fn segment_ending(self, timeline: Timeline, size: WalSegmentSize) -> Option<WalSegmentName> {
        self.checked_sub(1).map(|last| last.segment(timeline, size))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:X}/{:X}", self.high(), self.low())
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Lsn({self})")
    }
}

impl FromStr for Lsn {
    type Err = LsnError;

    /// Reads `X/X` with one to eight digits on each side. Both cases are read, since the original and people write LSNs
    /// in lower case too, and leading zeros, since PostgreSQL 19 writes the lower half with them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once('/')
            .and_then(|(high, low)| Some(Self(u64::from(parse_half(high)?) << 32 | u64::from(parse_half(low)?))))
            .ok_or_else(|| LsnError { text: text.to_owned() })
    }
}

fn parse_half(digits: &str) -> Option<u32> {
    let well_formed = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if well_formed { u32::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_as_postgresql_does() {
        assert_eq!(Lsn(0).to_string(), "0/0");
        assert_eq!(Lsn(0x1234_ABCD_0000_00EF).to_string(), "1234ABCD/EF");
    }

    #[test]
    fn reads_both_cases_and_leading_zeros() {
        assert_eq!("0/dead".parse(), Ok(Lsn(0xDEAD)));
        assert_eq!("0/0000DEAD".parse(), Ok(Lsn(0xDEAD)));
        assert_eq!("FFFFFFFF/FFFFFFFF".parse(), Ok(Lsn(u64::MAX)));
    }

    #[test]
    fn refuses_other_texts() {
        for text in
            ["", "/", "1/", "/1", "1", "1/1/1", "1/ 1", "+1/1", "0x1/1", "1/G", "123456789/1", "1/123456789", "1-1"]
        {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        assert_eq!(Lsn(u64::MAX).checked_add(1), None);
        assert_eq!(Lsn(0).checked_sub(1), None);
        assert_eq!(Lsn(5).bytes_since(Lsn(2)), Some(3));
        assert_eq!(Lsn(2).bytes_since(Lsn(5)), None);
    }

    #[test]
    fn a_boundary_belongs_to_the_next_segment_and_ends_the_one_before() {
        let timeline = Timeline::new(1).unwrap();
        let size = WalSegmentSize::DEFAULT;
        let boundary = Lsn(0x2_0000_0000);
        assert_eq!(boundary.segment(timeline, size).to_string(), "000000010000000200000000");
        assert_eq!(boundary.segment_ending(timeline, size).unwrap().to_string(), "0000000100000001000000FF");
        assert_eq!(Lsn(0).segment_ending(timeline, size), None);
    }

    proptest! {
        #[test]
        fn text_round_trip(number: u64) {
            prop_assert_eq!(Lsn(number).to_string().parse(), Ok(Lsn(number)));
            prop_assert_eq!(Lsn(number).to_string().to_lowercase().parse(), Ok(Lsn(number)));
        }

        #[test]
        fn the_segment_holds_the_position(number: u64, shift in 20_u32..=30) {
            let size = WalSegmentSize::new(1 << shift).unwrap();
            let start = Lsn(number).segment(Timeline::new(1).unwrap(), size).start_lsn(size).unwrap();
            prop_assert!(start <= Lsn(number));
            prop_assert!(Lsn(number).bytes_since(start).unwrap() < u64::from(size.bytes()));
        }
    }
}
