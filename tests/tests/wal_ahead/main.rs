//! WAL ahead of PostgreSQL's requests: the background halves of `archive-push` and `archive-get` with the original on the
//! other side of the spool, and the resident engine.

#[path = "../wal_site/mod.rs"]
mod wal_site;

mod background;
mod resident;
