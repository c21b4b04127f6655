//! `repo-ls`, `repo-get` and `repo-rm`: what is in a repository, by path (repository-behaviour.md §7.4).

mod get;
mod ls;
mod path;
mod rm;

pub use get::{Decoding, GetSource, Got, get};
pub use ls::{LsOptions, Order, ls};
pub use path::resolve;
pub use rm::rm;
