//! A manifest with any number of rows, as a cluster of many databases has them.

use pgbr_repo::format::manifest::{
    BeginBackup, BundlePlace, CopiedFile, FileRow, ManifestOptions, PageChecksums, PathRow, ScannedFile, Target,
    TargetKind,
};
use pgbr_repo::format::path::BundleId;
use pgbr_repo::format::{BackupLabel, Checksum, CompressType, Manifest, ManifestBuilder, ManifestName, RawText};
use pgbr_repo::postgres::PgVersion;

use crate::input::Numbers;

/// Rows of a database: relations with their forks, as a plain one has.
const ROWS_PER_DATABASE: usize = 300;
/// Rows of a bundle.
const ROWS_PER_BUNDLE: u64 = 500;
const FIRST_OID: usize = 16_384;
const TIME_S: i64 = 1_790_000_000;

/// Why a manifest could not be made; a mistake in this file.
type Failure = Box<dyn std::error::Error>;

/// A manifest with so many files, bundled, compressed and with checksums of the stored bytes.
///
/// # Errors
/// None that data could cause.
pub fn generate(rows: usize) -> Result<Manifest, Failure> {
    let mut builder = ManifestBuilder::new(begin()?, None)?;
    let owner = builder.owners_mut().intern(b"postgres");
    let path = RawText::from(&b"/var/lib/postgresql/17/main"[..]);
    builder.add_target(Target::new(ManifestName::parse(b"pg_data")?, TargetKind::PgData { path })?);
    for name in ["pg_data", "pg_data/base", "pg_data/global"] {
        builder.add_path(PathRow::new(ManifestName::parse(name.as_bytes())?, owner, owner, 0o700));
    }
    for database in 0..rows.div_ceil(ROWS_PER_DATABASE) {
        let name = format!("pg_data/base/{}", FIRST_OID + database);
        builder.add_path(PathRow::new(ManifestName::parse(name.as_bytes())?, owner, owner, 0o700));
    }
    let mut numbers = Numbers::new(3);
    for number in 0..rows {
        let mut row = FileRow::scanned(ScannedFile {
            name: ManifestName::parse(file_name(number).as_bytes())?,
            size_bytes: 8192 * (1 + numbers.below(16)),
            timestamp_s: TIME_S - i64::try_from(numbers.below(10_000_000))?,
            user: owner,
            group: owner,
            mode: 0o600,
        });
        row.record(copied(&row, number as u64, &mut numbers));
        builder.add_file(row);
    }
    Ok(builder.finish()?)
}

fn begin() -> Result<BeginBackup, Failure> {
    let version = PgVersion::parse("17")?;
    let facts = version.facts().ok_or("version 17 is not known")?;
    Ok(BeginBackup {
        label: BackupLabel::parse("20261123-040000F")?,
        backup_pass: None,
        timestamp_start_s: TIME_S,
        version,
        catalog_version: facts.catalog_version,
        control_version: facts.control_version,
        bundle: true,
        block_incr: false,
        options: ManifestOptions { compress_type: CompressType::Zst, online: true, ..ManifestOptions::default() },
    })
}

/// `pg_data/base/16385/16402`, `…_fsm`, `…_vm`, in turns.
fn file_name(number: usize) -> String {
    let (database, place) = (number / ROWS_PER_DATABASE, number % ROWS_PER_DATABASE);
    let fork = ["", "_fsm", "_vm"][place % 3];
    format!("pg_data/base/{}/{}{fork}", FIRST_OID + database, FIRST_OID + place / 3)
}

fn copied(row: &FileRow, number: u64, numbers: &mut Numbers) -> CopiedFile {
    let mut checksums = [[0; 20]; 2];
    checksums.iter_mut().for_each(|checksum| numbers.fill(checksum));
    let size_repo_bytes = 100 + numbers.below(row.size_bytes / 4);
    let bundle = BundleId::new(1 + number / ROWS_PER_BUNDLE);
    CopiedFile {
        size_bytes: row.size_bytes,
        checksum: Checksum(checksums[0]),
        size_repo_bytes,
        checksum_repo: Some(Checksum(checksums[1])),
        bundle: bundle.map(|id| BundlePlace { id, offset_bytes: number % ROWS_PER_BUNDLE * 9000 }),
        map_size_bytes: 0,
        page_checksums: PageChecksums::Valid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_manifest_reads_back_as_it_was_written() {
        let manifest = generate(1000).unwrap();
        assert_eq!(manifest.files().len(), 1000);
        let text = manifest.write_to_vec();
        assert_eq!(Manifest::parse(&text).unwrap().write_to_vec(), text);
    }
}
