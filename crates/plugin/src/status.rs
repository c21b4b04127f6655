//! What went wrong, as the caller hears it: the one table from failures to gRPC codes.
//!
//! CloudNativePG looks at no code today and shows the text to people, so the text keeps pgBackRest's numbers (`[044]: …`)
//! that they search for. Codes are for callers to come (cnpg-i.md §2.3): `NotFound` means proved absence and nothing else.

use pgbr_repo::error::{Error, ErrorKind};
use tonic::{Code, Status};

/// Why a request was not fulfilled. Holds no secret: neither do the errors it is made of.
#[derive(Debug, Clone)]
pub enum Failure {
    /// The engine's.
    Engine(Error),
    /// What was sent, or what somebody configured, cannot be right; the text names the field.
    Invalid(String),
    /// Something has to be there first; the text says what.
    Precondition(String),
    /// An administrator does not let it be; the text names the limit.
    Denied(String),
    /// It may be over at the next try.
    Unavailable(String),
    /// What was asked for is proved not to exist.
    Missing(String),
    /// The same kind of work is going on.
    Busy(String),
    /// It took too long; the work may go on.
    Late(String),
}

impl Failure {
    /// The text that the caller gets.
    pub fn text(&self) -> String {
        match self {
            Self::Engine(error) => format!("[{:03}]: {}", error.kind().code(), error.message()),
            Self::Invalid(text)
            | Self::Precondition(text)
            | Self::Denied(text)
            | Self::Unavailable(text)
            | Self::Missing(text)
            | Self::Busy(text)
            | Self::Late(text) => text.clone(),
        }
    }

    /// The code that the caller gets.
    pub fn code(&self) -> Code {
        match self {
            Self::Engine(error) => engine_code(error),
            Self::Invalid(_) => Code::InvalidArgument,
            Self::Precondition(_) => Code::FailedPrecondition,
            Self::Denied(_) => Code::PermissionDenied,
            Self::Unavailable(_) => Code::Unavailable,
            Self::Missing(_) => Code::NotFound,
            Self::Busy(_) => Code::Aborted,
            Self::Late(_) => Code::DeadlineExceeded,
        }
    }

    /// Whether waiting may help: stores and services that do not answer, and configuration that may still be on its way.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Precondition(_)) || matches!(self.code(), Code::Unavailable | Code::DeadlineExceeded)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        Status::new(failure.code(), failure.text())
    }
}

/// The engine's kinds. None of them is `NotFound`: a missing file of the repository is not the missing WAL file that was
/// asked for.
fn engine_code(error: &Error) -> Code {
    if error.storage_class().is_some_and(is_passing) {
        return Code::Unavailable;
    }
    match error.kind() {
        ErrorKind::HostConnect
        | ErrorKind::Service
        | ErrorKind::DbConnect
        | ErrorKind::RepoInvalid
        | ErrorKind::ArchiveTimeout
        | ErrorKind::Command
        | ErrorKind::Protocol => Code::Unavailable,
        ErrorKind::LockAcquire => Code::Aborted,
        ErrorKind::Term => Code::Cancelled,
        ErrorKind::OptionInvalid
        | ErrorKind::OptionInvalidValue
        | ErrorKind::OptionRequired
        | ErrorKind::ParamInvalid
        | ErrorKind::ParamRequired
        | ErrorKind::Config => Code::InvalidArgument,
        ErrorKind::FeatureNotSupported => Code::Unimplemented,
        ErrorKind::ArchiveDuplicate | ErrorKind::FileExists => Code::AlreadyExists,
        ErrorKind::ArchiveMismatch
        | ErrorKind::BackupMismatch
        | ErrorKind::DbMismatch
        | ErrorKind::FileInvalid
        | ErrorKind::BackupSetInvalid
        | ErrorKind::PathNotEmpty
        | ErrorKind::PgRunning
        | ErrorKind::FileMissing
        | ErrorKind::Stop
        | ErrorKind::VersionNotSupported => Code::FailedPrecondition,
        ErrorKind::Access => Code::PermissionDenied,
        ErrorKind::Checksum | ErrorKind::Crypto | ErrorKind::Format | ErrorKind::JsonFormat => Code::DataLoss,
        _ => Code::Internal,
    }
}

fn is_passing(class: pgbr_repo::storage::ErrorClass) -> bool {
    use pgbr_repo::storage::ErrorClass;
    matches!(class, ErrorClass::Throttled | ErrorClass::Transient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_people_search_for_stay_in_the_text() {
        let failure = Failure::from(Error::new(ErrorKind::ArchiveMismatch, "WAL of another cluster"));
        assert_eq!(failure.text(), "[044]: WAL of another cluster");
        assert_eq!(Status::from(failure).code(), Code::FailedPrecondition);
    }

    #[test]
    fn no_error_of_the_engine_says_that_a_file_is_proved_absent() {
        for kind in [ErrorKind::FileMissing, ErrorKind::PathMissing, ErrorKind::RepoInvalid, ErrorKind::Service] {
            assert_ne!(Failure::from(Error::new(kind, "x")).code(), Code::NotFound);
        }
        assert_eq!(Failure::Missing("x".to_owned()).code(), Code::NotFound);
    }
}
