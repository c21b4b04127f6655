//! Options that are known and not acted on yet, for every command: refused where ignoring them would change the result.

use pgbr_config::{OptionSet, opt};
use pgbr_repo::error::ErrorKind;

use crate::exit::Failure;

/// Refuses what cannot be done.
pub fn check(options: &OptionSet) -> Result<(), Failure> {
    if options.is_given(opt::REPO_TARGET_TIME) {
        return Err(Failure::new(
            ErrorKind::FeatureNotSupported,
            "option 'repo-target-time' is not implemented yet: the repository would be read as it is now",
        ));
    }
    Ok(())
}
