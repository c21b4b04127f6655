//! One thin file for each verb: options into the engine's types, outcome into text.

mod annotate;
mod archive_get;
mod archive_push;
mod backup;
mod check;
mod completion;
mod control;
mod expire;
mod help;
mod info;
mod manifest;
mod plan;
mod repo_get;
mod repo_ls;
mod repo_path;
mod repo_rm;
mod restore;
mod serve;
mod standard_output;
mod stanza_cluster;
mod stanza_create;
mod stanza_delete;
mod stanza_upgrade;
mod verify;
mod wal_path;

use std::sync::Arc;

use pgbr_config::{Command, Role};
use pgbr_repo::error::ErrorKind;

use crate::exit::{Failure, Outcome};
use crate::session::Session;

pub use help::print_help_or_version;

/// Runs the session's command, or the one that it goes over into.
pub async fn run(session: &Arc<Session>, command: Command) -> Result<Outcome, Failure> {
    match command {
        Command::ArchiveGet if session.parsed.role == Role::Async => archive_get::run_background(session).await,
        Command::ArchivePush if session.parsed.role == Role::Async => archive_push::run_background(session).await,
        Command::Annotate => annotate::run(session).await,
        Command::ArchiveGet => archive_get::run(session).await,
        Command::ArchivePush => archive_push::run(session).await,
        Command::Expire => expire::run(session).await,
        Command::Info => info::run(session).await,
        Command::Manifest => manifest::run(session).await,
        Command::RepoGet => repo_get::run(session).await,
        Command::RepoLs => repo_ls::run(session).await,
        Command::RepoRm => repo_rm::run(session).await,
        Command::Backup => backup::run(session).await,
        Command::Restore => restore::run(session).await,
        Command::Check => check::run(session).await,
        Command::Serve => serve::run(session).await,
        Command::StanzaCreate => stanza_create::run(session).await,
        Command::StanzaDelete => stanza_delete::run(session).await,
        Command::StanzaUpgrade => stanza_upgrade::run(session).await,
        Command::Completion => completion::run(session),
        Command::Plan => plan::run(session).await,
        Command::Verify => verify::run(session).await,
        Command::Start => control::start(session),
        Command::Stop => control::stop(session),
        other => Err(Failure::new(
            ErrorKind::FeatureNotSupported,
            format!("the '{other}' command is not implemented yet; COMPATIBILITY.md says what is"),
        )),
    }
}
