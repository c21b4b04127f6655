//! The folder in the scratch volume that is the plugin's own: segments that were fetched ahead.
//!
//! The volume is shared with the containers of the pod, and whatever the umask is, nobody but the pod's user enters the
//! folder. The command line's own folders have the modes that pgBackRest gives them, since both use the same ones.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use super::surroundings::Surroundings;

/// Only the owner enters.
const PRIVATE: u32 = 0o700;

/// Makes the folder, or takes the rights of others from the one that is there. Where that is not possible the log says so:
/// WAL can be archived without it.
pub async fn make_private(surroundings: &Arc<Surroundings>) {
    let folder = surroundings.pod.own_scratch();
    let own = folder.clone();
    let made =
        tokio::task::spawn_blocking(move || private(&own)).await.unwrap_or_else(|end| Err(io::Error::other(end)));
    if let Err(error) = made {
        let fields = [("path", folder.display().to_string().into()), ("error", error.to_string().into())];
        surroundings.log.warn("The folder for what is fetched ahead cannot be made private", &fields);
    }
}

/// A folder at `path` that only its owner enters. What has the name and is no folder, a link for example, is removed: it is
/// nobody's who may write there. Blocking.
fn private(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => return fs::set_permissions(path, Permissions::from_mode(PRIVATE)),
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Where the volume itself is missing there is nothing to make: that is told apart.
    DirBuilder::new().mode(PRIVATE).create(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn sec15_the_folder_is_private_whatever_was_there() {
        let scratch = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (scratch.path().join("own"), scratch.path().join("elsewhere"));
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode();
        private(&path).unwrap();
        assert_eq!(mode(&path), 0o040_700);
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        fs::write(path.join("kept"), "").unwrap();
        private(&path).unwrap();
        assert_eq!(mode(&path), 0o040_700);
        assert!(path.join("kept").is_file());
        // A link leads nowhere: it goes, and what it led to stays as it was.
        fs::remove_dir_all(&path).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        fs::set_permissions(&elsewhere, Permissions::from_mode(0o755)).unwrap();
        symlink(&elsewhere, &path).unwrap();
        private(&path).unwrap();
        assert_eq!((mode(&path), mode(&elsewhere)), (0o040_700, 0o040_755));
        assert!(private(&scratch.path().join("missing/own")).is_err());
    }
}
