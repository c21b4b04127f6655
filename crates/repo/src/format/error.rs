//! Why the bytes of an info file or a manifest are refused.

use super::json::JsonError;
use super::text::shown;

/// An info file or manifest cannot be used. Everything is the original's FormatError (exit code 29) but a checksum
/// that does not hold, see [`FormatError::is_checksum`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A line is not part of the dialect.
    #[error("line {line}: {problem}")]
    Line {
        /// Line number, from 1.
        line: u64,
        /// What is wrong with it.
        problem: LineProblem,
    },
    /// A key holds a value that cannot be.
    #[error("line {line}, section '{section}', key '{key}': {problem}")]
    Value {
        /// Line number, from 1.
        line: u64,
        /// Section name, shortened for display.
        section: Box<str>,
        /// Key, shortened for display.
        key: Box<str>,
        /// What is wrong with the value.
        problem: ValueProblem,
    },
    /// A required key is not there.
    #[error("section '{section}', key '{key}' is missing")]
    Missing {
        /// Section name.
        section: &'static str,
        /// Key.
        key: &'static str,
    },
    /// Each value is possible alone, but not with the others.
    #[error("section '{section}', key '{key}': {problem}")]
    Content {
        /// Section name.
        section: &'static str,
        /// Key, shortened for display.
        key: Box<str>,
        /// What is wrong with the value.
        problem: ValueProblem,
    },
    /// The file is of another repository format than 5.
    #[error("expected format 5 but found {found}")]
    OtherFormat {
        /// The number in `backrest-format`.
        found: u64,
    },
    /// There is no checksum: the file was cut, or is not an info file.
    #[error("no checksum found, the content has '{actual}'")]
    ChecksumMissing {
        /// Checksum of the content.
        actual: Box<str>,
    },
    /// The content is not what was written.
    #[error("invalid checksum, expected '{expected}' but the content has '{actual}'")]
    ChecksumMismatch {
        /// Checksum that the file states, shortened for display.
        expected: Box<str>,
        /// Checksum of the content.
        actual: Box<str>,
    },
    /// The file is larger than the ceiling.
    #[error("the file is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The ceiling.
        limit_bytes: u64,
    },
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineProblem {
    /// The line is longer than the ceiling.
    #[error("the line is longer than {limit_bytes} bytes")]
    TooLong {
        /// The ceiling.
        limit_bytes: usize,
    },
    /// The line has a NUL byte, which the original takes for the end of the text.
    #[error("the line has a NUL byte")]
    Nul,
    /// `[]`.
    #[error("the section name is empty")]
    EmptySection,
    /// A section stands twice, or before one that sorts before it.
    #[error("section '{0}' is repeated or out of order")]
    SectionOrder(Box<str>),
    /// A key before the first section.
    #[error("a key stands outside of a section")]
    NoSection,
    /// Neither section nor key and value.
    #[error("'=' is missing between key and value")]
    NoEquals,
    /// `=` at the beginning.
    #[error("the key is empty")]
    EmptyKey,
    /// No `=` is followed by exactly one JSON value.
    #[error("the value is not JSON: {0}")]
    Json(JsonError),
    /// More `=` than any name can have.
    #[error("the line has more than {0} '=' and none before a JSON value")]
    TooManyEquals(usize),
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueProblem {
    /// Not the JSON that belongs there.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A required attribute is not there.
    #[error("attribute '{0}' is missing")]
    Missing(&'static str),
    /// An attribute holds something that cannot be.
    #[error("attribute '{attribute}' {reason}")]
    Attribute {
        /// Attribute (object key).
        attribute: &'static str,
        /// The reason, as the end of a sentence that begins with the attribute.
        reason: &'static str,
    },
    /// The value as a whole, or the key itself, cannot be.
    #[error("{0}")]
    Refused(&'static str),
}

impl FormatError {
    /// Whether this is a checksum that does not hold (the original's ChecksumError, exit code 26).
    pub fn is_checksum(&self) -> bool {
        matches!(self, Self::ChecksumMissing { .. } | Self::ChecksumMismatch { .. })
    }

    /// A refused value at a place of the file.
    pub(crate) fn value(line: u64, section: &[u8], key: &[u8], problem: impl Into<ValueProblem>) -> Self {
        Self::Value { line, section: shown(section), key: shown(key), problem: problem.into() }
    }

    /// A refused combination of values.
    pub(crate) fn content(section: &'static str, key: &[u8], reason: &'static str) -> Self {
        Self::Content { section, key: shown(key), problem: ValueProblem::Refused(reason) }
    }
}
