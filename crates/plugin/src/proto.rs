//! Messages, servers and clients of CNPG-I 0.6; a module for each package.
//!
//! A method that a service does not implement answers `Unimplemented`.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    let_underscore_drop,
    clippy::all,
    clippy::pedantic,
    reason = "generated code; its fields are explained in proto/"
)]

/// Who the plugin is, and additions to PostgreSQL's configuration.
pub mod identity {
    tonic::include_proto!("cnpgi.identity.v1");
}

/// Archiving, fetching, and the bootstrap from a backup.
pub mod wal {
    tonic::include_proto!("cnpgi.wal.v1");
}

/// Backups.
pub mod backup {
    tonic::include_proto!("cnpgi.backup.v1");
}

/// Checks, defaults and the status of a Cluster.
pub mod operator {
    tonic::include_proto!("cnpgi.operator.v1");
}

/// Patches of the objects that the operator writes.
pub mod operator_lifecycle {
    tonic::include_proto!("cnpgi.operator_lifecycle.v1");
}

/// Hooks around each reconciliation.
pub mod reconciler {
    tonic::include_proto!("cnpgi.reconciler.v1");
}

/// Figures.
pub mod metrics {
    tonic::include_proto!("cnpgi.metrics.v1");
}
