//! One folder for each verb. A command never imports another command.

pub mod annotate;
pub mod archive;
pub mod backup;
pub mod check;
pub mod control;
pub mod expire;
pub mod info;
pub mod manifest;
pub mod plan;
pub mod repo;
pub mod restore;
pub mod stanza;
pub mod verify;
