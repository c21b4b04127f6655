//! Checks the page checksums of a file of a relation while it is read (repository-behaviour.md §4.11).

/// Which pages a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageCheck {
    /// The size of a page, from `pg_control`; 1 to 32 KiB.
    pub page_size_bytes: u32,
    /// The number of the file's first page in its relation: pages a segment times the number of the segment.
    pub first_page: u32,
    /// Whether a new page is told by its header (`pd_upper` is zero) instead of by its checksum being zero: the option
    /// `page-header-check`.
    pub header_check: bool,
}

/// What the check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageReport {}

/// The observer that checks.
pub(super) struct PageObserver {}

impl PageObserver {
    pub(super) fn new(_check: PageCheck) -> Self {
        Self {}
    }

    pub(super) fn observe(&mut self, _bytes: &[u8]) {}

    pub(super) fn finish(self) -> PageReport {
        PageReport {}
    }
}
