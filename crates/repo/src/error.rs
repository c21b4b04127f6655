//! The error of a command: its kind in pgBackRest's own vocabulary, and what happened to which object.

use std::fmt;

use crate::db::check::CheckError;
use crate::db::{DbError, DbErrorKind};
use crate::pgdata::{PgDataError, PgDataErrorKind};
use crate::storage::{ErrorClass, StorageError};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $code:literal, $class:literal;)*) => {
        /// The kinds of failure that pgBackRest distinguishes (its `build/error.yaml`). Scripts, PostgreSQL and other
        /// tools read the code, so it is part of the interface.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorKind { $($(#[$doc])* $kind,)* }

        impl ErrorKind {
            /// The exit code, 25 to 125.
            pub fn code(self) -> u8 {
                match self { $(ErrorKind::$kind => $code,)* }
            }

            /// The name that messages about a collected error carry in brackets.
            pub fn class_name(self) -> &'static str {
                match self { $(ErrorKind::$kind => $class,)* }
            }
        }
    };
}

kinds! {
    /// An invariant of this program does not hold.
    Assert = 25, "AssertError";
    /// Content does not match its checksum.
    Checksum = 26, "ChecksumError";
    /// The configuration as a whole cannot work.
    Config = 27, "ConfigError";
    /// A file's content contradicts another file's.
    FileInvalid = 28, "FileInvalidError";
    /// A file is not in its format.
    Format = 29, "FormatError";
    /// No command was given.
    CommandRequired = 30, "CommandRequiredError";
    /// An option is not allowed here.
    OptionInvalid = 31, "OptionInvalidError";
    /// An option has a value it cannot have.
    OptionInvalidValue = 32, "OptionInvalidValueError";
    /// An option is missing.
    OptionRequired = 37, "OptionRequiredError";
    /// PostgreSQL runs where it must not.
    PgRunning = 38, "PgRunningError";
    /// The other side of a connection answered against the protocol.
    Protocol = 39, "ProtocolError";
    /// A directory that must be empty is not.
    PathNotEmpty = 40, "PathNotEmptyError";
    /// A file cannot be opened.
    FileOpen = 41, "FileOpenError";
    /// A file cannot be read.
    FileRead = 42, "FileReadError";
    /// A command's parameter is missing.
    ParamRequired = 43, "ParamRequiredError";
    /// WAL of another cluster or version.
    ArchiveMismatch = 44, "ArchiveMismatchError";
    /// A second content under one archive name.
    ArchiveDuplicate = 45, "ArchiveDuplicateError";
    /// A version of PostgreSQL that is not supported.
    VersionNotSupported = 46, "VersionNotSupportedError";
    /// A directory cannot be created.
    PathCreate = 47, "PathCreateError";
    /// The command does not exist.
    CommandInvalid = 48, "CommandInvalidError";
    /// A host cannot be reached.
    HostConnect = 49, "HostConnectError";
    /// Another process holds the lock.
    LockAcquire = 50, "LockAcquireError";
    /// The cluster is not the one that the repository was made for.
    BackupMismatch = 51, "BackupMismatchError";
    /// A file cannot be made durable.
    FileSync = 52, "FileSyncError";
    /// A directory cannot be opened.
    PathOpen = 53, "PathOpenError";
    /// A directory cannot be made durable.
    PathSync = 54, "PathSyncError";
    /// A file does not exist.
    FileMissing = 55, "FileMissingError";
    /// PostgreSQL cannot be reached.
    DbConnect = 56, "DbConnectError";
    /// A query failed.
    DbQuery = 57, "DbQueryError";
    /// The cluster contradicts the configuration or the target.
    DbMismatch = 58, "DbMismatchError";
    /// A file cannot be removed.
    FileRemove = 60, "FileRemoveError";
    /// A directory cannot be removed.
    PathRemove = 61, "PathRemoveError";
    /// A stop file forbids the command.
    Stop = 62, "StopError";
    /// A signal ended the command.
    Term = 63, "TermError";
    /// A file cannot be written.
    FileWrite = 64, "FileWriteError";
    /// Something that pgBackRest's format or this program does not do.
    FeatureNotSupported = 67, "FeatureNotSupportedError";
    /// `archive_command` does not call a program that archives here.
    ArchiveCommandInvalid = 68, "ArchiveCommandInvalidError";
    /// Something else where a link must be.
    LinkExpected = 69, "LinkExpectedError";
    /// A link leads where it must not.
    LinkDestination = 70, "LinkDestinationError";
    /// The command cannot run on this host.
    HostInvalid = 72, "HostInvalidError";
    /// A directory does not exist.
    PathMissing = 73, "PathMissingError";
    /// A file cannot be moved.
    FileMove = 74, "FileMoveError";
    /// No such backup, or it cannot be used for this.
    BackupSetInvalid = 75, "BackupSetInvalidError";
    /// A tablespace mapping is wrong.
    TablespaceMap = 76, "TablespaceMapError";
    /// A link mapping is wrong.
    LinkMap = 78, "LinkMapError";
    /// A file cannot be closed.
    FileClose = 79, "FileCloseError";
    /// A database is not in the backup.
    DbMissing = 80, "DbMissingError";
    /// A database cannot be chosen.
    DbInvalid = 81, "DbInvalidError";
    /// WAL did not reach the archive in time.
    ArchiveTimeout = 82, "ArchiveTimeoutError";
    /// A file's mode cannot be set.
    FileMode = 83, "FileModeError";
    /// `archive_mode` is off.
    ArchiveDisabled = 87, "ArchiveDisabledError";
    /// A file's owner cannot be set.
    FileOwner = 88, "FileOwnerError";
    /// A user does not exist.
    UserMissing = 89, "UserMissingError";
    /// A file is in the way.
    FileExists = 93, "FileExistsError";
    /// Out of memory.
    Memory = 94, "MemoryError";
    /// Decryption or encryption failed.
    Crypto = 95, "CryptoError";
    /// A command's parameter is wrong.
    ParamInvalid = 96, "ParamInvalidError";
    /// A directory cannot be closed.
    PathClose = 97, "PathCloseError";
    /// A file's metadata cannot be read.
    FileInfo = 98, "FileInfoError";
    /// JSON that is not JSON.
    JsonFormat = 99, "JsonFormatError";
    /// The operating system did something unexpected.
    Kernel = 100, "KernelError";
    /// A service answered with an error.
    Service = 101, "ServiceError";
    /// A program could not be executed.
    Execute = 102, "ExecuteError";
    /// No repository can be used.
    RepoInvalid = 103, "RepoInvalidError";
    /// A command failed in some of its parts.
    Command = 104, "CommandError";
    /// Permission denied.
    Access = 105, "AccessError";
    /// The clock cannot be right.
    Clock = 106, "ClockError";
    /// Anything else at run time.
    Runtime = 122, "RuntimeError";
    /// An error nobody foresaw.
    Unknown = 125, "UnknownError";
}

/// A command failed. The message says what happened to which object; a hint line says what to do where that is known.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    storage_class: Option<ErrorClass>,
}

/// The result of a command's parts.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure of `kind`; `message` in lower case, without a full stop and without secrets.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), storage_class: None }))
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What happened, hints included, without the kind.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What kind of storage failure it was, if it was one.
    pub fn storage_class(&self) -> Option<ErrorClass> {
        self.0.storage_class
    }

    /// The same failure with a line of advice below it.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.0.message.push_str(&format!("\nHINT: {hint}"));
        self
    }

    /// The same failure, told as part of a larger operation.
    #[must_use]
    pub fn context(mut self, operation: impl fmt::Display) -> Self {
        self.0.message = format!("{operation}: {}", self.0.message);
        self
    }

    /// The form in which errors are listed below a summary: `[FileMissingError] message`.
    pub fn listed(&self) -> String {
        format!("[{}] {}", self.kind().class_name(), self.message())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        use crate::storage::Operation;
        let kind = match (error.class(), error.operation()) {
            (ErrorClass::Missing, _) => ErrorKind::FileMissing,
            (ErrorClass::Denied, Operation::Write) => ErrorKind::FileOpen,
            (ErrorClass::Denied, _) => ErrorKind::Access,
            (ErrorClass::Throttled | ErrorClass::Transient, _) => ErrorKind::Service,
            (ErrorClass::NoSpace, _) => ErrorKind::FileWrite,
            (_, Operation::Read) => ErrorKind::FileRead,
            (_, Operation::Info) => ErrorKind::FileInfo,
            (_, Operation::List) => ErrorKind::PathOpen,
            (_, Operation::Write) => ErrorKind::FileWrite,
            (_, Operation::Remove) => ErrorKind::FileRemove,
            (_, Operation::Link) => ErrorKind::FileWrite,
        };
        Self(Box::new(Inner { kind, message: error.to_string(), storage_class: Some(error.class()) }))
    }
}

impl From<PgDataError> for Error {
    fn from(error: PgDataError) -> Self {
        let kind = match error.kind() {
            PgDataErrorKind::UnknownTablespace => ErrorKind::Assert,
            PgDataErrorKind::Format => ErrorKind::Format,
            PgDataErrorKind::Running => ErrorKind::PgRunning,
            PgDataErrorKind::NotEmpty => ErrorKind::PathNotEmpty,
            PgDataErrorKind::FileOpen | PgDataErrorKind::ChangedType => ErrorKind::FileOpen,
            PgDataErrorKind::FileRead => ErrorKind::FileRead,
            PgDataErrorKind::PathCreate => ErrorKind::PathCreate,
            PgDataErrorKind::FileSync => ErrorKind::FileSync,
            PgDataErrorKind::PathOpen => ErrorKind::PathOpen,
            PgDataErrorKind::PathSync => ErrorKind::PathSync,
            PgDataErrorKind::FileMissing => ErrorKind::FileMissing,
            PgDataErrorKind::FileRemove => ErrorKind::FileRemove,
            PgDataErrorKind::PathRemove => ErrorKind::PathRemove,
            PgDataErrorKind::FileWrite | PgDataErrorKind::NoSpace => ErrorKind::FileWrite,
            PgDataErrorKind::LinkExpected => ErrorKind::LinkExpected,
            PgDataErrorKind::LinkDestination => ErrorKind::LinkDestination,
            PgDataErrorKind::PathMissing => ErrorKind::PathMissing,
            PgDataErrorKind::FileMove => ErrorKind::FileMove,
            PgDataErrorKind::TablespaceMap => ErrorKind::TablespaceMap,
            PgDataErrorKind::LinkMap => ErrorKind::LinkMap,
            PgDataErrorKind::FileMode => ErrorKind::FileMode,
            PgDataErrorKind::FileOwner => ErrorKind::FileOwner,
            PgDataErrorKind::FileExists => ErrorKind::FileExists,
            PgDataErrorKind::FileInfo => ErrorKind::FileInfo,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<DbError> for Error {
    fn from(error: DbError) -> Self {
        let kind = match error.kind() {
            DbErrorKind::Connect => ErrorKind::DbConnect,
            DbErrorKind::Query | DbErrorKind::Settings | DbErrorKind::Timeout | DbErrorKind::Lost => ErrorKind::DbQuery,
            DbErrorKind::Mismatch => ErrorKind::DbMismatch,
            DbErrorKind::Recovery => ErrorKind::Assert,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<CheckError> for Error {
    fn from(error: CheckError) -> Self {
        let kind = match error {
            CheckError::Mismatch { .. } => ErrorKind::DbMismatch,
            CheckError::ArchiveDisabled => ErrorKind::ArchiveDisabled,
            CheckError::ArchiveAlways => ErrorKind::FeatureNotSupported,
            CheckError::ArchiveCommand { .. } => ErrorKind::ArchiveCommandInvalid,
        };
        Self::new(kind, error.to_string())
    }
}
