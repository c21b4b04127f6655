//! The services of CNPG-I, one file each: a request becomes options, options a command, its result the response.

pub mod backup;
pub mod identity;
pub mod lifecycle;
pub mod metrics;
pub mod reconciler;
pub mod restore_job;
pub mod wal;
mod wal_ready;

use pgbr_repo::command::stanza::StanzaCluster;
use pgbr_repo::postgres::ControlFile;

/// The cluster of a control file, for its stanza.
fn stanza_cluster(control: &ControlFile) -> StanzaCluster {
    StanzaCluster {
        version: control.version(),
        system_id: control.system_id(),
        catalog_version: control.catalog_version(),
    }
}
