//! The stanza itself: making it (repository-behaviour.md §1.1).

pub mod create;

#[cfg(test)]
mod tests;
