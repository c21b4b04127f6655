//! One file for each service: request to options to command to response, and nothing else.

pub mod identity;
pub mod lifecycle;
pub mod reconciler;
