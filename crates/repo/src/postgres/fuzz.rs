//! What must hold of every parser of this layer for any bytes at all: one function for each fuzz target to call.
//!
//! The functions panic when a promise is broken. They exist in test and fuzz builds only.

use super::control_file::ControlFile;
use super::lsn::Lsn;
use super::page::{Page, PageHeaderCheck, PageState};
use super::system_id::SystemId;
use super::timeline::{Timeline, TimelineHistory};
use super::version::{PgVersion, VERSIONS};
use super::wal_file_name::WalFileName;
use super::wal_header::WalHeader;
use super::wal_segment::WalSegmentName;

/// `pg_control`, with the version told by the file and with each version forced.
pub fn control_file(bytes: &[u8]) {
    let parsed = ControlFile::parse(bytes).ok();
    let forced = VERSIONS.iter().filter_map(|row| ControlFile::parse_forced(row.version, bytes).ok());
    for control in parsed.into_iter().chain(forced) {
        let counting = bytes.get(..ControlFile::SIZE_BYTES);
        assert_eq!(control.to_file().get(..ControlFile::SIZE_BYTES), counting, "the file is kept as it was read");
        let invalidated = ControlFile::parse_forced(control.version(), &control.invalidated());
        let checkpoint = invalidated.map(|control| control.checkpoint());
        assert_eq!(checkpoint, Ok(ControlFile::INVALID_CHECKPOINT), "an invalidated file is read again");
    }
}

/// The header of a WAL segment.
pub fn wal_header(bytes: &[u8]) {
    if let Ok(header) = WalHeader::parse(bytes) {
        assert_eq!(WalHeader::parse_forced(header.version, bytes), Ok(header), "forcing what is there changes nothing");
        let name = header.page_address.segment(header.timeline, header.segment_size);
        let aligned = header.page_address.0.is_multiple_of(header.segment_size.bytes().into());
        assert_eq!(header.begins(name), aligned, "a segment begins at a multiple of its size");
    }
}

/// A history file; the first four bytes choose its timeline.
pub fn timeline_history(bytes: &[u8]) {
    let Some((number, file)) = bytes.split_first_chunk().map(|(number, file)| (u32::from_le_bytes(*number), file))
    else {
        return;
    };
    let Some(timeline) = Timeline::new(number) else { return };
    if let Ok(history) = TimelineHistory::parse(timeline, file) {
        for switch in history.switches() {
            assert!(switch.timeline < timeline, "ancestors are older");
            let line = format!("{}\t{}", switch.timeline, switch.switch_lsn);
            let reread = TimelineHistory::parse(timeline, line.as_bytes()).expect("a line written again is read again");
            assert_eq!(reread.switches().len(), 1, "one line is one switch");
        }
    }
}

/// Every text form of this layer: what is accepted is printed as it was, but for the freedom that LSNs have.
pub fn text(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let canonical = [
        WalFileName::parse(text).ok().map(|value| value.to_string()),
        WalSegmentName::parse(text).ok().map(|value| value.to_string()),
        PgVersion::parse(text).ok().map(|value| value.to_string()),
        text.parse::<SystemId>().ok().map(|value| value.to_string()),
        Timeline::from_hex(text).ok().map(Timeline::to_hex),
    ];
    for printed in canonical.into_iter().flatten() {
        assert_eq!(printed, text, "one value has one text");
    }
    if let Ok(lsn) = text.parse::<Lsn>() {
        assert_eq!(lsn.to_string().parse(), Ok(lsn), "an lsn is read again");
    }
    if let Ok(timeline) = Timeline::from_option(text) {
        assert_eq!(Timeline::from_option(&timeline.to_string()), Ok(timeline), "a timeline is read again");
    }
}

/// A page; the first four bytes choose its block number.
pub fn page(bytes: &[u8]) {
    let Some((number, page)) = bytes.split_first_chunk().map(|(number, page)| (u32::from_le_bytes(*number), page))
    else {
        return;
    };
    let Ok(page) = Page::new(page) else { return };
    for header_check in [PageHeaderCheck::Upper, PageHeaderCheck::ChecksumOnly] {
        match page.check(number, header_check) {
            PageState::New => assert!(page.is_zero(), "a new page has no bytes"),
            PageState::Valid => {
                assert!(page.checksum(number) == page.stored_checksum(), "a valid page has its checksum");
            }
            PageState::Invalid { stored } => assert!(stored == page.stored_checksum(), "the stored checksum is told"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::sample::sample;
    use proptest::prelude::*;

    const TARGETS: [fn(&[u8]); 5] = [control_file, wal_header, timeline_history, text, page];

    /// The seeds of the corpus, with what goes before the bytes of a file.
    fn seeds() -> Vec<Vec<u8>> {
        let numbered = |name| [&9_u32.to_le_bytes()[..], &sample(name)].concat();
        vec![
            sample("pg15-16mib.pg_control"),
            sample("pg18-1mib.pg_control"),
            sample("pg15-16mib-000000010000000000000001.wal"),
            sample("pg18-1mib-00000002000000000000000B.wal"),
            numbered("00000002.history"),
            numbered("pg15-relation.pages"),
            b"000000010000000A000000FE.00000028.backup".to_vec(),
            b"1A/2B3C4D5E".to_vec(),
            b"0x1f".to_vec(),
        ]
    }

    #[test]
    fn hi15_real_files_cut_at_any_length_keep_the_promises() {
        for seed in seeds() {
            for length in (0..=seed.len().min(700)).chain([seed.len()]) {
                TARGETS.iter().for_each(|target| target(&seed[..length]));
            }
        }
    }

    proptest! {
        #[test]
        fn hi15_damaged_files_keep_the_promises(
            seed in 0..9_usize,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut bytes = seeds().swap_remove(seed);
            let reach = bytes.len().min(600);
            for (index, byte) in changes {
                bytes[index.index(reach)] = byte;
            }
            TARGETS.iter().for_each(|target| target(&bytes));
        }

        #[test]
        fn hi15_any_bytes_keep_the_promises(bytes: Vec<u8>) {
            TARGETS.iter().for_each(|target| target(&bytes));
        }
    }
}
