//! The time that recovery is to stop at, as far as choosing a backup needs it, or that a repository is read at. Pure.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

/// Seconds since the Unix epoch of `YYYY-MM-DD HH:MM:SS`, optionally with a fraction, which is dropped, and a zone
/// (`+HH`, `+HHMM` or `+HH:MM`). Without one the time is of `zone`; of two possible instants the earlier one is meant, so
/// that no backup is chosen that may be after the target. `None` for anything else (pgBackRest's `cvtZToTime()`).
pub fn parse(text: &str, zone: &TimeZone) -> Option<i64> {
    let (seconds, rest) = text.split_at_checked(19)?;
    let civil = parse_civil(seconds.as_bytes())?;
    let rest = without_fraction(rest)?;
    if rest.is_empty() {
        return Some(zone.to_ambiguous_zoned(civil).earlier().ok()?.timestamp().as_second());
    }
    let offset = Offset::from_seconds(parse_offset(rest.as_bytes())?).ok()?;
    offset.to_timestamp(civil).ok().map(Timestamp::as_second)
}

/// Whether the text names a zone.
pub(super) fn has_zone(text: &str) -> bool {
    text.get(19..).is_some_and(|rest| rest.contains(['+', '-']))
}

fn parse_civil(text: &[u8]) -> Option<DateTime> {
    for (at, expected) in [(4, b'-'), (7, b'-'), (10, b' '), (13, b':'), (16, b':')] {
        if text.get(at) != Some(&expected) {
            return None;
        }
    }
    let part = |at: usize, count: usize| -> Option<i16> { number(text.get(at..at.checked_add(count)?)?) };
    let small = |at: usize| -> Option<i8> { i8::try_from(part(at, 2)?).ok() };
    DateTime::new(part(0, 4)?, small(5)?, small(8)?, small(11)?, small(14)?, small(17)?, 0).ok()
}

fn without_fraction(rest: &str) -> Option<&str> {
    let Some(fraction) = rest.strip_prefix(['.', ',']) else { return Some(rest) };
    let after = fraction.trim_start_matches(|digit: char| digit.is_ascii_digit());
    (after.len() < fraction.len()).then_some(after)
}

/// Seconds east of Greenwich.
fn parse_offset(text: &[u8]) -> Option<i32> {
    let (sign, digits) = text.split_first()?;
    let sign = match sign {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = match digits.len() {
        2 => (digits, &b"00"[..]),
        4 => digits.split_at(2),
        5 if digits.get(2) == Some(&b':') => (digits.get(..2)?, digits.get(3..)?),
        _ => return None,
    };
    let (hours, minutes) = (i32::from(number(hours)?), i32::from(number(minutes)?));
    // The zones of this world.
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn number(digits: &[u8]) -> Option<i16> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn new_york() -> TimeZone {
        TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").unwrap()
    }

    #[test]
    fn rs12_times_are_read_as_the_original_reads_them() {
        let utc = TimeZone::UTC;
        for (text, seconds) in [
            ("2026-11-22 06:18:31+00", Some(1_795_328_311)),
            ("2026-11-22 06:18:31.388657+00", Some(1_795_328_311)),
            ("2026-11-22 06:18:31,9", Some(1_795_328_311)),
            ("2026-11-22 07:48:31+0130", Some(1_795_328_311)),
            ("2026-11-22 04:48:31-01:30", Some(1_795_328_311)),
            ("2026-11-22 06:18:31", Some(1_795_328_311)),
            ("2026-11-22 06:18", None),
            ("2026-11-22T06:18:31", None),
            ("2026-02-30 06:18:31", None),
            ("2026-11-22 24:18:31", None),
            ("2026-11-22 06:18:31.", None),
            ("2026-11-22 06:18:31 UTC", None),
            ("2026-11-22 06:18:31+1", None),
            ("2026-11-22 06:18:31+99", None),
            ("2026-11-22 06:18:31+00x", None),
            ("+026-11-22 06:18:31", None),
        ] {
            assert_eq!(parse(text, &utc), seconds, "{text}");
        }
    }

    #[test]
    fn rs12_a_time_without_zone_is_of_the_given_zone_and_the_earlier_of_two() {
        // Daylight saving time ends at 02:00 on this day: 01:30 comes twice.
        let twice = parse("2026-11-01 01:30:00", &new_york()).unwrap();
        assert_eq!(Some(twice), parse("2026-11-01 01:30:00-04", &new_york()));
        assert_eq!(parse("2026-07-01 00:00:00", &new_york()), parse("2026-07-01 04:00:00+00", &TimeZone::UTC));
        assert!(has_zone("2026-11-22 06:18:31.1-03") && !has_zone("2026-11-22 06:18:31.1"));
    }

    proptest! {
        #[test]
        fn any_text_gives_a_time_or_none(text in ".{0,40}") {
            parse(&text, &TimeZone::UTC);
            has_zone(&text);
        }
    }
}
