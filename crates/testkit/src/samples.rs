//! Repositories that the original wrote, with what a restore of each must give.
//!
//! They lie in `formats/samples/repositories`; its README says what is in which.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::conf::Conf;
use crate::error::{Context, Error, Result};
use crate::s3::Bucket;
use crate::tools;
use crate::user;

/// The stanza of every sample.
pub const STANZA: &str = "demo";

/// Files that a restore writes itself: recovery settings and signal files.
pub const WRITTEN_BY_RESTORE: [&str; 3] = ["./postgresql.auto.conf", "./recovery.signal", "./standby.signal"];

/// One repository, still packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    name: &'static str,
}

impl Sample {
    /// Every sample.
    pub const ALL: [Self; 7] = [
        Self { name: "2.45-pg15-none" },
        Self { name: "2.45-pg15-zst-aes-bundle" },
        Self { name: "2.60-pg13-lz4-bundle-block" },
        Self { name: "2.60-pg15-gz-tablespace" },
        Self { name: "2.60-pg15-bz2-aes" },
        Self { name: "2.60-pg18-zst-aes-bundle-block" },
        Self { name: "2.60-pg15to18-zst-bundle-upgrade" },
    ];

    /// The sample of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|sample| sample.name == name);
        found.ok_or_else(|| Error::Unexpected(format!("no sample is called {name}")))
    }

    /// Its folder's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The folder with the packed repository and the writer's own output.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        tools::workspace().join("formats/samples/repositories").join(self.name)
    }

    /// A file beside the packed repository: `info.json`, `info.txt`, `writer.txt`, `expected_tables`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn text(&self, file: &str) -> Result<String> {
        let path = self.folder().join(file);
        fs::read_to_string(&path).context("read", &path)
    }

    /// What `info --output=json` of the writer printed.
    ///
    /// # Errors
    /// When it cannot be read or is not JSON.
    pub fn info_json(&self) -> Result<serde_json::Value> {
        let text = self.text("info.json")?;
        serde_json::from_str(&text).map_err(|error| Error::Unexpected(format!("{}/info.json: {error}", self.name)))
    }

    /// The value of an option in the writer's configuration, in whichever section.
    ///
    /// # Errors
    /// When the configuration cannot be read.
    pub fn option(&self, name: &str) -> Result<Option<String>> {
        let text = self.text("pgbackrest.conf")?;
        let found = text.lines().filter_map(|line| line.split_once('=')).find(|(option, _)| *option == name);
        Ok(found.map(|(_, value)| value.to_owned()))
    }

    /// The passphrase of the repository, if it is encrypted.
    ///
    /// # Errors
    /// When the configuration cannot be read.
    pub fn cipher_pass(&self) -> Result<Option<String>> {
        self.option("repo1-cipher-pass")
    }

    /// The tables that a restore to the end of WAL must have.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn tables(&self) -> Result<Vec<ExpectedTable>> {
        self.text("expected_tables")?.lines().map(|line| ExpectedTable::parse(line, self.name)).collect()
    }

    /// Unpacks the repository and its expectations into `root`, which the unprivileged user owns afterwards.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn unpack(&self, root: &Path) -> Result<Unpacked> {
        user::create_dir(root)?;
        let packed = self.folder().join("fixture.tar.zst");
        let file = File::open(&packed).context("open", &packed)?;
        let decoder = zstd::Decoder::new(file).context("decompress", &packed)?;
        let mut archive = tar::Archive::new(decoder);
        archive.set_preserve_permissions(true);
        archive.unpack(root).context("unpack into", root)?;
        let conf = root.join("pgbackrest.conf");
        // Locks of its own: commands on several unpacked samples, all of one stanza's name, run side by side.
        let text = self
            .text("pgbackrest.conf")?
            .replace("[global]\n", "[global]\nlock-path=@ROOT@/lock\n")
            .replace("@ROOT@", &root.display().to_string());
        fs::write(&conf, text).context("write", &conf)?;
        for name in ["lock", "spool", "log"] {
            user::create_dir(&root.join(name))?;
        }
        user::own(root)?;
        Ok(Unpacked { sample: *self, root: root.to_owned() })
    }
}

/// A sample on disk, ready to be read or restored.
#[derive(Debug, Clone)]
pub struct Unpacked {
    sample: Sample,
    root: PathBuf,
}

impl Unpacked {
    /// Which sample it is.
    #[must_use]
    pub fn sample(&self) -> Sample {
        self.sample
    }

    /// The folder that it was unpacked into.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The repository.
    #[must_use]
    pub fn repo(&self) -> PathBuf {
        self.root.join("repo")
    }

    /// The writer's configuration, pointing at this copy. `pg1-path` in it is a folder that does not exist.
    #[must_use]
    pub fn conf(&self) -> Conf {
        Conf::existing(&self.root.join("pgbackrest.conf"), STANZA)
    }

    /// Moves the repository into a bucket: the configuration points there from now on, and the directory is gone.
    ///
    /// # Errors
    /// When a file cannot be copied, or the configuration cannot be changed.
    pub fn move_to(&self, bucket: &Bucket) -> Result<()> {
        bucket.take(&self.repo())?;
        fs::remove_dir_all(self.repo()).context("remove", &self.repo())?;
        let conf = self.root.join("pgbackrest.conf");
        let text = fs::read_to_string(&conf).context("read", &conf)?;
        let mut moved = String::new();
        for line in text.lines().filter(|line| !line.starts_with("repo1-path=")) {
            moved.push_str(line);
            moved.push('\n');
            if line == "[global]" {
                moved.extend(bucket.options(1).iter().map(|(name, value)| format!("{name}={value}\n")));
            }
        }
        user::write_file(&conf, moved)
    }

    /// Options that keep a command's locks, spool and logs below the sample's folder.
    #[must_use]
    pub fn local_paths(&self) -> [String; 3] {
        ["lock", "spool", "log"].map(|name| format!("--{name}-path={}", self.root.join(name).display()))
    }

    /// The labels of all backups, oldest first.
    ///
    /// # Errors
    /// When the folder of expectations cannot be read.
    pub fn labels(&self) -> Result<Vec<String>> {
        let folder = self.root.join("expected");
        let mut labels = Vec::new();
        for entry in fs::read_dir(&folder).context("list", &folder)? {
            let name = entry.context("list", &folder)?.file_name().to_string_lossy().into_owned();
            labels.extend(name.strip_suffix(".tree").map(str::to_owned));
        }
        // By the time in the last part: a differential of an older full may be newer than the next full.
        labels.sort_by_key(|label| label.split('_').next_back().map(|part| part.get(..15).unwrap_or(part).to_owned()));
        Ok(labels)
    }

    /// What a restore of this backup set must produce.
    ///
    /// # Errors
    /// When a list cannot be read.
    pub fn expected(&self, label: &str) -> Result<Expected> {
        let folder = self.root.join("expected");
        let mut expected = Expected {
            files: checksums(&folder.join(format!("{label}.sha256")))?,
            tree: tree(&folder.join(format!("{label}.tree")))?,
            tablespaces: BTreeMap::new(),
        };
        for entry in fs::read_dir(&folder).context("list", &folder)? {
            let entry = entry.context("list", &folder)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let middle = name.strip_prefix(label).and_then(|rest| rest.strip_suffix(".sha256"));
            if let Some(tablespace) = middle.and_then(|rest| rest.strip_prefix('.')) {
                expected.tablespaces.insert(tablespace.to_owned(), checksums(&entry.path())?);
            }
        }
        Ok(expected)
    }

    /// A time before the last change, as the option `target` takes it: `2026-11-22 06:18:31.388657+00`.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn time_before_fourth(&self) -> Result<Option<String>> {
        let path = self.root.join("time_before_fourth");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().replace('T', " ").replace('Z', "+00"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("read", &path),
        }
    }
}

/// A line of `expected_tables`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedTable {
    /// The table.
    pub name: String,
    /// `count(*)`.
    pub rows: u64,
    /// `sum(hashtext(v))`, for `after_diff` `sum(a)`.
    pub sum: i64,
}

impl ExpectedTable {
    /// SQL whose one row is this table's name, rows and sum.
    #[must_use]
    pub fn query(&self) -> String {
        let column = if self.name == "after_diff" { "a" } else { "hashtext(v)" };
        format!("SELECT '{0}', count(*), sum({column}) FROM {0}", self.name)
    }

    /// The row that [`ExpectedTable::query`] must answer.
    #[must_use]
    pub fn row(&self) -> Vec<String> {
        vec![self.name.clone(), self.rows.to_string(), self.sum.to_string()]
    }

    fn parse(line: &str, sample: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split('|').collect();
        if let [name, rows, sum] = fields.as_slice()
            && let (Ok(rows), Ok(sum)) = (rows.parse(), sum.parse())
        {
            return Ok(Self { name: (*name).to_owned(), rows, sum });
        }
        Err(Error::Unexpected(format!("{sample}/expected_tables: {line:?} is not table|rows|sum")))
    }
}

/// What a restored backup set must look like before `PostgreSQL` starts.
#[derive(Debug, Clone)]
pub struct Expected {
    /// SHA-256 in hex by path below the data folder, such as `./base/1/112`.
    pub files: BTreeMap<String, String>,
    /// Every entry of the data folder by path.
    pub tree: BTreeMap<String, TreeEntry>,
    /// As `files`, by the tablespace's name and the path below its folder.
    pub tablespaces: BTreeMap<String, BTreeMap<String, String>>,
}

impl Expected {
    /// Everything in which a restored data folder differs, a line each; none is what a test wants.
    ///
    /// Compares kind, mode, size, content and the set of paths. [`WRITTEN_BY_RESTORE`] are left out, and of links only
    /// that they are links: their targets are where the restore was told to put them.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn differences(&self, data: &Path) -> Result<Vec<String>> {
        let mut found = BTreeMap::new();
        collect(data, ".", &mut found)?;
        let mut differences = Vec::new();
        for (path, expected) in self.tree.iter().filter(|(path, _)| is_compared(path)) {
            match found.get(path) {
                None => differences.push(format!("{path}: missing")),
                Some(entry) if !entry.is_like(expected) => {
                    differences.push(format!("{path}: is {entry:?}, expected {expected:?}"));
                }
                Some(_) => {}
            }
        }
        differences.extend(
            found
                .keys()
                .filter(|path| is_compared(path) && !self.tree.contains_key(*path))
                .map(|path| format!("{path}: not expected")),
        );
        differences.extend(content_differences(data, &self.files)?);
        Ok(differences)
    }

    /// Compares this path no more.
    ///
    /// For `./global/pg_control` of the samples that 2.45 wrote: newer releases mark its checkpoint as invalid when they
    /// restore, and 2.45 did not.
    pub fn leave_out(&mut self, path: &str) {
        self.files.remove(path);
    }

    /// As [`Expected::differences`], for the content of a tablespace's folder.
    ///
    /// # Errors
    /// When a file cannot be read or the backup has no such tablespace.
    pub fn tablespace_differences(&self, name: &str, folder: &Path) -> Result<Vec<String>> {
        let files = self.tablespaces.get(name);
        let files = files.ok_or_else(|| Error::Unexpected(format!("no tablespace {name} is expected")))?;
        content_differences(folder, files)
    }
}

/// A line of a `.tree` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// `d`, `f` or `l`.
    pub kind: char,
    /// Permission bits.
    pub mode: u32,
    /// Size in bytes; means something for files only.
    pub size_bytes: u64,
    /// Target of a link, with `@ROOT@` for the writer's folder; otherwise empty.
    pub target: String,
}

impl TreeEntry {
    fn is_like(&self, other: &Self) -> bool {
        self.kind == other.kind && self.mode == other.mode && (self.kind != 'f' || self.size_bytes == other.size_bytes)
    }

    fn parse(line: &str) -> Option<(String, Self)> {
        let mut fields = line.splitn(5, ' ');
        let kind = fields.next()?.chars().next()?;
        let mode = u32::from_str_radix(fields.next()?, 8).ok()?;
        let size_bytes = fields.next()?.parse().ok()?;
        let path = fields.next()?.to_owned();
        Some((path, Self { kind, mode, size_bytes, target: fields.next().unwrap_or_default().to_owned() }))
    }
}

/// SHA-256 of a file's content in hex.
///
/// # Errors
/// When it cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).context("open", path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).context("read", path)? {
            0 => return Ok(hex::encode(digest.finalize())),
            length => digest.update(buffer.get(..length).unwrap_or_default()),
        }
    }
}

fn is_compared(path: &str) -> bool {
    path != "." && !WRITTEN_BY_RESTORE.contains(&path)
}

fn content_differences(folder: &Path, files: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    for (path, expected) in files.iter().filter(|(path, _)| is_compared(path)) {
        let file = folder.join(path);
        if !file.is_file() {
            differences.push(format!("{path}: no such file"));
        } else if sha256(&file)? != *expected {
            differences.push(format!("{path}: other content"));
        }
    }
    Ok(differences)
}

fn collect(folder: &Path, name: &str, into: &mut BTreeMap<String, TreeEntry>) -> Result<()> {
    let path = folder.join(name);
    let metadata = fs::symlink_metadata(&path).context("look at", &path)?;
    let kind = match (metadata.is_symlink(), metadata.is_dir()) {
        (true, _) => 'l',
        (_, true) => 'd',
        _ => 'f',
    };
    let entry = TreeEntry { kind, mode: metadata.mode() & 0o7777, size_bytes: metadata.len(), target: String::new() };
    into.insert(name.to_owned(), entry);
    if kind == 'd' {
        for entry in fs::read_dir(&path).context("list", &path)? {
            let below = entry.context("list", &path)?.file_name();
            collect(folder, &format!("{name}/{}", below.to_string_lossy()), into)?;
        }
    }
    Ok(())
}

fn checksums(path: &Path) -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(path).context("read", path)?;
    let parse = |line: &str| line.split_once("  ").map(|(sum, file)| (file.to_owned(), sum.to_owned()));
    text.lines().map(|line| parse(line).ok_or_else(|| bad_line(path, line))).collect()
}

fn tree(path: &Path) -> Result<BTreeMap<String, TreeEntry>> {
    let text = fs::read_to_string(path).context("read", path)?;
    text.lines().map(|line| TreeEntry::parse(line).ok_or_else(|| bad_line(path, line))).collect()
}

fn bad_line(path: &Path, line: &str) -> Error {
    Error::Unexpected(format!("{}: cannot read the line {line:?}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_unpacks_with_its_expectations() {
        for sample in Sample::ALL {
            let dir = user::scratch().unwrap();
            let unpacked = sample.unpack(dir.path()).unwrap();
            let labels = unpacked.labels().unwrap();
            assert_eq!(labels.len(), 3, "{}", sample.name());
            assert!(labels[0].ends_with('F'), "{labels:?}");
            for label in &labels {
                assert!(unpacked.repo().join("backup/demo").join(label).join("backup.manifest").is_file());
                let expected = unpacked.expected(label).unwrap();
                assert!(expected.files.len() > 900, "{label}: {}", expected.files.len());
                assert!(expected.files.keys().all(|path| expected.tree.contains_key(path)), "{label}");
                assert_eq!(expected.tablespaces.contains_key("ts1"), sample.name().contains("tablespace"));
            }
            let tables = sample.tables().unwrap();
            assert!(tables.iter().any(|table| table.name == "t" && table.rows > 4000), "{tables:?}");
            assert_eq!(sample.cipher_pass().unwrap().is_some(), sample.name().contains("aes"));
            assert_eq!(sample.info_json().unwrap()[0]["name"], STANZA);
            let conf = fs::read_to_string(unpacked.conf().path()).unwrap();
            assert!(!conf.contains("@ROOT@") && conf.contains(&dir.path().display().to_string()));
        }
    }

    #[test]
    fn the_time_before_the_last_change_has_the_form_of_the_option() {
        let dir = user::scratch().unwrap();
        let unpacked = Sample::named("2.60-pg15-gz-tablespace").unwrap().unpack(dir.path()).unwrap();
        assert_eq!(unpacked.time_before_fourth().unwrap().unwrap(), "2026-11-22 06:18:31.388657+00");
    }

    #[test]
    fn differences_name_each_kind_of_change() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("same"), "1").unwrap();
        fs::write(dir.path().join("other"), "2").unwrap();
        fs::write(dir.path().join("more"), "3").unwrap();
        let mut found = BTreeMap::new();
        collect(dir.path(), ".", &mut found).unwrap();
        found.remove("./more");
        let mut expected = Expected { files: BTreeMap::new(), tree: found, tablespaces: BTreeMap::new() };
        expected.files.insert("./same".into(), sha256(&dir.path().join("same")).unwrap());
        expected.files.insert("./other".into(), sha256(&dir.path().join("same")).unwrap());
        let gone = expected.tree["./same"].clone();
        expected.tree.insert("./gone".into(), gone);
        let differences = expected.differences(dir.path()).unwrap();
        assert_eq!(differences, ["./gone: missing", "./more: not expected", "./other: other content"]);
    }
}
