//! The system identifier that `initdb` gives to a cluster.

use std::fmt;
use std::str::FromStr;

/// The 64-bit identifier of a cluster, first field of `pg_control`; written in decimal everywhere.
///
/// Promotion and restore keep it, `pg_upgrade` does not: two clusters with the same identifier are copies of each
/// other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemId(pub u64);

/// A text that is no system identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid system identifier '{text}': expected a decimal number of at most 64 bits")]
pub struct SystemIdError {
    /// What was read.
    pub text: String,
}

impl fmt::Display for SystemId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for SystemId {
    type Err = SystemIdError;

    /// Reads decimal digits without sign, blank or leading zero, so that every identifier has one text.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits_only = text.bytes().all(|byte| byte.is_ascii_digit());
        let leading_zero = text.len() > 1 && text.starts_with('0');
        match text.parse() {
            Ok(number) if digits_only && !leading_zero => Ok(Self(number)),
            _ => Err(SystemIdError { text: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_largest() {
        assert_eq!("18446744073709551615".parse(), Ok(SystemId(u64::MAX)));
    }

    #[test]
    fn refuses_other_texts() {
        for text in ["", " 1", "+1", "-1", "01", "0x1", "1.0", "18446744073709551616", "7\u{660}"] {
            assert!(text.parse::<SystemId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trip(number: u64) {
            prop_assert_eq!(SystemId(number).to_string().parse(), Ok(SystemId(number)));
        }

        #[test]
        fn any_accepted_text_is_the_canonical_one(text in "[0-9+ ]{0,22}") {
            if let Ok(id) = text.parse::<SystemId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
