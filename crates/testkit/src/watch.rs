//! Tells whether anybody opens the files of a folder.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

use crate::error::{Context, Result};

/// Watches the files directly in one folder.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn on(folder: &Path) -> Result<Self> {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(std::io::Error::from);
        let watch = watch.context("watch", folder)?;
        let added = inotify::add_watch(&watch, folder, WatchFlags::OPEN | WatchFlags::ACCESS);
        added.map_err(std::io::Error::from).context("watch", folder)?;
        Ok(Self(watch))
    }

    /// The names that were opened or read since the last call; the folder itself is the empty name.
    ///
    /// # Errors
    /// When the events cannot be read.
    pub fn opened(&self) -> Result<Vec<String>> {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = Reader::new(&self.0, &mut buffer);
        let mut names = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => {
                    names.push(event.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default());
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(names),
                Err(errno) => return Err(std::io::Error::from(errno)).context("read events of", Path::new("inotify")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_who_reads_a_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "x").unwrap();
        let watch = Watch::on(dir.path()).unwrap();
        assert_eq!(watch.opened().unwrap(), [] as [String; 0]);
        std::fs::read(dir.path().join("file")).unwrap();
        assert!(watch.opened().unwrap().contains(&"file".to_owned()));
        assert_eq!(watch.opened().unwrap(), [] as [String; 0]);
    }
}
