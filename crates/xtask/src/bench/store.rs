//! The S3 server in a process of its own, so that its work is not taken for the client's.
//!
//! It is this program again. A line on its standard input asks, a line on its standard output answers:
//!
//! ```text
//!                  -> port key secret region     at the start
//! count            -> list get head put other    requests so far
//! delay MS         -> ok                         every answer is this much later
//! ```

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::ops::{AddAssign, Sub};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use pgbr_testkit::s3::{S3Operation, S3Server};
use pgbr_testkit::user;

use crate::Failure;

/// The command of the server's process.
pub(super) const SERVE: &str = "serve-s3";

const BUCKET: &str = "bench";

/// Requests by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Requests {
    pub(super) list: u64,
    pub(super) get: u64,
    pub(super) head: u64,
    pub(super) put: u64,
    pub(super) other: u64,
}

impl Requests {
    fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        Some(Self { list: next()?, get: next()?, head: next()?, put: next()?, other: next()? })
    }
}

impl Requests {
    /// All of them.
    pub(super) fn total(self) -> u64 {
        self.list + self.get + self.head + self.put + self.other
    }
}

impl Sub for Requests {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            list: self.list.saturating_sub(before.list),
            get: self.get.saturating_sub(before.get),
            head: self.head.saturating_sub(before.head),
            put: self.put.saturating_sub(before.put),
            other: self.other.saturating_sub(before.other),
        }
    }
}

impl AddAssign for Requests {
    fn add_assign(&mut self, more: Self) {
        self.list += more.list;
        self.get += more.get;
        self.head += more.head;
        self.put += more.put;
        self.other += more.other;
    }
}

/// A running server; dropping it ends it.
#[derive(Debug)]
pub(super) struct Store {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    bucket: PathBuf,
    options: Vec<(&'static str, String)>,
}

impl Store {
    /// Serves a bucket below `folder`.
    pub(super) fn start(folder: &Path, delay_ms: usize) -> Result<Self, Failure> {
        let (root, certificate) = (folder.join("s3"), folder.join("ca.pem"));
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bench", SERVE])
            .args([&root, &certificate])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (questions, answers) = (child.stdin.take(), child.stdout.take());
        let answers = BufReader::new(answers.ok_or_else(|| Failure::new("the S3 server has no output"))?);
        let mut store = Self { child, questions, answers, bucket: root.join(BUCKET), options: Vec::new() };
        let line = store.answer()?;
        let [port, key, secret, region] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(Failure::new(format!("the S3 server said {line:?}")));
        };
        store.options = vec![
            ("repo1-type", "s3".to_owned()),
            ("repo1-s3-bucket", BUCKET.to_owned()),
            ("repo1-s3-endpoint", "localhost".to_owned()),
            ("repo1-s3-uri-style", "path".to_owned()),
            ("repo1-s3-region", region.to_owned()),
            ("repo1-s3-key", key.to_owned()),
            ("repo1-s3-key-secret", secret.to_owned()),
            ("repo1-storage-port", port.to_owned()),
            ("repo1-storage-ca-file", certificate.display().to_string()),
        ];
        if delay_ms > 0 {
            store.ask(&format!("delay {delay_ms}"))?;
        }
        Ok(store)
    }

    /// The number of its process.
    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Options for `[global]`.
    pub(super) fn options(&self) -> &[(&'static str, String)] {
        &self.options
    }

    /// Requests since the start.
    pub(super) fn requests(&mut self) -> Result<Requests, Failure> {
        let line = self.ask("count")?;
        Requests::parse(&line).ok_or_else(|| Failure::new(format!("the S3 server said {line:?}")))
    }

    /// How many WAL segments lie below `path` of the bucket, and their bytes.
    pub(super) fn segments(&self, path: &str) -> Result<(usize, u64), Failure> {
        count(&self.bucket.join(path))
    }

    /// The folder of what lies below `path` of the bucket.
    pub(super) fn objects(&self, path: &str) -> PathBuf {
        self.bucket.join(path)
    }

    /// Removes all below `path` of the bucket.
    pub(super) fn remove(&self, path: &str) -> Result<(), Failure> {
        Ok(fs::remove_dir_all(self.bucket.join(path))?)
    }

    fn ask(&mut self, question: &str) -> Result<String, Failure> {
        if let Some(questions) = &mut self.questions {
            writeln!(questions, "{question}")?;
            questions.flush()?;
        }
        self.answer()
    }

    fn answer(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err(Failure::new("the S3 server ended")),
            _ => Ok(line.trim().to_owned()),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // The end of its input ends the server.
        self.questions = None;
        let _ended = self.child.wait();
    }
}

/// Objects named like segments, and their bytes.
fn count(folder: &Path) -> Result<(usize, u64), Failure> {
    let (mut segments, mut stored_bytes) = (0, 0);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            let (more, more_bytes) = count(&entry.path())?;
            segments += more;
            stored_bytes += more_bytes;
        } else if entry.file_name().as_encoded_bytes().get(24) == Some(&b'-') {
            segments += 1;
            stored_bytes += metadata.len();
        }
    }
    Ok((segments, stored_bytes))
}

/// The server's process: serves until its input ends.
pub(super) fn serve(arguments: &[String]) -> Result<(), Failure> {
    let [root, certificate] = arguments else { return Err(Failure::new("expected a folder and a certificate file")) };
    let server = S3Server::start(Path::new(root))?;
    server.create_bucket(BUCKET)?;
    // The server's own copy lies in a folder that only its owner may enter.
    user::write_file(Path::new(certificate), fs::read(server.ca_file())?)?;
    fs::set_permissions(certificate, fs::Permissions::from_mode(0o644))?;
    println!("{} {} {} {}", server.port(), server.key(), server.secret(), server.region());
    for line in std::io::stdin().lines() {
        let line = line?;
        match line.split_once(' ') {
            None if line == "count" => println!("{}", counts(&server)),
            Some(("delay", ms)) => {
                server.delay(Duration::from_millis(ms.parse().unwrap_or(0)));
                println!("ok");
            }
            _ => println!("what?"),
        }
    }
    Ok(())
}

fn counts(server: &S3Server) -> String {
    let sum = |operations: &[S3Operation]| operations.iter().map(|one| server.count(*one)).sum::<u64>();
    let other = sum(&[
        S3Operation::DeleteObject,
        S3Operation::DeleteObjects,
        S3Operation::CompleteMultipartUpload,
        S3Operation::AbortMultipartUpload,
        S3Operation::ListMultipartUploads,
        S3Operation::CreateMultipartUpload,
        S3Operation::Other,
    ]);
    format!(
        "{} {} {} {} {other}",
        sum(&[S3Operation::ListObjects]),
        sum(&[S3Operation::GetObject]),
        sum(&[S3Operation::HeadObject]),
        sum(&[S3Operation::PutObject, S3Operation::UploadPart]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_and_subtracted() {
        let before = Requests::parse("1 2 3 4 5").unwrap();
        let after = Requests::parse("2 4 6 8 10").unwrap();
        assert_eq!(after - before, before);
        assert_eq!(Requests::parse("1 2 3 4"), None);
        assert_eq!(Requests::parse("1 2 3 x 5"), None);
    }
}
