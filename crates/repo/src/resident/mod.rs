//! The resident engine: archives and fetches WAL for a process that stays, with connections that are kept.
//!
//! It is used over a unix socket by `archive-push` and `archive-get` ([`protocol`]), and is no more than their own work done
//! ahead of time:
//!
//! - while PostgreSQL waits for one segment, those behind it that are ready are pushed too ([`Pusher`]). What was pushed
//!   ahead answers a request only while the file is provably the one that was pushed (faults.md NP02). Nothing is remembered
//!   after it was acknowledged: a second request for it is a push like any other;
//! - while PostgreSQL replays one segment, the following ones are fetched into a directory of the engine's own
//!   ([`Fetcher`]), each checked against the checksum of its name. That a segment is missing is never remembered.
//!
//! archive.info is believed for a minute, and read again at once when something does not fit. Bytes in flight come from the
//! budget of the context. Requests for one file join (faults.md PU18, GE17); one that is given up does not end the work.

mod fetch;
mod job;
pub mod protocol;
mod push;

pub use fetch::{FetchOptions, Fetcher};
pub use push::{Pusher, PusherOptions};
