//! One file for each service: request to options to command to response, and nothing else.

pub mod identity;
