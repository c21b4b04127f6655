//! Options that are known and not acted on yet, for every command: refused where ignoring them would change the
//! result, said where the result is the same.

use pgbr_config::{OptionSet, opt};
use pgbr_repo::error::ErrorKind;

use crate::exit::Failure;

/// Refuses what cannot be done, and says what is done another way.
pub fn check(options: &OptionSet) -> Result<Vec<&'static str>, Failure> {
    if options.is_given(opt::REPO_TARGET_TIME) {
        return Err(Failure::new(
            ErrorKind::FeatureNotSupported,
            "option 'repo-target-time' is not implemented yet: the repository would be read as it is now",
        ));
    }
    let mut said = Vec::new();
    if options.boolean(opt::ARCHIVE_ASYNC) {
        said.push("option 'archive-async' is not implemented yet: WAL is archived and fetched one file at a time");
    }
    Ok(said)
}
