//! Tests of `control_file`: real files of PostgreSQL 13, 15 and 18, files of every version built from the table,
//! damage.

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::postgres::sample::sample;
use crate::postgres::version::VERSIONS;

const SAMPLES: [&str; 6] = [
    "pg13-1mib.pg_control",
    "pg15-1mib.pg_control",
    "pg15-16mib.pg_control",
    "pg15-1024mib.pg_control",
    "pg18-1mib.pg_control",
    "pg18-1mib-timeline2.pg_control",
];

/// A value from the output of `pg_controldata`.
fn controldata(text: &str, label: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no line '{label}'")).trim().to_owned()
}

/// The smallest file that is right for a row of the version table.
fn built(facts: &VersionFacts, crc_offset: usize, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![0x5A; ControlFile::SIZE_BYTES];
    write_at(&mut bytes, 0, &7_000_000_000_000_000_001_u64.to_le_bytes());
    write_at(&mut bytes, CONTROL_VERSION_OFFSET, &facts.control_version.to_le_bytes());
    write_at(&mut bytes, CATALOG_VERSION_OFFSET, &facts.catalog_version.to_le_bytes());
    write_at(&mut bytes, CHECKPOINT_OFFSET, &0x0000_0001_0200_0028_u64.to_le_bytes());
    write_at(&mut bytes, facts.control.timeline, &3_u32.to_le_bytes());
    write_at(&mut bytes, facts.control.page_size, &8192_u32.to_le_bytes());
    write_at(&mut bytes, facts.control.wal_segment_size, &(64_u32 << 20).to_le_bytes());
    write_at(&mut bytes, facts.control.data_checksum_version, &1_u32.to_le_bytes());
    change(&mut bytes);
    let crc = crc32c(&bytes[..crc_offset]);
    write_at(&mut bytes, crc_offset, &crc.to_le_bytes());
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[test]
fn agrees_with_pg_controldata() {
    for file in SAMPLES.into_iter().filter(|file| !file.starts_with("pg18")) {
        let control = ControlFile::parse(&sample(file)).unwrap();
        let text = String::from_utf8(sample(&file.replace(".pg_control", ".pg_controldata"))).unwrap();
        let told = |label| controldata(&text, label);
        assert_eq!(control.control_version().to_string(), told("pg_control version number"), "{file}");
        assert_eq!(control.catalog_version().to_string(), told("Catalog version number"), "{file}");
        assert_eq!(control.system_id().to_string(), told("Database system identifier"), "{file}");
        assert_eq!(control.checkpoint().to_string(), told("Latest checkpoint location"), "{file}");
        assert_eq!(control.timeline().to_string(), told("Latest checkpoint's TimeLineID"), "{file}");
        let MinimumRecovery { lsn, timeline } = control.minimum_recovery();
        let timeline = timeline.map_or(0, Timeline::number);
        assert_eq!(lsn.to_string(), told("Minimum recovery ending location"), "{file}");
        assert_eq!(timeline.to_string(), told("Min recovery ending loc's timeline"), "{file}");
        assert_eq!(control.page_size().bytes().to_string(), told("Database block size"), "{file}");
        assert_eq!(control.wal_segment_size().bytes().to_string(), told("Bytes per WAL segment"), "{file}");
        assert_eq!(control.data_checksum_version().to_string(), told("Data page checksum version"), "{file}");
    }
}

#[test]
fn tells_the_version_of_real_files() {
    for (file, version, timeline) in [
        ("pg13-1mib.pg_control", PgVersion::V13, 1),
        ("pg15-1mib.pg_control", PgVersion::V15, 1),
        ("pg18-1mib.pg_control", PgVersion::V18, 1),
        ("pg18-1mib-timeline2.pg_control", PgVersion::V18, 2),
    ] {
        let control = ControlFile::parse(&sample(file)).unwrap();
        assert_eq!(control.version(), version, "{file}");
        assert_eq!(control.timeline(), Timeline::new(timeline).unwrap(), "{file}");
        assert_eq!(control.wal_segment_size(), WalSegmentSize::MIN, "{file}");
        assert!(control.has_data_checksums(), "{file}");
    }
}

#[test]
fn a_stored_file_is_the_file_that_the_server_wrote() {
    for file in SAMPLES {
        assert_eq!(ControlFile::parse(&sample(file)).unwrap().to_file(), sample(file), "{file}");
    }
}

#[test]
fn the_invalidated_file_is_the_one_that_the_original_restores() {
    // sha256 of global/pg_control after a restore of these backups by pgBackRest 2.60.
    for (file, restored) in [
        ("pg13-1mib.pg_control", "c464fa99497d561d1c34a5a79bf1ff05f0d42ebe10ac46bc7cc8e49426a9b5df"),
        ("pg18-1mib.pg_control", "1ad178cca5d38da91440eeb381ff05c6dfcf054815419a2ea02a9523421ffd89"),
        ("pg18-1mib-timeline2.pg_control", "92dee92e2ebfdba5bbffce1bdddaf520cdb4e20b9b01c637aaa185d835a00bdc"),
    ] {
        let file_bytes = ControlFile::parse(&sample(file)).unwrap().invalidated();
        assert_eq!(sha256(&file_bytes), restored, "{file}");
    }
}

#[test]
fn an_invalidated_file_differs_in_the_checkpoint_only() {
    for file in SAMPLES {
        let before = ControlFile::parse(&sample(file)).unwrap();
        let after = ControlFile::parse(&before.invalidated()).unwrap();
        assert_eq!(after.checkpoint(), ControlFile::INVALID_CHECKPOINT, "{file}");
        let differing: Vec<usize> = before
            .to_file()
            .iter()
            .zip(after.to_file())
            .enumerate()
            .filter_map(|(offset, (before, after))| (*before != after).then_some(offset))
            .collect();
        let fields = [CHECKPOINT_OFFSET..CHECKPOINT_OFFSET + 8, before.crc_offset..before.crc_offset + 4];
        assert!(differing.iter().all(|offset| fields.iter().any(|field| field.contains(offset))), "{file}");
        assert_eq!(after.invalidated(), before.invalidated(), "{file}");
    }
}

#[test]
fn every_version_of_the_table_is_read_at_its_offsets() {
    for facts in VERSIONS {
        let control = ControlFile::parse(&built(facts, facts.control.crc, |_| ())).unwrap();
        assert_eq!(control.version(), facts.version);
        assert_eq!(control.control_version(), facts.control_version);
        assert_eq!(control.catalog_version(), facts.catalog_version);
        assert_eq!(control.system_id(), SystemId(7_000_000_000_000_000_001));
        assert_eq!(control.checkpoint(), Lsn(0x1_0200_0028));
        assert_eq!(control.timeline(), Timeline::new(3).unwrap());
        assert_eq!(control.page_size(), PageSize::DEFAULT);
        assert_eq!(control.wal_segment_size().bytes(), 64 << 20);
        assert!(control.has_data_checksums());
    }
}

#[test]
fn bk27_a_torn_read_fails_at_the_crc() {
    // Two states of one cluster, mixed at each byte as a read during a write would mix them.
    let (old, new) = (sample("pg18-1mib.pg_control"), sample("pg18-1mib-timeline2.pg_control"));
    for torn_at in 1..ControlFile::SIZE_BYTES {
        let mixed = [&new[..torn_at], &old[torn_at..]].concat();
        match ControlFile::parse(&mixed) {
            Ok(_) => assert!(mixed == old || mixed == new, "torn at {torn_at}"),
            Err(error) => assert!(matches!(error, ControlFileError::Crc { .. }), "torn at {torn_at}: {error}"),
        }
    }
}

#[test]
fn bk27_any_flipped_bit_that_counts_is_seen() {
    let file = sample("pg15-16mib.pg_control");
    for bit in 0..(VERSIONS[7].control.crc + 4) * 8 {
        let mut damaged = file.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(ControlFile::parse(&damaged).is_err(), "bit {bit}");
    }
}

#[test]
fn hi15_a_short_control_file_is_refused() {
    let file = sample("pg15-16mib.pg_control");
    for size_bytes in 0..ControlFile::SIZE_BYTES {
        assert_eq!(ControlFile::parse(&file[..size_bytes]), Err(ControlFileError::TooShort { size_bytes }));
    }
    assert_eq!(ControlFile::parse(&file[..ControlFile::SIZE_BYTES]), ControlFile::parse(&file));
}

#[test]
fn hi15_sec24_an_unknown_version_is_refused_by_its_numbers() {
    let facts = PgVersion::V15.facts().unwrap();
    let future = built(facts, 288, |bytes| write_at(bytes, CONTROL_VERSION_OFFSET, &2500_u32.to_le_bytes()));
    let error = ControlFile::parse(&future).unwrap_err();
    assert_eq!(error, ControlFileError::UnknownVersion { control_version: 2500, catalog_version: 202_209_061 });
    let zeros = ControlFile::parse(&[0; 8192]);
    assert_eq!(zeros, Err(ControlFileError::UnknownVersion { control_version: 0, catalog_version: 0 }));
}

#[test]
fn hi15_impossible_values_are_refused_though_the_crc_is_right() {
    let facts = PgVersion::V15.facts().unwrap();
    let with = |offset, value: u32| {
        ControlFile::parse(&built(facts, facts.control.crc, |bytes| write_at(bytes, offset, &value.to_le_bytes())))
    };
    for size in [0, 3, 512 * 1024, 3 << 20, 1 << 31, u32::MAX] {
        let error = WalSegmentSizeError { size_bytes: size.into() };
        assert_eq!(with(facts.control.wal_segment_size, size), Err(ControlFileError::WalSegmentSize(error)));
    }
    for size in [0, 3, 512, 8193, 65_536, u32::MAX] {
        let error = PageSizeError { size_bytes: size.into() };
        assert_eq!(with(facts.control.page_size, size), Err(ControlFileError::PageSize(error)));
    }
    let checksums = with(facts.control.data_checksum_version, 2);
    assert_eq!(checksums, Err(ControlFileError::DataChecksumVersion { found: 2, max: 1 }));
    assert_eq!(with(facts.control.timeline, 0), Err(ControlFileError::NoTimeline));
}

#[test]
fn checksums_being_switched_count_as_none() {
    let facts = PgVersion::V19.facts().unwrap();
    let with = |value: u32| {
        let offset = facts.control.data_checksum_version;
        ControlFile::parse(&built(facts, facts.control.crc, |bytes| write_at(bytes, offset, &value.to_le_bytes())))
            .map(|control| control.data_checksum_version())
    };
    assert_eq!([with(0), with(1), with(2), with(3)], [Ok(0), Ok(1), Ok(0), Ok(0)]);
    assert_eq!(with(4), Err(ControlFileError::DataChecksumVersion { found: 4, max: 3 }));
}

#[test]
fn a_forced_version_finds_the_crc_of_a_fork_further_on() {
    let facts = PgVersion::V15.facts().unwrap();
    for crc_offset in [facts.control.crc, facts.control.crc + 4, 400, 508] {
        let fork = built(facts, crc_offset, |bytes| write_at(bytes, CONTROL_VERSION_OFFSET, &9999_u32.to_le_bytes()));
        assert!(ControlFile::parse(&fork).is_err());
        let control = ControlFile::parse_forced(PgVersion::V15, &fork).unwrap();
        assert_eq!((control.version(), control.control_version()), (PgVersion::V15, 9999));

        let invalidated = ControlFile::parse_forced(PgVersion::V15, &control.invalidated()).unwrap();
        assert_eq!(invalidated.checkpoint(), ControlFile::INVALID_CHECKPOINT);
        assert_eq!(invalidated.crc_offset, crc_offset);
    }
}

#[test]
fn hi15_a_forced_version_stops_searching_at_the_end() {
    let facts = PgVersion::V15.facts().unwrap();
    for crc_offset in [facts.control.crc + 2, facts.control.crc - 4] {
        let fork = built(facts, crc_offset, |_| ());
        let error = ControlFile::parse_forced(PgVersion::V15, &fork).unwrap_err();
        assert!(matches!(error, ControlFileError::Crc { .. }), "{crc_offset}: {error}");
    }
    let unknown = PgVersion::parse("42").unwrap();
    let error = ControlFile::parse_forced(unknown, &sample("pg15-16mib.pg_control")).unwrap_err();
    assert_eq!(error, ControlFileError::UnsupportedForcedVersion { version: unknown });
}

#[test]
fn debug_output_has_no_nonce() {
    let control = ControlFile::parse(&sample("pg15-16mib.pg_control")).unwrap();
    let text = format!("{control:?}");
    assert!(text.contains("PgVersion(15)") && !text.contains("bytes:"), "{text}");
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..700), row in 0..VERSIONS.len()) {
        let _parsed = ControlFile::parse(&bytes);
        let _forced = ControlFile::parse_forced(VERSIONS[row].version, &bytes);
    }

    #[test]
    fn any_values_under_a_right_crc_are_answered(
        bytes in prop::collection::vec(any::<u8>(), ControlFile::SIZE_BYTES),
        row in 0..VERSIONS.len(),
    ) {
        let facts = &VERSIONS[row];
        let file = built(facts, facts.control.crc, |built| {
            *built = bytes;
            write_at(built, CONTROL_VERSION_OFFSET, &facts.control_version.to_le_bytes());
            write_at(built, CATALOG_VERSION_OFFSET, &facts.catalog_version.to_le_bytes());
        });
        let refused = ControlFile::parse(&file).err();
        let early = matches!(refused, Some(ControlFileError::Crc { .. } | ControlFileError::UnknownVersion { .. }));
        prop_assert!(!early, "{:?}", refused);
    }
}
