//! Tests against manifests of the original.

use proptest::prelude::*;

use super::*;
use crate::format::archive_id::HistoryId;
use crate::format::checksum::Checksum;
use crate::format::compress_type::CompressType;
use crate::format::manifest_name::ManifestName;
use crate::format::path::BundleId;
use crate::format::samples::{resealed, sample, samples};
use crate::format::text::RawText;
use crate::format::{BackupInfo, StoredLsn};
use crate::postgres::{Lsn, PgVersion, SystemId, WalSegmentName};

const BLOCK_SAMPLE: &str = "2.60-pg13-lz4-bundle-block/20261122-061839F_20261122-061840D.manifest";
const TABLESPACE_SAMPLE: &str = "2.60-pg15-gz-tablespace/20261122-061827F.manifest";
const FULL: &str = "20261122-061730F";

fn name(text: &str) -> ManifestName {
    ManifestName::parse(text.as_bytes()).unwrap()
}

fn label(text: &str) -> BackupLabel {
    BackupLabel::parse(text).unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn in08_manifests_of_the_original_are_written_again_byte_for_byte() {
    for (name, bytes) in samples(".manifest") {
        let manifest = Manifest::parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let written = manifest.write_to_vec();
        if written != bytes {
            let (one, other) = (String::from_utf8_lossy(&written), String::from_utf8_lossy(&bytes));
            let difference = one.lines().zip(other.lines()).find(|(one, other)| one != other);
            panic!("{name}: {difference:?}");
        }
        assert!(manifest.is_complete() && manifest.validate().is_ok(), "{name}");
        assert_eq!(manifest.backup_pass().is_some(), name.contains("aes"), "{name}");
    }
}

#[test]
fn a_finished_manifest_gives_the_originals_line_of_backup_info() {
    for (name, bytes) in samples(".manifest") {
        let manifest = Manifest::parse(&bytes).unwrap();
        let folder = name.split('/').next().unwrap();
        let info = BackupInfo::parse(&sample(&format!("{folder}/backup.info"))).unwrap();
        assert_eq!(&manifest.backup_entry().unwrap(), info.backup(&manifest.label()).unwrap(), "{name}");
    }
}

/// A file in memory, wherever it is cut.
fn in_pieces(bytes: &[u8], piece: usize) -> Manifest {
    let mut reader = ManifestReader::new();
    for piece in bytes.chunks(piece) {
        reader.feed(piece).unwrap();
    }
    reader.finish().unwrap()
}

#[test]
fn pieces_do_not_matter() {
    let bytes = sample(BLOCK_SAMPLE);
    for piece in [997, 8192] {
        assert!(in_pieces(&bytes, piece).write_to_vec() == bytes);
    }
}

#[test]
fn in08_rows_of_the_original_are_written_again() {
    // repository-format.md B.10, put into a manifest.
    let rows = "pg_data/base/5/16401={\"checksum\":\"078421136c07c7e0e60dbe21aefbc848d8d4830f\",\"checksum-page\":false,\"checksum-page-error\":[1,[3,5],9],\"rck\":\"94307fc90c327a1a48b9eb8ff09556ecdc60021e\",\"repo-size\":2173,\"size\":327680,\"timestamp\":1795327622}\n\
        pg_data/x/odd700000={\"bi\":1,\"bim\":199,\"checksum\":\"ccdd608da0eb0229f8c2c74101f0811b87f7974d\",\"rck\":\"b061dce97605e9e05ff96b7485c6c4a7a929b619\",\"repo-size\":199,\"size\":245760,\"timestamp\":1795327483}\n\
        pg_data/x/old20d={\"bi\":4,\"bic\":7,\"bim\":96,\"bni\":1,\"checksum\":\"c2ea5e7bbd891d121f0acd57f5984e4363fde9c9\",\"rck\":\"82730e358d21ebb5cc1eb7d073506ae89d38a008\",\"repo-size\":32875,\"size\":300000,\"timestamp\":1795327470}\n\
        pg_data/x/sub/nouser={\"bni\":10,\"bno\":168855,\"checksum\":\"ab0680a89434e6411d9838b675ea87c2c11c379e\",\"group\":false,\"mode\":\"0644\",\"rck\":\"ebde38acdc85f274491b53e676569c23debc7b1d\",\"repo-size\":10,\"size\":2,\"timestamp\":1795327404,\"user\":false}\n\
        pg_data/x/sub/shrunk={\"size\":0,\"szo\":8192,\"timestamp\":-5}\n\
        pg_data/x/zero={\"mode\":\"0644\",\"size\":0,\"timestamp\":1795327404}\n";
    let file = minimal_with(rows);
    let manifest = Manifest::parse(&file).unwrap();
    assert_eq!(text(manifest.write_to_vec()), text(file));
    let row = manifest.file(b"pg_data/x/sub/nouser").unwrap();
    assert_eq!((row.user, row.group, row.mode), (Owner::UNNAMED, Owner::UNNAMED, 0o644));
    let row = manifest.file(b"pg_data/x/odd700000").unwrap();
    let block_incr = BlockIncr { block_size_bytes: 8192, checksum_size_bytes: 6, map_size_bytes: 199 };
    assert_eq!(row.block_incr, Some(block_incr));
    assert_eq!(manifest.file(b"pg_data/x/old20d").unwrap().block_incr.unwrap().block_size_bytes, 32768);
    let PageChecksums::Errors(pages) = &manifest.file(b"pg_data/base/5/16401").unwrap().page_checksums else {
        panic!()
    };
    assert_eq!(pages.last(), Some(&PageRange { first: 9, last: 9 }));
    assert!(manifest.has_page_errors());
    assert_eq!(manifest.file(b"pg_data/x/zero").unwrap().checksum, Some(Checksum::EMPTY));
    assert!(manifest.owners().name(manifest.file(b"pg_data/x/zero").unwrap().user).unwrap() == "postgres");
    assert_eq!(manifest.file(b"pg_data/x/z"), None);
}

/// A small manifest of a running backup with these file rows.
fn minimal_with(rows: &str) -> Vec<u8> {
    let file = format!(
        "[backrest]\nbackrest-format=5\nbackrest-version=\"2.60.0dev\"\n\n[backup]\nbackup-label=\"{FULL}\"\n\
         backup-reference=\"{FULL}\"\nbackup-timestamp-copy-start=2\nbackup-timestamp-start=1\nbackup-timestamp-stop=0\n\
         backup-type=\"full\"\n\n[backup:db]\ndb-catalog-version=202209061\ndb-control-version=1300\ndb-id=0\ndb-system-id=0\n\
         db-version=\"15\"\n\n[backup:option]\noption-archive-check=false\noption-archive-copy=false\noption-compress=true\n\
         option-compress-level=4294967291\noption-compress-type=\"lz4\"\noption-hardlink=false\noption-online=true\n\n\
         [backup:target]\npg_data={{\"path\":\"/pg\",\"type\":\"path\"}}\n\n[target:file]\n{rows}\n[target:file:default]\n\
         group=\"postgres\"\nmode=\"0600\"\nuser=\"postgres\"\n\n[target:path]\npg_data={{}}\n\n[target:path:default]\n\
         group=\"postgres\"\nmode=\"0700\"\nuser=\"postgres\"\n\n[backrest]\nbackrest-checksum=\"\"\n"
    );
    resealed(file.as_bytes(), FULL, FULL)
}

#[test]
fn a_running_manifest_is_read_and_is_not_complete() {
    let row = "pg_data/PG_VERSION={\"size\":3,\"timestamp\":1}\n";
    let file = minimal_with(row);
    let manifest = Manifest::parse(&file).unwrap();
    assert_eq!(text(manifest.write_to_vec()), text(file));
    assert!(!manifest.is_complete() && manifest.backup_entry().is_err());
    assert_eq!(manifest.options().compress_level, Some(-5));
    let problems = manifest.validate().unwrap_err().to_string();
    assert!(problems.contains("missing checksum for file 'pg_data/PG_VERSION'"), "{problems}");
}

#[test]
fn the_location_of_a_file_follows_its_reference() {
    let manifest = Manifest::parse(&sample(BLOCK_SAMPLE)).unwrap();
    let (full, own) = (label("20261122-061839F"), manifest.label());
    assert_eq!(manifest.references(), [full, own]);
    let mut seen = [false; 4];
    for file in manifest.files() {
        let stored_in = if file.reference.is_some() { full } else { own };
        assert_eq!(manifest.stored_in(file), stored_in);
        match manifest.location(file) {
            FileLocation::Nowhere => {
                assert_eq!(file.size_bytes, 0);
                seen[0] = true;
            }
            FileLocation::Bundle { label, place } => {
                assert_eq!((label, Some(place)), (stored_in, file.bundle));
                assert!(manifest.is_raw(file));
                seen[1] = true;
            }
            FileLocation::Object { label, stored: StoredFile::BlockIncremental } => {
                assert_eq!(label, stored_in);
                assert!(file.bundle.is_none() && manifest.is_raw(file));
                seen[2] = true;
            }
            FileLocation::Object { stored: StoredFile::Whole(compress), .. } => {
                assert_eq!(compress, CompressType::Lz4);
                assert!(!manifest.is_raw(file));
                seen[3] = true;
            }
        }
    }
    assert_eq!(seen, [true, true, false, true], "the sample has no block incremental file outside of bundles");
}

#[test]
fn reads_targets_links_and_databases() {
    let manifest = Manifest::parse(&sample(TABLESPACE_SAMPLE)).unwrap();
    let tablespace = manifest.targets().iter().find_map(|target| match target.kind() {
        TargetKind::Tablespace { oid, tablespace_name, .. } => Some((target.name().to_string(), *oid, tablespace_name)),
        _ => None,
    });
    let (target, oid, tablespace_name) = tablespace.unwrap();
    assert_eq!((target, tablespace_name), (format!("pg_tblspc/{oid}"), &RawText::from("ts1")));
    let link = manifest.link(format!("pg_data/pg_tblspc/{oid}").as_bytes()).unwrap();
    assert!(!link.destination().is_empty());
    assert!(manifest.path(format!("pg_tblspc/{oid}").as_bytes()).is_some());
    let databases: Vec<String> = manifest.databases().iter().map(|database| database.name.to_string()).collect();
    assert_eq!(databases, ["postgres", "template0", "template1"]);
    assert_eq!((manifest.cluster().version, manifest.cluster().history_id), (PgVersion::V15, Some(HistoryId::FIRST)));
}

#[test]
fn hi01_names_that_leave_the_backup_are_refused() {
    for bad in [
        "pg_data/../../etc/x",
        "/etc/x",
        "//x",
        "pg_data/./x",
        "pg_data//x",
        "pg_data/x/",
        "pg_data/..",
        "base/1/1",
        "pg_data",
    ] {
        let error = Manifest::parse(&minimal_with(&format!("{bad}={{\"size\":0,\"timestamp\":1}}\n"))).unwrap_err();
        assert!(!error.is_checksum(), "{bad}: {error}");
        assert!(error.to_string().contains(&format!("section 'target:file', key '{bad}'")), "{bad}: {error}");
    }
    let file = sample(TABLESPACE_SAMPLE);
    for (from, to, section) in [
        ("\npg_data/base={", "\npg_data/../base={", "target:path"),
        ("={\"destination\":", "/../x={\"destination\":", "target:link"),
        ("\npg_tblspc/16", "\npg_tblspc/..16/../", "backup:target"),
        ("\"type\":\"path\"", "\"type\":\"link\",\"x\":1", "backup:target"),
        ("\"tablespace-id\":\"1", "\"tablespace-id\":\"2", "backup:target"),
        ("\"destination\":\"", "\"destination\":\"\\u0000", "target:link"),
    ] {
        let error = Manifest::parse(&resealed(&file, from, to)).unwrap_err();
        assert!(
            !error.is_checksum() && error.to_string().contains(&format!("section '{section}', key '")),
            "{to}: {error}"
        );
    }
}

#[test]
fn hi06_impossible_rows_are_refused_with_the_attribute() {
    let sum = "da39a3ee5e6b4b0d3255bfef95601890afd80708";
    for (row, expected) in [
        ("\"timestamp\":1", "attribute 'size' is missing"),
        ("\"size\":1", "attribute 'timestamp' is missing"),
        ("\"size\":-1,\"timestamp\":1", "out of range"),
        ("\"size\":18446744073709551616,\"timestamp\":1", "out of range"),
        ("\"bni\":0,\"size\":1,\"timestamp\":1", "attribute 'bni' is zero"),
        ("\"bno\":5,\"size\":1,\"timestamp\":1", "attribute 'bno' is there without 'bni'"),
        ("\"bni\":1,\"bno\":18446744073709551615,\"size\":1,\"timestamp\":1", "reach beyond any file"),
        ("\"bim\":5,\"size\":1,\"timestamp\":1", "attribute 'bi' is missing"),
        ("\"bi\":0,\"size\":1,\"timestamp\":1", "attribute 'bi' is not a block size"),
        ("\"bi\":1048576,\"size\":1,\"timestamp\":1", "attribute 'bi' is not a block size"),
        ("\"bi\":1,\"bic\":5,\"size\":1,\"timestamp\":1", "attribute 'bic' is not between 6 and 16"),
        ("\"bi\":1,\"bim\":9,\"size\":1,\"timestamp\":1", "attribute 'bim' is larger than the stored file"),
        ("\"checksum\":\"xyz\",\"size\":1,\"timestamp\":1", "attribute 'checksum' is not 40"),
        (
            &format!("\"checksum\":\"{sum}\",\"size\":0,\"timestamp\":1"),
            "attribute 'checksum' is not that of an empty file",
        ),
        (
            "\"checksum-page\":true,\"checksum-page-error\":[1],\"size\":1,\"timestamp\":1",
            "without 'checksum-page' false",
        ),
        (
            "\"checksum-page\":false,\"checksum-page-error\":[2,1],\"size\":1,\"timestamp\":1",
            "is not in ascending order",
        ),
        (
            "\"checksum-page\":false,\"checksum-page-error\":[[1]],\"size\":1,\"timestamp\":1",
            "a range without two ends",
        ),
        ("\"checksum-page\":false,\"checksum-page-error\":[[1,2,3]],\"size\":1,\"timestamp\":1", "more than two ends"),
        ("\"mode\":\"99\",\"size\":1,\"timestamp\":1", "attribute 'mode' is not an octal mode"),
        ("\"mode\":\"10000\",\"size\":1,\"timestamp\":1", "attribute 'mode' is not an octal mode"),
        ("\"group\":true,\"size\":1,\"timestamp\":1", "attribute 'group' is true"),
        ("\"reference\":\"20261122-061729F\",\"size\":1,\"timestamp\":1", "not in the list 'backup-reference'"),
        ("\"reference\":\"../x\",\"size\":1,\"timestamp\":1", "attribute 'reference' is not a backup label"),
        ("\"size\":1,\"size\":1,\"timestamp\":1", "not in ascending order"),
        ("\"timestamp\":1,\"size\":1", "not in ascending order"),
    ] {
        let error = Manifest::parse(&minimal_with(&format!("pg_data/x={{{row}}}\n"))).unwrap_err().to_string();
        assert!(
            error.contains("section 'target:file', key 'pg_data/x'") && error.contains(expected),
            "{row} gave: {error}"
        );
    }
    let big = "{\"size\":10000000000000000000,\"timestamp\":1}\n";
    let error = Manifest::parse(&minimal_with(&format!("pg_data/x={big}pg_data/y={big}"))).unwrap_err();
    assert!(error.to_string().contains("the sum of all sizes"), "{error}");
}

#[test]
fn in06_sec24_impossible_manifests_are_refused_with_section_and_key() {
    let file = sample(BLOCK_SAMPLE);
    for (from, to, expected) in [
        ("backup-type=\"diff\"", "backup-type=\"incr\"", "section 'backup', key 'backup-type'"),
        (
            "backup-label=\"20261122-061839F_20261122-061840D\"",
            "backup-label=\"../x\"",
            "section 'backup', key 'backup-label'",
        ),
        ("backup-label=\"20261122-061839F_20261122-061840D\"\n", "", "section 'backup', key 'backup-label' is missing"),
        ("backup-prior=\"20261122-061839F\"\n", "", "section 'backup', key 'backup-prior' is missing"),
        ("backup-prior=\"20261122-061839F\"", "backup-prior=\"20261122-061838F\"", "key 'backup-prior'"),
        (
            "backup-reference=\"20261122-061839F,",
            "backup-reference=\"20261122-061838F,20261122-061839F,20261122-061839F,",
            "has a label twice",
        ),
        ("backup-reference=\"20261122-061839F,", "backup-reference=\"x,", "is not a list of backup labels"),
        (
            "backup-reference=\"20261122-061839F,",
            "backup-reference=\"20261122-061838F,",
            "the list does not have the prior backup",
        ),
        (
            "option-compress-type=\"lz4\"",
            "option-compress-type=\"xz\"",
            "section 'backup:option', key 'option-compress-type'",
        ),
        ("db-version=\"13\"", "db-version=\"thirteen\"", "section 'backup:db', key 'db-version'"),
        (
            "backup-timestamp-stop=",
            "backup-timestamp-stopp=",
            "section 'backup', key 'backup-timestamp-stop' is missing",
        ),
        ("\npg_data={\"path\":", "\npg_data/x={\"path\":", "section 'backup:target', key 'pg_data/x'"),
        (
            "\npg_data/PG_VERSION=",
            "\npg_data/backup_label=",
            "section 'target:file', key 'pg_data/backup_label': the key stands twice",
        ),
        ("\npg_data={}", "\npg_data/PG_VERSION={}", "section 'target:path', key 'pg_data' is missing"),
        (
            "\npg_data/base={}",
            "\npg_data/PG_VERSION={}",
            "section 'target:path', key 'pg_data/PG_VERSION': a file has the same name",
        ),
        ("group=\"postgres\"\n", "", "section 'target:file:default', key 'group' is missing"),
        ("option-online=true\n", "option-online=true\noption-online=true\n", "the key is repeated or out of order"),
    ] {
        // The list of references may be named by a row first.
        let error = match Manifest::parse(&resealed(&file, from, to)) {
            Err(error) if error.to_string().contains("attribute 'reference' is not in") => continue,
            Err(error) => error,
            Ok(_) => panic!("{to} was accepted"),
        };
        assert!(!error.is_checksum() && error.to_string().contains(expected), "{to} gave: {error}");
    }
}

#[test]
fn in07_unknown_keys_are_written_again_everywhere() {
    let mut file = sample(TABLESPACE_SAMPLE);
    for (from, to) in [
        ("\nbackup-type=", "\nbackup-tx=\"later\"\nbackup-type="),
        ("\noption-process-max=", "\noption-pack={\"a\": 1}\noption-process-max="),
        ("[target:file:default]\ngroup=\"postgres\"\n", "[target:file:default]\ngroup=\"postgres\"\nmaster=false\n"),
        ("\npg_data/PG_VERSION={", "\npg_data/PG_VERSION={\"acl\":[\"x\"],"),
        ("\npg_data/base={", "\npg_data/base={\"acl\":0"),
        ("={\"destination\":\"", "={\"a\":null,\"destination\":\""),
        (",\"type\":\"path\"}", ",\"type\":\"path\",\"zone\":{}}"),
        ("\"db-last-system-id\":", "\"db-kind\":\"x\",\"db-last-system-id\":"),
        ("[target:file]\n", "[store]\nkey={\"z\":1,\"a\":2}\n\n[target:file]\n"),
    ] {
        file = resealed(&file, from, to);
    }
    assert_eq!(text(Manifest::parse(&file).unwrap().write_to_vec()), text(file));
}

#[test]
fn a_manifest_without_reference_list_takes_it_from_the_rows() {
    // As versions before 2.42 wrote it.
    let list = "backup-reference=\"20261122-061839F,20261122-061839F_20261122-061840D\"\n";
    let file = resealed(&sample(BLOCK_SAMPLE), list, "");
    let manifest = Manifest::parse(&file).unwrap();
    assert_eq!(manifest.references(), [label("20261122-061839F"), manifest.label()]);
    assert!(manifest.write_to_vec() == file);
}

#[test]
fn unsorted_rows_are_sorted_and_written_in_order() {
    let rows = ["pg_data/b={\"size\":0,\"timestamp\":1}\n", "pg_data/a={\"size\":0,\"timestamp\":1}\n"];
    let manifest = Manifest::parse(&minimal_with(&rows.concat())).unwrap();
    assert!(manifest.file(b"pg_data/a").is_some() && manifest.file(b"pg_data/b").is_some());
    let sorted = [rows[1], rows[0]].concat();
    assert_eq!(text(manifest.write_to_vec()), text(minimal_with(&sorted)));
}

#[test]
fn truncation_is_an_error_at_every_length() {
    let file = minimal_with("pg_data/x={\"size\":0,\"timestamp\":1}\n");
    for length in 0..file.len() - 1 {
        assert!(Manifest::parse(file.get(..length).unwrap()).is_err(), "{length} bytes were accepted");
    }
}

/// What a backup command knows at its begin, for the manifest of a sample.
fn begin_like(sample: &Manifest) -> BeginBackup {
    BeginBackup {
        label: sample.label(),
        backup_pass: sample.backup_pass().cloned(),
        timestamp_start_s: sample.header().timestamp_start_s,
        version: sample.cluster().version,
        catalog_version: sample.cluster().catalog_version,
        control_version: sample.cluster().control_version,
        bundle: sample.header().bundle,
        block_incr: sample.header().block_incr,
        options: ManifestOptions {
            compress_type: sample.options().compress_type,
            checksum_page: sample.options().checksum_page,
            delta: sample.options().delta,
            online: sample.options().online,
            ..ManifestOptions::default()
        },
    }
}

fn scanned_like(file: &FileRow, owners: (Owner, Owner)) -> FileRow {
    let mut row = FileRow::scanned(ScannedFile {
        name: file.name().clone(),
        size_bytes: file.size_original_bytes,
        timestamp_s: file.timestamp_s,
        user: owners.0,
        group: owners.1,
        mode: file.mode,
    });
    row.block_incr = file.block_incr.map(|block_incr| BlockIncr { map_size_bytes: 0, ..block_incr });
    row
}

/// Makes the manifest of a sample again, as a backup command would.
fn made_again(sample: &Manifest, prior: Option<&Manifest>) -> Manifest {
    let mut builder = ManifestBuilder::new(begin_like(sample), prior).unwrap();
    let mut copied = |owner| match sample.owners().name(owner) {
        Some(name) => builder.owners_mut().intern(name.as_bytes()),
        None => Owner::UNNAMED,
    };
    let files: Vec<_> =
        sample.files().iter().map(|file| scanned_like(file, (copied(file.user), copied(file.group)))).collect();
    let paths: Vec<_> = sample
        .paths()
        .iter()
        .map(|path| PathRow::new(path.name().clone(), copied(path.user), copied(path.group), path.mode))
        .collect();
    let links: Vec<_> = sample
        .links()
        .iter()
        .map(|link| {
            LinkRow::new(link.name().clone(), link.destination().clone(), copied(link.user), copied(link.group))
                .unwrap()
        })
        .collect();
    sample.targets().iter().cloned().for_each(|target| builder.add_target(target));
    files.into_iter().rev().for_each(|file| builder.add_file(file));
    paths.into_iter().rev().for_each(|path| builder.add_path(path));
    links.into_iter().for_each(|link| builder.add_link(link));
    let mut manifest = builder.finish().unwrap();
    manifest.header_mut().timestamp_copy_start_s = sample.header().timestamp_copy_start_s;
    // The copy of a running backup can be read at any time.
    assert!(Manifest::parse(&manifest.write_to_vec()).is_ok());
    for (position, file) in sample.files().iter().enumerate() {
        if let (Some(_), Some(prior)) = (file.reference, prior) {
            let prior_file = prior.file(file.name().as_bytes()).unwrap();
            assert!(manifest.reference_prior(position, prior, prior_file));
        } else {
            manifest.files_mut().get_mut(position).unwrap().record(CopiedFile {
                size_bytes: file.size_bytes,
                checksum: file.checksum.unwrap(),
                size_repo_bytes: file.size_repo_bytes,
                checksum_repo: file.checksum_repo,
                bundle: file.bundle,
                map_size_bytes: file.block_incr.map_or(0, |block_incr| block_incr.map_size_bytes),
                page_checksums: file.page_checksums.clone(),
            });
        }
    }
    let header = sample.header();
    manifest.complete(Completion {
        timestamp_stop_s: header.timestamp_stop_s,
        archive: header.archive_start.zip(header.archive_stop),
        lsn: header.lsn_start.clone().zip(header.lsn_stop.clone()),
        history_id: sample.cluster().history_id.unwrap(),
        system_id: sample.cluster().system_id.unwrap(),
        databases: sample.databases().iter().rev().cloned().collect(),
        annotations: sample.annotations().clone(),
        options: sample.options().clone(),
    });
    manifest.validate().unwrap();
    manifest
}

#[test]
fn a_manifest_made_by_the_builder_is_that_of_the_original() {
    let without_version = |bytes: Vec<u8>| -> Vec<String> {
        let other = |line: &&str| !line.starts_with("backrest-version=") && !line.starts_with("backrest-checksum=");
        text(bytes).lines().filter(other).map(str::to_owned).collect()
    };
    let full = Manifest::parse(&sample("2.60-pg13-lz4-bundle-block/20261122-061839F.manifest")).unwrap();
    let diff = Manifest::parse(&sample(BLOCK_SAMPLE)).unwrap();
    let tablespace = Manifest::parse(&sample(TABLESPACE_SAMPLE)).unwrap();
    for (original, prior) in [(&full, None), (&diff, Some(&full)), (&tablespace, None)] {
        let made = made_again(original, prior);
        let lines = without_version(made.write_to_vec()).into_iter().zip(without_version(original.write_to_vec()));
        for (made, original) in lines {
            assert_eq!(made, original);
        }
        assert_eq!(made.envelope().version(), &"2.60.0");
    }
}

#[test]
fn the_builder_refuses_what_is_no_manifest() {
    let full = Manifest::parse(&sample(TABLESPACE_SAMPLE)).unwrap();
    assert!(matches!(ManifestBuilder::new(begin_like(&full), Some(&full)), Err(BuildError::Prior { .. })));
    let builder = ManifestBuilder::new(begin_like(&full), None).unwrap();
    assert_eq!(builder.finish().unwrap_err(), BuildError::NoPgData("backup:target"));
    let mut again = made_again(&full, None);
    let row = again.file(b"pg_data/PG_VERSION").unwrap().clone();
    assert!(matches!(again.insert_file(row.clone()), Err(BuildError::Twice { .. })));
    again.retain_files(|file| file.name() != row.name());
    assert_eq!(again.file(b"pg_data/PG_VERSION"), None);
    again.insert_file(row).unwrap();
    assert!(again.file(b"pg_data/PG_VERSION").is_some());
    again.rename(label("20261122-061828F")).unwrap();
    assert_eq!(again.references(), [label("20261122-061828F")]);
    assert!(again.rename(label("20261122-061828F_20261122-061829D")).is_err());
}

#[test]
fn lsns_and_segments_come_from_the_completion() {
    let sample = Manifest::parse(&sample(TABLESPACE_SAMPLE)).unwrap();
    let mut manifest = made_again(&sample, None);
    let segment = WalSegmentName::parse("0000000100000000000000AA").unwrap();
    manifest.complete(Completion {
        timestamp_stop_s: 7,
        archive: Some((segment, segment)),
        lsn: Some((StoredLsn::from(Lsn(0xAA00_0028)), StoredLsn::from(Lsn(0xAA00_0100)))),
        history_id: HistoryId::new(3).unwrap(),
        system_id: SystemId(9),
        databases: Vec::new(),
        annotations: Annotations::default(),
        options: ManifestOptions::default(),
    });
    let entry = manifest.backup_entry().unwrap();
    assert_eq!((entry.archive_stop, entry.history_id.number()), (Some(segment), 3));
    assert_eq!(entry.lsn_start.unwrap().as_str(), "0/AA000028");
    assert_eq!(manifest.options().compress_type, CompressType::Gz, "the type of the set stays");
}

fn any_row() -> impl Strategy<Value = FileRow> {
    let odd_name = proptest::collection::vec(
        prop_oneof![Just(b'='), Just(b'"'), Just(b'\\'), Just(b'['), Just(b'#'), Just(b' '), Just(b'{'), 1_u8..=255],
        1..30,
    );
    let block_incr = (1_u32..64, 6_u8..=16, 0_u64..=5).prop_map(|(units, checksum_size_bytes, map_size_bytes)| {
        BlockIncr { block_size_bytes: units * 8192, checksum_size_bytes, map_size_bytes }
    });
    let bundle = (1_u64.., 0_u64..1 << 40)
        .prop_map(|(id, offset_bytes)| BundlePlace { id: BundleId::new(id).unwrap(), offset_bytes });
    let pages = proptest::collection::vec((1_u64..9, 0_u64..5), 0..4).prop_map(|steps| {
        let mut next = 0;
        let range = |(gap, length)| {
            let first: u64 = next + gap;
            next = first + length;
            PageRange { first, last: next }
        };
        PageChecksums::Errors(steps.into_iter().map(range).collect())
    });
    let pages = prop_oneof![Just(PageChecksums::NotChecked), Just(PageChecksums::Valid), pages];
    let sizes = (0_u64..1 << 40, 5_u64..1 << 40, 0_u64..1 << 40, any::<i64>());
    let sums = (any::<Option<[u8; 20]>>(), any::<Option<[u8; 20]>>());
    (odd_name, sizes, sums, proptest::option::of(block_incr), proptest::option::of(bundle), pages, 0_u16..=0o7777)
        .prop_filter_map(
            "names of the format",
            |(
                name,
                (size_bytes, size_repo_bytes, size_original_bytes, timestamp_s),
                sums,
                block_incr,
                bundle,
                page_checksums,
                mode,
            )| {
                let name = ManifestName::parse(&[b"pg_data/x", name.as_slice()].concat()).ok()?;
                let scanned =
                    ScannedFile { name, size_bytes, timestamp_s, user: Owner::UNNAMED, group: Owner::UNNAMED, mode };
                let mut row = FileRow::scanned(scanned);
                (row.size_repo_bytes, row.size_original_bytes) = (size_repo_bytes, size_original_bytes);
                if size_bytes > 0 {
                    row.checksum = sums.0.map(Checksum);
                }
                row.checksum_repo = sums.1.map(Checksum);
                (row.block_incr, row.bundle, row.page_checksums) = (block_incr, bundle, page_checksums);
                Some(row)
            },
        )
}

proptest! {
    #[test]
    fn bk22_any_row_round_trips(row in any_row()) {
        let mut manifest = Manifest::parse(&minimal_with("pg_data/a={\"size\":0,\"timestamp\":1}\n")).unwrap();
        manifest.insert_file(row.clone()).unwrap();
        let written = manifest.write_to_vec();
        let again = Manifest::parse(&written).unwrap();
        prop_assert_eq!(again.files(), manifest.files());
        prop_assert!(again.write_to_vec() == written);
    }

    #[test]
    fn arbitrary_values_of_a_row_never_panic(value in "\\{(\"(bi|bic|bim|bni|bno|checksum|size|mode|user)\":(1|-1|\"x\"|\\[1\\]|true|99999999999999999999),?){0,5}\\}?") {
        _ = parse_file_row(b"pg_data/x", value.as_bytes()).is_ok();
    }

    #[test]
    fn a_damaged_manifest_never_panics(at in 0_usize..2000, byte in any::<u8>()) {
        let mut file = minimal_with("pg_data/x={\"bi\":1,\"bim\":2,\"bni\":3,\"checksum-page\":false,\"checksum-page-error\":[1,[2,3]],\"size\":7,\"timestamp\":1}\n");
        if let Some(place) = file.get_mut(at) {
            *place = byte;
        }
        _ = Manifest::parse(&file).is_ok();
    }
}

#[test]
fn a_row_is_small() {
    // 600 bytes a row is the bar, with its name and everything else.
    assert!(size_of::<FileRow>() <= 232, "{} bytes", size_of::<FileRow>());
}

#[test]
fn targets_must_go_with_their_names() {
    let path = RawText::from("/x");
    let target = |text: &str, kind| Target::new(name(text), kind);
    assert!(target("pg_data", TargetKind::PgData { path: path.clone() }).is_ok());
    assert!(target("pg_data/x", TargetKind::PgData { path: path.clone() }).is_err());
    assert!(target("pg_data", TargetKind::DirectoryLink { path: path.clone() }).is_err());
    let file = |file: &str| TargetKind::FileLink { path: path.clone(), file: RawText::from(file) };
    assert!(target("pg_data/x", file("y")).is_ok());
    for bad in ["", ".", "..", "a/b", "/a", "a\0"] {
        assert_eq!(target("pg_data/x", file(bad)), Err(TargetError::File));
    }
    let tablespace = |oid| TargetKind::Tablespace { path: path.clone(), oid, tablespace_name: RawText::from("ts1") };
    assert!(target("pg_tblspc/7", tablespace(7)).is_ok());
    assert_eq!(target("pg_tblspc/8", tablespace(7)), Err(TargetError::Name));
    assert_eq!(target("pg_tblspc/0", tablespace(0)), Err(TargetError::Name));
}
