//! Reads and writes pgBackRest repositories (format 5) directly, on S3 or a local directory.
//!
//! The crate is a library for any program: it knows no terminal, no environment variable, no global state and no clock
//! but the one it is given. It starts no process.
//!
//! The layers, lowest first; a layer uses only those above it in this list:
//!
//! - [`postgres`]: facts about PostgreSQL's own files; pure
//! - [`mod@format`]: what a repository stores; pure values, parsed and written
//! - [`filter`]: bytes in, bytes or a result out; synchronous
//! - [`storage`]: where repository bytes live; knows no formats
//! - [`pgdata`] and [`db`]: the cluster directory and the running server
//! - [`transfer`]: joins asynchronous bytes with synchronous filters, within a memory budget
//! - [`repository`]: an opened repository with typed reads and writes of its files
//! - [`command`]: one folder for each verb of pgBackRest
//! - [`resident`]: archiving ahead of requests, for a process that stays
//!
//! A fuzz build (`cfg(fuzzing)`, set by cargo-fuzz) has the pure layers alone.
#![warn(missing_docs)]

pub mod clock;
#[cfg(not(fuzzing))]
pub mod command;
#[cfg(not(fuzzing))]
pub mod db;
#[cfg(not(fuzzing))]
pub mod error;
pub mod filter;
pub mod format;
#[cfg(not(fuzzing))]
pub mod pgdata;
pub mod postgres;
#[cfg(not(fuzzing))]
pub mod progress;
#[cfg(not(fuzzing))]
pub mod repository;
#[cfg(not(fuzzing))]
pub mod resident;
pub mod storage;
#[cfg(not(fuzzing))]
pub mod transfer;
#[cfg_attr(fuzzing, allow(dead_code))]
mod workers;
