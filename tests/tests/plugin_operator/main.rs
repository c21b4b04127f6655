//! The plugin beside the operator: its hooks over a real unix socket, with an API server that keeps the objects, and what
//! is installed. Tests named `cNN_` are statements of the protocol's conformance list.

mod call;
mod definition;
mod examples;
mod hooks;
mod limits;
mod manifest;
mod objects;
mod patches;
mod probes;
mod rights;
mod watch;
