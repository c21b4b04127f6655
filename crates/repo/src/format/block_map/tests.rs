#![expect(clippy::cast_possible_truncation, reason = "test data is small and made here")]

use proptest::prelude::*;

use super::*;

const L0: &str = "000702a6913c82801008753fce3c113b7fac9165aae0d1f48ddba7418fd99eb3b02400ed13f6567c143150877119fdacae8400319b\
    4cd86a7d7e6f004a7ff7f6b2899d6c77a46d83c583e6dbbafcd9bbadea0e60bbf31f0164576e398442e2";
const L1: &str = "000602a6913c8780100804753fce3c113b7fac9165aae0d1f48ddba7410a0102088e81ac548c3c04be300f4a5e215c24458c94456\
    1bcbdbf14fbff17028690ebdeb0ff058080028080184a7ff7f6b2899d6c77a46d83c583e6dbbafcd9bbadea0e60bbf31f0164576e398442e2";
const L2: &str = "000602a6913c8780100800753fce3c113b1201ffff0f0400cf6fffee1c17060101d1f48ddba7410a0102088e81ac548c3c04be300\
    f4a5e215c24458c944561bcbdbf14fbff17028690ebdeb0ff04808002858018024a7ff7f6b2899d6c77a46d831600164e9ad2f57503010\
    1d9bbadea0e60bbf31f0164576e398442e2";
const B8: &str = "00060194e417d7814008000d8acf6987dc190a01e9816087e3771b12ef080601011ee30e2d7833261b01ebad7e01a00df0ca9962\
    d1b061";

fn facts(block_size_bytes: u64, checksum_bytes: u64, file_size_bytes: u64, reference_count: usize) -> BlockMapFacts {
    let geometry = BlockGeometry::new(block_size_bytes, checksum_bytes).unwrap();
    BlockMapFacts { geometry, file_size_bytes, reference_count }
}

fn bytes(hex_text: &str) -> Vec<u8> {
    hex::decode(hex_text).unwrap()
}

/// Reference, bundle, offset, stored size, super size, block.
fn places(map: &BlockMap) -> Vec<(u32, u64, u64, u64, u64, u64)> {
    map.items()
        .iter()
        .map(|item| {
            (item.reference, item.bundle, item.offset, item.size_stored_bytes, item.size_super_bytes, item.block)
        })
        .collect()
}

fn fault(bytes: &[u8], facts: BlockMapFacts) -> BlockMapFault {
    BlockMap::read(bytes, facts).unwrap_err().fault
}

/// repository-format.md B.6: XXH3-128 in canonical order.
#[test]
fn checksums_of_known_blocks() {
    for (block, expected) in [
        (Vec::new(), "99aa06d3014798d86001c324468d497f"),
        (vec![b'A'; 8192], "753fce3c113bddff570eb540bc74bb4f"),
        (vec![b'a'; 8192], "8e81ac548c3c2997576d333da56bb928"),
        (vec![b'1'; 8192], "cf6fffee1c174d2a2d6e95690ced8fc8"),
        (vec![b'2'; 8192], "164e9ad2f575e9ddf9d0bae31f9756e7"),
        (vec![b'z'; 100], "576e398442e2e9e465609b9966713518"),
    ] {
        let whole = BlockGeometry::new(8192, 16).unwrap().checksum(&block);
        assert_eq!(format!("{whole:?}"), expected);
        let short = BlockGeometry::new(8192, 6).unwrap().checksum(&block);
        assert_eq!(format!("{short:?}"), format!("{}{}", &expected[..12], "0".repeat(20)));
    }
}

/// repository-format.md §7.6 and B.7, made by the original: three backups of one file.
#[test]
fn maps_of_the_original_read_and_write_the_same() {
    for (map, expected_last) in [(L0, (0, 2, 1_083_558)), (L1, (0, 2, 1_083_558)), (L2, (0, 2, 1_083_558))] {
        let map_bytes = bytes(map);
        let read = BlockMap::read(&map_bytes, facts(8192, 6, 98_404, 3)).unwrap();
        assert_eq!(read.items().len(), 13);
        let last = read.items().last().unwrap();
        assert_eq!((last.reference, last.bundle, last.offset), expected_last);
        assert_eq!((last.size_stored_bytes, last.size_super_bytes, last.block), (100, 100, 0));
        assert_eq!(hex::encode(read.write().unwrap()), map.replace([' ', '\n'], ""));
    }
    let l2 = BlockMap::read(&bytes(L2), facts(8192, 6, 98_404, 3)).unwrap();
    assert_eq!(
        places(&l2)[..9],
        [
            (0, 2, 985_254, 32_768, 32_768, 0),
            (2, 1, 0, 16_384, 16_384, 0),
            (0, 2, 985_254, 32_768, 32_768, 2),
            (1, 1, 0, 32_768, 32_768, 0),
            (1, 1, 0, 32_768, 32_768, 1),
            (1, 1, 0, 32_768, 32_768, 2),
            (1, 1, 0, 32_768, 32_768, 3),
            (1, 1, 32_768, 8_192, 8_192, 0),
            (0, 2, 1_050_790, 32_768, 32_768, 0),
        ]
    );
    assert_eq!(places(&l2)[10], (2, 1, 0, 16_384, 16_384, 1));
    let geometry = l2.geometry();
    assert_eq!(l2.items()[1].checksum, geometry.checksum(&[b'1'; 8192]));
    assert_eq!(l2.items()[12].checksum, geometry.checksum(&[b'z'; 100]));
}

/// repository-format.md B.8.
#[test]
fn a_map_of_a_truncated_file() {
    let map = BlockMap::read(&bytes(B8), facts(32_768, 7, 100_000, 4)).unwrap();
    assert_eq!(
        places(&map),
        [
            (0, 1, 389_652, 131_098, 131_072, 0),
            (1, 1, 0, 32_779, 32_768, 0),
            (0, 1, 389_652, 131_098, 131_072, 2),
            (3, 1, 0, 1_707, 1_696, 0),
        ]
    );
    assert_eq!(map.write().unwrap(), bytes(B8));
}

/// pgbackrest#2829: 2.60 writes it for a file that was truncated to zero during the copy, and cannot read it.
#[test]
fn an_empty_map_is_read_for_an_empty_file_and_never_written() {
    let map = BlockMap::read(&[0], facts(8192, 6, 0, 1)).unwrap();
    assert!(map.items().is_empty());
    assert_eq!(map.write(), Err(BlockMapWriteError::Empty));
    assert!(matches!(fault(&[0], facts(8192, 6, 1, 1)), BlockMapFault::BlockCount { found: 0, expected: 1, .. }));
    assert!(matches!(fault(&[], facts(8192, 6, 0, 1)), BlockMapFault::Number(VarintError::Truncated)));
}

#[test]
fn geometries_that_no_writer_makes_are_refused() {
    for size in [0, 1, 8191, 8193, BLOCK_SIZE_BYTES_MAX + 8192, u64::MAX] {
        assert_eq!(BlockGeometry::new(size, 6), Err(BlockGeometryError::BlockSize(size)));
    }
    for size in [0, 5, 17, u64::MAX] {
        assert_eq!(BlockGeometry::new(8192, size), Err(BlockGeometryError::ChecksumSize(size)));
    }
}

mod hi09 {
    use super::*;

    const CHECKSUM: [u8; 6] = [7; 6];

    /// A map of one run and one super block: the numbers given, then `blocks` checksums.
    fn map(numbers: &[u64], blocks: usize) -> Vec<u8> {
        let mut output = Vec::new();
        for number in numbers {
            super::super::super::varint::write(*number, &mut output);
        }
        output.extend(CHECKSUM.repeat(blocks));
        output
    }

    #[test]
    fn hi09_a_valid_map_reads() {
        let read = BlockMap::read(&map(&[0, 1 | 4, 500, 8192 << 3 | 1], 1), facts(8192, 6, 8192, 1)).unwrap();
        assert_eq!(places(&read), [(0, 0, 500, 8192, 8192, 0)]);
    }

    #[test]
    fn hi09_sec24_another_version_is_refused() {
        assert_eq!(fault(&map(&[1, 1, 8 << 3 | 1], 1), facts(8192, 6, 8192, 1)), BlockMapFault::Version(1));
    }

    #[test]
    fn hi09_a_reference_outside_the_list_is_refused() {
        for reference in [1, 2, u64::from(u32::MAX) + 1, u64::MAX >> 3] {
            assert_eq!(
                fault(&map(&[0, reference << 3 | 1, 8 << 3 | 1], 1), facts(8192, 6, 8192, 1)),
                BlockMapFault::Reference { reference, count: 1 }
            );
        }
    }

    #[test]
    fn hi09_more_or_fewer_blocks_than_the_file_has_are_refused() {
        let two = map(&[0, 1, 16384 << 3 | 1 | 2, 2 << 1], 2);
        assert!(BlockMap::read(&two, facts(8192, 6, 16_384, 1)).is_ok());
        for (size, found) in [(8192, 2), (0, 1)] {
            assert!(
                matches!(fault(&two, facts(8192, 6, size, 1)), BlockMapFault::BlockCount { found: f, .. } if f == found)
            );
        }
        assert!(matches!(
            fault(&two, facts(8192, 6, 3 * 8192, 1)),
            BlockMapFault::BlockCount { found: 2, expected: 3, .. }
        ));
        // No memory is taken for a count that the bytes cannot hold.
        assert!(matches!(fault(&two, facts(8192, 6, u64::MAX, 1)), BlockMapFault::BlockCount { .. }));
    }

    #[test]
    fn hi09_a_block_outside_its_super_block_is_refused() {
        // A super block of one block, from which two are taken.
        let outside = map(&[0, 1, 8192 << 3 | 1 | 4, 1 << 1], 2);
        assert_eq!(
            fault(&outside, facts(8192, 6, 16_384, 1)),
            BlockMapFault::Block { block: 1, size_super_bytes: 8192, index: 1 }
        );
        // The first is skipped.
        let skipped = map(&[0, 1, 8192 << 3 | 1 | 4, 1, 5], 1);
        assert!(matches!(fault(&skipped, facts(8192, 6, 8192, 1)), BlockMapFault::Block { block: 5, .. }));
        let far = map(&[0, 1, 8192 << 3 | 1 | 4, 1, u64::MAX], 1);
        assert!(matches!(fault(&far, facts(8192, 6, 8192, 1)), BlockMapFault::Block { .. }));
    }

    #[test]
    fn hi09_a_short_block_inside_the_file_is_refused() {
        // 100 bytes cannot be the first of two blocks.
        let short = map(&[0, 1, 100 << 3 | 2, 1, 100, 1, 0], 2);
        assert!(matches!(fault(&short, facts(8192, 6, 8292, 1)), BlockMapFault::Block { index: 0, .. }));
        // A whole block cannot be the end of a file that ends inside of it.
        let long = map(&[0, 1, 8192 << 3 | 1], 1);
        assert!(matches!(fault(&long, facts(8192, 6, 100, 1)), BlockMapFault::Block { index: 0, .. }));
    }

    #[test]
    fn hi09_super_blocks_of_zero_or_2_to_the_40_bytes_are_refused() {
        assert_eq!(fault(&map(&[0, 1, 1], 1), facts(8192, 6, 8192, 1)), BlockMapFault::SuperSize(0));
        let zero = map(&[0, 1, 8 << 3 | 1 | 2, 0], 1);
        assert_eq!(fault(&zero, facts(8192, 6, 8192, 1)), BlockMapFault::SuperSize(0));
        let huge = map(&[0, 1, 8 << 3 | 1 | 2, (1 << 27) << 1], 1);
        assert_eq!(fault(&huge, facts(8192, 6, 8192, 1)), BlockMapFault::SuperSize(1 << 40));
        let wrapping = map(&[0, 1, 8 << 3 | 1 | 2, u64::MAX, u64::MAX], 1);
        assert_eq!(fault(&wrapping, facts(8192, 6, 8192, 1)), BlockMapFault::SuperSize(u64::MAX));
    }

    #[test]
    fn hi09_offsets_and_sizes_that_wrap_are_refused() {
        let end = map(&[0, 1 | 4, u64::MAX - 100, 101 << 3 | 1], 1);
        assert!(matches!(fault(&end, facts(8192, 6, 8192, 1)), BlockMapFault::OutOfRange(_)));
        // The second size is the first one minus more than that.
        let negative = map(&[0, 1, 8 << 3], 1).into_iter().chain(map(&[17 << 3 | 1], 1)).collect::<Vec<_>>();
        assert!(matches!(fault(&negative, facts(8192, 6, 16_384, 1)), BlockMapFault::OutOfRange(_)));
        // A gap behind a known super block.
        let gap = [map(&[0, 0, 8 << 3 | 1], 1), map(&[1 << 3, 1], 1), map(&[1 | 4, u64::MAX, 1], 1)].concat();
        assert!(matches!(fault(&gap, facts(8192, 6, 3 * 8192, 2)), BlockMapFault::OutOfRange(_)));
    }

    #[test]
    fn hi09_endless_runs_and_trailing_bytes_are_refused() {
        let valid = map(&[0, 1, 8192 << 3 | 1], 1);
        let trailing = [valid.as_slice(), &[0]].concat();
        assert_eq!(fault(&trailing, facts(8192, 6, 8192, 1)), BlockMapFault::TrailingBytes(1));
        // No run says that it is the last one.
        let endless = map(&[0, 0, 8192 << 3 | 1], 1);
        assert_eq!(fault(&endless, facts(8192, 6, 8192, 1)), BlockMapFault::Number(VarintError::Truncated));
    }
}

/// Items as a chain of backups leaves them: each stores some blocks, packed into super blocks in file order.
fn any_map() -> impl Strategy<Value = (BlockMap, BlockMapFacts)> {
    let backup = (
        1_u64..40,
        prop::collection::vec(any::<bool>(), 40),
        0_u64..100_000,
        prop::bool::weighted(0.3),
        1_u64..6,
        0_u64..8192,
    );
    (prop::collection::vec(backup, 1..6), 0_u32..3, 6_u64..=16).prop_map(|(backups, block_unit, checksum_bytes)| {
        let geometry = BlockGeometry::new(8192 * (u64::from(block_unit) + 1), checksum_bytes).unwrap();
        let block_size_bytes = geometry.block_size_bytes();
        let mut items: Vec<BlockMapItem> = Vec::new();
        let mut file_size_bytes = 0;
        let reference_count = backups.len();
        for (reference, (blocks, changed, first_offset, has_bundle, super_blocks, remainder)) in (0..).zip(backups) {
            let size_bytes = blocks * block_size_bytes - remainder % block_size_bytes;
            let count = geometry.block_count(size_bytes);
            let is_stored = |index: u64| {
                let length = geometry.block_bytes(index, size_bytes);
                changed[index as usize % changed.len()]
                    || index as usize >= items.len()
                    || geometry.block_bytes(index, file_size_bytes) != length
            };
            let stored: Vec<u64> = (0..count).filter(|index| is_stored(*index)).collect();
            let mut next = items.clone();
            next.resize_with(count as usize, || BlockMapItem {
                reference: 0,
                bundle: 0,
                offset: 0,
                size_stored_bytes: 0,
                size_super_bytes: 0,
                block: 0,
                checksum: geometry.truncate([0; 16]),
            });
            let mut offset = first_offset;
            for indexes in stored.chunks(super_blocks as usize) {
                let size_super_bytes = indexes.iter().map(|index| geometry.block_bytes(*index, size_bytes)).sum();
                let size_stored_bytes = 1 + size_super_bytes / 3 + (indexes[0] * 7919) % 500;
                for (block, index) in (0..).zip(indexes) {
                    next[*index as usize] = BlockMapItem {
                        reference,
                        bundle: u64::from(has_bundle) * (u64::from(reference) + 1),
                        offset,
                        size_stored_bytes,
                        size_super_bytes,
                        block,
                        checksum: geometry.checksum(&[reference as u8, *index as u8]),
                    };
                }
                offset += size_stored_bytes;
            }
            items = next;
            file_size_bytes = size_bytes;
        }
        (BlockMap::new(geometry, items), BlockMapFacts { geometry, file_size_bytes, reference_count })
    })
}

proptest! {
    #[test]
    fn any_map_round_trips((map, facts) in any_map()) {
        let written = map.write().unwrap();
        let read = BlockMap::read(&written, facts).unwrap();
        prop_assert_eq!(&read, &map);
        for length in 0..written.len() {
            prop_assert!(BlockMap::read(&written[..length], facts).is_err(), "cut to {}", length);
        }
    }

    #[test]
    fn hi09_damaged_maps_never_panic(
        (map, facts) in any_map(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut written = map.write().unwrap();
        for (place, value) in damage {
            let place = place.index(written.len());
            written[place] = value;
        }
        if let Ok(read) = BlockMap::read(&written, facts) {
            prop_assert_eq!(read.items().len() as u64, facts.geometry.block_count(facts.file_size_bytes));
            for item in read.items() {
                prop_assert!((item.reference as usize) < facts.reference_count);
                prop_assert!(item.offset.checked_add(item.size_stored_bytes).is_some());
                prop_assert!(item.block < facts.geometry.block_count(item.size_super_bytes));
            }
        }
    }

    #[test]
    fn hi09_random_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        file_size_bytes in prop_oneof![0_u64..400_000, any::<u64>()],
        reference_count in 0_usize..5,
    ) {
        let _ignored = BlockMap::read(&bytes, facts(8192, 6, file_size_bytes, reference_count));
    }
}
