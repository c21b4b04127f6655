//! What a process is told about itself from outside.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::ids;

/// Which of the two sidecars a process is; both serve the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceRole {
    /// In a pod of the cluster.
    Instance,
    /// In the job of a recovery.
    Restore,
}

/// The environment variables of the process.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// From name and value pairs; the first of equal names counts.
    #[must_use]
    pub fn new(variables: &[(String, String)]) -> Self {
        let mut found = BTreeMap::new();
        for (name, value) in variables {
            found.entry(name.clone()).or_insert_with(|| value.clone());
        }
        Self { variables: found }
    }

    /// The value of a variable; an empty one is none.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All variables, by name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The socket of a sidecar: in `PLUGIN_SOCKET_DIR`, by default in the folder that CloudNativePG looks into.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        PathBuf::from(self.get("PLUGIN_SOCKET_DIR").unwrap_or(ids::SOCKET_FOLDER)).join(ids::PLUGIN_NAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_gives_what_is_set() {
        let pairs = [("A", "1"), ("A", "2"), ("EMPTY", ""), ("PLUGIN_SOCKET_DIR", "/run/x")];
        let environment = Environment::new(&pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!((environment.get("A"), environment.get("EMPTY"), environment.get("B")), (Some("1"), None, None));
        assert_eq!(environment.all().count(), 3);
        assert_eq!(environment.socket(), PathBuf::from("/run/x/pgbackrest.cnpg.opera.com"));
        assert_eq!(Environment::default().socket(), PathBuf::from("/plugins/pgbackrest.cnpg.opera.com"));
    }
}
