//! Every backup of every sample, byte for byte.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pgbr_testkit::s3::S3Operation;
use pgbr_testkit::samples::Sample;
use pgbr_testkit::user;

use crate::place::Restore;

/// Every label: fresh, over the backup before by checksum, and again after damage.
fn restores_every_label(name: &str) {
    let restore = Restore::of(name);
    user::create_dir(&restore.data()).unwrap();
    for label in restore.sample.labels().unwrap() {
        // The first is fresh, the others find the files of the one before.
        restore.restores(&label, &["--delta"]);
    }
    let label = restore.sample.labels().unwrap().pop().unwrap();
    damage(&restore.data());
    restore.restores(&label, &["--delta"]);
    let again = restore.restores(&label, &["--delta", "--log-level-console=detail"]);
    assert!(again.text().contains("exists and matches backup"), "{}", again.text());
    let by_time = restore.restores(&label, &["--delta", "--force", "--log-level-console=detail"]);
    assert!(by_time.text().contains("exists and matches size"), "{}", by_time.text());
    restore.restores(&label, &["--force"]);
    for label in restore.sample.labels().unwrap() {
        fs::remove_dir_all(restore.data()).unwrap();
        fs::remove_dir_all(restore.tablespace()).ok();
        restore.restores(&label, &[]);
    }
}

/// Changes files in every way that a delta restore has to see.
fn damage(data: &Path) {
    let files: Vec<PathBuf> = fs::read_dir(data.join("base/1")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut large: Vec<&PathBuf> = files.iter().filter(|file| fs::metadata(file).unwrap().len() >= 16384).collect();
    large.sort();
    assert!(large.len() > 8);
    for (at, file) in large.iter().enumerate() {
        let content = fs::read(file).unwrap();
        let changed = match at % 6 {
            // A byte, with size and time kept; shorter; longer; empty; gone; as it is.
            0 => {
                let mut changed = content.clone();
                changed[9000] ^= 1;
                changed
            }
            1 => content[..content.len() - 5000].to_vec(),
            2 => [&content[..], &[7; 9000]].concat(),
            3 => Vec::new(),
            4 => {
                fs::remove_file(file).unwrap();
                continue;
            }
            _ => continue,
        };
        let modified = fs::metadata(file).unwrap().modified().unwrap();
        fs::write(file, changed).unwrap();
        fs::File::options().write(true).open(file).unwrap().set_modified(modified).unwrap();
        user::own(file).unwrap();
    }
    fs::write(data.join("surplus"), "x").unwrap();
    fs::set_permissions(data.join("PG_VERSION"), fs::Permissions::from_mode(0o400)).unwrap();
}

#[test]
fn rs02_rs08_pg15_none_by_2_45() {
    restores_every_label("2.45-pg15-none");
}

#[test]
fn rs02_rs08_pg15_zst_aes_bundle_by_2_45() {
    restores_every_label("2.45-pg15-zst-aes-bundle");
}

#[test]
fn rs02_rs08_rs14_pg13_lz4_bundle_block() {
    restores_every_label("2.60-pg13-lz4-bundle-block");
}

#[test]
fn rs02_rs08_pg15_gz_tablespace() {
    restores_every_label("2.60-pg15-gz-tablespace");
}

#[test]
fn rs02_rs08_pg15_bz2_aes() {
    restores_every_label("2.60-pg15-bz2-aes");
}

#[test]
fn rs02_rs08_rs14_pg18_zst_aes_bundle_block() {
    restores_every_label("2.60-pg18-zst-aes-bundle-block");
}

#[test]
fn rs02_rs08_pg15to18_zst_bundle_upgrade() {
    restores_every_label("2.60-pg15to18-zst-bundle-upgrade");
}

/// Every label of every sample out of a bucket: fresh, and the last one again over what the others left.
#[test]
fn every_label_comes_back_from_s3() {
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || Sample::ALL.iter().skip(half).step_by(2).for_each(|sample| from_s3(sample.name())));
        }
    });
}

fn from_s3(name: &str) {
    let restore = Restore::from_s3(name);
    let labels = restore.sample.labels().unwrap();
    for label in &labels {
        user::create_dir(&restore.data()).unwrap();
        restore.restores(label, &[]);
        fs::remove_dir_all(restore.data()).unwrap();
        fs::remove_dir_all(restore.tablespace()).ok();
    }
    user::create_dir(&restore.data()).unwrap();
    let (first, last) = (&labels[0], &labels[labels.len() - 1]);
    restore.restores(first, &[]);
    damage(&restore.data());
    restore.restores(last, &["--delta"]);
    assert!(restore.bucket().server().count(S3Operation::GetObject) > 10, "{name} came from somewhere else");
    assert!(!restore.sample.repo().try_exists().unwrap());
}
