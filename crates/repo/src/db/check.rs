//! Whether a server is the configured one and archives as it must (repository-behaviour.md §1.5). Pure.

use super::ServerIdentity;
use crate::postgres::PgVersion;

/// Names of programs of which one must be in `archive_command`.
pub const ARCHIVE_PROGRAMS: [&str; 2] = ["pgbackrest", "pgbr"];

/// What the configuration and the data directory say the server is.
#[derive(Debug, Clone, Copy)]
pub struct ExpectedServer<'a> {
    /// Version in `pg_control`.
    pub version: PgVersion,
    /// Configured path of the data directory.
    pub data_directory: &'a str,
}

/// What is demanded of archiving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveRules<'a> {
    /// Refuse `archive_mode=always` (`archive-mode-check`).
    pub refuse_always: bool,
    /// One of these must be in `archive_command`; empty when another program is known to call us.
    pub programs: &'a [&'a str],
}

/// The server is not as it must be. The number in each line is pgBackRest's error code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The server is another one than the configured (58).
    #[error(
        "version '{found_version}' and path '{found_path}' queried from cluster do not match version \
         '{expected_version}' and '{expected_path}' read from '{expected_path}/global/pg_control'\n\
         HINT: the pg-path and pg-port settings likely reference different clusters."
    )]
    Mismatch {
        /// What the server says.
        found_version: String,
        /// What the server says.
        found_path: String,
        /// What its control file says.
        expected_version: String,
        /// What is configured.
        expected_path: String,
    },
    /// Nothing is archived (87).
    #[error("archive_mode must be enabled")]
    ArchiveDisabled,
    /// A standby would archive too (67).
    #[error("archive_mode=always not supported")]
    ArchiveAlways,
    /// Something else archives (68).
    #[error("archive_command '{command}' must contain {programs}")]
    ArchiveCommand {
        /// The command.
        command: String,
        /// What it must contain.
        programs: String,
    },
}

/// Checks a server. Archiving is checked where `archive` is given and the server is no standby.
///
/// # Errors
/// The first rule that does not hold.
pub fn check_server(
    identity: &ServerIdentity,
    expected: ExpectedServer<'_>,
    archive: Option<ArchiveRules<'_>>,
) -> Result<(), CheckError> {
    if identity.version != expected.version || identity.data_directory != expected.data_directory {
        return Err(CheckError::Mismatch {
            found_version: identity.version.to_string(),
            found_path: identity.data_directory.clone(),
            expected_version: expected.version.to_string(),
            expected_path: expected.data_directory.to_owned(),
        });
    }
    match archive {
        Some(rules) if !identity.in_recovery => check_archiving(identity, rules),
        _ => Ok(()),
    }
}

fn check_archiving(identity: &ServerIdentity, rules: ArchiveRules<'_>) -> Result<(), CheckError> {
    match identity.archive_mode.as_str() {
        "off" => return Err(CheckError::ArchiveDisabled),
        "always" if rules.refuse_always => return Err(CheckError::ArchiveAlways),
        _ => {}
    }
    let command = &identity.archive_command;
    if rules.programs.is_empty() || rules.programs.iter().any(|program| command.contains(program)) {
        return Ok(());
    }
    Err(CheckError::ArchiveCommand { command: command.clone(), programs: rules.programs.join(" or ") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn server(archive_mode: &str, archive_command: &str) -> ServerIdentity {
        ServerIdentity {
            version: PgVersion::V15,
            data_directory: "/pg".into(),
            archive_mode: archive_mode.into(),
            archive_command: archive_command.into(),
            checkpoint_timeout: Duration::from_secs(300),
            in_recovery: false,
        }
    }

    const EXPECTED: ExpectedServer<'_> = ExpectedServer { version: PgVersion::V15, data_directory: "/pg" };
    const RULES: ArchiveRules<'_> = ArchiveRules { refuse_always: true, programs: &ARCHIVE_PROGRAMS };

    #[test]
    fn the_server_must_be_the_configured_one() {
        let good = server("on", "pgbr archive-push %p");
        check_server(&good, EXPECTED, Some(RULES)).unwrap();
        for expected in [
            ExpectedServer { version: PgVersion::V14, ..EXPECTED },
            ExpectedServer { data_directory: "/pg/", ..EXPECTED },
        ] {
            let error = check_server(&good, expected, None).unwrap_err();
            assert!(matches!(error, CheckError::Mismatch { .. }));
        }
    }

    #[test]
    fn archiving_must_be_ours() {
        let check = |mode: &str, command: &str| check_server(&server(mode, command), EXPECTED, Some(RULES));
        for command in ["pgbackrest --stanza=x archive-push %p", "/usr/bin/pgbr archive-push %p"] {
            check("on", command).unwrap();
        }
        assert_eq!(check("off", "pgbr"), Err(CheckError::ArchiveDisabled));
        assert_eq!(check("always", "pgbr"), Err(CheckError::ArchiveAlways));
        for command in ["", "(disabled)", "cp %p /archive/%f"] {
            let error = check("on", command).unwrap_err().to_string();
            assert_eq!(error, format!("archive_command '{command}' must contain pgbackrest or pgbr"));
        }
    }

    #[test]
    fn rules_can_be_relaxed() {
        let relaxed = ArchiveRules { refuse_always: false, programs: &[] };
        check_server(&server("always", "/controller/manager wal-archive"), EXPECTED, Some(relaxed)).unwrap();
        check_server(&server("off", ""), EXPECTED, None).unwrap();
        let standby = ServerIdentity { in_recovery: true, ..server("off", "") };
        check_server(&standby, EXPECTED, Some(RULES)).unwrap();
    }
}
