//! The sidecar of a pod as the instance manager meets it: a process of its own on a unix socket, a real PostgreSQL whose
//! `archive_command` leads to it, a real S3 server, an API server with Archive and Secret.

mod conformance;
mod deletion;
mod limits;
mod manager;
mod scene;
mod stories;

mod backups;
mod cancels;
mod endings;
mod restores;
mod sandbox;
mod secrets;
mod upgrades;
mod upkeep;
mod wal;
