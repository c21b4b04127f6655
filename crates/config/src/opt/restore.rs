//! Restoring a cluster.

use super::key::*;
use super::row::*;
use crate::command::set::*;

options! {
    "keep archive_mode as it was, or switch it off in the restored cluster"
    ARCHIVE_MODE: Key<StringId> = global("archive-mode", RE).default("preserve").allowed(&["preserve", "off"]);

    "database whose files are restored empty"
    DB_EXCLUDE: Key<List> = global("db-exclude", RE).optional();

    "database to restore; all others come empty"
    DB_INCLUDE: Key<List> = global("db-include", RE).optional();

    "restore symbolic links as links rather than as directories"
    LINK_ALL: Key<Boolean> = global("link-all", RE).default("n");

    "link=target pair: another target for one link"
    LINK_MAP: Key<Hash> = global("link-map", RE).optional();

    "name=path pair: another place for one tablespace"
    TABLESPACE_MAP: Key<Hash> = global("tablespace-map", RE).optional();

    "directory that receives every tablespace"
    TABLESPACE_MAP_ALL: Key<Text> = global("tablespace-map-all", RE).optional();

    "name=value pair written with the recovery settings"
    RECOVERY_OPTION: Key<Hash> = global("recovery-option", RE)
        .optional().when("type", &["default", "immediate", "lsn", "name", "time", "standby", "xid"]);
}
