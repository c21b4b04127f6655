//! A bucket as a repository, on an HTTPS server of its own.

use std::path::{Path, PathBuf};
use std::{fs, io};

use tempfile::TempDir;

use super::S3Server;
use crate::error::{Context, Result};
use crate::user;

/// The bucket's name.
const NAME: &str = "backups";

/// The repository's path in the bucket.
const REPO: &str = "repo";

/// A server with one bucket; both end when it is dropped.
#[derive(Debug)]
pub struct Bucket {
    server: S3Server,
    objects: TempDir,
    ca_file: PathBuf,
}

impl Bucket {
    /// Starts the server. Its certificate goes into `folder`, which the unprivileged user has to reach.
    ///
    /// # Errors
    /// When the server does not start or a file cannot be written.
    pub fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, S3Server::start)
    }

    /// As [`Bucket::start`]; the bucket keeps every version of every object.
    ///
    /// # Errors
    /// As [`Bucket::start`].
    pub fn start_versioned(folder: &Path) -> Result<Self> {
        Self::start_with(folder, S3Server::start_versioned)
    }

    fn start_with(folder: &Path, start: impl FnOnce(&Path) -> io::Result<S3Server>) -> Result<Self> {
        let objects = tempfile::tempdir().context("create folder in", &std::env::temp_dir())?;
        let server = start(objects.path()).context("start an S3 server over", objects.path())?;
        server.create_bucket(NAME).context("create a bucket in", objects.path())?;
        let ca_file = folder.join("ca.pem");
        user::write_file(&ca_file, fs::read(server.ca_file()).context("read", &server.ca_file())?)?;
        Ok(Self { server, objects, ca_file })
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &S3Server {
        &self.server
    }

    /// The folder in which the repository's objects lie as files.
    #[must_use]
    pub fn repo(&self) -> PathBuf {
        self.objects.path().join(NAME).join(REPO)
    }

    /// The options of the repository with this number.
    #[must_use]
    pub fn options(&self, repo: u32) -> Vec<(String, String)> {
        let server = &self.server;
        let options = [
            ("type", "s3".to_owned()),
            ("path", format!("/{REPO}")),
            ("s3-bucket", NAME.to_owned()),
            ("s3-endpoint", "localhost".to_owned()),
            ("s3-region", server.region().to_owned()),
            ("s3-key", server.key().to_owned()),
            ("s3-key-secret", server.secret().to_owned()),
            ("s3-uri-style", "path".to_owned()),
            ("storage-port", server.port().to_string()),
            ("storage-ca-file", self.ca_file.display().to_string()),
        ];
        options.map(|(name, value)| (format!("repo{repo}-{name}"), value)).into()
    }

    /// Puts the files of a repository in a directory into the bucket. Links and empty directories have no place there.
    ///
    /// # Errors
    /// When a file cannot be copied.
    pub fn take(&self, repo: &Path) -> Result<()> {
        copy_files(repo, &self.repo())
    }
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).context("list", from)? {
        let entry = entry.context("list", from)?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().context("look at", &path)?;
        if kind.is_dir() {
            copy_files(&path, &target)?;
        } else if kind.is_file() {
            fs::create_dir_all(to).context("create folder", to)?;
            fs::copy(&path, &target).context("copy to", &target)?;
        }
    }
    Ok(())
}
