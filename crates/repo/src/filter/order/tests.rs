#![expect(clippy::cast_possible_truncation, reason = "test data is small and made here")]

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::clock::{RandomUnavailable, SystemRandom};
use crate::filter::{DecryptError, Digest, PIECE_BYTES_MAX, SinkClosed, StreamFault};

/// Gives the bytes 1, 2, 3 and so on, as the salt of the test vectors.
#[derive(Debug)]
struct Counting;

impl Random for Counting {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomUnavailable> {
        for (byte, number) in buffer.iter_mut().zip(1..) {
            *byte = number;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Broken;

impl Random for Broken {
    fn fill(&self, _: &mut [u8]) -> Result<(), RandomUnavailable> {
        Err(RandomUnavailable("no entropy".to_owned()))
    }
}

fn passphrase() -> Passphrase {
    Passphrase::new("swordfish").unwrap()
}

fn default_store(kind: CompressType) -> StoreSpec<'static> {
    StoreSpec { compress: Compression::with_default_level(kind), cipher: None, form: Form::Standard, pages: None }
}

fn default_load(kind: CompressType) -> LoadSpec<'static> {
    LoadSpec { compress: kind, cipher: None, form: Form::Standard, plain_size_max_bytes: None }
}

/// Runs `input` through a chain in writes of `write_bytes`.
fn run(mut chain: Chain, input: &[u8], write_bytes: usize) -> Result<(Vec<u8>, ChainReport), FilterError> {
    let mut output = Vec::new();
    let mut sink = |piece: &[u8]| {
        assert!(!piece.is_empty() && piece.len() <= PIECE_BYTES_MAX, "a piece of {} bytes", piece.len());
        output.extend_from_slice(piece);
        Ok(())
    };
    for piece in input.chunks(write_bytes.max(1)) {
        chain.write(piece, &mut sink)?;
    }
    let report = chain.finish(&mut sink)?;
    Ok((output, report))
}

fn stored(spec: &StoreSpec<'_>, plain: &[u8]) -> Vec<u8> {
    run(store(spec, &Codecs::new(0), &Counting).unwrap(), plain, usize::MAX).unwrap().0
}

fn loaded(spec: &LoadSpec<'_>, stored: &[u8]) -> Result<Vec<u8>, FilterError> {
    Ok(run(load(spec, &Codecs::new(0)).unwrap(), stored, usize::MAX)?.0)
}

fn sample(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../formats/samples/filter").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Bytes that compress, then bytes that do not.
fn mixed(size_bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    (0..size_bytes)
        .map(|index| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if index % 200_000 < 120_000 { (index / 37 % 251) as u8 } else { (state >> 24) as u8 }
        })
        .collect()
}

const COMPRESSIONS: [(CompressType, Form); 7] = [
    (CompressType::None, Form::Standard),
    (CompressType::Gz, Form::Standard),
    (CompressType::Gz, Form::Raw),
    (CompressType::Bz2, Form::Standard),
    (CompressType::Lz4, Form::Standard),
    (CompressType::Lz4, Form::Raw),
    (CompressType::Zst, Form::Standard),
];

mod vectors {
    use super::*;

    /// repository-format.md B.3.
    #[test]
    fn encryption_of_known_text() {
        let pass = passphrase();
        let plain = b"pgBackRest format test\n";
        let mut spec = StoreSpec { cipher: Some(&pass), ..default_store(CompressType::None) };
        assert_eq!(
            hex::encode(stored(&spec, plain)),
            "53616c7465645f5f010203040506070838b1b358370c43516cc6bdeca50a2a6a6ce851992a6602c0d3f3434f4a5b3b9a"
        );
        assert_eq!(hex::encode(stored(&spec, b"")), "53616c7465645f5f01020304050607085f88ae6b2fccb819dddca1485060d7de");
        spec.form = Form::Raw;
        assert_eq!(
            hex::encode(stored(&spec, plain)),
            "010203040506070838b1b358370c43516cc6bdeca50a2a6a6ce851992a6602c0d3f3434f4a5b3b9a"
        );
    }

    /// repository-format.md B.4: what the original stored decodes, and for so small a file our bytes are the same.
    #[test]
    fn stored_forms_of_a_small_file() {
        for (kind, form, expected) in [
            (CompressType::Gz, Form::Standard, "1f8b08000000000000033334e502001d7d0c9803000000"),
            (CompressType::Gz, Form::Raw, "789c3334e50200010a0071"),
            (CompressType::Lz4, Form::Standard, "04224d1844405e0300008031350a0000000092841dab"),
            (CompressType::Lz4, Form::Raw, "04224d184040c00300008031350a00000000"),
            (CompressType::Zst, Form::Standard, "28b52ffd005819000031350a"),
            (
                CompressType::Bz2,
                Form::Standard,
                "425a6839314159265359e799ed7e000000c800001022002000219819846177245385090e799ed7e0",
            ),
        ] {
            let original = hex::decode(expected).unwrap();
            let plain = loaded(&LoadSpec { form, ..default_load(kind) }, &original).unwrap();
            assert_eq!(plain, b"15\n", "{kind} {form:?}");
            let ours = stored(&StoreSpec { form, ..default_store(kind) }, b"15\n");
            assert_eq!(hex::encode(ours), expected, "{kind} {form:?}");
        }
    }

    #[test]
    fn raw_gz_in_raw_encryption() {
        let pass = passphrase();
        let spec = StoreSpec { cipher: Some(&pass), form: Form::Raw, ..default_store(CompressType::Gz) };
        let mut chain = store(&spec, &Codecs::new(0), &Counting).unwrap();
        let mut output = Vec::new();
        let mut sink = |piece: &[u8]| {
            output.extend_from_slice(piece);
            Ok(())
        };
        chain.write(b"15\n", &mut sink).unwrap();
        let report = chain.finish(&mut sink).unwrap();
        assert_eq!(hex::encode(&output), "010203040506070849fc8652d5a034ee4f84acda66e23448");
        assert_eq!(report.plain.sha1.to_string(), "587b596f04f7db9c2cad3d6b87dd2b3a05de4f35");
        assert_eq!(report.stored, Digest::of(&output));
    }

    #[test]
    fn empty_files_are_stored_as_the_original_stores_them() {
        for (kind, expected) in [
            (CompressType::Gz, "1f8b080000000000000303000000000000000000"),
            (CompressType::Zst, "28b52ffd2000010000"),
            (CompressType::Bz2, "425a683917724538509000000000"),
            (CompressType::None, ""),
        ] {
            assert_eq!(hex::encode(stored(&default_store(kind), b"")), expected, "{kind}");
        }
        for (kind, form) in COMPRESSIONS {
            let empty = stored(&StoreSpec { form, ..default_store(kind) }, b"");
            assert_eq!(loaded(&LoadSpec { form, ..default_load(kind) }, &empty).unwrap(), b"", "{kind} {form:?}");
        }
    }

    #[test]
    fn streams_begin_as_the_originals_do() {
        let plain = mixed(300_000);
        for (kind, form, level, expected) in [
            (CompressType::Gz, Form::Standard, 6, "1f8b0800000000000003"),
            (CompressType::Gz, Form::Standard, 9, "1f8b0800000000000203"),
            (CompressType::Gz, Form::Raw, 6, "789c"),
            (CompressType::Lz4, Form::Standard, 1, "04224d1844405e"),
            (CompressType::Lz4, Form::Raw, 12, "04224d184040c0"),
            (CompressType::Zst, Form::Standard, 3, "28b52ffd"),
        ] {
            let compress = Compression::new(kind, level).unwrap();
            let ours = stored(&StoreSpec { compress, form, ..default_store(kind) }, &plain);
            assert!(hex::encode(&ours).starts_with(expected), "{kind} {form:?} {level}");
        }
    }
}

mod samples {
    use super::*;

    #[test]
    fn streams_of_the_standard_tools_decode() {
        let expected = String::from_utf8(sample("plain.sha1")).unwrap();
        for (name, kind) in [
            ("one-member.gz", CompressType::Gz),
            ("two-members.gz", CompressType::Gz),
            ("one-stream.bz2", CompressType::Bz2),
            ("two-streams.bz2", CompressType::Bz2),
            ("without-checksum.zst", CompressType::Zst),
            ("with-checksum.zst", CompressType::Zst),
            ("linked-64k.lz4", CompressType::Lz4),
            ("linked-256k-no-checksum.lz4", CompressType::Lz4),
            ("independent-4m.lz4", CompressType::Lz4),
            ("content-size-block-checksum.lz4", CompressType::Lz4),
        ] {
            let bytes = sample(name);
            for write_bytes in [usize::MAX, 4096, 1] {
                let chain = load(&default_load(kind), &Codecs::new(0)).unwrap();
                let (plain, report) = run(chain, &bytes, write_bytes).unwrap();
                assert_eq!(plain.len(), 160_000, "{name}");
                assert_eq!(report.plain.sha1.to_string(), expected.trim(), "{name}");
                assert_eq!(report.stored, Digest::of(&bytes), "{name}");
            }
        }
    }

    /// Files from real backups by pgBackRest 2.45 and 2.60, out of bundles and not.
    #[test]
    fn files_that_the_original_stored_decode() {
        let list = String::from_utf8(sample("original-files.txt")).unwrap();
        let mut count = 0;
        for line in list.lines().filter(|line| !line.starts_with('#')) {
            let [name, kind, form, pass, size, plain_sha1, stored_sha1] =
                line.split(' ').collect::<Vec<_>>()[..].try_into().unwrap();
            let pass = (pass != "-").then(|| Passphrase::new(pass).unwrap());
            let spec = LoadSpec {
                compress: CompressType::parse(kind).unwrap(),
                cipher: pass.as_ref(),
                form: if form == "raw" { Form::Raw } else { Form::Standard },
                plain_size_max_bytes: Some(size.parse().unwrap()),
            };
            let (_, report) = run(load(&spec, &Codecs::new(0)).unwrap(), &sample(name), 1_000).unwrap();
            assert_eq!(report.plain.size_bytes.to_string(), size, "{name}");
            assert_eq!(report.plain.sha1.to_string(), plain_sha1, "{name}");
            assert_eq!(report.stored.sha1.to_string(), stored_sha1, "{name}");
            let other = if form == "raw" { Form::Standard } else { Form::Raw };
            assert!(pass.is_none() || loaded(&LoadSpec { form: other, ..spec }, &sample(name)).is_err(), "{name}");
            count += 1;
        }
        assert!(count >= 5, "{count}");
    }

    #[test]
    fn a_file_that_openssl_encrypted_decodes() {
        let pass = passphrase();
        let spec = LoadSpec { cipher: Some(&pass), ..default_load(CompressType::Bz2) };
        let plain = loaded(&spec, &sample("openssl.bz2.aes")).unwrap();
        assert_eq!(Digest::of(&plain).sha1.to_string(), String::from_utf8(sample("plain.sha1")).unwrap().trim());
    }

    /// The raw form has one stream, so a second one is no part of the file.
    #[test]
    fn the_raw_form_has_one_stream_only() {
        for (kind, second) in [(CompressType::Bz2, sample("one-stream.bz2")), (CompressType::Gz, b"\x78\x9c".to_vec())]
        {
            let mut bytes = stored(&StoreSpec { form: Form::Raw, ..default_store(kind) }, b"abc");
            bytes.extend(second);
            let error = loaded(&LoadSpec { form: Form::Raw, ..default_load(kind) }, &bytes).unwrap_err();
            assert!(matches!(error, FilterError::Decompress { fault: StreamFault::TrailingBytes, .. }), "{error}");
        }
    }
}

mod other_libraries {
    use std::io::Read;

    use super::*;

    /// What goes through libdeflate decodes with zlib-rs, and what zlib-rs wrote decodes with libdeflate.
    #[test]
    fn both_gz_encoders_write_what_the_other_reads() {
        let plain = mixed(700_000);
        for form in [Form::Standard, Form::Raw] {
            for level in [-1, 0, 1, 6, 9] {
                let compress = Compression::new(CompressType::Gz, level).unwrap();
                let spec = StoreSpec { compress, form, ..default_store(CompressType::Gz) };
                let streamed = stored(&spec, &plain);
                let mut decoded = vec![0; plain.len()];
                let mut inflate = libdeflater::Decompressor::new();
                let size = match form {
                    Form::Standard => inflate.gzip_decompress(&streamed, &mut decoded).unwrap(),
                    Form::Raw => inflate.zlib_decompress(&streamed, &mut decoded).unwrap(),
                };
                assert!(size == plain.len() && decoded == plain, "{form:?} {level}");

                let mut whole = Vec::new();
                let report = store_whole(&spec, &plain, usize::MAX, &Codecs::new(1), &Counting, &mut |piece| {
                    whole.extend_from_slice(piece);
                    Ok(())
                })
                .unwrap();
                assert_eq!(report.plain, Digest::of(&plain));
                assert_eq!(report.stored, Digest::of(&whole));
                assert!(level == 0 || whole != streamed, "libdeflate was not used at level {level}");
                let load_spec = LoadSpec { form, ..default_load(CompressType::Gz) };
                assert!(loaded(&load_spec, &whole).unwrap() == plain, "{form:?} {level}");
            }
        }
    }

    #[test]
    fn store_whole_streams_what_does_not_fit_and_encrypts() {
        let plain = mixed(300_000);
        let pass = passphrase();
        for room_bytes_max in [0, 1000, usize::MAX] {
            for kind in CompressType::ALL {
                let spec = StoreSpec { cipher: Some(&pass), ..default_store(kind) };
                let mut whole = Vec::new();
                let report = store_whole(&spec, &plain, room_bytes_max, &Codecs::new(1), &Counting, &mut |piece| {
                    whole.extend_from_slice(piece);
                    Ok(())
                })
                .unwrap();
                assert_eq!((report.plain, report.stored), (Digest::of(&plain), Digest::of(&whole)));
                let load_spec = LoadSpec { cipher: Some(&pass), ..default_load(kind) };
                assert!(loaded(&load_spec, &whole).unwrap() == plain, "{kind} {room_bytes_max}");
            }
        }
    }

    fn load_in_one(
        spec: &LoadSpec<'_>,
        stored: &[u8],
        room_bytes_max: usize,
    ) -> Result<(Vec<u8>, ChainReport), FilterError> {
        let mut output = Vec::new();
        let report = load_whole(spec, stored, room_bytes_max, &Codecs::new(1), &mut |piece| {
            assert!(piece.len() <= PIECE_BYTES_MAX);
            output.extend_from_slice(piece);
            Ok(())
        })?;
        Ok((output, report))
    }

    #[test]
    fn load_whole_is_the_same_as_a_chain() {
        let pass = passphrase();
        for plain in [mixed(0), mixed(1), mixed(300_000)] {
            for (kind, form) in COMPRESSIONS {
                for cipher in [None, Some(&pass)] {
                    let bytes = stored(&StoreSpec { cipher, form, ..default_store(kind) }, &plain);
                    for (size_max, room_bytes_max) in [
                        (Some(plain.len() as u64), usize::MAX),
                        (Some(400_000), usize::MAX),
                        (Some(400_000), 10),
                        (None, 10),
                    ] {
                        let spec = LoadSpec { cipher, form, plain_size_max_bytes: size_max, ..default_load(kind) };
                        let (output, report) = load_in_one(&spec, &bytes, room_bytes_max).unwrap();
                        assert!(output == plain, "{kind} {form:?} {size_max:?}");
                        assert_eq!((report.plain, report.stored), (Digest::of(&plain), Digest::of(&bytes)));
                    }
                }
            }
        }
    }

    /// What the fast decoder would not notice, or not name, still gets the error of the stream.
    #[test]
    fn load_whole_refuses_what_a_chain_refuses() {
        for form in [Form::Standard, Form::Raw] {
            let plain = mixed(50_000);
            let bytes = stored(&StoreSpec { form, ..default_store(CompressType::Gz) }, &plain);
            let spec = LoadSpec { form, plain_size_max_bytes: Some(50_000), ..default_load(CompressType::Gz) };
            for trailing in [&b"\0"[..], b"12345678", &bytes[..100]] {
                let bytes = [bytes.as_slice(), trailing].concat();
                assert!(load_in_one(&spec, &bytes, usize::MAX).is_err(), "{form:?}");
            }
            for length in (0..bytes.len()).step_by(101) {
                assert!(load_in_one(&spec, &bytes[..length], usize::MAX).is_err(), "{form:?} {length}");
            }
            let spec = LoadSpec { plain_size_max_bytes: Some(49_999), ..spec };
            let error = load_in_one(&spec, &bytes, usize::MAX).unwrap_err();
            assert!(matches!(error, FilterError::PlainTooLarge { .. }), "{error}");
        }
        let members = sample("two-members.gz");
        let spec = LoadSpec { plain_size_max_bytes: Some(160_000), ..default_load(CompressType::Gz) };
        assert_eq!(load_in_one(&spec, &members, usize::MAX).unwrap().0.len(), 160_000);
    }

    #[test]
    fn lz4_frames_of_every_level_decode_with_both_library_readers() {
        for (level, form) in (-5..=12).flat_map(|level| [(level, Form::Standard), (level, Form::Raw)]) {
            for size_bytes in [0, 1, 65_536, 65_537, 300_000] {
                let plain = mixed(size_bytes);
                let compress = Compression::new(CompressType::Lz4, level).unwrap();
                let ours = stored(&StoreSpec { form, compress, ..default_store(CompressType::Lz4) }, &plain);
                let mut decoded = Vec::new();
                lz4_flex::frame::FrameDecoder::new(ours.as_slice()).read_to_end(&mut decoded).unwrap();
                assert!(decoded == plain, "{form:?} {level} {size_bytes}");
                decoded.clear();
                lz4::Decoder::new(ours.as_slice()).unwrap().read_to_end(&mut decoded).unwrap();
                assert!(decoded == plain, "{form:?} {level} {size_bytes}");
                assert!(loaded(&LoadSpec { form, ..default_load(CompressType::Lz4) }, &ours).unwrap() == plain);
            }
        }
    }

    #[test]
    fn high_lz4_levels_give_smaller_frames_of_the_same_kind() {
        // Text compresses with some effort; what repeats whole, or not at all, hides the levels.
        let words = ["select ", "from ", "pgbench_accounts ", "where aid = ", "update ", "set abalance = ", "1", "22"];
        let mut state = 7_u64;
        let mut plain = Vec::new();
        while plain.len() < 400_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            plain.extend_from_slice(words[usize::try_from(state >> 61).unwrap()].as_bytes());
        }
        let of_level = |level| {
            let compress = Compression::new(CompressType::Lz4, level).unwrap();
            stored(&StoreSpec { compress, ..default_store(CompressType::Lz4) }, &plain)
        };
        let frames: Vec<_> = [1, 3, 9, 12].map(of_level).into();
        assert!(frames.windows(2).all(|pair| pair[1].len() < pair[0].len()), "{:?}", frames.iter().map(Vec::len));
        assert!(frames.iter().all(|frame| frame[..7] == frames[0][..7]), "another header");
        assert_eq!(of_level(-5), frames[0]);
    }

    #[test]
    fn bzip2_and_zstd_streams_decode_with_the_library_readers() {
        let plain = mixed(1_500_000);
        let mut decoded = Vec::new();
        let ours = stored(&default_store(CompressType::Bz2), &plain);
        bzip2::read::BzDecoder::new(ours.as_slice()).read_to_end(&mut decoded).unwrap();
        assert!(decoded == plain);
        for level in [-7, 1, 3, 12] {
            let compress = Compression::new(CompressType::Zst, level).unwrap();
            let ours = stored(&StoreSpec { compress, ..default_store(CompressType::Zst) }, &plain);
            assert!(zstd::bulk::decompress(&ours, plain.len()).unwrap() == plain, "level {level}");
        }
    }
}

mod refusals {
    use super::*;

    fn compressed_kinds() -> impl Iterator<Item = (CompressType, Form)> {
        COMPRESSIONS.into_iter().filter(|(kind, _)| *kind != CompressType::None)
    }

    #[test]
    fn a_stream_cut_at_any_length_is_an_error() {
        let plain = mixed(2_000);
        for (kind, form) in compressed_kinds() {
            let whole = stored(&StoreSpec { form, ..default_store(kind) }, &plain);
            for length in 0..whole.len() {
                let error = loaded(&LoadSpec { form, ..default_load(kind) }, &whole[..length]).unwrap_err();
                assert!(
                    matches!(error, FilterError::Decompress { fault: StreamFault::Truncated, .. }),
                    "{kind} {form:?} {length}: {error}"
                );
            }
        }
    }

    #[test]
    fn bytes_behind_the_stream_are_an_error() {
        let plain = mixed(100_000);
        for (kind, form) in compressed_kinds() {
            for trailing in [&b"\0"[..], b"x", b"\x1f\x8bjunk", b"BZx"] {
                let mut bytes = stored(&StoreSpec { form, ..default_store(kind) }, &plain);
                bytes.extend_from_slice(trailing);
                for write_bytes in [usize::MAX, 1000, 1] {
                    let chain = load(&LoadSpec { form, ..default_load(kind) }, &Codecs::new(0)).unwrap();
                    let error = run(chain, &bytes, write_bytes).unwrap_err();
                    assert!(matches!(error, FilterError::Decompress { .. }), "{kind} {form:?}: {error}");
                }
            }
        }
    }

    #[test]
    fn a_second_zst_or_lz4_frame_is_an_error() {
        for kind in [CompressType::Zst, CompressType::Lz4] {
            let bytes = stored(&default_store(kind), b"abc").repeat(2);
            let error = loaded(&default_load(kind), &bytes).unwrap_err();
            assert!(matches!(error, FilterError::Decompress { fault: StreamFault::TrailingBytes, .. }), "{error}");
        }
    }

    /// A few hundred bytes that would become 64 MiB stop after the first pieces.
    #[test]
    fn hi05_sec10_decompression_bombs_stop_at_the_known_size() {
        for (kind, form) in compressed_kinds() {
            let mut bomb = Vec::new();
            let mut chain = store(&StoreSpec { form, ..default_store(kind) }, &Codecs::new(0), &Counting).unwrap();
            let zeros = vec![0; 1024 * 1024];
            let mut sink = |piece: &[u8]| {
                bomb.extend_from_slice(piece);
                Ok(())
            };
            for _ in 0..64 {
                chain.write(&zeros, &mut sink).unwrap();
            }
            chain.finish(&mut sink).unwrap();

            let spec = LoadSpec { form, plain_size_max_bytes: Some(100_000), ..default_load(kind) };
            let mut out_bytes = 0;
            let mut chain = load(&spec, &Codecs::new(0)).unwrap();
            let error = chain
                .write(&bomb, &mut |piece| {
                    out_bytes += piece.len();
                    Ok(())
                })
                .unwrap_err();
            assert!(matches!(error, FilterError::PlainTooLarge { size_max_bytes: 100_000 }), "{kind}: {error}");
            assert!(out_bytes <= 100_000, "{kind}: {out_bytes}");
        }
    }

    #[test]
    fn hi05_the_exact_size_is_allowed() {
        for (kind, form) in COMPRESSIONS {
            let plain = mixed(100_000);
            let bytes = stored(&StoreSpec { form, ..default_store(kind) }, &plain);
            let spec = LoadSpec { form, plain_size_max_bytes: Some(100_000), ..default_load(kind) };
            assert!(loaded(&spec, &bytes).unwrap() == plain);
            let spec = LoadSpec { plain_size_max_bytes: Some(99_999), ..spec };
            assert!(matches!(loaded(&spec, &bytes), Err(FilterError::PlainTooLarge { .. })));
        }
    }

    #[test]
    fn an_lz4_block_larger_than_announced_is_refused_before_it_is_gathered() {
        let mut bytes = hex::decode("04224d1844405e").unwrap();
        bytes.extend(0x0400_0000_u32.to_le_bytes());
        let error = loaded(&default_load(CompressType::Lz4), &bytes).unwrap_err();
        assert!(error.to_string().contains("larger than the header allows"), "{error}");
    }

    #[test]
    fn damaged_checksums_are_found() {
        let plain = mixed(70_000);
        for (kind, form) in
            [(CompressType::Gz, Form::Standard), (CompressType::Gz, Form::Raw), (CompressType::Lz4, Form::Standard)]
        {
            let mut bytes = stored(&StoreSpec { form, ..default_store(kind) }, &plain);
            // The checksum is the end of the stream, in gzip the size follows.
            let place = bytes.len() - if (kind, form) == (CompressType::Gz, Form::Standard) { 8 } else { 4 };
            bytes[place] ^= 1;
            let error = loaded(&LoadSpec { form, ..default_load(kind) }, &bytes).unwrap_err();
            assert!(matches!(error, FilterError::Decompress { fault: StreamFault::Corrupt(_), .. }), "{error}");
        }
    }

    #[test]
    fn a_chain_that_ended_or_failed_is_not_used_again() {
        let mut chain = store(&default_store(CompressType::Gz), &Codecs::new(0), &Counting).unwrap();
        chain.finish(&mut |_| Ok(())).unwrap();
        assert!(matches!(chain.write(b"x", &mut |_| Ok(())), Err(FilterError::Ended)));
        assert!(matches!(chain.finish(&mut |_| Ok(())), Err(FilterError::Ended)));

        let mut chain = store(&default_store(CompressType::None), &Codecs::new(0), &Counting).unwrap();
        assert!(matches!(chain.write(b"x", &mut |_| Err(SinkClosed)), Err(FilterError::SinkClosed(_))));
        assert!(matches!(chain.finish(&mut |_| Ok(())), Err(FilterError::Ended)));
    }
}

mod encryption {
    use super::*;

    fn decrypted(passphrase: &Passphrase, form: Form, bytes: &[u8]) -> Result<Vec<u8>, FilterError> {
        loaded(&LoadSpec { cipher: Some(passphrase), form, ..default_load(CompressType::None) }, bytes)
    }

    /// With a wrong passphrase one padding in 256 is right by luck; the result must be an error or other bytes, never
    /// the file.
    #[test]
    fn cr01_a_wrong_passphrase_never_yields_the_file() {
        let right = passphrase();
        let plain = mixed(100);
        let spec = StoreSpec { cipher: Some(&right), ..default_store(CompressType::None) };
        let bytes = stored(&spec, &plain);
        let mut lucky = 0;
        for attempt in 0..2_000 {
            match decrypted(&Passphrase::new(format!("wrong {attempt}")).unwrap(), Form::Standard, &bytes) {
                Ok(other) => {
                    lucky += 1;
                    assert_ne!(other, plain);
                }
                Err(error) => {
                    assert!(matches!(error, FilterError::Decrypt(DecryptError::BadPadding { .. })), "{error}");
                    assert!(error.to_string().contains("is the passphrase right"), "{error}");
                    assert!(!error.to_string().contains("wrong"), "the passphrase is shown: {error}");
                }
            }
        }
        assert!((1..40).contains(&lucky), "{lucky} of 2000 by luck");
    }

    #[test]
    fn cr02_a_line_break_at_the_end_counts_and_is_named() {
        let spec_pass = passphrase();
        let bytes = stored(&StoreSpec { cipher: Some(&spec_pass), ..default_store(CompressType::None) }, b"abc");
        let with_line_break = Passphrase::new("swordfish\n").unwrap();
        let error = decrypted(&with_line_break, Form::Standard, &bytes).unwrap_err();
        assert!(error.to_string().contains("line break"), "{error}");
    }

    /// Nothing authenticates the stream: what a flipped bit or a cut at a cipher block leaves shows in the digest.
    #[test]
    fn cr03_sec16_manipulated_cipher_text_is_an_error_or_another_digest() {
        let pass = passphrase();
        let plain = mixed(1_000);
        let bytes = stored(&StoreSpec { cipher: Some(&pass), ..default_store(CompressType::None) }, &plain);
        let is_detected = |bytes: &[u8]| decrypted(&pass, Form::Standard, bytes).map_or(true, |other| other != plain);
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 0x10;
            assert!(is_detected(&changed), "bit flipped in byte {place}");
        }
        for length in 0..bytes.len() {
            assert!(is_detected(&bytes[..length]), "cut to {length}");
        }
        let mut swapped = bytes.clone();
        swapped.copy_within(32..48, 16);
        assert!(is_detected(&swapped));
    }

    #[test]
    fn cr05_sec16_plain_bytes_are_not_taken_for_encrypted_ones() {
        let pass = passphrase();
        for plain in [&b"[backrest]\nbackrest-format=5\n"[..], b"Salte", b"S", b"", b"Saltad__0123456789abcdef01234567"]
        {
            let error = decrypted(&pass, Form::Standard, plain).unwrap_err();
            assert!(
                matches!(error, FilterError::Decrypt(DecryptError::NoMagic | DecryptError::TooShort { .. })),
                "{error}"
            );
        }
        let error = decrypted(&pass, Form::Standard, b"[backrest]").unwrap_err();
        assert!(error.to_string().contains("is the file encrypted"), "{error}");
    }

    #[test]
    fn sizes_that_no_encrypted_stream_has_are_named() {
        let pass = passphrase();
        let bytes =
            stored(&StoreSpec { cipher: Some(&pass), form: Form::Raw, ..default_store(CompressType::None) }, b"a");
        assert_eq!(bytes.len(), 24);
        for length in 0..24 {
            let error = decrypted(&pass, Form::Raw, &bytes[..length]).unwrap_err();
            let expected = if length <= 8 { "too few" } else { "not a multiple of 16" };
            assert!(error.to_string().contains(expected), "{length}: {error}");
        }
    }

    #[test]
    fn cr06_sec16_without_random_bytes_nothing_is_encrypted() {
        let pass = passphrase();
        let spec = StoreSpec { cipher: Some(&pass), ..default_store(CompressType::None) };
        assert!(matches!(store(&spec, &Codecs::new(0), &Broken), Err(FilterError::Random(_))));
        assert!(matches!(seal(&pass, Form::Raw, &Codecs::new(0), &Broken), Err(FilterError::Random(_))));
    }

    #[test]
    fn cr06_sec16_each_stream_has_a_salt_of_its_own() {
        const STREAMS: u32 = 20_000;
        let pass = passphrase();
        let codecs = Codecs::new(1);
        let mut salts = std::collections::HashSet::new();
        let mut ones = [0_u32; 64];
        for _ in 0..STREAMS {
            let mut chain = seal(&pass, Form::Raw, &codecs, &SystemRandom).unwrap();
            let mut salt = Vec::new();
            chain
                .write(b"x", &mut |piece| {
                    salt.extend_from_slice(piece);
                    Ok(())
                })
                .unwrap();
            let bits = u64::from_be_bytes(salt.try_into().unwrap());
            for (place, ones) in ones.iter_mut().enumerate() {
                *ones += u32::from(bits >> place & 1 == 1);
            }
            assert!(salts.insert(bits));
        }
        // Each bit is as often one as zero; ten standard deviations are for luck.
        for (place, ones) in ones.into_iter().enumerate() {
            assert!(ones.abs_diff(STREAMS / 2) < 710, "bit {place} is one in {ones} of {STREAMS}");
        }
    }

    /// A raw stream read at the wrong place decrypts to something else or to nothing.
    #[test]
    fn cr07_a_raw_stream_read_at_a_wrong_offset_is_found() {
        let pass = passphrase();
        let plain = mixed(500);
        let spec = StoreSpec { cipher: Some(&pass), form: Form::Raw, ..default_store(CompressType::Zst) };
        let one = stored(&spec, &plain);
        let bundle = [one.as_slice(), one.as_slice()].concat();
        let load_spec = LoadSpec { cipher: Some(&pass), form: Form::Raw, ..default_load(CompressType::Zst) };
        assert_eq!(loaded(&load_spec, &bundle[..one.len()]).unwrap(), plain);
        for offset in 1..one.len() {
            let slice = &bundle[offset..offset + one.len()];
            assert!(loaded(&load_spec, slice).is_err(), "offset {offset}");
        }
    }

    #[test]
    fn sealing_the_output_of_a_plain_chain_is_the_same_as_one_chain() {
        let pass = passphrase();
        let plain = mixed(500_000);
        for (kind, form) in COMPRESSIONS {
            let spec = StoreSpec { form, ..default_store(kind) };
            let compressed = stored(&spec, &plain);
            let mut chain = seal(&pass, form, &Codecs::new(0), &Counting).unwrap();
            let mut sealed = Vec::new();
            let mut sink = |piece: &[u8]| {
                sealed.extend_from_slice(piece);
                Ok(())
            };
            for piece in compressed.chunks(777) {
                chain.write(piece, &mut sink).unwrap();
            }
            let digest = chain.finish(&mut sink).unwrap();
            assert_eq!(digest, Digest::of(&sealed));
            assert!(sealed == stored(&StoreSpec { cipher: Some(&pass), ..spec }, &plain), "{kind} {form:?}");
        }
    }
}

/// Encoder and decoder states that were used before, also by chains that were given up halfway, do the same work.
#[test]
fn states_are_used_again_without_a_trace_of_the_last_file() {
    let codecs = Codecs::new(1);
    let pass = passphrase();
    let files = [mixed(0), mixed(1), mixed(200_000), mixed(0), mixed(65_536), mixed(3)];
    for round in 0..3 {
        for (kind, form) in COMPRESSIONS {
            for plain in &files {
                let spec = StoreSpec { cipher: Some(&pass), form, ..default_store(kind) };
                let (bytes, _) = run(store(&spec, &codecs, &Counting).unwrap(), plain, 70_000).unwrap();
                assert!(bytes == stored(&spec, plain), "{kind} {form:?} {} round {round}", plain.len());
                let load_spec = LoadSpec { cipher: Some(&pass), form, ..default_load(kind) };
                let (back, _) = run(load(&load_spec, &codecs).unwrap(), &bytes, 70_000).unwrap();
                assert!(back == *plain, "{kind} {form:?}");

                let mut given_up = store(&spec, &codecs, &Counting).unwrap();
                given_up.write(plain, &mut |_| Ok(())).unwrap();
                drop(given_up);
                let mut given_up = load(&load_spec, &codecs).unwrap();
                given_up.write(&bytes[..bytes.len() / 2], &mut |_| Ok(())).unwrap();
            }
        }
    }
}

#[test]
fn chains_and_codecs_go_to_other_threads() {
    fn check<T: Send + 'static>() {}
    check::<Chain>();
    check::<SealChain>();
    check::<Codecs>();
}

#[test]
fn levels_outside_the_range_are_refused() {
    assert!(Compression::new(CompressType::Gz, 10).is_err());
    assert!(Compression::new(CompressType::Zst, 23).is_err());
    let error = Compression::new(CompressType::Lz4, 13).unwrap_err();
    assert_eq!(error.to_string(), "13 is not a lz4 compression level: expected -5 to 12");
    assert_eq!(Compression::new(CompressType::None, 77).unwrap(), Compression::NONE);
}

fn any_kind() -> impl Strategy<Value = (CompressType, Form)> {
    (prop::sample::select(&CompressType::ALL[..]), prop::sample::select(&[Form::Standard, Form::Raw][..]))
}

/// Runs of repeated and of random bytes: matches, literals and pieces that do not compress.
fn any_plain() -> impl Strategy<Value = Vec<u8>> {
    let run = prop_oneof![
        (any::<u8>(), 0_usize..50_000).prop_map(|(byte, count)| vec![byte; count]),
        prop::collection::vec(any::<u8>(), 0..2_000),
        (prop::collection::vec(any::<u8>(), 1..50), 0_usize..3_000).prop_map(|(word, count)| word.repeat(count)),
    ];
    prop::collection::vec(run, 0..6).prop_map(|runs| runs.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_input_in_any_writes_round_trips(
        plain in any_plain(),
        (kind, form) in any_kind(),
        is_encrypted in any::<bool>(),
        write_in in 1_usize..100_000,
        write_out in 1_usize..100_000,
    ) {
        let pass = passphrase();
        let cipher = is_encrypted.then_some(&pass);
        let codecs = Codecs::new(1);
        let spec = StoreSpec { cipher, form, ..default_store(kind) };
        let (bytes, report) = run(store(&spec, &codecs, &SystemRandom).unwrap(), &plain, write_in).unwrap();
        prop_assert_eq!(report.plain, Digest::of(&plain));
        prop_assert_eq!(report.stored, Digest::of(&bytes));
        if is_encrypted && kind == CompressType::None {
            let header_bytes = if form == Form::Standard { 16 } else { 8 };
            prop_assert_eq!(bytes.len(), header_bytes + 16 * (plain.len() / 16 + 1));
        }
        let load_spec = LoadSpec { cipher, form, plain_size_max_bytes: Some(plain.len() as u64), ..default_load(kind) };
        let (back, report) = run(load(&load_spec, &codecs).unwrap(), &bytes, write_out).unwrap();
        prop_assert!(back == plain);
        prop_assert_eq!(report.plain, Digest::of(&plain));
        prop_assert_eq!(report.stored, Digest::of(&bytes));
    }

    #[test]
    fn random_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..3_000),
        (kind, form) in any_kind(),
        is_encrypted in any::<bool>(),
        write_bytes in 1_usize..3_000,
    ) {
        let pass = passphrase();
        let cipher = is_encrypted.then_some(&pass);
        let spec = LoadSpec { cipher, form, plain_size_max_bytes: Some(1_000_000), ..default_load(kind) };
        let result = run(load(&spec, &Codecs::new(0)).unwrap(), &bytes, write_bytes);
        prop_assert!(result.is_err() || kind == CompressType::None);
    }

    /// Damage inside a valid stream reaches deeper into the decoders than random bytes do.
    #[test]
    fn damaged_streams_never_panic(
        plain in any_plain(),
        (kind, form) in any_kind(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = stored(&StoreSpec { form, ..default_store(kind) }, &plain);
        prop_assume!(!bytes.is_empty());
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let spec = LoadSpec { form, plain_size_max_bytes: Some(1_000_000), ..default_load(kind) };
        if let Ok((_, report)) = run(load(&spec, &Codecs::new(0)).unwrap(), &bytes, 1_000) {
            prop_assert!(report.plain.size_bytes <= 1_000_000);
        }
    }
}
