//! One file for each service: request to options to command to response, and nothing else.

pub mod backup;
pub mod identity;
pub mod metrics;
pub mod restore_job;
pub mod wal;
