//! Which files of a backup are read together: those of one bundle, or one with an object of its own. Pure.

use std::cmp::Reverse;
use std::ops::Range;

use crate::format::manifest::{FileRow, Manifest, ReferenceIndex};

/// The files to look at, cut into jobs. There may be millions, so they are named by their place in the manifest.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    order: Vec<u32>,
    jobs: Vec<Range<usize>>,
}

impl Jobs {
    /// Cuts `files` of `manifest` into jobs, the largest first.
    pub(super) fn of(manifest: &Manifest, mut files: Vec<u32>) -> Self {
        let row = |place: &u32| usize::try_from(*place).ok().and_then(|place| manifest.files().get(place));
        files.sort_unstable_by_key(|place| (row(place).map(object_of), row(place).map(offset), *place));
        let mut jobs: Vec<Range<usize>> = Vec::new();
        let mut before = None;
        for (at, place) in files.iter().enumerate() {
            let bundle = row(place).and_then(object_of);
            match jobs.last_mut() {
                Some(job) if bundle.is_some() && before == bundle => job.end = at + 1,
                _ => jobs.push(at..at + 1),
            }
            before = bundle;
        }
        let size_of = |job: &Range<usize>| {
            let rows = files.get(job.clone()).unwrap_or_default().iter().filter_map(row);
            rows.map(|row| row.size_repo_bytes).fold(0, u64::saturating_add)
        };
        // Stable, so that equal repositories are read in the same order.
        jobs.sort_by_cached_key(|job| Reverse(size_of(job)));
        Self { order: files, jobs }
    }

    /// The files of each job.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.jobs.iter().map(|job| self.order.get(job.clone()).unwrap_or_default())
    }
}

/// The bundle that holds a file: whose, and which.
fn object_of(row: &FileRow) -> Option<(Option<u32>, u64)> {
    row.bundle.map(|bundle| (row.reference.map(ReferenceIndex::number), bundle.id.number()))
}

fn offset(row: &FileRow) -> u64 {
    row.bundle.map_or(0, |bundle| bundle.offset_bytes)
}
