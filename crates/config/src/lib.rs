//! pgBackRest's option grammar: arguments, environment variables and configuration files become typed options.
//!
//! - [`opt`]: the table, one row for each option, and the keys to read values with
//! - [`command`]: the commands and what holds for each as a whole
//! - [`parse`]: from text to [`Parsed`], with pgBackRest's precedence, checks, messages and error classes
//! - [`help`] and [`completion`]: explanations and shell scripts made from the table
//! - [`engine`]: typed options as the engine's own
//! - [`report`]: what is configured, as JSON
//! - [`render`]: options as text again: for the log, for `restore_command`, for a background run
//!
//! Nothing is read but the configuration files, and those through [`ConfigFiles`]; the environment, the user and the
//! program's path are handed in.

mod arguments;
pub mod command;
pub mod completion;
// Opens stores, which fuzz targets are built without.
#[cfg(not(fuzzing))]
pub mod engine;
mod environment;
mod error;
mod files;
mod given;
pub mod help;
mod ini;
mod name;
pub mod opt;
mod parse;
pub mod render;
pub mod report;
mod resolve;
mod sections;
mod set;
mod settle;
pub mod value;

pub use command::{Command, Role};
pub use error::{ConfigError, ErrorClass};
pub use files::{ConfigFiles, HostFiles, NoFiles};
pub use given::Source;
pub use parse::{Invocation, Parsed, parse};
pub use set::{OptionSet, PgIndex, PgOptions, RepoIndex, RepoOptions, Scope, Value};
