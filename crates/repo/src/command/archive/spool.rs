//! The spool directory, in which a background process and the commands that PostgreSQL starts tell each other about
//! segments (repository-behaviour.md §2.5, §3.3; pgBackRest `command/archive/common.c`).
//!
//! ```text
//! <spool-path>/archive/<stanza>/out/<wal>.ok      pushed; empty, or "0\n<warnings>"
//!                                  /<wal>.error   "<code>\n<message>"
//!                                  /global.error  the same for all
//!                              /in/<wal>          a segment fetched ahead
//!                                  /<wal>.ok      without the segment: not archived; with it: "0\n<warnings>"
//! ```
//!
//! Names and contents are the original's, so that it can go on with a spool of ours and the reverse. A marker is a bare name
//! and says nothing of where a segment went, so one that nothing proves is never relied on (faults.md PU09): whoever pushed
//! with this program left the proof beside the directory, in `out.proof/<wal>`. [`coming`](super::coming) is beside `in`.
//!
//! Nothing here has to be durable: a marker appears after what it says has happened, and one that is lost costs another look.

use std::fs::{self, DirBuilder, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::{Error, ErrorKind, Result};
use crate::format::Stanza;
use crate::progress::Context;

/// The end of the name of a marker of success.
pub const OK: &str = ".ok";

/// The end of the name of a marker of failure.
const ERROR: &str = ".error";

/// Names a failure of all files.
const GLOBAL: &str = "global";

/// More than any status has.
const STATUS_BYTES_MAX: u64 = 1024 * 1024;

/// The spool directory of one direction.
#[derive(Debug, Clone)]
pub struct Spool {
    directory: PathBuf,
    proofs: PathBuf,
    ahead: PathBuf,
}

/// What a marker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It was done, with this warning. A code other than 0 is that of an error that somebody has renamed to skip the file.
    Done {
        /// The code in front of the warning.
        code: u8,
        /// The warning, if there is one.
        warning: Option<String>,
    },
    /// It failed.
    Failed {
        /// The exit code of the failure.
        code: u8,
        /// Its message.
        message: String,
    },
}

impl Spool {
    /// The spool of `archive-push`.
    pub fn push(spool_path: &Path, stanza: &Stanza) -> Self {
        Self::new(spool_path, stanza, "out")
    }

    /// The spool of `archive-get`.
    pub fn get(spool_path: &Path, stanza: &Stanza) -> Self {
        Self::new(spool_path, stanza, "in")
    }

    fn new(spool_path: &Path, stanza: &Stanza, direction: &str) -> Self {
        let archive = spool_path.join("archive").join(stanza.as_str());
        let beside = |what: &str| archive.join(format!("{direction}.{what}"));
        Self { directory: archive.join(direction), proofs: beside("proof"), ahead: beside("ahead") }
    }

    /// Where a file of this name is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Creates the directory.
    ///
    /// # Errors
    /// [`ErrorKind::PathCreate`] (faults.md PU10).
    pub fn create(&self) -> Result<()> {
        create_directory(&self.directory)
    }

    /// Where those who share the directory advise each other (see [`coming`](super::coming)).
    pub(super) fn ahead(&self) -> &Path {
        &self.ahead
    }

    /// Creates the directory of advice.
    ///
    /// # Errors
    /// [`ErrorKind::PathCreate`].
    pub(super) fn create_ahead(&self) -> Result<()> {
        create_directory(&self.ahead)
    }

    /// As [`Spool::status`]; a marker that is none was written by nobody who knows anything, so it is removed with a warning
    /// and counts as nothing (faults.md HI16).
    ///
    /// # Errors
    /// [`ErrorKind::FileRead`], [`ErrorKind::FileRemove`].
    pub fn status_or_tidy(&self, name: &str, context: &Context) -> Result<Option<Status>> {
        match self.status(name) {
            Err(error) if matches!(error.kind(), ErrorKind::Format | ErrorKind::Assert) => {
                context.warn(format!("marker of '{name}' in the spool ignored: {}", error.message()));
                self.remove(&format!("{name}{OK}"))?;
                self.clear_errors(name)?;
                Ok(None)
            }
            status => status,
        }
    }

    /// What is known of a file; an error of all files counts for each that has no marker of its own.
    ///
    /// # Errors
    /// [`ErrorKind::FileRead`], or [`ErrorKind::Format`] for a marker that is none.
    pub fn status(&self, name: &str) -> Result<Option<Status>> {
        if let Some(content) = self.read(&format!("{name}{OK}"))? {
            let (code, warning) = parse(&format!("{name}{OK}"), &content)?.map_or((0, None), |(c, m)| (c, Some(m)));
            return Ok(Some(Status::Done { code, warning }));
        }
        for file in [format!("{name}{ERROR}"), format!("{GLOBAL}{ERROR}")] {
            if let Some(content) = self.read(&file)? {
                let Some((code, message)) = parse(&file, &content)? else {
                    return Err(Error::new(ErrorKind::Assert, format!("status file '{file}' has no content")));
                };
                return Ok(Some(Status::Failed { code, message }));
            }
        }
        Ok(None)
    }

    /// Says that a file is done.
    ///
    /// # Errors
    /// [`ErrorKind::FileWrite`].
    pub fn write_ok(&self, name: &str, warnings: &[String]) -> Result<()> {
        let content = if warnings.is_empty() { String::new() } else { format!("0\n{}", warnings.join("\n")) };
        self.write(&self.directory, &format!("{name}{OK}"), &content)
    }

    /// Says that a file, or without a name everything, failed.
    ///
    /// # Errors
    /// [`ErrorKind::FileWrite`].
    pub fn write_error(&self, name: Option<&str>, code: u8, message: &str) -> Result<()> {
        self.write(&self.directory, &format!("{}{ERROR}", name.unwrap_or(GLOBAL)), &format!("{code}\n{message}"))
    }

    /// Removes the errors that concern a file, before it is tried again.
    ///
    /// # Errors
    /// [`ErrorKind::FileRemove`].
    pub fn clear_errors(&self, name: &str) -> Result<()> {
        self.remove(&format!("{name}{ERROR}"))?;
        self.remove(&format!("{GLOBAL}{ERROR}"))
    }

    /// The names in the directory; none when it is not there.
    ///
    /// # Errors
    /// [`ErrorKind::PathOpen`].
    pub fn list(&self) -> Result<Vec<String>> {
        list(&self.directory)
    }

    /// Removes a file of the directory; one that is not there is a success.
    ///
    /// # Errors
    /// [`ErrorKind::FileRemove`].
    pub fn remove(&self, name: &str) -> Result<()> {
        remove(&self.path(name))
    }

    /// Leaves the proof that the file `source` was pushed to what `targets` stands for.
    ///
    /// # Errors
    /// [`ErrorKind::FileWrite`].
    pub fn write_proof(&self, name: &str, targets: &str, source: &FileIdentity) -> Result<()> {
        create_directory(&self.proofs)?;
        self.write(&self.proofs, name, &proof(targets, source))
    }

    /// Whether there is a proof that this very file was pushed to what `targets` stands for.
    pub fn is_proved(&self, name: &str, targets: &str, source: &FileIdentity) -> bool {
        let expected = proof(targets, source);
        read(&self.proofs.join(name)).is_ok_and(|content| content.as_deref() == Some(&expected))
    }

    /// Removes the proofs of files that are not in `keep`.
    ///
    /// # Errors
    /// [`ErrorKind::FileRemove`].
    pub fn keep_proofs(&self, keep: impl Fn(&str) -> bool) -> Result<()> {
        list(&self.proofs)?.iter().filter(|name| !keep(name)).try_for_each(|name| remove(&self.proofs.join(name)))
    }

    fn read(&self, name: &str) -> Result<Option<String>> {
        read(&self.path(name))
    }

    fn write(&self, directory: &Path, name: &str, content: &str) -> Result<()> {
        let path = directory.join(name);
        let temporary = directory.join(format!("{name}.pgbackrest.tmp"));
        let failed = |error: io::Error| {
            Error::new(ErrorKind::FileWrite, format!("unable to write '{}': {error}", path.display()))
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o640)
            .custom_flags(no_follow())
            .open(&temporary)
            .map_err(failed)?;
        file.write_all(content.as_bytes()).map_err(failed)?;
        fs::rename(&temporary, &path).map_err(failed)
    }
}

/// Which file it was, without its bytes. Whoever writes to it, or puts another in its place, changes this; the time of the
/// last change of the inode cannot be set back by a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
    size_bytes: u64,
    modified_ns: i128,
    changed_ns: i128,
}

/// Two changes within this time can have the same time stamp: file systems count in ticks of the kernel's clock.
const TICK_NS: i128 = 50_000_000;

impl FileIdentity {
    /// The identity of the file at `path`; a link is not followed.
    ///
    /// # Errors
    /// [`ErrorKind::FileInfo`], or [`ErrorKind::FileMissing`] when there is none.
    pub fn of(path: &Path) -> Result<Self> {
        fs::symlink_metadata(path).map(|metadata| Self::from(&metadata)).map_err(|error| {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let kind = if missing { ErrorKind::FileMissing } else { ErrorKind::FileInfo };
            Error::new(kind, format!("unable to get info for '{}': {error}", path.display()))
        })
    }

    /// Whether the file had rested long enough at `now_ns` (since the Unix epoch) that a later change shows.
    pub fn is_settled(&self, now_ns: i128) -> bool {
        self.changed_ns.saturating_add(TICK_NS) < now_ns
    }
}

impl From<&Metadata> for FileIdentity {
    fn from(metadata: &Metadata) -> Self {
        let ns = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn proof(targets: &str, source: &FileIdentity) -> String {
    let FileIdentity { device, inode, size_bytes, modified_ns, changed_ns } = source;
    format!("{targets}\n{device} {inode} {size_bytes} {modified_ns} {changed_ns}\n")
}

fn create_directory(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(path).map_err(|error| {
        Error::new(ErrorKind::PathCreate, format!("unable to create path '{}': {error}", path.display()))
    })
}

fn list(directory: &Path) -> Result<Vec<String>> {
    let failed = |error: io::Error| {
        Error::new(ErrorKind::PathOpen, format!("unable to list '{}': {error}", directory.display()))
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::new(ErrorKind::FileRemove, format!("unable to remove '{}': {error}", path.display()))),
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    let failed =
        |error: io::Error| Error::new(ErrorKind::FileRead, format!("unable to read '{}': {error}", path.display()));
    let file = match OpenOptions::new().read(true).custom_flags(no_follow()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut content = Vec::new();
    file.take(STATUS_BYTES_MAX).read_to_end(&mut content).map_err(failed)?;
    Ok(Some(String::from_utf8_lossy(&content).into_owned()))
}

/// `<code>\n<message>`, or nothing.
fn parse(file: &str, content: &str) -> Result<Option<(u8, String)>> {
    if content.is_empty() {
        return Ok(None);
    }
    let bad = |what: &str| Error::new(ErrorKind::Format, format!("{file} {what}"));
    let (code, message) = content.split_once('\n').ok_or_else(|| bad("content must have at least two lines"))?;
    let message = message.trim();
    if message.is_empty() {
        return Err(bad("message must be > 0"));
    }
    let code = code.parse().map_err(|_| bad("has no code in its first line"))?;
    Ok(Some((code, message.to_owned())))
}

fn no_follow() -> i32 {
    i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(folder: &Path) -> Spool {
        let spool = Spool::push(folder, &Stanza::parse("demo").unwrap());
        spool.create().unwrap();
        spool
    }

    #[test]
    fn statuses_are_those_of_the_original() {
        let folder = tempfile::tempdir().unwrap();
        let spool = spool(folder.path());
        assert_eq!(spool.status("A").unwrap(), None);
        spool.write_error(None, 103, "nothing works").unwrap();
        spool.write_error(Some("A"), 45, "another content").unwrap();
        let out = folder.path().join("archive/demo/out");
        assert_eq!(fs::read_to_string(out.join("A.error")).unwrap(), "45\nanother content");
        assert_eq!(fs::read_to_string(out.join("global.error")).unwrap(), "103\nnothing works");
        let failed = |code, message: &str| Some(Status::Failed { code, message: message.to_owned() });
        assert_eq!(spool.status("A").unwrap(), failed(45, "another content"));
        assert_eq!(spool.status("B").unwrap(), failed(103, "nothing works"));
        spool.write_ok("A", &["one".to_owned(), "two".to_owned()]).unwrap();
        assert_eq!(fs::read_to_string(out.join("A.ok")).unwrap(), "0\none\ntwo");
        let done = Some(Status::Done { code: 0, warning: Some("one\ntwo".to_owned()) });
        assert_eq!(spool.status("A").unwrap(), done);
        spool.write_ok("A", &[]).unwrap();
        assert_eq!(fs::read(out.join("A.ok")).unwrap(), b"");
        spool.clear_errors("A").unwrap();
        assert_eq!(spool.list().unwrap(), ["A.ok"]);
        for bad in ["45", "45\n", "x\ny", "4500\nmessage"] {
            fs::write(out.join("B.error"), bad).unwrap();
            assert_eq!(spool.status("B").unwrap_err().kind(), ErrorKind::Format, "{bad:?}");
        }
        fs::write(out.join("B.error"), "").unwrap();
        assert_eq!(spool.status("B").unwrap_err().kind(), ErrorKind::Assert);
    }

    /// Markers of kinds that are not known, as another version may leave them, say nothing; those that are known and have
    /// a content that is not are refused.
    #[test]
    fn sec24_a_marker_of_an_unknown_kind_is_no_success() {
        let folder = tempfile::tempdir().unwrap();
        let spool = spool(folder.path());
        let out = folder.path().join("archive/demo/out");
        for name in ["A.done", "A.ok2", "A.ok.new", "A", "a.ok", "global.ok", "A.OK"] {
            fs::write(out.join(name), "").unwrap();
            assert_eq!(spool.status("A").unwrap(), None, "{name}");
        }
        for content in ["{\"state\": \"ok\"}", "v2\nok\n", "0", "256\nx", "-1\nx"] {
            fs::write(out.join("A.ok"), content).unwrap();
            assert_eq!(spool.status("A").unwrap_err().kind(), ErrorKind::Format, "{content}");
        }
        // A proof with more in it than is known proves nothing.
        let source = folder.path().join("A");
        fs::write(&source, "segment").unwrap();
        let identity = FileIdentity::of(&source).unwrap();
        spool.write_proof("A", "here", &identity).unwrap();
        let place = folder.path().join("archive/demo/out.proof/A");
        let written = fs::read_to_string(&place).unwrap();
        for other in [format!("{written}v2\n"), format!("v2\n{written}"), written.replace('\n', " "), String::new()] {
            fs::write(&place, other).unwrap();
            assert!(!spool.is_proved("A", "here", &identity));
        }
        fs::write(&place, written).unwrap();
        assert!(spool.is_proved("A", "here", &identity));
    }

    proptest::proptest! {
        #[test]
        fn sec07_no_marker_panics(name in "\\PC{0,20}", content in "(?s)[0-9\\n\\r\\x00 a-z-]{0,12}|.{0,40}") {
            if let Ok(Some((_, message))) = parse(&name, &content) {
                proptest::prop_assert!(!message.is_empty());
            }
        }
    }

    #[test]
    fn pu09_a_proof_holds_for_one_file_and_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let spool = spool(folder.path());
        let source = folder.path().join("A");
        fs::write(&source, "segment").unwrap();
        let identity = FileIdentity::of(&source).unwrap();
        assert!(!spool.is_proved("A", "here", &identity));
        spool.write_proof("A", "here", &identity).unwrap();
        assert!(spool.is_proved("A", "here", &identity));
        assert!(!spool.is_proved("A", "elsewhere", &identity));
        assert!(!spool.is_proved("B", "here", &identity));
        fs::remove_file(&source).unwrap();
        fs::write(&source, "another").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&source, "segment").unwrap();
        assert!(!spool.is_proved("A", "here", &FileIdentity::of(&source).unwrap()));
        spool.keep_proofs(|name| name == "B").unwrap();
        assert!(!spool.is_proved("A", "here", &identity));
    }
}
