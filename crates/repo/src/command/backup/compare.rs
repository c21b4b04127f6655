//! Whether a file is still what the prior backup has, by its checksum: before it is encoded for nothing. Blocking.

use super::file::{BUFFER_BYTES, Copied, Copier, Source, SourceRead};
use crate::error::Result;
use crate::filter::{Digest, Hasher};
use crate::pgdata::SourceFile;

/// Files that were compared.
#[derive(Debug)]
pub(super) struct Compared {
    /// Those that need no copying, by their positions in the manifest.
    pub(super) files: Vec<(usize, Copied)>,
    /// Those that are to be copied.
    pub(super) sources: Vec<Source>,
}

impl Copier {
    /// Compares the files for which that is to be done first.
    ///
    /// # Errors
    /// The first file that cannot be read.
    pub(super) fn compare(&self, sources: Vec<Source>) -> Result<Compared> {
        let mut compared = Compared { files: Vec::new(), sources: Vec::new() };
        let mut buffer = vec![0; BUFFER_BYTES];
        for source in sources {
            match self.look(&source, &mut buffer)? {
                Some(copied) => compared.files.push((source.position, copied)),
                // It is known to be another one now.
                None => compared.sources.push(Source { compare_first: false, ..source }),
            }
        }
        Ok(compared)
    }

    fn look(&self, source: &Source, buffer: &mut [u8]) -> Result<Option<Copied>> {
        let Some(expected) = source.expected.filter(|_| source.compare_first) else { return Ok(None) };
        Ok(match self.digest_within(source, buffer)? {
            None => Some(Copied::Vanished),
            Some(found) => (found == expected).then_some(Copied::Unchanged),
        })
    }

    /// Size and checksum of a file as it would be copied; `None` when it has vanished.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn digest_of(&self, source: &Source) -> Result<Option<Digest>> {
        self.digest_within(source, &mut vec![0; BUFFER_BYTES])
    }

    fn digest_within(&self, source: &Source, buffer: &mut [u8]) -> Result<Option<Digest>> {
        Ok(match source.read {
            SourceRead::Control => Some(Digest::of(&self.read_control()?)),
            SourceRead::Plain(limit) => match SourceFile::open(&self.roots, &source.name, limit)? {
                None => None,
                Some(mut file) => Some(self.digest(&mut file, buffer)?),
            },
        })
    }

    fn digest(&self, file: &mut SourceFile, buffer: &mut [u8]) -> Result<Digest> {
        let mut hasher = Hasher::default();
        loop {
            let filled = self.fill(file, buffer)?;
            hasher.observe(buffer.get(..filled).unwrap_or_default());
            if filled < buffer.len() {
                return Ok(hasher.digest());
            }
        }
    }
}
