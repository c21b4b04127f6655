//! Backups that read a standby: a streaming replica on the same host, with clients writing to its primary.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod alone;
mod faults;
mod helped;
mod scene;
