//! Options that most commands share.

use super::key::*;
use super::row::*;
use super::why;
use crate::command::set::*;

options! {
    "let root run this command"
    ALLOW_ROOT: Key<Boolean> = global("allow-root", ANY).default("n").background().except(&[on(RE).default("y")]);

    "longest wait for a WAL segment to arrive in the archive or in the spool"
    ARCHIVE_TIMEOUT: Key<Time> = global("archive-timeout", AG.with(AP).with(BK).with(CK))
        .default("1m").range("100ms", "1d");

    "allow options that are still being tried out"
    BETA: Key<Boolean> = global("beta", ANY).default("n").background().internal().idle(why::BETA);

    "bytes in one buffer of a transfer"
    BUFFER_SIZE: Key<Size> = global("buffer-size", NET)
        .default("1MiB")
        .allowed(&["16KiB", "32KiB", "64KiB", "128KiB", "256KiB", "512KiB", "1MiB", "2MiB", "4MiB", "8MiB", "16MiB"])
        .background();

    "program that worker processes are started from"
    CMD: Key<Text> = global("cmd", WORK).default_program().background().refused(why::PROGRAM);

    "ssh client for remote hosts"
    CMD_SSH: Key<Text> = global("cmd-ssh", REPOSITORY).default("ssh").background().refused(why::SSH);

    "old switch for compression; compress-type has replaced it"
    COMPRESS: Key<Boolean> = global("compress", AP.with(BK).with(SE)).default("y");

    "effort of the compressor; its meaning depends on compress-type"
    COMPRESS_LEVEL: Key<Integer> = global("compress-level", AP.with(BK).with(SE))
        .default_by(&[("bz2", "9"), ("gz", "6"), ("lz4", "1"), ("zst", "3")])
        .optional()
        .range_by(&[("bz2", "1", "9"), ("gz", "-1", "9"), ("lz4", "-5", "12"), ("zst", "-7", "22")])
        .when("compress-type", &["bz2", "gz", "lz4", "zst"]).otherwise("0").background();

    "compression between hosts"
    COMPRESS_LEVEL_NETWORK: Key<Integer> = global("compress-level-network", REPOSITORY)
        .default("1").range("-5", "12").background().idle(why::PROTOCOL);

    "compression of files in the repository"
    COMPRESS_TYPE: Key<StringId> = global("compress-type", AP.with(BK).with(SE))
        .default("gz").allowed(&["none", "bz2", "gz", "lz4", "zst"]).background();

    "compare by checksum rather than by size and time"
    DELTA: Key<Boolean> = global("delta", BK.with(RE)).default("n");

    "longest wait for a single read or write"
    IO_TIMEOUT: Key<Time> = global("io-timeout", NET).default("1m").range("100ms", "1h").background();

    "how often the transfer of one file is tried again"
    JOB_RETRY: Key<Integer> = global("job-retry", WORK)
        .default("2").range("0", "360").background().internal().except(&[on(AG.with(AP)).default("1")]);

    "pause between such tries"
    JOB_RETRY_INTERVAL: Key<Time> = global("job-retry-interval", WORK)
        .default("15s").range("0s", "15m").background().internal();

    "directory of lock and stop files"
    LOCK_PATH: Key<Path> = global("lock-path", LOCKS).default("/tmp/pgbackrest").background();

    "ignore the umask, so that modes in the repository are always the same"
    NEUTRAL_UMASK: Key<Boolean> = global("neutral-umask", REPOSITORY.with(ST).with(TO).without(IN).without(MF))
        .default("y").background();

    "scheduling priority (nice value) of the process"
    PRIORITY: Key<Integer> = global("priority", ANY).optional().range("-20", "19").background();

    "how many transfers run at once"
    PROCESS_MAX: Key<Integer> = global("process-max", WORK).default("1").range("1", "999").background();

    "longest silence between processes"
    PROTOCOL_TIMEOUT: Key<Time> = global("protocol-timeout", REPOSITORY.with(SV))
        .default("31m").range("100ms", "7d").background().idle(why::PROTOCOL);

    "directory in which background archiving keeps its state"
    SPOOL_PATH: Key<Path> = global("spool-path", AG.with(AP).with(RE).with(SE))
        .default("/var/spool/pgbackrest").background()
        .except(&[on(AG.with(AP)).when("archive-async", &["y"]), on(RE).internal()]);
}
