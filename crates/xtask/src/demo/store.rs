//! Where the demo keeps its repository.

use std::path::Path;

use crate::Failure;

/// A repository's place, served until dropped.
#[derive(Debug)]
pub(super) struct Store {
    options: Vec<(String, String)>,
    description: String,
}

impl Store {
    /// A local directory below `folder`.
    pub(super) fn start(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join("repository");
        pgbr_testkit::user::create_dir(&path)?;
        Ok(Self {
            options: vec![("repo1-path".to_owned(), path.display().to_string())],
            description: "a local directory".to_owned(),
        })
    }

    /// Options for `[global]`.
    pub(super) fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// For a person.
    pub(super) fn describe(&self) -> &str {
        &self.description
    }
}
