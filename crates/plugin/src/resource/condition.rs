//! The conditions of a status, and its texts.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use pgbr_repo::error::Error;

/// The longest text of an error in a status; the whole is in the log.
const TEXT_CHARS_MAX: usize = 512;

/// The state of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// As it should be.
    True,
    /// Somebody should look.
    False,
    /// It cannot be told.
    Unknown,
}

/// A condition to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its type.
    pub kind: &'static str,
    /// Its state.
    pub truth: Truth,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, for a person.
    pub message: String,
}

impl Wanted {
    /// The condition, with the time since when it is so.
    pub fn condition(&self, present: &[Condition], now_s: i64) -> Condition {
        let status = match self.truth {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        };
        let before = present.iter().find(|condition| condition.type_ == self.kind && condition.status == status);
        let now = Timestamp::from_second(now_s).unwrap_or_default();
        Condition {
            last_transition_time: before.map_or(Time(now), |condition| condition.last_transition_time.clone()),
            message: shortened(&self.message),
            observed_generation: None,
            reason: self.reason.to_owned(),
            status: status.to_owned(),
            type_: self.kind.to_owned(),
        }
    }
}

/// What of a text is in a status.
pub fn shortened(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// A time as statuses have it.
pub fn time(at_s: i64) -> Option<String> {
    Timestamp::from_second(at_s).ok().map(|at| at.to_string())
}

/// An error of the engine as statuses have it.
pub fn error_text(error: &Error) -> String {
    format!("[{:03}]: {}", error.kind().code(), error.message())
}
