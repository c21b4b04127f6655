//! `repo-ls` and `repo-get`: what is in a repository, by path (repository-behaviour.md §7.4).

mod get;
mod ls;
mod path;

pub use get::{Decoding, GetSource, Got, get};
pub use ls::{LsOptions, Order, ls};
pub use path::resolve;
