//! A backup into a directory (repository-behaviour.md §5).

pub mod recovery;
