//! What killed processes of this program left: unfinished uploads and temporary files (faults.md OS29).

use crate::format::path;
use crate::progress::Context;
use crate::repository::WritableRepository;

use super::retention::DAY_S;

/// Removes left-overs of this stanza that are older than a day: no upload takes that long. They are in nobody's way, so
/// a failure is a warning.
pub(super) async fn remove(repository: &WritableRepository, context: &Context) {
    let before_s = context.clock.now_s().saturating_sub(DAY_S);
    for directory in [path::backup_stanza(repository.stanza()), path::archive_stanza(repository.stanza())] {
        match repository.storage().remove_stale_uploads(&directory, before_s).await {
            Ok(0) => {}
            Ok(count) => context.detail(format!(
                "{}: removed {count} unfinished uploads or temporary files of '{directory}'",
                repository.index()
            )),
            Err(error) => context.warn(format!("{}: left-overs could not be removed: {error}", repository.index())),
        }
    }
}
