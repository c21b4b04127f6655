//! What is measured: how segments are stored, and how many are pushed at once.

use crate::Failure;

/// How segments are stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    /// What `--case` calls it.
    pub(super) name: &'static str,
    pub(super) compress_type: &'static str,
    pub(super) compress_level: &'static str,
    /// Encrypted with AES-256-CBC.
    pub(super) cipher: bool,
}

/// All cases.
pub(super) const CASES: [Case; 3] = [
    Case { name: "zst", compress_type: "zst", compress_level: "3", cipher: true },
    Case { name: "gz", compress_type: "gz", compress_level: "6", cipher: true },
    Case { name: "lz4", compress_type: "lz4", compress_level: "1", cipher: false },
];

/// The passphrase of encrypted repositories.
pub(super) const PASSPHRASE: &str = "a passphrase for the benchmark";

impl Case {
    pub(super) fn parse(name: &str) -> Result<Self, Failure> {
        let found = CASES.into_iter().find(|case| case.name == name);
        found.ok_or_else(|| Failure::new(format!("no case is called {name:?}, expected zst, gz or lz4")))
    }

    /// For a person: `zst-3 + aes`.
    pub(super) fn title(&self) -> String {
        let cipher = if self.cipher { " + aes" } else { ", no cipher" };
        format!("{}-{}{cipher}", self.compress_type, self.compress_level)
    }

    /// Options for `[global]`.
    pub(super) fn options(&self) -> Vec<(&'static str, &'static str)> {
        let mut options = vec![("compress-type", self.compress_type), ("compress-level", self.compress_level)];
        if self.cipher {
            options.extend([("repo1-cipher-type", "aes-256-cbc"), ("repo1-cipher-pass", PASSPHRASE)]);
        }
        options
    }
}

/// Who archives, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    OursOneByOne,
    StockOneByOne,
    OursTwo,
    StockTwo,
    /// `serve` with `process-max=2`, asked one by one.
    OursResident,
    /// `archive-async` with `process-max=2`.
    OursAsync,
    StockAsync,
}

impl Mode {
    /// In the order of a round: ours and the original take turns.
    pub(super) const ALL: [Self; 7] = [
        Self::OursOneByOne,
        Self::StockOneByOne,
        Self::OursTwo,
        Self::StockTwo,
        Self::OursResident,
        Self::StockAsync,
        Self::OursAsync,
    ];

    pub(super) const fn is_ours(self) -> bool {
        matches!(self, Self::OursOneByOne | Self::OursTwo | Self::OursResident | Self::OursAsync)
    }

    /// With `archive-async`.
    pub(super) const fn is_async(self) -> bool {
        matches!(self, Self::OursAsync | Self::StockAsync)
    }

    /// What is not asked for yet is archived or fetched meanwhile.
    pub(super) const fn is_ahead(self) -> bool {
        self.is_async() || matches!(self, Self::OursResident)
    }

    /// How many commands run at once.
    pub(super) const fn at_once(self) -> usize {
        match self {
            Self::OursTwo | Self::StockTwo => 2,
            _ => 1,
        }
    }

    /// For a person.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::OursOneByOne => "pgbr, one by one",
            Self::StockOneByOne => "stock, one by one",
            Self::OursTwo => "pgbr, two at a time",
            Self::StockTwo => "stock, two at a time",
            Self::OursResident => "pgbr, resident, process-max 2",
            Self::OursAsync => "pgbr, archive-async, process-max 2",
            Self::StockAsync => "stock, archive-async, process-max 2",
        }
    }
}
