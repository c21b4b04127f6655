//! The services of CNPG-I, one file each: a request becomes options, options a command, its result the response.

pub mod backup;
pub mod identity;
pub mod lifecycle;
pub mod metrics;
pub mod reconciler;
pub mod restore_job;
pub mod wal;
mod wal_ready;
