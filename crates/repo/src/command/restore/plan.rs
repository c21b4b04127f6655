//! What is to be restored, cut into jobs: the largest first. Pure.
//!
//! There may be millions of files, so they are named by their place in the manifest, and a job is a few numbers.

use std::cmp::Reverse;
use std::ops::Range;

use super::databases::EmptyDatabases;
use crate::format::manifest::{FileLocation, FileRow, Manifest, ReferenceIndex};

/// Files without bytes in the repository that one job makes.
const LOCAL_FILES_MAX: u32 = 1000;

/// Everything that a restore writes.
#[derive(Debug, Default)]
pub(super) struct Plan {
    order: Vec<u32>,
    /// The jobs, in the order in which they begin.
    pub jobs: Vec<Job>,
    /// Bytes of all files.
    pub size_bytes: u64,
}

/// A part of the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    /// What it reads.
    pub source: Source,
    /// Bytes of its files.
    pub size_bytes: u64,
    files: Range<u32>,
}

/// What a job reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// One object that holds one file, or its blocks.
    Object,
    /// One bundle, which all of its files are in.
    Bundle,
    /// Nothing: files that are empty, or made without their content.
    Nothing,
}

impl Plan {
    /// The files of a job: places in [`Manifest::files`].
    pub(super) fn files(&self, job: &Job) -> &[u32] {
        let range = usize::try_from(job.files.start).unwrap_or(0)..usize::try_from(job.files.end).unwrap_or(0);
        self.order.get(range).unwrap_or_default()
    }

    /// How many files are restored.
    pub(super) fn file_count(&self) -> u64 {
        self.order.len() as u64
    }

    /// All files that are restored.
    pub(super) fn all_files(&self) -> &[u32] {
        &self.order
    }
}

/// The row at a place of the manifest.
pub(super) fn row_at(manifest: &Manifest, place: u32) -> Option<&FileRow> {
    manifest.files().get(usize::try_from(place).ok()?)
}

/// Plans the files of `manifest` that `is_restored` takes.
pub(super) fn plan(
    manifest: &Manifest,
    empty: Option<&EmptyDatabases>,
    is_restored: impl Fn(&FileRow) -> bool,
) -> Plan {
    let mut order: Vec<u32> =
        (0..).zip(manifest.files()).filter(|(_, row)| is_restored(row)).map(|(place, _)| place).collect();
    let row = |place: u32| row_at(manifest, place);
    order.sort_unstable_by_key(|place| row(*place).map(|row| (Group::of(manifest, row, empty), offset(row), *place)));
    let mut plan = Plan::default();
    let mut group_before = None;
    for (at, place) in (0_u32..).zip(&order) {
        let Some(row) = row(*place) else { continue };
        plan.size_bytes = plan.size_bytes.saturating_add(row.size_bytes);
        let group = Group::of(manifest, row, empty);
        let is_same = group_before.replace(group) == Some(group);
        match plan.jobs.last_mut() {
            Some(job) if is_same && job.has_room() => {
                job.files.end = at.saturating_add(1);
                job.size_bytes = job.size_bytes.saturating_add(row.size_bytes);
            }
            _ => {
                let files = at..at.saturating_add(1);
                plan.jobs.push(Job { source: group.source, size_bytes: row.size_bytes, files });
            }
        }
    }
    // Stable, so that equal inputs give equal plans.
    plan.jobs.sort_by_key(|job| (job.source == Source::Nothing, Reverse(job.size_bytes)));
    plan.order = order;
    plan
}

/// Files with the same group can be read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    source: Source,
    bundle: Option<(Option<ReferenceIndex>, u64)>,
}

impl Group {
    fn of(manifest: &Manifest, row: &FileRow, empty: Option<&EmptyDatabases>) -> Self {
        let alone = |source| Self { source, bundle: None };
        if row.size_bytes == 0 || empty.is_some_and(|empty| empty.contains(row.name().as_bytes())) {
            return alone(Source::Nothing);
        }
        match manifest.location(row) {
            FileLocation::Nowhere => alone(Source::Nothing),
            FileLocation::Object { .. } => alone(Source::Object),
            FileLocation::Bundle { place, .. } => {
                Self { source: Source::Bundle, bundle: Some((row.reference, place.id.number())) }
            }
        }
    }
}

impl Job {
    fn has_room(&self) -> bool {
        match self.source {
            Source::Object => false,
            Source::Bundle => true,
            Source::Nothing => self.files.end.saturating_sub(self.files.start) < LOCAL_FILES_MAX,
        }
    }
}

fn offset(row: &FileRow) -> u64 {
    row.bundle.map_or(0, |bundle| bundle.offset_bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::command::restore::databases::{DatabaseChoice, choose};
    use crate::format::ManifestReader;
    use crate::postgres::DataLayout;
    use crate::repository::backup_file::runs;

    /// A manifest by the original.
    pub(crate) fn manifest(name: &str) -> Manifest {
        let path = format!("{}/../../formats/samples/info/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut reader = ManifestReader::new();
        reader.feed(&std::fs::read(path).unwrap()).unwrap();
        reader.finish().unwrap()
    }

    fn bundles() -> Manifest {
        manifest("2.60-pg13-lz4-bundle-block/20261122-061839F_20261122-061840D.manifest")
    }

    #[test]
    fn every_file_is_in_one_job_and_a_bundle_is_one_job() {
        let manifest = bundles();
        let plan = plan(&manifest, None, |_| true);
        let mut seen = vec![0; manifest.files().len()];
        let mut groups = Vec::new();
        for job in &plan.jobs {
            let rows: Vec<&FileRow> = plan.files(job).iter().map(|place| row_at(&manifest, *place).unwrap()).collect();
            assert_eq!(job.size_bytes, rows.iter().map(|row| row.size_bytes).sum::<u64>());
            for place in plan.files(job) {
                seen[usize::try_from(*place).unwrap()] += 1;
            }
            match job.source {
                Source::Object => assert_eq!(rows.len(), 1),
                Source::Nothing => assert!(rows.iter().all(|row| row.size_bytes == 0)),
                Source::Bundle => {
                    let group = |row: &FileRow| (row.reference, row.bundle.unwrap().id);
                    assert!(rows.iter().all(|row| group(row) == group(rows[0])));
                    assert!(rows.is_sorted_by_key(|row| row.bundle.unwrap().offset_bytes));
                    assert!(!groups.contains(&group(rows[0])), "a bundle is in two jobs");
                    groups.push(group(rows[0]));
                }
            }
        }
        assert!(seen.iter().all(|count| *count == 1));
        assert!(groups.len() > 1 && plan.file_count() == manifest.files().len() as u64);
        let sizes: Vec<u64> =
            plan.jobs.iter().filter(|job| job.source != Source::Nothing).map(|job| job.size_bytes).collect();
        assert!(sizes.is_sorted_by(|one, next| one >= next), "{sizes:?}");
    }

    #[test]
    fn files_of_a_bundle_are_read_together_up_to_a_gap() {
        let manifest = bundles();
        let plan = plan(&manifest, None, |_| true);
        let job = plan.jobs.iter().find(|job| job.source == Source::Bundle).unwrap();
        let rows: Vec<&FileRow> = plan.files(job).iter().map(|place| row_at(&manifest, *place).unwrap()).collect();
        let gaps: Vec<u64> = rows
            .windows(2)
            .map(|pair| offset(pair[1]).saturating_sub(offset(pair[0]) + pair[0].size_repo_bytes))
            .collect();
        for limit in [0, 100, 10_000, u64::MAX] {
            let ranges = runs(&rows, limit);
            let splits = gaps.iter().filter(|gap| **gap > limit).count();
            assert_eq!(ranges.len(), splits + 1);
            assert_eq!(ranges.iter().map(ExactSizeIterator::len).sum::<usize>(), rows.len());
        }
    }

    #[test]
    fn hi08_overlapping_files_are_read_one_by_one() {
        let mut manifest = bundles();
        let places: Vec<usize> =
            (0..manifest.files().len()).filter(|place| manifest.files()[*place].bundle.is_some()).take(3).collect();
        let bundle = manifest.files()[places[0]].bundle;
        for place in &places {
            manifest.files_mut()[*place].bundle = bundle;
        }
        let rows: Vec<&FileRow> = places.iter().map(|place| &manifest.files()[*place]).collect();
        assert_eq!(runs(&rows, u64::MAX).len(), 3);
    }

    #[test]
    fn an_emptied_database_is_read_from_nowhere() {
        let manifest = bundles();
        let data = DataLayout::new(manifest.cluster().version, manifest.cluster().catalog_version);
        let choice = DatabaseChoice { exclude: vec!["template1".to_owned()], ..DatabaseChoice::default() };
        let empty = choose(&manifest, &choice, &data).unwrap().unwrap();
        let plan = plan(&manifest, Some(&empty), |row| row.name().as_bytes().starts_with(b"pg_data/base/1/"));
        for job in &plan.jobs {
            for place in plan.files(job) {
                let row = row_at(&manifest, *place).unwrap();
                let is_version = row.name().as_bytes() == b"pg_data/base/1/PG_VERSION";
                assert_eq!(job.source == Source::Nothing, !is_version || row.size_bytes == 0, "{}", row.name());
            }
        }
    }
}
