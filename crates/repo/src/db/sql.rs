//! The statements, for each version of the server. Everything is qualified by schema, so that no object of the database
//! can stand in for a function of the server.

use crate::postgres::PgVersion;

/// What is asked when the session begins: version, data directory, archive mode and command, checkpoint time-out.
pub(super) const IDENTITY: &str = "\
select (select setting from pg_catalog.pg_settings where name = 'server_version_num')::int4,
       (select setting from pg_catalog.pg_settings where name = 'data_directory')::text,
       (select setting from pg_catalog.pg_settings where name = 'archive_mode')::text,
       (select setting from pg_catalog.pg_settings where name = 'archive_command')::text,
       (select setting from pg_catalog.pg_settings where name = 'checkpoint_timeout')::int4";

/// Object id, name, and the object id that manifests record as the last of the system's.
pub(super) const DATABASES: &str = "\
select oid::oid, datname::text,
       (select oid::oid from pg_catalog.pg_database where datname = 'template0') as datlastsysoid
  from pg_catalog.pg_database
 order by oid";

/// Object id and name.
pub(super) const TABLESPACES: &str = "select oid::oid, spcname::text from pg_catalog.pg_tablespace order by oid";

/// Whether the server is a standby.
pub(super) const IN_RECOVERY: &str = "select pg_catalog.pg_is_in_recovery()";

/// The clock, in milliseconds.
pub(super) const TIME_MS: &str = "select (extract(epoch from pg_catalog.clock_timestamp()) * 1000)::bigint";

/// A record in the current segment, so that there is something to archive. The name is one that users of the original
/// know from their server's log.
pub(super) const RESTORE_POINT: &str = "select pg_catalog.pg_create_restore_point('pgBackRest Archive Check')::text";

/// Settings of the session that do not depend on the version: nothing may hide the server's functions, and one statement
/// may take as long as our own time-out allows. A parallel worker cannot stop a backup on 9.6.
pub(super) const SESSION: &str = "\
set search_path = 'pg_catalog';
set client_encoding = 'UTF8';
set statement_timeout = 0;
set lock_timeout = 0;
set idle_in_transaction_session_timeout = 0;
set max_parallel_workers_per_gather = 0";

/// Settings of the session that came with later versions: an idle session is in use, by its backup.
pub(super) fn session_of(version: PgVersion) -> Option<&'static str> {
    if version >= PgVersion::V17 {
        Some("set idle_session_timeout = 0; set transaction_timeout = 0")
    } else if version >= PgVersion::V14 {
        Some("set idle_session_timeout = 0")
    } else {
        None
    }
}

/// The segment that is written to.
pub(super) fn insert_segment(version: PgVersion) -> String {
    let (wal, lsn) = (version.wal_name(), version.lsn_name());
    format!("select pg_catalog.pg_{wal}file_name(pg_catalog.pg_current_{wal}_insert_{lsn}())::text")
}

/// Switches to a new segment; returns the completed one.
pub(super) fn switch_wal(version: PgVersion) -> String {
    let wal = version.wal_name();
    format!("select pg_catalog.pg_{wal}file_name(pg_catalog.pg_switch_{wal}())::text")
}

/// Starts a backup: lsn, segment. On a standby the server refuses to name segments.
pub(super) fn start_backup(version: PgVersion, in_recovery: bool, fast: bool) -> String {
    let function = if version >= PgVersion::V15 { "backup_start" } else { "start_backup" };
    // Before 15 the third argument asks for the mode that other backups and a crash do not disturb.
    let exclusive = if version >= PgVersion::V15 { "" } else { ", false" };
    format!(
        "select lsn::text as lsn,\n       {segment} as wal_segment_name\n  \
         from pg_catalog.pg_{function}('pgBackRest backup started at ' || current_timestamp, {fast}{exclusive}) as lsn",
        segment = segment_name(version, in_recovery),
    )
}

/// Stops the backup: lsn, segment, backup label, tablespace map. Never waits for the archive, which is checked in the
/// repository instead.
pub(super) fn stop_backup(version: PgVersion, in_recovery: bool) -> String {
    let call = if version >= PgVersion::V15 {
        "backup_stop(false)"
    } else if version >= PgVersion::V10 {
        "stop_backup(false, false)"
    } else {
        "stop_backup(false)"
    };
    format!(
        "select lsn::text as lsn,\n       {segment} as wal_segment_name,\n       \
         labelfile::text as backuplabel_file,\n       spcmapfile::text as tablespacemap_file\n  \
         from pg_catalog.pg_{call}",
        segment = segment_name(version, in_recovery),
    )
}

/// How far a standby has replayed.
pub(super) fn replay_lsn(version: PgVersion) -> String {
    format!("select pg_catalog.pg_last_{}_replay_{}()::text", version.wal_name(), version.lsn_name())
}

/// The checkpoint in the control file: its lsn, where replay begins, timeline.
pub(super) fn control_checkpoint(version: PgVersion) -> String {
    let lsn = version.lsn_name();
    format!(
        "select checkpoint_{lsn}::text, redo_{lsn}::text, timeline_id::int4\n  from pg_catalog.pg_control_checkpoint()"
    )
}

fn segment_name(version: PgVersion, in_recovery: bool) -> String {
    if in_recovery { "null".to_owned() } else { format!("pg_catalog.pg_{}file_name(lsn)::text", version.wal_name()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_and_stop_by_version() {
        let start = |version, recovery| start_backup(version, recovery, true);
        assert_eq!(
            start(PgVersion::V9_6, false),
            "select lsn::text as lsn,\n       pg_catalog.pg_xlogfile_name(lsn)::text as wal_segment_name\n  \
             from pg_catalog.pg_start_backup('pgBackRest backup started at ' || current_timestamp, true, false) as lsn"
        );
        assert!(
            start(PgVersion::V14, false)
                .contains("pg_start_backup('pgBackRest backup started at ' || current_timestamp, true, false)")
        );
        assert!(
            start(PgVersion::V15, false)
                .contains("pg_backup_start('pgBackRest backup started at ' || current_timestamp, true)")
        );
        assert!(start(PgVersion::V15, true).contains("null as wal_segment_name"));
        for (version, call) in [
            (PgVersion::V9_6, "pg_stop_backup(false)"),
            (PgVersion::V10, "pg_stop_backup(false, false)"),
            (PgVersion::V14, "pg_stop_backup(false, false)"),
            (PgVersion::V15, "pg_backup_stop(false)"),
            (PgVersion::V18, "pg_backup_stop(false)"),
        ] {
            assert!(stop_backup(version, false).ends_with(&format!("from pg_catalog.{call}")), "{version:?}");
        }
    }

    #[test]
    fn names_changed_with_version_10() {
        assert_eq!(
            insert_segment(PgVersion::V9_6),
            "select pg_catalog.pg_xlogfile_name(pg_catalog.pg_current_xlog_insert_location())::text"
        );
        assert_eq!(
            insert_segment(PgVersion::V10),
            "select pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn())::text"
        );
        assert_eq!(
            switch_wal(PgVersion::V9_6),
            "select pg_catalog.pg_xlogfile_name(pg_catalog.pg_switch_xlog())::text"
        );
        assert_eq!(replay_lsn(PgVersion::V9_6), "select pg_catalog.pg_last_xlog_replay_location()::text");
        assert_eq!(replay_lsn(PgVersion::V10), "select pg_catalog.pg_last_wal_replay_lsn()::text");
        assert!(control_checkpoint(PgVersion::V9_6).contains("checkpoint_location"));
    }
}
