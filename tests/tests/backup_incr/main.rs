//! Differential and incremental backups, judged by the original: it decides about each file of the same tree, goes on
//! with our chains and restores them.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod chains;
mod data;
mod online;
mod pair;
mod rules;
