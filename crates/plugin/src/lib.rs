//! The CloudNativePG plugin: CNPG-I services over the native engine.

pub mod cluster;
mod lenient;
pub mod parameters;
pub mod resource;
