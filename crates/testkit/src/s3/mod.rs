//! Two S3 servers on the loopback: [`server`] is a real one that keeps its objects in a folder and takes orders to
//! misbehave, [`scripted`] plays answers byte by byte that no real server would give.
//!
//! Both run in a thread of their own and end when the handle is dropped, so that tests may be asynchronous or not.

pub mod bucket;
pub mod certificate;
pub mod fault;
mod flat;
pub mod scripted;
pub mod server;
mod service;
mod tcp;
pub(crate) mod thread;
mod uploads;
mod versions;

pub use bucket::Bucket;
pub use certificate::TestCertificate;
pub use fault::{Fault, RequestInfo, Rule, S3Operation};
pub use scripted::{ScriptedServer, WireAnswer, WireRequest};
pub use server::{S3Server, serve_forever};
