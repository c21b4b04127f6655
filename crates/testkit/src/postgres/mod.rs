//! Real `PostgreSQL` clusters: made, started, asked and ended by a test.

mod cluster;
mod options;
mod pgbench;
mod replica;
mod version;

pub use cluster::{Cluster, Shutdown};
pub use options::Options;
pub use pgbench::Load;
pub use version::Version;
