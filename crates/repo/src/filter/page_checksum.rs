//! Checks the page checksums of a file of a relation while it is read (repository-behaviour.md §4.11; pgBackRest
//! `src/command/backup/pageChecksum.c`).
//!
//! A page that fails may just be in the middle of being written. So the report keeps a fingerprint of each one, and who
//! read the file reads those pages again: one that changed is no error, since replay of the WAL will write it whole.
//!
//! ```text
//! for suspect in report.suspects():   read suspect.size_bytes at suspect.file_offset
//! report.accept_unless(|suspect| suspect.is_still(bytes))
//! report.outcome() -> Valid, Misaligned or the numbers of the invalid pages
//! ```

use std::ops::RangeInclusive;

use xxhash_rust::xxh3::xxh3_64;

use crate::postgres::page::{Page, PageHeaderCheck, PageSize};

/// Which pages a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageCheck {
    /// The size of a page, from `pg_control`.
    pub page_size: PageSize,
    /// The number of the file's segment: `16384.2` has 2. Pages are counted over all segments of the relation.
    pub segment: u32,
    /// What tells a new page.
    pub header_check: PageHeaderCheck,
}

/// A page whose checksum is wrong, as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuspectPage {
    /// Its number in the relation.
    pub page: u32,
    /// Where it begins in the file.
    pub file_offset: u64,
    /// Its size.
    pub size_bytes: u32,
    fingerprint: u64,
}

impl SuspectPage {
    /// Whether these bytes, read again, are the ones that failed.
    #[must_use]
    pub fn is_still(&self, bytes: &[u8]) -> bool {
        xxh3_64(bytes) == self.fingerprint
    }
}

/// What the check found; not final while there are suspects that were not read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageReport {
    suspects: Vec<SuspectPage>,
    is_aligned: bool,
}

/// What a manifest records of the check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageOutcome {
    /// All pages are valid or new: `checksum-page` is true.
    Valid,
    /// The size of the file is no multiple of the page size: `checksum-page` is false, without a list of pages even if
    /// some were wrong.
    Misaligned,
    /// `checksum-page` is false, these are the `checksum-page-error`: ascending, never adjacent.
    Invalid(Vec<RangeInclusive<u32>>),
}

impl PageReport {
    /// The pages to read again. None in a misaligned file, of which no page is reported.
    #[must_use]
    pub fn suspects(&self) -> &[SuspectPage] {
        if self.is_aligned { &self.suspects } else { &[] }
    }

    /// Drops the suspects for which `is_still_wrong` says no.
    pub fn accept_unless(&mut self, is_still_wrong: impl FnMut(&SuspectPage) -> bool) {
        self.suspects.retain(is_still_wrong);
    }

    /// What to record, if the suspects that are left are wrong.
    #[must_use]
    pub fn outcome(&self) -> PageOutcome {
        if !self.is_aligned {
            return PageOutcome::Misaligned;
        }
        let mut ranges: Vec<RangeInclusive<u32>> = Vec::new();
        for suspect in &self.suspects {
            match ranges.last_mut() {
                Some(range) if range.end().checked_add(1) == Some(suspect.page) => {
                    *range = *range.start()..=suspect.page;
                }
                _ => ranges.push(suspect.page..=suspect.page),
            }
        }
        if ranges.is_empty() { PageOutcome::Valid } else { PageOutcome::Invalid(ranges) }
    }
}

/// The observer that checks.
#[derive(Debug)]
pub(super) struct PageObserver {
    check: PageCheck,
    /// The bytes of a page that is not complete yet.
    partial: Vec<u8>,
    /// Pages of this file so far.
    count: u32,
    suspects: Vec<SuspectPage>,
}

impl PageObserver {
    pub(super) fn new(check: PageCheck) -> Self {
        Self { check, partial: Vec::new(), count: 0, suspects: Vec::new() }
    }

    pub(super) fn observe(&mut self, bytes: &[u8]) {
        let page_bytes = self.check.page_size.length();
        let mut rest = bytes;
        if !self.partial.is_empty() {
            let missing = page_bytes.saturating_sub(self.partial.len());
            let (part, behind) = rest.split_at(missing.min(rest.len()));
            self.partial.extend_from_slice(part);
            rest = behind;
            if self.partial.len() < page_bytes {
                return;
            }
            let mut page = std::mem::take(&mut self.partial);
            self.observe_page(&page);
            page.clear();
            self.partial = page;
        }
        let pages = rest.chunks_exact(page_bytes);
        let remainder = pages.remainder();
        pages.for_each(|page| self.observe_page(page));
        self.partial.extend_from_slice(remainder);
    }

    pub(super) fn finish(self) -> PageReport {
        PageReport { is_aligned: self.partial.is_empty(), suspects: self.suspects }
    }

    fn observe_page(&mut self, bytes: &[u8]) {
        let PageCheck { page_size, segment, header_check } = self.check;
        // Counted as PostgreSQL does, in 32 bits; a file with more pages is none of a relation.
        let page = segment.wrapping_mul(page_size.pages_per_segment()).wrapping_add(self.count);
        let is_valid = Page::new(bytes).is_ok_and(|content| content.check(page, header_check).is_valid());
        if !is_valid {
            self.suspects.push(SuspectPage {
                page,
                file_offset: u64::from(self.count) * u64::from(page_size.bytes()),
                size_bytes: page_size.bytes(),
                fingerprint: xxh3_64(bytes),
            });
        }
        self.count = self.count.wrapping_add(1);
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "test data is small and made here")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHECK: PageCheck =
        PageCheck { page_size: PageSize::DEFAULT, segment: 0, header_check: PageHeaderCheck::Upper };

    fn sample(name: &str) -> Vec<u8> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../formats/samples/postgres");
        std::fs::read(folder.join(name)).unwrap()
    }

    fn report(check: PageCheck, bytes: &[u8], write_bytes: usize) -> PageReport {
        let mut observer = PageObserver::new(check);
        bytes.chunks(write_bytes.max(1)).for_each(|piece| observer.observe(piece));
        observer.finish()
    }

    /// `count` pages with right checksums, from the file's first page on.
    fn pages(check: PageCheck, count: u32) -> Vec<u8> {
        let mut file = Vec::new();
        for index in 0..count {
            let mut page: Vec<u8> = (0..check.page_size.bytes()).map(|place| (place * 31 + index) as u8 | 1).collect();
            let number = check.segment * check.page_size.pages_per_segment() + index;
            let checksum = Page::new(&page).unwrap().checksum(number);
            page[8..10].copy_from_slice(&checksum.to_le_bytes());
            file.extend(page);
        }
        file
    }

    #[test]
    fn a_relation_of_a_real_cluster_is_valid() {
        for name in ["pg15-relation.pages", "pg15-free-space-map.pages"] {
            assert_eq!(report(CHECK, &sample(name), 70_000).outcome(), PageOutcome::Valid, "{name}");
        }
    }

    #[test]
    fn pages_are_counted_over_the_segments_of_a_relation() {
        for size in [1024, 8192, 32_768] {
            let check = PageCheck { page_size: PageSize::new(size).unwrap(), segment: 3, ..CHECK };
            let file = pages(check, 5);
            assert_eq!(report(check, &file, 10_000).outcome(), PageOutcome::Valid);
            let other = report(PageCheck { segment: 2, ..check }, &file, 10_000);
            let first = 2 * check.page_size.pages_per_segment();
            assert_eq!(other.outcome(), PageOutcome::Invalid(vec![first..=first + 4]));
        }
    }

    #[test]
    fn wrong_pages_are_listed_in_ranges() {
        let mut file = pages(CHECK, 12);
        for page in [1, 3, 4, 5, 11] {
            file[page * 8192 + 4000] ^= 4;
        }
        let report = report(CHECK, &file, 5_000);
        assert_eq!(report.outcome(), PageOutcome::Invalid(vec![1..=1, 3..=5, 11..=11]));
        let places: Vec<_> = report.suspects().iter().map(|suspect| suspect.file_offset).collect();
        assert_eq!(places, [8192, 3 * 8192, 4 * 8192, 5 * 8192, 11 * 8192]);
    }

    #[test]
    fn a_page_that_changed_since_is_accepted() {
        let mut file = pages(CHECK, 4);
        file[8192 + 100] ^= 1;
        file[3 * 8192 + 100] ^= 1;
        let mut found = report(CHECK, &file, 8192);
        // The server finished the first page meanwhile; the other one is as it was.
        file[8192 + 100] ^= 1;
        found.accept_unless(|suspect| {
            let start = suspect.file_offset as usize;
            suspect.is_still(&file[start..start + suspect.size_bytes as usize])
        });
        assert_eq!(found.outcome(), PageOutcome::Invalid(vec![3..=3]));
        found.accept_unless(|_| false);
        assert_eq!(found.outcome(), PageOutcome::Valid);
    }

    #[test]
    fn a_file_that_ends_inside_a_page_is_misaligned_without_a_list() {
        let mut file = pages(CHECK, 3);
        file[100] ^= 1;
        for remainder in [1, 511, 512, 8191] {
            let found = report(CHECK, &file[..2 * 8192 + remainder], 9_000);
            assert_eq!(found.outcome(), PageOutcome::Misaligned);
            assert_eq!(found.suspects(), []);
        }
        assert_eq!(report(CHECK, &[], 1).outcome(), PageOutcome::Valid);
    }

    proptest! {
        #[test]
        fn how_the_bytes_arrive_does_not_matter(
            bytes in prop::collection::vec(any::<u8>(), 0..40_000),
            write_bytes in 1_usize..20_000,
            page_size in prop::sample::select(vec![1024_u64, 8192, 32_768]),
        ) {
            let check = PageCheck { page_size: PageSize::new(page_size).unwrap(), ..CHECK };
            prop_assert_eq!(report(check, &bytes, write_bytes), report(check, &bytes, usize::MAX));
        }
    }
}
