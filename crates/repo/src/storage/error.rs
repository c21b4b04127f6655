//! The one error of all backends: what was tried on which object, and what kind of failure it was.

use std::fmt;
use std::time::Duration;

use super::StoragePath;

/// What kind of failure it was; decides retry and the command's own error. Never guessed from a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The store positively says that the object does not exist. Everything else is not "missing".
    Missing,
    /// Not permitted: credentials, policy, file modes.
    Denied,
    /// The store asks to slow down (429, 503 SlowDown).
    Throttled,
    /// May pass: connection lost, time-out, 5xx, body cut short.
    Transient,
    /// The store has no room (ENOSPC, EDQUOT, 507).
    NoSpace,
    /// A condition did not hold, or the object changed while it was read.
    Conflict,
    /// Will not pass by trying again.
    Permanent,
}

/// The operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Opening or reading an object.
    Read,
    /// Asking for size and time.
    Info,
    /// Listing a directory.
    List,
    /// Writing an object, whole or in parts.
    Write,
    /// Removing.
    Remove,
    /// Creating a link or directory, or making one durable.
    Link,
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Operation::Read => "read",
            Operation::Info => "get info of",
            Operation::List => "list",
            Operation::Write => "write",
            Operation::Remove => "remove",
            Operation::Link => "link",
        })
    }
}

/// One failed try before the last one.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Since the first try.
    pub after: Duration,
    /// What went wrong.
    pub detail: String,
}

/// A storage operation failed.
#[derive(Debug, Clone)]
pub struct StorageError(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    class: ErrorClass,
    operation: Operation,
    location: String,
    detail: String,
    retry_after: Option<Duration>,
    attempts: Vec<Attempt>,
}

impl StorageError {
    /// A failure of `operation` on `path`. `detail` says what happened, lower case, without secrets and bounded.
    pub fn new(class: ErrorClass, operation: Operation, path: &StoragePath, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            class,
            operation,
            location: path.to_string(),
            detail: detail.into(),
            retry_after: None,
            attempts: Vec::new(),
        }))
    }

    /// The same failure, judged anew by somebody who knows more.
    #[must_use]
    pub fn with_class(mut self, class: ErrorClass) -> Self {
        self.0.class = class;
        self
    }

    /// The same failure with the store's own wish for the next try (`Retry-After`).
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// The same failure with the tries that went before it.
    #[must_use]
    pub fn with_attempts(mut self, attempts: Vec<Attempt>) -> Self {
        self.0.attempts = attempts;
        self
    }

    /// What kind of failure it was.
    pub fn class(&self) -> ErrorClass {
        self.0.class
    }

    /// Whether the store positively said that the object does not exist.
    pub fn is_missing(&self) -> bool {
        self.0.class == ErrorClass::Missing
    }

    /// What was tried.
    pub fn operation(&self) -> Operation {
        self.0.operation
    }

    /// The object, relative to the repository root.
    pub fn location(&self) -> &str {
        &self.0.location
    }

    /// What happened, without the object's name.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// How long the store asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The tries before the last one.
    pub fn attempts(&self) -> &[Attempt] {
        &self.0.attempts
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "unable to {} '{}': {}", self.0.operation, self.0.location, self.0.detail)?;
        for attempt in &self.0.attempts {
            write!(formatter, "\n    after {} ms: {}", attempt.after.as_millis(), attempt.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for StorageError {}
