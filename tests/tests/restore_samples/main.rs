//! Backups that the original wrote, restored by `pgbr`: byte for byte, and to running servers; from a directory and
//! from S3.

mod labels;
mod newer;
mod original;
mod place;
mod servers;
