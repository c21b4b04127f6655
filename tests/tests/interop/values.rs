//! What a repository can differ in, and which combinations exist.

use pgbr_testkit::canary;
use pgbr_testkit::postgres::Version;
use pgbr_testkit::stock::Release;

/// One combination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) compress: &'static str,
    pub(crate) encrypted: bool,
    pub(crate) layout: Layout,
    pub(crate) s3: bool,
    pub(crate) version: Version,
    pub(crate) release: Release,
    /// Whether the first backup is ours.
    pub(crate) ours_first: bool,
}

/// How files lie in the repository. Blocks need bundles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    FileEach,
    Bundles,
    BundlesAndBlocks,
}

const COMPRESSIONS: [&str; 5] = ["none", "gz", "lz4", "zst", "bz2"];
const LAYOUTS: [Layout; 3] = [Layout::FileEach, Layout::Bundles, Layout::BundlesAndBlocks];

/// The number of values of each dimension, in the order of [`Row::of`].
pub(crate) const SIZES: [usize; 7] =
    [COMPRESSIONS.len(), 2, LAYOUTS.len(), 2, Version::ALL.len(), Release::ALL.len(), 2];

impl Row {
    /// The row of these values.
    pub(crate) fn of(values: [usize; 7]) -> Self {
        let [compress, encrypted, layout, s3, version, release, ours_first] = values;
        Self {
            compress: COMPRESSIONS[compress],
            encrypted: encrypted == 1,
            layout: LAYOUTS[layout],
            s3: s3 == 1,
            version: Version::ALL[version],
            release: Release::ALL[release],
            ours_first: ours_first == 1,
        }
    }

    /// Whether the release of the original can do it.
    pub(crate) fn is_possible(&self) -> bool {
        let newest = match self.release {
            Release::V2_45 => Version::V15,
            Release::V2_55 => Version::V17,
            Release::V2_60 => Version::V18,
        };
        self.version <= newest && (self.layout != Layout::BundlesAndBlocks || self.release.has_block_incremental())
    }

    pub(crate) fn options(&self) -> Vec<(&'static str, &'static str)> {
        let mut options = vec![("compress-type", self.compress)];
        if self.encrypted {
            options.extend([("repo1-cipher-type", "aes-256-cbc"), ("repo1-cipher-pass", canary::PASSPHRASE)]);
        }
        if self.layout != Layout::FileEach {
            options.push(("repo1-bundle", "y"));
        }
        if self.layout == Layout::BundlesAndBlocks {
            options.push(("repo1-block", "y"));
        }
        options
    }
}
