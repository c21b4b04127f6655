//! Builds a pgBackRest configuration file.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::postgres::Cluster;
use crate::user;

/// A configuration file with one stanza, rewritten at each change.
///
/// Locks, spool and logs go below the file's folder, so that tests do not meet each other.
#[derive(Debug, Clone)]
pub struct Conf {
    path: PathBuf,
    stanza: String,
    global: Vec<(String, String)>,
    local: Vec<(String, String)>,
}

impl Conf {
    /// A configuration in `folder/pgbackrest.conf` with the repository in `folder/repo`; the unprivileged user owns
    /// all of it.
    ///
    /// # Errors
    /// When the folder or file cannot be written.
    pub fn create(folder: &Path, stanza: &str) -> Result<Self> {
        user::create_dir(folder)?;
        let mut conf = Self {
            path: folder.join("pgbackrest.conf"),
            stanza: stanza.to_owned(),
            global: Vec::new(),
            local: Vec::new(),
        };
        for (option, name) in
            [("lock-path", "lock"), ("spool-path", "spool"), ("log-path", "log"), ("repo1-path", "repo")]
        {
            let path = folder.join(name);
            user::create_dir(&path)?;
            put(&mut conf.global, option, &path.display().to_string());
        }
        for (option, value) in
            [("log-level-console", "info"), ("log-level-file", "off"), ("start-fast", "y"), ("archive-timeout", "60")]
        {
            put(&mut conf.global, option, value);
        }
        conf.save()?;
        Ok(conf)
    }

    /// Takes a configuration file that exists as it is.
    #[must_use]
    pub fn existing(path: &Path, stanza: &str) -> Self {
        Self { path: path.to_owned(), stanza: stanza.to_owned(), global: Vec::new(), local: Vec::new() }
    }

    /// Sets an option in `[global]`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn global(&mut self, option: &str, value: &str) -> Result<&mut Self> {
        put(&mut self.global, option, value);
        self.save()?;
        Ok(self)
    }

    /// Sets an option in the stanza's own section.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn local(&mut self, option: &str, value: &str) -> Result<&mut Self> {
        put(&mut self.local, option, value);
        self.save()?;
        Ok(self)
    }

    /// Removes an option from both sections.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn without(&mut self, option: &str) -> Result<&mut Self> {
        self.global.retain(|(name, _)| name != option);
        self.local.retain(|(name, _)| name != option);
        self.save()?;
        Ok(self)
    }

    /// Points the stanza at a cluster: its data folder, socket, port and superuser.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn cluster(&mut self, cluster: &Cluster) -> Result<&mut Self> {
        self.cluster_at(1, cluster)
    }

    /// As [`Conf::cluster`], for the cluster with this number.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn cluster_at(&mut self, number: u32, cluster: &Cluster) -> Result<&mut Self> {
        for (option, value) in [
            ("path", cluster.data().display().to_string()),
            ("socket-path", cluster.socket_dir().display().to_string()),
            ("port", cluster.port().to_string()),
            ("user", "postgres".to_owned()),
        ] {
            put(&mut self.local, &format!("pg{number}-{option}"), &value);
        }
        self.save()?;
        Ok(self)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the stanza.
    #[must_use]
    pub fn stanza(&self) -> &str {
        &self.stanza
    }

    /// The folders that programs write logs, markers and lock files into.
    pub(crate) fn written(&self) -> Vec<PathBuf> {
        let is_written = |name: &str| matches!(name, "log-path" | "spool-path" | "lock-path");
        self.global.iter().filter(|(name, _)| is_written(name)).map(|(_, path)| PathBuf::from(path)).collect()
    }

    /// `--config=PATH`.
    #[must_use]
    pub fn config_option(&self) -> String {
        format!("--config={}", self.path.display())
    }

    /// `--stanza=NAME`.
    #[must_use]
    pub fn stanza_option(&self) -> String {
        format!("--stanza={}", self.stanza)
    }

    fn save(&self) -> Result<()> {
        let lines = |options: &[(String, String)]| -> String {
            options.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
        };
        let text = format!("[global]\n{}\n[{}]\n{}", lines(&self.global), self.stanza, lines(&self.local));
        user::write_file(&self.path, text)
    }
}

fn put(options: &mut Vec<(String, String)>, option: &str, value: &str) {
    options.retain(|(name, _)| name != option);
    options.push((option.to_owned(), value.to_owned()));
}
