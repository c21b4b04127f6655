//! The original pgBackRest, the oracle, in up to three releases.

use std::fmt;
use std::sync::OnceLock;

use crate::engine::Engine;
use crate::error::Result;
use crate::tools::pgbackrest;

/// A release of the original, named by what it is today.
///
/// The newest comes from a suite that moves: [`Stock::version`] says what was really found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// The oldest in use; no block incremental.
    V2_45,
    /// Block incremental.
    V2_55,
    /// The newest.
    V2_60,
}

impl Release {
    /// Every release, oldest first.
    pub const ALL: [Self; 3] = [Self::V2_45, Self::V2_55, Self::V2_60];

    /// Whether it can read and write block incremental backups.
    #[must_use]
    pub const fn has_block_incremental(self) -> bool {
        !matches!(self, Self::V2_45)
    }

    /// The Debian suite that has it.
    pub(crate) const fn suite(self) -> &'static str {
        match self {
            Self::V2_45 => "bookworm",
            Self::V2_55 => "trixie",
            Self::V2_60 => "sid",
        }
    }

    /// Packages of its own suite that it cannot do without elsewhere.
    pub(crate) const fn own_packages(self) -> &'static [&'static str] {
        match self {
            Self::V2_45 | Self::V2_55 => &[],
            Self::V2_60 => &["libxml2-16", "libc6"],
        }
    }

    /// The libraries in [`Release::own_packages`] by file name.
    pub(crate) const fn own_libraries(self) -> &'static [&'static str] {
        match self {
            Self::V2_45 | Self::V2_55 => &[],
            Self::V2_60 => &["libxml2.so.16"],
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2_45 => "2.45",
            Self::V2_55 => "2.55",
            Self::V2_60 => "2.60",
        })
    }
}

/// A release that runs here.
#[derive(Debug, Clone)]
pub struct Stock {
    /// Which of the three.
    pub release: Release,
    /// The version it prints, such as `2.55.1`.
    pub version: String,
    /// How to run it.
    pub engine: Engine,
}

/// One release, installed now if it is missing.
///
/// # Errors
/// When it is not to be had.
pub fn find(release: Release) -> Result<Stock> {
    let program = pgbackrest::install(release)?;
    let engine = Engine::at(format!("pgBackRest {}", program.version), &program.binary)?;
    Ok(Stock { release, version: program.version, engine })
}

/// Every release that is to be had, oldest first; what is missing is said on standard error, never passed over.
///
/// Looked for once a process.
///
/// # Panics
/// When none is to be had: a comparison with nothing would pass.
#[must_use]
pub fn all() -> &'static [Stock] {
    static FOUND: OnceLock<Vec<Stock>> = OnceLock::new();
    let found = FOUND.get_or_init(look);
    assert!(!found.is_empty(), "no release of pgBackRest is to be had: the reasons are above");
    found
}

/// The newest release that is to be had.
///
/// # Panics
/// When none is to be had.
#[must_use]
pub fn newest() -> &'static Stock {
    all().last().expect("all() never answers an empty list")
}

#[expect(clippy::print_stderr, reason = "a test that runs with fewer releases than meant must say so")]
fn look() -> Vec<Stock> {
    let mut found = Vec::new();
    for release in Release::ALL {
        match find(release) {
            Ok(stock) => found.push(stock),
            Err(error) => eprintln!("pgBackRest {release} is MISSING from this run: {error}"),
        }
    }
    found
}
