//! Real parts for tests and developer commands: PostgreSQL servers, the original pgBackRest, the `pgbr` binary, an
//! HTTPS S3 server and repositories that the original wrote.
//!
//! Nothing here is shipped. Every program runs as an unprivileged user when the tests run as root ([`user`]), every
//! server ends when its handle is dropped, and what a machine lacks is installed below one folder ([`tools`]).

pub mod canary;
pub mod conf;
pub mod engine;
pub mod error;
pub mod kube_api;
pub mod kube_secrets;
pub mod pgbr;
pub mod postgres;
pub mod process;
pub mod running;
pub mod s3;
pub mod samples;
pub mod stock;
pub mod tools;
pub mod user;
pub mod wait;
pub mod watch;
pub mod world;

pub use error::{Error, Result};
