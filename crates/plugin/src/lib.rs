//! The CloudNativePG plugin: CNPG-I services over the native engine.
#![warn(missing_docs)]

pub mod cluster;
mod lenient;
pub mod parameters;
pub mod resource;
