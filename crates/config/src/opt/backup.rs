//! Making backups.

use super::key::*;
use super::row::*;
use super::why;
use crate::command::set::*;

options! {
    "key=value pair kept with the backup"
    ANNOTATION: Key<Hash> = global("annotation", AN.with(BK)).optional().except(&[on(AN).required()]);

    "a backup counts only when all WAL it needs is archived"
    ARCHIVE_CHECK: Key<Boolean> = global("archive-check", AP.with(BK).with(CK).with(SE))
        .default("y").background().except(&[on(BK).when("online", &["y"]).otherwise("n")]);

    "store that WAL within the backup as well"
    ARCHIVE_COPY: Key<Boolean> = global("archive-copy", BK)
        .default("n").except(&[on(BK).when("archive-check", &["y"]).otherwise("n")]);

    "refuse archive_mode=always"
    ARCHIVE_MODE_CHECK: Key<Boolean> = global("archive-mode-check", AP.with(BK).with(CK).with(SE))
        .default("y").when("archive-check", &["y"]).otherwise("n").background();

    "read data files from a standby: no, yes, or yes if there is one"
    BACKUP_STANDBY: Key<StringId> = global("backup-standby", BK.with(CK))
        .default("n").allowed(&["n", "prefer", "y"]).or_boolean();

    "verify the checksums of data pages; decided by the cluster unless given"
    CHECKSUM_PAGE: Key<Boolean> = global("checksum-page", BK).optional();

    "end with an error where page checksums are invalid"
    CHECKSUM_PAGE_ERROR: Key<Boolean> = global("checksum-page-error", BK.with(EX).with(RE))
        .default("n").except(&[on(EX.with(RE)).default("y")]);

    "look for impossible page headers too"
    PAGE_HEADER_CHECK: Key<Boolean> = global("page-header-check", BK).default("y");

    "path below PGDATA that is left out of the backup"
    EXCLUDE: Key<List> = global("exclude", BK).optional();

    "run expire after a successful backup"
    EXPIRE_AUTO: Key<Boolean> = global("expire-auto", BK).default("y");

    "bytes copied between two saves of the unfinished manifest"
    MANIFEST_SAVE_THRESHOLD: Key<Size> = global("manifest-save-threshold", BK).default("1GiB").range("1B", "1TiB");

    "go on with an unfinished backup if there is one"
    RESUME: Key<Boolean> = global("resume", BK).default("y");

    "ask for an immediate checkpoint instead of waiting for the next one"
    START_FAST: Key<Boolean> = global("start-fast", BK).default("n");

    "stop an exclusive backup of somebody else; such backups exist no more"
    STOP_AUTO: Key<Boolean> = global("stop-auto", BK).default("n").internal().idle(why::EXCLUSIVE);
}
