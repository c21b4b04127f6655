//! `verify` of a bucket: what is damaged and what is missing are named, and what the store does not tell is neither.

use std::fs;
use std::path::{Path, PathBuf};

use pgbr_testkit::s3::{Bucket, Fault, Rule, S3Operation};
use pgbr_testkit::samples::{Sample, Unpacked};
use pgbr_testkit::{pgbr, user};
use serde_json::Value;

/// Damage is no failure of the command; what could not be read is one.
const UNREAD: i32 = 104;

/// What the command says in JSON.
fn verified(sample: &Unpacked, code: i32) -> Value {
    let arguments = ["verify", "--output=json", "--log-level-console=off", "--log-level-file=off", "--io-timeout=1"];
    let outcome = pgbr::engine().run(&sample.conf(), &arguments).unwrap();
    assert_eq!(outcome.exit_code, Some(code), "{}", outcome.text());
    serde_json::from_str(&outcome.stdout).unwrap()
}

/// Object and kind of all that is damaged.
fn damage(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = report["damage"].as_array().unwrap().iter();
    let mut found: Vec<_> = rows.map(|row| (text(&row["object"]), text(&row["kind"]))).collect();
    found.sort();
    found
}

fn segment(bucket: &Path, folder: &str, place: usize) -> PathBuf {
    let mut names: Vec<_> = fs::read_dir(bucket.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.file_name().unwrap().to_str().unwrap().contains('-'));
    names.sort();
    names.swap_remove(place)
}

fn flip_in_the_middle(path: &Path) {
    let mut content = fs::read(path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(path, content).unwrap();
}

#[test]
fn os11_damaged_and_missing_objects_of_a_bucket_are_named_and_no_others() {
    let dir = user::scratch().unwrap();
    let sample = Sample::named("2.60-pg15-gz-tablespace").unwrap().unpack(&dir.path().join("sample")).unwrap();
    let bucket = Bucket::start(dir.path()).unwrap();
    sample.move_to(&bucket).unwrap();
    let (repo, labels) = (bucket.repo(), sample.labels().unwrap());
    let whole = verified(&sample, 0);
    assert_eq!((&whole["status"], damage(&whole)), (&Value::from("ok"), Vec::new()), "{whole}");

    let within = |path: &Path| path.strip_prefix(&repo).unwrap().to_str().unwrap().to_owned();
    let flipped = repo.join(format!("backup/demo/{}/pg_data/global/pg_control.gz", labels[0]));
    let gone = repo.join(format!("backup/demo/{}/pg_data/PG_VERSION.gz", labels[0]));
    let wal = segment(&repo, "archive/demo/15-1/0000000100000000", 0);
    flip_in_the_middle(&flipped);
    flip_in_the_middle(&wal);
    fs::remove_file(&gone).unwrap();
    let report = verified(&sample, 0);
    let row = |path: &Path, kind: &str| (within(path), kind.to_owned());
    let mut expected = vec![row(&flipped, "checksum"), row(&gone, "missing"), row(&wal, "other")];
    expected.sort();
    assert_eq!(damage(&report), expected, "{report}");
    assert_eq!(report["status"], "error");
    assert_eq!(report["backup"][0]["restorable"], false, "{report}");

    // The store refuses one object and cannot answer for another: nobody knows what they are.
    let mut unread = Vec::new();
    for (name, status, code) in
        [("backup_label.gz", 403, "AccessDenied"), ("global/pg_filenode.map.gz", 503, "ServiceUnavailable")]
    {
        let object = repo.join(format!("backup/demo/{}/pg_data/{name}", labels[0]));
        assert!(object.is_file(), "{}", object.display());
        unread.push(row(&object, "unreadable"));
        let key = within(&object);
        bucket.server().inject(Rule::always(Fault::error(status, code), move |request| {
            request.operation == S3Operation::GetObject && request.key.ends_with(&key)
        }));
    }
    let report = verified(&sample, UNREAD);
    expected.extend(unread);
    expected.sort();
    assert_eq!(damage(&report), expected, "{report}");
}

/// Ranges of bundles, block maps and what is behind the end of an object: a bucket says the same as a directory.
#[test]
fn a_damaged_bucket_is_told_as_a_damaged_directory() {
    let dir = user::scratch().unwrap();
    let sample = Sample::named("2.60-pg18-zst-aes-bundle-block").unwrap().unpack(&dir.path().join("sample")).unwrap();
    let mut bundles = Vec::new();
    for label in sample.labels().unwrap() {
        let folder = sample.repo().join(format!("backup/demo/{label}/bundle"));
        if let Ok(entries) = fs::read_dir(folder) {
            bundles.extend(entries.map(|entry| entry.unwrap().path()));
        }
    }
    bundles.sort();
    assert!(bundles.len() >= 3, "{bundles:?}");
    let (first, last) = (&bundles[0], &bundles[bundles.len() - 1]);
    let size_bytes = fs::metadata(first).unwrap().len();
    fs::OpenOptions::new().write(true).open(first).unwrap().set_len(size_bytes * 2 / 3).unwrap();
    flip_in_the_middle(&bundles[1]);
    fs::remove_file(last).unwrap();
    let wal = segment(&sample.repo(), "archive/demo/18-1/0000000100000000", 0);
    fs::OpenOptions::new().write(true).open(&wal).unwrap().set_len(100).unwrap();
    // The words are each store's own.
    let told = |sample: &Unpacked| {
        let mut report = verified(sample, 0);
        for row in report["damage"].as_array_mut().unwrap().iter_mut().filter(|row| row["kind"] == "missing") {
            row["detail"].take();
        }
        report
    };
    let in_directory = told(&sample);
    let kinds: Vec<String> = damage(&in_directory).into_iter().map(|(_, kind)| kind).collect();
    assert!(kinds.len() >= 4 && kinds.contains(&"missing".to_owned()), "{in_directory}");

    let bucket = Bucket::start(dir.path()).unwrap();
    sample.move_to(&bucket).unwrap();
    assert_eq!(told(&sample), in_directory);
}
