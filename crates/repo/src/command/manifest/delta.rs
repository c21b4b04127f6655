//! How the blocks of a file are spread over the backups that store them.

use crate::format::block_map::{BlockMap, BlockMapItem};

/// What a restore of the whole file reads from one backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockTotals {
    /// The backup, as index in the manifest's list of references.
    pub(super) reference: u32,
    /// The bundle of the last read.
    pub(super) bundle: u64,
    pub(super) reads: u64,
    pub(super) read_bytes: u64,
    pub(super) super_blocks: u64,
    pub(super) super_block_bytes: u64,
    pub(super) blocks: u64,
}

/// The totals for each reference, in ascending order, as the original counts them: neighbouring super blocks are one
/// read.
pub(super) fn totals(map: &BlockMap) -> Vec<BlockTotals> {
    let mut references: Vec<u32> = map.items().iter().map(|item| item.reference).collect();
    references.sort_unstable();
    references.dedup();
    let of = |reference| map.items().iter().filter(move |item| item.reference == reference);
    references.into_iter().map(|reference| totals_of(reference, of(reference))).collect()
}

fn totals_of<'a>(reference: u32, items: impl Iterator<Item = &'a BlockMapItem>) -> BlockTotals {
    let mut totals =
        BlockTotals { reference, bundle: 0, reads: 0, read_bytes: 0, super_blocks: 0, super_block_bytes: 0, blocks: 0 };
    let mut prior: Option<&BlockMapItem> = None;
    for item in items {
        let is_same = prior.is_some_and(|prior| prior.offset == item.offset);
        let follows = prior.is_some_and(|prior| prior.offset.checked_add(prior.size_stored_bytes) == Some(item.offset));
        if !is_same && !follows {
            totals.reads += 1;
            totals.bundle = item.bundle;
        }
        if !is_same {
            totals.super_blocks += 1;
            totals.read_bytes = totals.read_bytes.saturating_add(item.size_stored_bytes);
            totals.super_block_bytes = totals.super_block_bytes.saturating_add(item.size_super_bytes);
        }
        totals.blocks += 1;
        prior = Some(item);
    }
    totals
}
