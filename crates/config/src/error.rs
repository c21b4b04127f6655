//! Mistakes in options, with pgBackRest's classes and codes.

use thiserror::Error;

/// Classes of pgBackRest's errors (`build/error.yaml`) that reading options can end with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    Config,
    Format,
    CommandRequired,
    OptionInvalid,
    OptionInvalidValue,
    OptionRequired,
    FileOpen,
    FileRead,
    CommandInvalid,
    PathOpen,
    FileMissing,
    FeatureNotSupported,
    PathMissing,
    ParamInvalid,
}

impl ErrorClass {
    /// Exit code of a process that ends with the error.
    pub const fn code(self) -> u8 {
        match self {
            ErrorClass::Config => 27,
            ErrorClass::Format => 29,
            ErrorClass::CommandRequired => 30,
            ErrorClass::OptionInvalid => 31,
            ErrorClass::OptionInvalidValue => 32,
            ErrorClass::OptionRequired => 37,
            ErrorClass::FileOpen => 41,
            ErrorClass::FileRead => 42,
            ErrorClass::CommandInvalid => 48,
            ErrorClass::PathOpen => 53,
            ErrorClass::FileMissing => 55,
            ErrorClass::FeatureNotSupported => 67,
            ErrorClass::PathMissing => 73,
            ErrorClass::ParamInvalid => 96,
        }
    }

    /// Name that pgBackRest prints for the class.
    pub const fn name(self) -> &'static str {
        match self {
            ErrorClass::Config => "ConfigError",
            ErrorClass::Format => "FormatError",
            ErrorClass::CommandRequired => "CommandRequiredError",
            ErrorClass::OptionInvalid => "OptionInvalidError",
            ErrorClass::OptionInvalidValue => "OptionInvalidValueError",
            ErrorClass::OptionRequired => "OptionRequiredError",
            ErrorClass::FileOpen => "FileOpenError",
            ErrorClass::FileRead => "FileReadError",
            ErrorClass::CommandInvalid => "CommandInvalidError",
            ErrorClass::PathOpen => "PathOpenError",
            ErrorClass::FileMissing => "FileMissingError",
            ErrorClass::FeatureNotSupported => "FeatureNotSupportedError",
            ErrorClass::PathMissing => "PathMissingError",
            ErrorClass::ParamInvalid => "ParamInvalidError",
        }
    }
}

/// The first mistake found. The message never holds the value of a secret option.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ConfigError {
    pub class: ErrorClass,
    pub message: String,
    /// Next steps, one a line
    pub hints: Vec<String>,
    /// What came up before the mistake, as in [`crate::Parsed`]; it may explain it
    pub warnings: Vec<String>,
}

impl ConfigError {
    pub(crate) fn new(class: ErrorClass, message: impl Into<String>) -> ConfigError {
        ConfigError { class, message: message.into(), hints: Vec::new(), warnings: Vec::new() }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> ConfigError {
        self.hints.push(hint.into());
        self
    }

    /// Message and hints as pgBackRest logs them: each hint on a line of its own.
    pub fn with_hints(&self) -> String {
        let mut text = self.message.clone();
        for hint in &self.hints {
            text.push_str("\nHINT: ");
            text.push_str(hint);
        }
        text
    }
}

/// An option that does not belong where it stands.
pub(crate) fn option_invalid(message: impl Into<String>) -> ConfigError {
    ConfigError::new(ErrorClass::OptionInvalid, message)
}

/// A value that an option cannot have.
pub(crate) fn option_invalid_value(message: impl Into<String>) -> ConfigError {
    ConfigError::new(ErrorClass::OptionInvalidValue, message)
}
