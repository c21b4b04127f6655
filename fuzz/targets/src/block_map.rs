//! Block maps, and restoring from what they point to.

use pgbr_repo::filter::Codecs;
use pgbr_repo::filter::block_delta::{DeltaRead, SuperBlockReader, SuperBlockSpec, plan_reads};
use pgbr_repo::format::block_map::{BlockGeometry, BlockMap, BlockMapFacts};
use pgbr_repo::format::{CompressType, varint as number};

/// Numbers of a map.
pub(crate) fn varint(bytes: &[u8]) {
    if let Ok((value, size_bytes)) = number::read(bytes) {
        let mut written = Vec::new();
        number::write(value, &mut written);
        assert!(bytes.get(..size_bytes) == Some(&written), "one number has one spelling");
        assert_eq!(number::zigzag(number::unzigzag(value)), value);
    }
}

/// A map, for a file that the first five bytes describe.
pub(crate) fn map(bytes: &[u8]) {
    let Some((facts, map)) = facts(bytes) else { return };
    if let Ok(map) = BlockMap::read(map, facts) {
        check(&map, facts);
    }
}

fn check(map: &BlockMap, facts: BlockMapFacts) {
    for item in map.items() {
        assert!(usize::try_from(item.reference).is_ok_and(|index| index < facts.reference_count), "references exist");
        assert!(item.offset.checked_add(item.size_stored_bytes).is_some(), "no super block ends beyond all numbers");
        assert!(
            facts.geometry.block_bytes(item.block, item.size_super_bytes) > 0,
            "a block is inside of its super block"
        );
    }
    if let Ok(written) = map.write() {
        let again = BlockMap::read(&written, facts);
        assert!(again.as_ref() == Ok(map), "a map written is read again");
    }
    let wanted = plan_reads(map, &[]).iter().map(DeltaRead::wanted_bytes).sum::<u64>();
    assert!(map.items().is_empty() || wanted <= facts.file_size_bytes, "no more is wanted than the file has");
}

/// A map and the bytes it points to: nothing is handed out that is outside of the file.
pub(crate) fn restore(bytes: &[u8]) {
    let (knob, bytes) = super::knob(bytes);
    let (map_bytes, bytes) = super::knob(bytes);
    let Some((facts, rest)) = facts(bytes) else { return };
    let Some((map, stored)) = rest.split_at_checked(usize::from(map_bytes)) else { return };
    let Ok(map) = BlockMap::read(map, facts) else { return };
    let types = CompressType::ALL;
    let Some(compress) = types.get(usize::from(knob) % types.len()) else { return };
    let codecs = Codecs::new(1);
    for read in plan_reads(&map, &[]) {
        let offset = usize::try_from(read.offset).unwrap_or(usize::MAX).min(stored.len());
        let end = offset.saturating_add(usize::try_from(read.size_bytes).unwrap_or(usize::MAX)).min(stored.len());
        let mut handed_out: u64 = 0;
        let wanted = read.wanted_bytes();
        let mut sink = |place: u64, piece: &[u8]| {
            let size_bytes = piece.len() as u64;
            assert!(
                place.checked_add(size_bytes).is_some_and(|end| end <= facts.file_size_bytes),
                "inside of the file"
            );
            handed_out += size_bytes;
            Ok(())
        };
        let mut reader = SuperBlockReader::new(read, SuperBlockSpec { compress: *compress, cipher: None }, &codecs);
        let written = reader.write(&stored[offset..end], &mut sink);
        if written.is_ok() && reader.finish().is_ok() {
            assert_eq!(handed_out, wanted, "success is all that was wanted");
        } else {
            assert!(handed_out <= wanted, "never more than was wanted");
        }
    }
}

/// Block size, checksum size, references and file size from five bytes; the rest.
fn facts(bytes: &[u8]) -> Option<(BlockMapFacts, &[u8])> {
    let ([block, checksum, references, size_low, size_high], rest) = bytes.split_first_chunk()?;
    let geometry = BlockGeometry::new(8192 * (u64::from(*block % 11) + 1), u64::from(*checksum % 11) + 6).ok()?;
    // In units that make whole blocks and short last ones.
    let file_size_bytes = u64::from(u16::from_le_bytes([*size_low, *size_high])) * 1024;
    Some((BlockMapFacts { geometry, file_size_bytes, reference_count: usize::from(*references) + 1 }, rest))
}
