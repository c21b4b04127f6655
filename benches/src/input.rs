//! Bytes to measure with. Speed depends on them, so a figure is worth nothing without its input.

use std::fs;
use std::io;
use std::path::PathBuf;

/// Size of a WAL segment.
pub const SEGMENT_BYTES: usize = 16 * 1024 * 1024;

/// Size of a page.
const PAGE_BYTES: usize = 8192;

/// The variable that names a folder of real WAL segments.
pub const SEGMENTS_VARIABLE: &str = "PGBR_BENCH_WAL";

/// Numbers that look random and are the same in every run (the splitmix64 generator).
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// The numbers that belong to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// Random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.draw().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Pages like those of `pgbench_accounts`: a header, rows of three numbers and 84 blanks.
#[must_use]
pub fn heap(size_bytes: usize) -> Vec<u8> {
    let mut numbers = Numbers::new(1);
    let mut bytes = Vec::with_capacity(size_bytes + PAGE_BYTES);
    let mut account = 0;
    while bytes.len() < size_bytes {
        heap_page(&mut bytes, &mut account, &mut numbers);
    }
    bytes.truncate(size_bytes);
    bytes
}

fn heap_page(bytes: &mut Vec<u8>, account: &mut u32, numbers: &mut Numbers) {
    const ROWS: u16 = 61;
    const ROW_BYTES: u16 = 128;
    let end = bytes.len() + PAGE_BYTES;
    bytes.extend_from_slice(&numbers.below(1 << 40).to_le_bytes());
    bytes.extend_from_slice(&numbers.draw().to_le_bytes()[..2]);
    bytes.extend_from_slice(&[0, 0, 0x0c, 1, 0x40, 2, 0, 0x20, 4, 0x20, 0, 0, 0, 0]);
    for row in 0..ROWS {
        let offset = 8192 - (row + 1) * ROW_BYTES;
        bytes.extend_from_slice(&(u32::from(offset) | 0x8000 | 121 << 17).to_le_bytes());
    }
    bytes.resize(end - usize::from(ROWS * ROW_BYTES), 0);
    for _ in 0..ROWS {
        *account += 1;
        let row_end = bytes.len() + usize::from(ROW_BYTES);
        bytes.extend_from_slice(&(700 + numbers.below(60_000)).to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&[4, 0, 2, 9, 24, 0, 0, 0]);
        bytes.extend_from_slice(&account.to_le_bytes());
        bytes.extend_from_slice(&(*account / 100_000).to_le_bytes());
        bytes.extend_from_slice(&numbers.below(9999).to_le_bytes()[..4]);
        bytes.push(0xab);
        bytes.resize(row_end - 4, b' ');
        bytes.resize(row_end, 0);
    }
}

/// Something like WAL: a page image now and then between small records. Real WAL ([`segment`]) is better.
#[must_use]
pub fn generated_wal(size_bytes: usize) -> Vec<u8> {
    let mut numbers = Numbers::new(2);
    let mut bytes = Vec::with_capacity(size_bytes + PAGE_BYTES);
    let mut account = 0;
    while bytes.len() < size_bytes {
        if numbers.below(12) == 0 {
            heap_page(&mut bytes, &mut account, &mut numbers);
            continue;
        }
        let mut record = [0; 72];
        numbers.fill(&mut record[..4]);
        record[4..8].copy_from_slice(&numbers.below(1 << 18).to_le_bytes()[..4]);
        numbers.fill(&mut record[20..24]);
        record[24..30].copy_from_slice(&[0, 0x20, 0x14, 0, 0x7f, 6]);
        numbers.fill(&mut record[30..38]);
        numbers.fill(&mut record[60..64]);
        bytes.extend_from_slice(&record);
    }
    bytes.truncate(size_bytes);
    bytes
}

/// A real segment from the middle of the folder that `PGBR_BENCH_WAL` names, else a generated one; and which.
///
/// # Errors
/// When the folder that is named has no segment to read.
pub fn segment() -> io::Result<(Vec<u8>, &'static str)> {
    let Some(folder) = std::env::var_os(SEGMENTS_VARIABLE) else {
        return Ok((generated_wal(SEGMENT_BYTES), "generated"));
    };
    let mut paths = Vec::<PathBuf>::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.metadata()?.len() == SEGMENT_BYTES as u64 {
            paths.push(entry.path());
        }
    }
    paths.sort();
    let path = paths.get(paths.len() / 2).ok_or(io::ErrorKind::NotFound)?;
    Ok((fs::read(path)?, "pgbench"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_the_same_in_every_run_and_have_their_size() {
        for size_bytes in [1, 8192, 100_000] {
            assert_eq!(heap(size_bytes).len(), size_bytes);
            assert_eq!(generated_wal(size_bytes).len(), size_bytes);
        }
        assert_eq!(heap(50_000), heap(50_000));
        assert_ne!(heap(16_384)[..8192], heap(16_384)[8192..]);
    }

    #[test]
    fn heap_pages_are_whole_pages() {
        let bytes = heap(3 * PAGE_BYTES);
        // pd_pagesize_version: 8192 | 4.
        for page in bytes.chunks(PAGE_BYTES) {
            assert_eq!(page[18..20], [4, 0x20]);
        }
    }
}
