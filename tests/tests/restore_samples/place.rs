//! Where a sample is restored to, and whether it came back as the original restored it.

use std::path::{Path, PathBuf};

use pgbr_testkit::engine::Engine;
use pgbr_testkit::process::Outcome;
use pgbr_testkit::s3::Bucket;
use pgbr_testkit::samples::{Expected, Sample, Unpacked};
use pgbr_testkit::{pgbr, user};
use tempfile::TempDir;

/// A sample on disk or in a bucket, and a place to restore it to.
pub(crate) struct Restore {
    dir: TempDir,
    pub(crate) sample: Unpacked,
    // Serves as long as there is something to restore.
    bucket: Option<Bucket>,
}

impl Restore {
    pub(crate) fn of(name: &str) -> Self {
        let dir = user::scratch().unwrap();
        let sample = Sample::named(name).unwrap().unpack(&dir.path().join("sample")).unwrap();
        Self { dir, sample, bucket: None }
    }

    /// The sample's repository in a bucket of an HTTPS server; nothing is left on disk.
    pub(crate) fn from_s3(name: &str) -> Self {
        let mut restore = Self::of(name);
        let bucket = Bucket::start(restore.dir.path()).unwrap();
        restore.sample.move_to(&bucket).unwrap();
        restore.bucket = Some(bucket);
        restore
    }

    pub(crate) fn bucket(&self) -> &Bucket {
        self.bucket.as_ref().unwrap()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn tablespace(&self) -> PathBuf {
        self.dir.path().join("ts1")
    }

    fn expected(&self, label: &str) -> Expected {
        let mut expected = self.sample.expected(label).unwrap();
        if self.sample.sample().name().starts_with("2.45") {
            expected.leave_out("./global/pg_control");
        }
        expected
    }

    pub(crate) fn run_as(&self, engine: &Engine, data: &Path, arguments: &[&str]) -> Outcome {
        let [lock, spool, log] = self.sample.local_paths();
        let path = format!("--pg1-path={}", data.display());
        let map = format!("--tablespace-map=ts1={}", self.tablespace().display());
        let mut all = vec!["restore", "--process-max=2", &lock, &spool, &log, &path];
        if self.sample.sample().name().contains("tablespace") {
            all.push(&map);
        }
        all.extend(arguments);
        engine.run(&self.sample.conf(), &all).unwrap()
    }

    pub(crate) fn ok(&self, arguments: &[&str]) -> Outcome {
        self.run_as(&pgbr::engine(), &self.data(), arguments).success().unwrap()
    }

    /// Restores and compares with what the original restored.
    pub(crate) fn restores(&self, label: &str, arguments: &[&str]) -> Outcome {
        let set = format!("--set={label}");
        let mut all = vec![set.as_str()];
        all.extend(arguments);
        let outcome = self.ok(&all);
        self.compare(label, &format!("{arguments:?}"));
        outcome
    }

    pub(crate) fn compare(&self, label: &str, what: &str) {
        let name = self.sample.sample().name();
        let expected = self.expected(label);
        let differences = expected.differences(&self.data()).unwrap();
        assert!(differences.is_empty(), "{name} {label} {what}: {differences:#?}");
        for tablespace in expected.tablespaces.keys() {
            let differences = expected.tablespace_differences(tablespace, &self.tablespace()).unwrap();
            assert!(differences.is_empty(), "{name} {label} {what} {tablespace}: {differences:#?}");
        }
        assert!(!self.data().join("backup.manifest").try_exists().unwrap());
        assert!(!self.data().join("global/pg_control.pgbackrest.tmp").try_exists().unwrap());
    }
}
