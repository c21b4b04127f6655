//! Writes a stanza's entry into the status of its Archive.
//!
//! Each stanza is applied by a field manager of its own, so clusters that share an Archive leave each other's entries alone.
//! An entry that would not change is not written. Nothing waits for it: what could not be written now is written later.

use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource};
use serde_json::json;

use crate::operator::objects::{ObjectError, within};
use crate::resource::{Archive, StanzaStatus};

/// How often an entry is tried on a fresh object when another change came in between.
const CONFLICTS_MAX: u32 = 4;

/// The longest name of a field manager that the API server takes.
const MANAGER_BYTES_MAX: usize = 128;

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was so already.
    Nothing,
    /// It was written.
    Entry,
    /// There is no such Archive any more.
    Gone,
}

/// Applies the entry that `entry` makes of the present one.
///
/// # Errors
/// [`ObjectError`] when the API server refused or did not answer.
pub async fn write(
    client: Client,
    namespace: &str,
    name: &str,
    stanza: &str,
    entry: impl Fn(Option<&StanzaStatus>) -> StanzaStatus,
) -> Result<Written, ObjectError> {
    let api: Api<Archive> = Api::namespaced(client, namespace);
    let what = |verb: &str| format!("{verb} archives/status '{namespace}/{name}'");
    for _ in 0..CONFLICTS_MAX {
        let Some(archive) = within(what("get"), api.get_opt(name)).await? else { return Ok(Written::Gone) };
        let stanzas = archive.status.map(|status| status.stanzas).unwrap_or_default();
        let present = stanzas.iter().find(|it| it.name == stanza);
        let wanted = entry(present);
        if present == Some(&wanted) {
            return Ok(Written::Nothing);
        }
        let patch = Patch::Apply(json!({
            "apiVersion": Archive::api_version(&()),
            "kind": Archive::kind(&()),
            "status": { "stanzas": [wanted] },
        }));
        let parameters = PatchParams::apply(&manager(stanza)).force();
        match within(what("patch"), api.patch_status(name, &parameters, &patch)).await {
            Ok(_) => return Ok(Written::Entry),
            Err(error) if error.code() == Some(404) => return Ok(Written::Gone),
            Err(error) if error.code() == Some(409) => {}
            Err(error) => return Err(error),
        }
    }
    Err(ObjectError::Conflict { what: what("patch") })
}

/// The field manager of a stanza's entry.
fn manager(stanza: &str) -> String {
    format!("pgbackrest-stanza-{stanza}").chars().take(MANAGER_BYTES_MAX).collect()
}
