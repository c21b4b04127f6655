//! What a run works on, as one number: two runs with the same number do the same to the same archives.
//!
//! It is a hash, since the options that decide it include secrets.

use pgbr_config::{Command, render};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use crate::exit::Failure;
use crate::session::Session;

/// The number of the session's archives as `command` uses them, in hexadecimal.
pub fn of_archive(session: &Session, command: Command) -> Result<String, Failure> {
    let cluster = match session.pg_path() {
        Some(path) => session.cluster(&path)?.system_id.to_string(),
        None => String::new(),
    };
    let options = render::archive_target(session.options(), command);
    let mut digest = Sha256::new_with_prefix(options.expose_secret());
    digest.update(cluster);
    Ok(hex::encode(digest.finalize()))
}
