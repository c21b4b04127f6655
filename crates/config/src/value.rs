//! Numbers and paths as people write them (pgBackRest's `config/common.c` and `common/type/convert.c`).

use crate::opt::Kind;

/// Reads a number of the given kind: an integer, bytes, or milliseconds.
pub(crate) fn number(kind: Kind, text: &str) -> Option<i64> {
    match kind {
        Kind::Size => size_bytes(text),
        Kind::Time => time_ms(text),
        _ => integer(text),
    }
}

/// Decimal with an optional sign, nothing around it.
pub fn integer(text: &str) -> Option<i64> {
    // `parse` accepts exactly what strtoll does once space and anything behind the digits are refused.
    text.parse().ok()
}

/// Bytes: digits and an optional `b`, `k`, `kb`, `kib` and so on up to `p`, in any case, all powers of 1024.
pub fn size_bytes(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.len() - lower.trim_start_matches(|character: char| character.is_ascii_digit()).len();
    let (number, suffix) = lower.split_at_checked(digits)?;
    let exponent = match suffix {
        // The second spelling of bytes is an accident of the original's pattern, kept since it is accepted.
        "" | "b" | "bb" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    integer(number)?.checked_mul(1024_i64.checked_pow(exponent)?)
}

/// Milliseconds: an integer and an optional `ms`, `s`, `m`, `h`, `d` or `w`, in any case; seconds without one.
pub fn time_ms(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];
    let (number, factor) = units
        .into_iter()
        .find_map(|(unit, factor)| Some((lower.strip_suffix(unit)?, factor)))
        .unwrap_or((&lower, 1000));
    integer(number)?.checked_mul(factor)
}

/// Why a text is no path; the text goes on after the value.
pub(crate) fn path_fault(text: &str) -> Option<&'static str> {
    if !text.starts_with('/') {
        Some("must begin with /")
    } else if text.contains("//") {
        Some("cannot contain //")
    } else {
        None
    }
}

/// A path without the slash that people like to end it with.
pub(crate) fn path(text: &str) -> &str {
    match text.strip_suffix('/') {
        Some(shorter) if !shorter.is_empty() => shorter,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("7", 7),
            ("7b", 7),
            ("7B", 7),
            ("2k", 2048),
            ("2KB", 2048),
            ("2KiB", 2048),
            ("3m", 3 << 20),
            ("3MiB", 3 << 20),
            ("1g", 1 << 30),
            ("4tb", 4 << 40),
            ("4PiB", 4 << 50),
            ("8191p", 8191 << 50),
            ("1bb", 1),
        ] {
            assert_eq!(size_bytes(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "b",
            "k",
            "1.5k",
            "1,5k",
            "-1k",
            "+1k",
            " 1k",
            "1 k",
            "1kk",
            "1x",
            "8192p",
            "9223372036854775808",
            "1bib",
        ] {
            assert_eq!(size_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_seconds_unless_a_unit_is_given() {
        for (text, ms) in [
            ("5", 5000),
            ("5s", 5000),
            ("5S", 5000),
            ("100ms", 100),
            ("1m", 60_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("1w", 604_800_000),
            ("1MS", 1),
            ("0s", 0),
            ("-1", -1000),
        ] {
            assert_eq!(time_ms(text), Some(ms), "{text}");
        }
        for text in ["", "s", "ms", "1.5", "1 s", " 1", "1y", "9223372036854775807w", "1sm"] {
            assert_eq!(time_ms(text), None, "{text}");
        }
    }

    #[test]
    fn integers_have_a_sign_and_nothing_else() {
        for (text, number) in [("0", 0), ("-7", -7), ("+7", 7), ("007", 7)] {
            assert_eq!(integer(text), Some(number), "{text}");
        }
        for text in ["", "-", " 1", "1 ", "1.0", "0x10", "9223372036854775808"] {
            assert_eq!(integer(text), None, "{text}");
        }
    }

    #[test]
    fn paths_lose_one_slash_at_the_end() {
        assert_eq!(path("/"), "/");
        assert_eq!(path("/a/"), "/a");
        assert_eq!(path("/a"), "/a");
        assert!(path_fault("a").is_some() && path_fault("/a//b").is_some() && path_fault("/a/b/").is_none());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = (integer(&text), size_bytes(&text), time_ms(&text), path(&text));
        }

        #[test]
        fn sizes_and_times_scale(count in 0_i64..1_000_000) {
            prop_assert_eq!(size_bytes(&format!("{count}KiB")), Some(count * 1024));
            prop_assert_eq!(time_ms(&format!("{count}m")), Some(count * 60_000));
            prop_assert_eq!(size_bytes(&count.to_string()), Some(count));
        }
    }
}
