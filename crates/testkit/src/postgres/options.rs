//! How a cluster is made and run.

use std::time::Duration;

/// What a cluster differs in from a plain one. `Options::default()` is a plain one.
#[derive(Debug, Clone)]
pub struct Options {
    /// Page checksums. Always stated to initdb: the default differs between versions.
    pub checksums: bool,
    /// Size of a WAL segment, a power of two from 1 to 1024.
    pub wal_segment_size_mib: u32,
    /// `archive_command`; without one, `archive_mode` is on and segments wait (it can be set later).
    pub archive_command: Option<String>,
    /// Lines for postgresql.conf, after all others.
    pub conf: Vec<String>,
    /// Settings of the command line, which win over every file: for a restored folder whose files are not to be
    /// touched.
    pub overrides: Vec<(String, String)>,
    /// How long a start may take, recovery to the first consistent point included.
    pub start_limit: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            checksums: true,
            wal_segment_size_mib: 16,
            archive_command: None,
            conf: Vec::new(),
            overrides: Vec::new(),
            start_limit: Duration::from_secs(90),
        }
    }
}

impl Options {
    /// The content that a new cluster's postgresql.conf gets in addition.
    pub(super) fn conf_text(&self) -> String {
        let mut lines = vec![
            // Small and quick: a test loses nothing that the operating system keeps.
            "shared_buffers = 16MB".to_owned(),
            "max_connections = 30".to_owned(),
            "fsync = off".to_owned(),
            "wal_level = replica".to_owned(),
            "archive_mode = on".to_owned(),
            format!("archive_command = {}", quoted(self.archive_command.as_deref().unwrap_or_default())),
            "log_checkpoints = off".to_owned(),
            "log_timezone = 'UTC'".to_owned(),
            "timezone = 'UTC'".to_owned(),
        ];
        lines.extend(self.conf.iter().cloned());
        lines.push(String::new());
        lines.join("\n")
    }
}

/// A string literal of postgresql.conf and of SQL (without backslashes).
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
