//! What goes wrong while a backup runs: the rows BK01 to BK28 of faults.md that need no server, and OS12, OS16.
//!
//! The data directory and the server are small and obey the test; the repository is real.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod cluster;
mod crash;
mod fake;
mod incremental;
mod repository;
mod resume;
mod server;
mod stage;
