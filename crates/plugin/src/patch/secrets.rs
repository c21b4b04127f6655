//! The volume with the Secrets of the Archives, for the sidecar alone.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::ids;
use crate::mounted;
use crate::resource::ArchiveSpec;

/// The volume, with the keys that the Archives name and no others; `None` when they name none.
///
/// What is missing does not hold the pod up: it comes when it is made, and until then the sidecar says what it misses.
pub(super) fn volume(archives: &[&ArchiveSpec]) -> Option<Value> {
    let mut keys: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
    for named in archives.iter().flat_map(|archive| archive.secret_keys()) {
        // The API server would refuse the pod for any other.
        if let Some(path) = mounted::file(named) {
            keys.entry(&named.name).or_default().insert(&named.key, path);
        }
    }
    let source = |(name, keys): (&str, BTreeMap<&str, String>)| {
        let items: Vec<Value> = keys.into_iter().map(|(key, path)| json!({ "key": key, "path": path })).collect();
        json!({ "secret": { "name": name, "items": items, "optional": true } })
    };
    let sources: Vec<Value> = keys.into_iter().map(source).collect();
    (!sources.is_empty()).then(|| json!({ "name": ids::SECRETS_VOLUME, "projected": { "sources": sources } }))
}

/// Where the sidecar sees it.
pub(super) fn mount() -> Value {
    json!({ "name": ids::SECRETS_VOLUME, "mountPath": ids::SECRETS_FOLDER, "readOnly": true })
}
