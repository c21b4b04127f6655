//! What is known of stored files, so that a later backup that refers to them need not read them again.
//!
//! Backups of one set (a full one and all that depend on it) come one after the other, oldest first, and refer only to
//! each other. So the memory holds one set: 16 bytes for each stored file, more only for what is wrong.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::report::{Fault, FaultKind};
use crate::format::BackupLabel;
use crate::format::manifest::FileRow;
use crate::storage::StoragePath;

/// What a look at a stored file gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// What is wrong with its stored bytes.
    pub fault: Option<Fault>,
    /// Whether the file can be made from them.
    pub content: Content,
    /// The object that is damaged, where it is not the file's own: blocks that an earlier backup stores.
    pub elsewhere: Option<StoragePath>,
}

/// Whether a file can be made from what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// It can.
    Right,
    /// It cannot.
    Wrong,
    /// It was not possible to look.
    Unknown,
}

impl Verdict {
    /// Everything is as it was stored.
    pub(super) const INTACT: Self = Self { fault: None, content: Content::Right, elsewhere: None };

    /// The file cannot be made, or nobody knows.
    pub(super) fn broken(fault: Fault) -> Self {
        let content = if fault.kind == FaultKind::Unreadable { Content::Unknown } else { Content::Wrong };
        Self { fault: Some(fault), content, elsewhere: None }
    }
}

/// The identity of a stored file: the same in every manifest that refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity(u128);

impl Identity {
    /// The identity of what `row` says is stored in backup `label`.
    pub(super) fn of(label: &BackupLabel, row: &FileRow) -> Self {
        let mut hash = Xxh3::new();
        hash.update(label.as_str().as_bytes());
        hash.update(&[0]);
        hash.update(row.name().as_bytes());
        hash.update(&[0]);
        let (bundle, offset) = row.bundle.map_or((0, 0), |bundle| (bundle.id.number(), bundle.offset_bytes));
        let map_bytes = row.block_incr.map_or(0, |block| block.map_size_bytes);
        for number in [bundle, offset, row.size_repo_bytes, row.size_bytes, map_bytes] {
            hash.update(&number.to_le_bytes());
        }
        for checksum in [row.checksum, row.checksum_repo] {
            hash.update(&[u8::from(checksum.is_some())]);
            hash.update(&checksum.map_or([0; 20], |checksum| checksum.0));
        }
        Self(hash.digest128())
    }
}

/// Where the blocks that a backup stores of one file are, and whether they are whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Region {
    /// The bundle; 0 is the file's own `.pgbi`.
    pub bundle: u64,
    /// Its super blocks in it, without the map.
    pub bytes: Range<u64>,
}

/// What is known of one set of backups.
#[derive(Debug, Default)]
pub(super) struct Known {
    intact: HashSet<Identity>,
    faulty: HashMap<Identity, Verdict>,
    /// Whole blocks, by [`region_key`].
    regions: HashMap<u128, Region>,
}

impl Known {
    /// Records a verdict.
    pub(super) fn record(&mut self, identity: Identity, verdict: Verdict) {
        if verdict == Verdict::INTACT {
            self.intact.insert(identity);
        } else {
            self.faulty.insert(identity, verdict);
        }
    }

    /// Records where a backup has whole blocks of a file.
    pub(super) fn record_region(&mut self, label: &BackupLabel, row: &FileRow) {
        let map_bytes = row.block_incr.map_or(0, |block| block.map_size_bytes);
        let (bundle, start) = row.bundle.map_or((0, 0), |bundle| (bundle.id.number(), bundle.offset_bytes));
        let end = start.saturating_add(row.size_repo_bytes.saturating_sub(map_bytes));
        self.regions.insert(region_key(label, row), Region { bundle, bytes: start..end });
    }

    /// What is known of a stored file.
    pub(super) fn verdict(&self, identity: Identity) -> Option<Verdict> {
        if self.intact.contains(&identity) {
            return Some(Verdict::INTACT);
        }
        self.faulty.get(&identity).cloned()
    }

    /// Whether these bytes are known to be whole blocks of the file, stored in backup `label`.
    pub(super) fn has_blocks(&self, label: &BackupLabel, row: &FileRow, bundle: u64, bytes: &Range<u64>) -> bool {
        self.regions.get(&region_key(label, row)).is_some_and(|region| {
            region.bundle == bundle && region.bytes.start <= bytes.start && bytes.end <= region.bytes.end
        })
    }
}

fn region_key(label: &BackupLabel, row: &FileRow) -> u128 {
    xxh3_128(&[label.as_str().as_bytes(), b"\0", row.name().as_bytes()].concat())
}
