//! The two directions are tested together: what [`BlockIncr`] stores, a plan and a [`SuperBlockReader`] rebuild.
#![expect(clippy::cast_possible_truncation, reason = "test data is small and made here")]

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::clock::SystemRandom;
use crate::filter::block_incr::{BlockIncr, BlockIncrReport, BlockIncrSpec};
use crate::filter::{Compression, Digest};
use crate::format::block_map::BlockMapFacts;

/// A repository of one file: a bundle for each backup, with other bytes before the file.
struct Repository {
    geometry: BlockGeometry,
    spec: SuperBlockSpec,
    codecs: Codecs,
    size_super_bytes: u64,
    bundles: Vec<Vec<u8>>,
    map: Option<BlockMap>,
}

impl Repository {
    fn new(block_size_bytes: u64, size_super_bytes: u64, compress: CompressType, is_encrypted: bool) -> Self {
        let cipher = is_encrypted.then(|| Passphrase::new("swordfish").unwrap());
        Self {
            geometry: BlockGeometry::new(block_size_bytes, 7).unwrap(),
            spec: SuperBlockSpec { compress, cipher },
            codecs: Codecs::new(1),
            size_super_bytes,
            bundles: Vec::new(),
            map: None,
        }
    }

    /// Stores a version of the file; the map is read back from the stored bytes, as the next backup does it.
    fn back_up(&mut self, plain: &[u8], write_bytes: usize) -> BlockIncrReport {
        let reference = self.bundles.len();
        let mut bundle = vec![0xee; 100 * (reference + 1)];
        let spec = BlockIncrSpec {
            geometry: self.geometry,
            size_super_bytes: self.size_super_bytes,
            compress: Compression::with_default_level(self.spec.compress),
            cipher: self.spec.cipher.clone(),
            reference: reference as u32,
            bundle: reference as u64 + 1,
            offset: bundle.len() as u64,
            pages: None,
        };
        let before = bundle.len();
        let mut incr = BlockIncr::new(spec, self.map.clone(), &self.codecs, Arc::new(SystemRandom));
        let mut sink = |piece: &[u8]| {
            bundle.extend_from_slice(piece);
            Ok(())
        };
        for piece in plain.chunks(write_bytes) {
            incr.write(piece, &mut sink).unwrap();
        }
        let report = incr.finish(&mut sink).unwrap();
        assert_eq!(report.plain, Digest::of(plain));
        assert_eq!(report.stored, Digest::of(&bundle[before..]));
        if let Some(map_bytes) = report.map_stored_bytes {
            let stored_map = &bundle[bundle.len() - map_bytes as usize..];
            let facts = BlockMapFacts {
                geometry: self.geometry,
                file_size_bytes: plain.len() as u64,
                reference_count: reference + 1,
            };
            self.map = Some(BlockMap::read(&self.decoded_map(stored_map), facts).unwrap());
        } else if plain.is_empty() {
            self.map = None;
        }
        self.bundles.push(bundle);
        report
    }

    fn decoded_map(&self, stored: &[u8]) -> Vec<u8> {
        let cipher = self.spec.cipher.as_ref();
        let spec = LoadSpec { compress: CompressType::None, cipher, form: Form::Raw, plain_size_max_bytes: None };
        let mut chain = order::load(&spec, &self.codecs).unwrap();
        let mut map = Vec::new();
        let mut sink = |piece: &[u8]| {
            map.extend_from_slice(piece);
            Ok(())
        };
        chain.write(stored, &mut sink).unwrap();
        chain.finish(&mut sink).unwrap();
        map
    }

    /// Rebuilds the newest version on top of `existing`; tells how many bytes were written.
    fn restore(&self, existing: &[u8], size_bytes: usize, write_bytes: usize) -> Result<(Vec<u8>, u64), DeltaError> {
        let mut hasher = BlockHasher::new(self.geometry);
        existing.chunks(write_bytes).for_each(|piece| hasher.observe(piece));
        let mut file = existing.to_vec();
        file.resize(size_bytes, 0);
        let mut written_bytes = 0;
        for read in self.map.iter().flat_map(|map| plan_reads(map, &hasher.clone().finish())) {
            let bundle = &self.bundles[read.bundle as usize - 1];
            let stored = &bundle[read.offset as usize..][..read.size_bytes as usize];
            let wanted_bytes = read.wanted_bytes();
            let mut read_bytes = 0;
            let mut reader = SuperBlockReader::new(read, self.spec.clone(), &self.codecs);
            for piece in stored.chunks(write_bytes) {
                reader.write(piece, &mut |offset, bytes| {
                    let offset = offset as usize;
                    file[offset..offset + bytes.len()].copy_from_slice(bytes);
                    read_bytes += bytes.len() as u64;
                    Ok(())
                })?;
            }
            reader.finish()?;
            assert_eq!(read_bytes, wanted_bytes);
            written_bytes += read_bytes;
        }
        Ok((file, written_bytes))
    }
}

fn content(size_bytes: usize, seed: u8) -> Vec<u8> {
    (0..size_bytes).map(|index| (index / 100 % 256) as u8 ^ seed).collect()
}

/// Files at the edges: nothing, one byte, around a block, around a super block.
const EDGES: [usize; 12] = [0, 1, 8191, 8192, 8193, 16_384, 32_767, 32_768, 32_769, 65_536, 65_537, 100_000];

#[test]
fn bk20_files_at_the_edges_of_blocks_and_super_blocks() {
    for size in EDGES {
        let mut repository = Repository::new(8192, 32_768, CompressType::Lz4, true);
        let plain = content(size, 0);
        let report = repository.back_up(&plain, 10_000);
        assert_eq!(report.map_stored_bytes.is_some(), size > 0, "{size}");
        for existing in EDGES {
            let (file, _) = repository.restore(&content(existing, 0), size, 10_000).unwrap();
            assert!(file == plain, "{existing} to {size}");
            let (file, written_bytes) = repository.restore(&content(existing, 1), size, 10_000).unwrap();
            assert!(file == plain, "{existing} to {size}");
            assert_eq!(written_bytes, size as u64);
        }
        let (_, written_bytes) = repository.restore(&plain, size, 10_000).unwrap();
        assert_eq!(written_bytes, 0, "an unchanged file needs nothing");
    }
}

#[test]
fn bk20_a_file_that_grows_shrinks_and_comes_back() {
    for size_super_bytes in [1, 8192, 40_000, 1 << 20] {
        let mut repository = Repository::new(8192, size_super_bytes, CompressType::Zst, false);
        for (round, size) in EDGES.iter().chain(EDGES.iter().rev()).chain(&[50_000, 50_000, 8192]).enumerate() {
            let plain = content(*size, (round / 3) as u8);
            repository.back_up(&plain, 3_000);
            let (file, _) = repository.restore(&[], *size, 3_000).unwrap();
            assert!(file == plain, "round {round}, {size} bytes");
        }
    }
}

#[test]
fn an_unchanged_file_stores_nothing_and_a_cut_one_its_map_only() {
    let mut repository = Repository::new(8192, 32_768, CompressType::Gz, true);
    let plain = content(100_000, 0);
    let first = repository.back_up(&plain, 50_000);
    let second = repository.back_up(&plain, 50_000);
    assert_eq!((second.stored.size_bytes, second.map_stored_bytes), (0, None));
    let third = repository.back_up(&plain[..81_920], 50_000);
    assert_eq!(third.map_stored_bytes, Some(third.stored.size_bytes));
    assert!(third.stored.size_bytes > 0 && third.stored.size_bytes < first.stored.size_bytes);
    let (file, _) = repository.restore(&[], 81_920, 50_000).unwrap();
    assert!(file == plain[..81_920]);
}

#[test]
fn a_map_of_another_block_size_is_not_continued() {
    let mut repository = Repository::new(8192, 32 * 1024, CompressType::None, false);
    // One block, whatever its size is: its checksum is the same.
    let plain = content(5000, 1);
    repository.back_up(&plain, 4096);
    repository.geometry = BlockGeometry::new(16 * 1024, 7).unwrap();
    let report = repository.back_up(&plain, 4096);
    assert!(report.map_stored_bytes.is_some() && report.stored.size_bytes > 5000, "{report:?}");
    assert_eq!(repository.restore(&[], plain.len(), 4096).unwrap().0, plain);
}

/// The worked example of repository-format.md §7.6: our super blocks and maps are the original's.
#[test]
fn three_backups_of_one_file_have_the_original_maps() {
    let mut plain: Vec<u8> = (0..12_u8).flat_map(|block| [0x41 + block; 8192]).collect();
    plain.extend([b'z'; 100]);
    let geometry = BlockGeometry::new(8192, 6).unwrap();
    let mut map = None;
    let mut map_hex = Vec::new();
    let changes: [&[(usize, u8)]; 3] =
        [&[], &[(3, b'a'), (4, b'b'), (5, b'c'), (6, b'd'), (7, b'e')], &[(1, b'1'), (10, b'2')]];
    for (reference, (bundle, offset)) in [(2, 985_254), (1, 0), (1, 0)].into_iter().enumerate() {
        for (block, byte) in changes[reference] {
            plain[block * 8192..][..8192].fill(*byte);
        }
        let spec = BlockIncrSpec {
            geometry,
            size_super_bytes: 32_768,
            compress: Compression::NONE,
            cipher: None,
            reference: reference as u32,
            bundle,
            offset,
            pages: None,
        };
        let mut incr = BlockIncr::new(spec, map, &Codecs::new(0), Arc::new(SystemRandom));
        let mut stored = Vec::new();
        let mut sink = |piece: &[u8]| {
            stored.extend_from_slice(piece);
            Ok(())
        };
        incr.write(&plain, &mut sink).unwrap();
        let report = incr.finish(&mut sink).unwrap();
        let stored_map = &stored[stored.len() - report.map_stored_bytes.unwrap() as usize..];
        map_hex.push((stored.len(), hex::encode(stored_map)));
        let facts = BlockMapFacts { geometry, file_size_bytes: 98_404, reference_count: 3 };
        map = Some(BlockMap::read(stored_map, facts).unwrap());
    }
    assert_eq!(
        map_hex,
        [
            (98_499, "000702a6913c82801008753fce3c113b7fac9165aae0d1f48ddba7418fd99eb3b02400ed13f6567c143150877119fdacae8400319b4cd86a7d7e6f004a7ff7f6b2899d6c77a46d83c583e6dbbafcd9bbadea0e60bbf31f0164576e398442e2".to_owned()),
            (41_069, "000602a6913c8780100804753fce3c113b7fac9165aae0d1f48ddba7410a0102088e81ac548c3c04be300f4a5e215c24458c944561bcbdbf14fbff17028690ebdeb0ff058080028080184a7ff7f6b2899d6c77a46d83c583e6dbbafcd9bbadea0e60bbf31f0164576e398442e2".to_owned()),
            (16_509, "000602a6913c8780100800753fce3c113b1201ffff0f0400cf6fffee1c17060101d1f48ddba7410a0102088e81ac548c3c04be300f4a5e215c24458c944561bcbdbf14fbff17028690ebdeb0ff04808002858018024a7ff7f6b2899d6c77a46d831600164e9ad2f575030101d9bbadea0e60bbf31f0164576e398442e2".to_owned()),
        ]
    );
}

#[test]
fn reads_merge_super_blocks_that_lie_together_newest_reference_first() {
    let mut repository = Repository::new(8192, 8192, CompressType::None, false);
    let mut plain = content(8 * 8192, 0);
    repository.back_up(&plain, 50_000);
    plain[3 * 8192] ^= 0xff;
    repository.back_up(&plain, 50_000);
    let map = repository.map.as_ref().unwrap();
    let all: Vec<_> = plan_reads(map, &[]).iter().map(|read| (read.reference, read.offset, read.size_bytes)).collect();
    // Block 3 of the first backup is not wanted any more: two reads around it.
    assert_eq!(all, [(1, 200, 8192), (0, 100, 3 * 8192), (0, 100 + 4 * 8192, 4 * 8192)]);
}

/// Files of real incremental backups by pgBackRest 2.60: the map, then what must be read in the planned order.
#[test]
fn files_that_the_original_stored_rebuild() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../formats/samples/filter");
    for name in ["original-blocks-lz4", "original-blocks-zst-aes"] {
        let facts = std::fs::read_to_string(folder.join(name).with_extension("facts")).unwrap();
        let values = |key: &str| {
            facts
                .lines()
                .filter_map(|line| line.split_once('='))
                .filter(|(found, _)| *found == key)
                .map(|(_, value)| value.to_owned())
                .collect::<Vec<_>>()
        };
        let text = |key: &str| values(key).remove(0);
        let number = |key: &str| text(key).parse::<u64>().unwrap();
        let stored = std::fs::read(folder.join(name).with_extension("stored")).unwrap();

        let mut repository =
            Repository::new(number("block_size"), 0, CompressType::parse(&text("compress")).unwrap(), false);
        repository.geometry = BlockGeometry::new(number("block_size"), number("checksum_size")).unwrap();
        repository.spec.cipher =
            Some(text("passphrase")).filter(|text| text != "-").map(|text| Passphrase::new(text).unwrap());
        let (stored_map, mut rest) = stored.split_at(number("map_size") as usize);
        let map_bytes = repository.decoded_map(stored_map);
        let facts = BlockMapFacts {
            geometry: repository.geometry,
            file_size_bytes: number("file_size"),
            reference_count: number("references") as usize,
        };
        let map = BlockMap::read(&map_bytes, facts).unwrap();
        assert_eq!(map.write().unwrap(), map_bytes, "{name}");

        let reads = plan_reads(&map, &[]);
        let planned: Vec<String> = reads
            .iter()
            .map(|read| format!("{} {} {} {}", read.reference, read.bundle, read.offset, read.size_bytes))
            .collect();
        assert_eq!(planned, values("read"), "{name}");
        assert!(planned.len() >= 2, "{name}: blocks of one backup only");
        let mut file = vec![0; facts.file_size_bytes as usize];
        for read in reads {
            let (bytes, behind) = rest.split_at(read.size_bytes as usize);
            rest = behind;
            let mut reader = SuperBlockReader::new(read, repository.spec.clone(), &repository.codecs);
            reader
                .write(bytes, &mut |offset, bytes| {
                    file[offset as usize..][..bytes.len()].copy_from_slice(bytes);
                    Ok(())
                })
                .unwrap();
            reader.finish().unwrap();
        }
        assert_eq!(Digest::of(&file).sha1.to_string(), text("file_sha1"), "{name}");
    }
}

mod refusals {
    use super::*;

    fn one_read(compress: CompressType) -> (Repository, DeltaRead, Vec<u8>) {
        let mut repository = Repository::new(8192, 32_768, compress, false);
        repository.back_up(&content(60_000, 0), 50_000);
        let mut reads = plan_reads(repository.map.as_ref().unwrap(), &[]);
        assert_eq!(reads.len(), 1);
        let read = reads.remove(0);
        let stored = repository.bundles[0][read.offset as usize..][..read.size_bytes as usize].to_vec();
        (repository, read, stored)
    }

    fn rebuild(repository: &Repository, read: DeltaRead, stored: &[u8]) -> Result<(), DeltaError> {
        let mut reader = SuperBlockReader::new(read, repository.spec.clone(), &repository.codecs);
        reader.write(stored, &mut |_, _| Ok(()))?;
        reader.finish()
    }

    #[test]
    fn fewer_or_more_bytes_than_the_read_are_an_error() {
        let (repository, read, stored) = one_read(CompressType::Zst);
        rebuild(&repository, read.clone(), &stored).unwrap();
        for length in 0..stored.len() {
            assert!(rebuild(&repository, read.clone(), &stored[..length]).is_err(), "{length}");
        }
        let error = rebuild(&repository, read, &[stored.as_slice(), b"x"].concat()).unwrap_err();
        assert!(matches!(error, DeltaError::ReadSize { .. }), "{error}");
    }

    #[test]
    fn hi08_bytes_of_another_file_are_found_at_the_first_block() {
        let (repository, read, stored) = one_read(CompressType::None);
        let mut wrong = stored.clone();
        wrong[8192 + 5] ^= 1;
        let error = rebuild(&repository, read, &wrong).unwrap_err();
        assert!(matches!(error, DeltaError::BlockChecksum { file_offset: 8192, offset: 100 }), "{error}");
    }

    /// A super block that decodes to more than the map says stops there, whatever it would become.
    #[test]
    fn hi05_a_super_block_of_another_size_is_refused() {
        let (repository, read, _) = one_read(CompressType::Zst);
        for size in [0, 1, 8192, 32_767, 32_769, 50_000_000] {
            let spec = order::StoreSpec {
                compress: Compression::with_default_level(CompressType::Zst),
                cipher: None,
                form: Form::Raw,
                pages: None,
            };
            let mut stored = Vec::new();
            let mut sink = |piece: &[u8]| {
                stored.extend_from_slice(piece);
                Ok(())
            };
            let mut chain = order::store(&spec, &repository.codecs, &SystemRandom).unwrap();
            chain.write(&content(size, 0), &mut sink).unwrap();
            chain.finish(&mut sink).unwrap();
            let mut read = read.clone();
            read.super_blocks.truncate(1);
            read.super_blocks[0].size_stored_bytes = stored.len() as u64;
            read.size_bytes = stored.len() as u64;
            let mut out_bytes = 0;
            let mut reader = SuperBlockReader::new(read, repository.spec.clone(), &repository.codecs);
            let error = reader
                .write(&stored, &mut |_, bytes| {
                    out_bytes += bytes.len();
                    Ok(())
                })
                .unwrap_err();
            assert!(
                matches!(error, DeltaError::SuperBlockSize { offset: 100, expected_bytes: 32_768, .. }),
                "{size}: {error}"
            );
            assert!(out_bytes <= 32_768);
        }
    }

    #[test]
    fn a_closed_sink_stops_the_reader() {
        let (repository, read, stored) = one_read(CompressType::Zst);
        let mut reader = SuperBlockReader::new(read, repository.spec.clone(), &repository.codecs);
        let error = reader.write(&stored, &mut |_, _| Err(SinkClosed)).unwrap_err();
        assert!(matches!(error, DeltaError::SinkClosed(_)), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any sequence of versions of a file, over any file that is there, ends as the newest version.
    #[test]
    fn bk20_any_versions_rebuild_over_anything(
        compress in prop::sample::select(&CompressType::ALL[..]),
        is_encrypted: bool,
        size_super_bytes in 1_u64..100_000,
        versions in prop::collection::vec((0_usize..120_000, prop::collection::vec((0_usize..120_000, 1_u8..), 0..5)), 1..6),
        existing_version in any::<prop::sample::Index>(),
        existing_size in 0_usize..120_000,
        write_bytes in 1_000_usize..70_000,
    ) {
        let mut repository = Repository::new(8192, size_super_bytes, compress, is_encrypted);
        let mut plain = content(120_000, 0);
        let mut stored = Vec::new();
        for (size, changes) in &versions {
            for (place, value) in changes {
                plain[*place] ^= value;
            }
            repository.back_up(&plain[..*size], write_bytes);
            stored.push(plain[..*size].to_vec());
        }
        let newest = stored.last().unwrap();
        let mut existing = stored[existing_version.index(stored.len())].clone();
        existing.resize(existing_size, 0);
        let (file, _) = repository.restore(&existing, newest.len(), write_bytes).unwrap();
        prop_assert!(file == *newest);
    }
}
