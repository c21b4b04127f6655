//! The CloudNativePG plugin: CNPG-I services over the native engine.
//!
//! - [`proto`]: the messages of CNPG-I 0.6, generated from `proto/`
//! - [`ids`]: the names that existing installations depend on
//! - [`run`]: a role of the program from its arguments to its exit code
//! - [`transport`]: the unix socket and the mutual TLS connection, with the same limits for every service
//! - [`service`]: one file for each service: request to options to command to response
//! - [`operator`], [`instance`]: which services a role serves, and its work in the background
//! - [`log`]: log lines as CloudNativePG's own processes write them
//! - [`health`]: what the probes of a pod ask
//! - [`cluster`], [`parameters`]: the fields of a Cluster that we read, and which Archive and stanza it means
//! - [`patch`]: pure functions from an object of the operator to its patch
//! - [`resource`]: the custom resource Archive
//! - [`settings`]: an Archive, a Backup's parameters and variables as the engine's options
//! - [`credentials`]: Archives and Secrets as the API server has them
//! - `metadata`: addresses that no store has
//! - [`limit`]: what an administrator lets the Archives of a namespace point at
//! - [`finalizer`]: what holds a Backup until its backup is removed
//! - [`upkeep`]: what the sidecar of the primary does in the background
//! - [`lease`]: who of several processes does something
//! - [`status`]: what went wrong, as callers hear it
#![warn(missing_docs)]

pub mod cluster;
pub mod credentials;
pub mod finalizer;
pub mod health;
pub mod ids;
pub mod instance;
pub mod lease;
mod lenient;
pub mod limit;
pub mod log;
mod metadata;
pub mod mounted;
pub mod operator;
pub mod parameters;
pub mod patch;
pub mod proto;
pub mod resource;
pub mod run;
pub mod service;
pub mod settings;
pub mod status;
pub mod transport;
pub mod upkeep;
