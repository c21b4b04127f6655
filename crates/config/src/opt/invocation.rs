//! Options of one invocation: they are given as arguments (or variables), never in a configuration file.

use super::key::*;
use super::row::*;
use super::why;
use crate::command::set::*;

options! {
    "remove archived WAL that sorts before this segment, and no other"
    ARCHIVE_EXPIRE_BEFORE: Key<Text> = command_line("archive-expire-before", EX).optional();

    "read this configuration file and nothing else"
    CONFIG: Key<Text> = command_line("config", ANY).default("/etc/pgbackrest/pgbackrest.conf").background().negatable();

    "read every *.conf file of this directory"
    CONFIG_INCLUDE_PATH: Key<Path> = command_line("config-include-path", ANY)
        .default("/etc/pgbackrest/conf.d").background();

    "directory in which pgbackrest.conf and conf.d are looked for"
    CONFIG_PATH: Key<Path> = command_line("config-path", ANY).default("/etc/pgbackrest").background();

    "report everything (full), or only how far a running backup is (progress)"
    DETAIL_LEVEL: Key<StringId> = command_line("detail-level", IN).default("full").allowed(&["full", "progress"]);

    "show what would be removed, and remove nothing"
    DRY_RUN: Key<Boolean> = command_line("dry-run", EX).default("n");

    "go on where the command would otherwise stop to protect something"
    FORCE: Key<Boolean> = command_line("force", BK.with(RE).with(SC).with(SD).with(TO))
        .default("n").except(&[on(BK).when("online", &["n"]), on(SC).internal()]);

    "show help"
    HELP: Key<Boolean> = command_line("help", HE).default("n");

    "expire the oldest full backup and what depends on it"
    OLDEST: Key<Boolean> = command_line("oldest", EX).default("n").except(&[on(EX).when_set("stanza")]);

    "work with the running server; without it, PostgreSQL has to be stopped"
    ONLINE: Key<Boolean> = command_line("online", BK.with(SC).with(SU)).default("y").negatable();

    "how the result is printed"
    OUTPUT: Key<StringId> = command_line("output", IN.with(MF).with(PL).with(RL).with(VE).with(VN))
        .default("text").allowed(&["text", "json"])
        .except(&[on(VE).default("none").allowed(&["none", "text", "json"]), on(VN).default("text").allowed(&["text", "num"])]);

    "show only files whose bytes are stored in this backup"
    REFERENCE: Key<Text> = command_line("reference", MF).optional();

    "label of the backup to work with"
    SET: Key<Text> = command_line("set", AN.with(EX).with(IN).with(MF).with(PL).with(RE).with(VE))
        .optional().except(&[on(AN).required(), on(IN).when_set("stanza"), on(MF.with(PL).with(RE)).default("latest")]);

    "print a report of the configuration"
    REPORT: Key<Boolean> = command_line("report", CK).default("n").internal();

    "name of the stanza: one PostgreSQL cluster and its directory in the repository"
    STANZA: Key<Text> = command_line("stanza", REPOSITORY.with(ST).with(TO))
        .background()
        .except(&[on(CK.with(IN).with(ST).with(TO)).optional(), on(RG.with(RL).with(RR)).optional().internal()]);

    "where recovery stops: a time, LSN, transaction id or restore point"
    TARGET: Key<Text> = command_line("target", PL.with(RE)).when("type", &["lsn", "name", "time", "xid"]);

    "what the server does once the target is reached"
    TARGET_ACTION: Key<StringId> = command_line("target-action", RE)
        .default("pause").allowed(&["pause", "promote", "shutdown"])
        .when("type", &["immediate", "lsn", "name", "time", "xid"]);

    "stop just before the target instead of just after it"
    TARGET_EXCLUSIVE: Key<Boolean> = command_line("target-exclusive", RE)
        .default("n").when("type", &["lsn", "time", "xid"]);

    "timeline that recovery follows"
    TARGET_TIMELINE: Key<Text> = command_line("target-timeline", PL.with(RE))
        .optional().when("type", &["default", "lsn", "name", "standby", "time", "xid"]);

    "kind of backup to make or show, or kind of recovery"
    TYPE: Key<StringId> = command_line("type", BK.with(IN).with(PL).with(RE))
        .except(&[
            on(BK).default("incr").allowed(&["full", "diff", "incr"]),
            on(IN).allowed(&["full", "diff", "incr"]).optional(),
            on(PL.with(RE))
                .default("default")
                .allowed(&["default", "preserve", "immediate", "standby", "none", "name", "time", "lsn", "xid"]),
        ]);

    "report every backup and archive id, sound ones too"
    VERBOSE: Key<Boolean> = command_line("verbose", VE).default("n");

    "show the version"
    VERSION: Key<Boolean> = command_line("version", HE).default("n");

    "name under which this run writes its lock files"
    EXEC_ID: Key<Text> = command_line("exec-id", ANY).optional().background().internal();

    "number of a worker process"
    PROCESS: Key<Integer> = command_line("process", NONE).optional().range("0", "1024").internal().refused(why::WORKER);

    "locks that a remote process takes"
    LOCK: Key<List> = command_line("lock", NONE).optional().internal().refused(why::WORKER);

    "which side a remote process serves"
    REMOTE_TYPE: Key<StringId> = command_line("remote-type", NONE)
        .optional().allowed(&["pg", "repo"]).internal().refused(why::WORKER);

    "regular expression that names have to match"
    FILTER: Key<Text> = command_line("filter", MF.with(RL)).optional();

    "a file that does not exist is no error"
    IGNORE_MISSING: Key<Boolean> = command_line("ignore-missing", RG).default("n");

    "deliver the bytes as they are stored, neither decrypted nor decompressed"
    RAW: Key<Boolean> = command_line("raw", RG).default("n");

    "go into directories"
    RECURSE: Key<Boolean> = command_line("recurse", RL.with(RR)).default("n");

    "order of the listing by name"
    SORT: Key<StringId> = command_line("sort", RL).default("asc").allowed(&["none", "asc", "desc"]);

    "number of the repository to work with, where several are configured"
    REPO: Key<Integer> = command_line("repo", REPOSITORY.without(AP).without(CK).without(SC).without(SE).without(SU))
        .optional().range("1", "256").background();

    "number of the cluster that a worker reads"
    PG: Key<Integer> = command_line("pg", MF).optional().range("1", "256").internal();
}
