//! Where the demo keeps its repository: a bucket of an HTTPS S3 server on this machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pgbr_testkit::s3::S3Server;
use pgbr_testkit::user;

use super::report::bytes;
use crate::Failure;

const BUCKET: &str = "backups";

/// A running server with one bucket; dropping it ends it.
#[derive(Debug)]
pub(super) struct Store {
    server: S3Server,
    bucket: PathBuf,
    options: Vec<(&'static str, String)>,
}

impl Store {
    /// Serves a bucket that is a folder below `folder`.
    pub(super) fn start(folder: &Path) -> Result<Self, Failure> {
        let server = S3Server::start(&folder.join("s3"))?;
        let bucket = server.create_bucket(BUCKET)?;
        // The server's own copy lies in a folder that only its owner may enter.
        let certificate = folder.join("ca.pem");
        user::write_file(&certificate, fs::read(server.ca_file())?)?;
        fs::set_permissions(&certificate, fs::Permissions::from_mode(0o644))?;
        let options = vec![
            ("repo1-type", "s3".to_owned()),
            ("repo1-path", "/demo".to_owned()),
            ("repo1-s3-bucket", BUCKET.to_owned()),
            ("repo1-s3-endpoint", "localhost".to_owned()),
            ("repo1-s3-uri-style", "path".to_owned()),
            ("repo1-s3-region", server.region().to_owned()),
            ("repo1-s3-key", server.key().to_owned()),
            ("repo1-s3-key-secret", server.secret().to_owned()),
            ("repo1-storage-port", server.port().to_string()),
            ("repo1-storage-ca-file", certificate.display().to_string()),
        ];
        Ok(Self { server, bucket, options })
    }

    /// Options for `[global]`.
    pub(super) fn options(&self) -> &[(&'static str, String)] {
        &self.options
    }

    /// For a person.
    pub(super) fn describe(&self) -> String {
        format!("bucket {BUCKET} at {}", self.server.url())
    }

    /// What the bucket holds now.
    pub(super) fn content(&self) -> Result<String, Failure> {
        let (objects, size) = count(&self.bucket)?;
        Ok(format!("{objects} objects, {} in bucket {BUCKET}", bytes(size)))
    }
}

/// Files and bytes below a folder.
fn count(folder: &Path) -> Result<(u64, u64), Failure> {
    let (mut files, mut size) = (0, 0);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let (more_files, more_bytes) = if metadata.is_dir() { count(&entry.path())? } else { (1, metadata.len()) };
        files += more_files;
        size += more_bytes;
    }
    Ok((files, size))
}
