//! The protocol of the plugin over its real transports, asked by a plain gRPC client.
//!
//! Tests of a statement of the conformance list are named with its number, `c31_…`; rows of the fault list as everywhere.

mod certificates;
mod client;
mod health;
mod independent;
mod large;
mod roles;
mod server;
mod sidecar;
mod socket;
mod tls;
mod wrong;
