//! [`Stanza`]: the name of a cluster's place in a repository.

use std::fmt;
use std::str::FromStr;

use super::text::shown;

/// Longest name, in bytes: file systems take 255 for a directory, and lock files add to the name.
const NAME_BYTES_MAX: usize = 200;

/// The name of a stanza. It is one directory name in every repository and lock directory, so it holds nothing that
/// could make it more than that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stanza(Box<str>);

/// A text cannot be the name of a stanza.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' is not a stanza name: {reason}")]
pub struct StanzaError {
    name: Box<str>,
    reason: &'static str,
}

impl Stanza {
    /// Takes a name.
    ///
    /// # Errors
    /// [`StanzaError`] for an empty or overlong name, a slash or backslash, a control character, or a dot or blank at
    /// the begin or a blank at the end.
    pub fn parse(name: &str) -> Result<Self, StanzaError> {
        let reason = match name {
            "" => "it is empty",
            _ if name.len() > NAME_BYTES_MAX => "it is longer than 200 bytes",
            _ if name.contains(['/', '\\']) => "it has a slash or backslash",
            _ if name.contains(char::is_control) => "it has a control character",
            _ if name.starts_with('.') => "it begins with a dot",
            _ if name.trim() != name => "it begins or ends with a blank",
            _ => return Ok(Self(name.into())),
        };
        Err(StanzaError { name: shown(name.as_bytes()), reason })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Stanza {
    type Err = StanzaError;

    fn from_str(name: &str) -> Result<Self, StanzaError> {
        Self::parse(name)
    }
}

impl fmt::Display for Stanza {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hi04_sec09_a_stanza_is_one_directory_name() {
        for good in ["demo", "my-db_1", "a.b", "cluster 1", "größe"] {
            assert_eq!(Stanza::parse(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(201);
        for bad in ["", ".", "..", ".hidden", "a/b", "/a", "a\\b", "a\nb", "a\0", "\u{1b}[0m", " a", "a ", &long] {
            assert!(Stanza::parse(bad).is_err(), "{bad:?}");
        }
    }
}
