//! [`Writeback`]: has the system write a file while more of it is still being made, so that making it durable finds
//! little left to wait for.

use std::num::NonZeroU64;
use std::os::fd::AsFd;

use rustix::fs::{Advice, fadvise};

/// How far the writing of one file, from its beginning to its end, was asked for.
#[derive(Debug, Default)]
pub(crate) struct Writeback {
    asked_bytes: u64,
    written_bytes: u64,
}

impl Writeback {
    /// Smaller requests cost more than they save, larger ones leave more for the end. Files below it are best left to one
    /// sync for all of them.
    const STEP_BYTES: u64 = 2 * 1024 * 1024;

    /// To be told after each write, with the bytes that it added at the end of the file.
    pub(crate) fn added(&mut self, file: impl AsFd, bytes: usize) {
        self.written_bytes = self.written_bytes.saturating_add(bytes as u64);
        let whole = self.written_bytes - self.written_bytes % Self::STEP_BYTES;
        let Some(length) = NonZeroU64::new(whole.saturating_sub(self.asked_bytes)) else { return };
        // "No longer needed" begins to write what was changed in the range, and drops from the cache what had been written
        // before: nothing here, so the reader of the file still finds it in memory. Only advice, so nothing fails with it.
        let _advised = fadvise(file, self.asked_bytes, Some(length), Advice::DontNeed);
        self.asked_bytes = whole;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_was_written_stays_and_each_byte_is_asked_for_once() {
        let mut file = tempfile::tempfile().unwrap();
        let mut writeback = Writeback::default();
        let piece = vec![7_u8; 768 * 1024];
        let mut asked = Vec::new();
        for _ in 0..7 {
            file.write_all(&piece).unwrap();
            writeback.added(&file, piece.len());
            asked.push(writeback.asked_bytes / Writeback::STEP_BYTES);
        }
        assert_eq!(asked, [0, 0, 1, 1, 1, 2, 2]);
        let mut content = Vec::new();
        std::io::Seek::rewind(&mut file).unwrap();
        file.read_to_end(&mut content).unwrap();
        assert_eq!(content, vec![7; 7 * piece.len()]);
    }
}
