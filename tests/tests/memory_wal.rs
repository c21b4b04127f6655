//! The memory of `archive-push` and `archive-get`, of the real program with random bytes, which no compression makes fewer
//! (faults.md NP07; design: at most 40 MiB for a push, 32 for a get, 160 of address space).

mod wal_site;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pgbr_testkit::canary;
use pgbr_testkit::s3::S3Server;
use pgbr_testkit::user;
use wal_site::{Site, into_s3, ours, random_segment};

/// What counts in place of the unoptimised program's own pages of files, of which the page cache maps more or fewer: the optimised
/// program, of which the bounds are, has 6.5 MiB resident when it is idle over a directory.
const OPTIMISED_FILE_KIB: u64 = 7 * 1024;
const PUSH_KIB_MAX: u64 = 40 * 1024;
const GET_KIB_MAX: u64 = 32 * 1024;
const IDLE_KIB_MAX: u64 = 12 * 1024;
const ADDRESS_KIB_MAX: u64 = 160 * 1024;

/// What the kernel noted of a process: `VmHWM`, with the optimised program's pages of files for the unoptimised one's
/// (`RssFile`), and `VmPeak`.
#[derive(Debug, Clone, Copy, Default)]
struct Peak {
    resident_kib: u64,
    address_kib: u64,
}

impl Peak {
    /// What the kernel says now; nothing before the exec, when the process is a copy of this one.
    fn read(status: &str) -> Self {
        let status = fs::read_to_string(status).unwrap_or_default();
        if !status.starts_with("Name:\tpgbr") {
            return Self::default();
        }
        let field = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
        };
        let own_kib = field("VmHWM:").saturating_sub(field("RssFile:"));
        Self { resident_kib: own_kib + field("RssFile:").min(OPTIMISED_FILE_KIB), address_kib: field("VmPeak:") }
    }
}

/// Waits for the child's end and watches it; both figures only grow.
fn watch(mut child: Child) -> (i32, Peak) {
    let path = format!("/proc/{}/status", child.id());
    let mut peak = Peak::default();
    loop {
        let now = Peak::read(&path);
        peak.resident_kib = peak.resident_kib.max(now.resident_kib);
        peak.address_kib = peak.address_kib.max(now.address_kib);
        if let Some(ended) = child.try_wait().unwrap() {
            return (ended.code().unwrap_or(-1), peak);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The command with a limit of its address space (`ulimit -v`), as hosts without overcommit have it.
fn limited(command: &Command, limit_kib: u64) -> Command {
    let mut limited = user::command("sh");
    let script = format!("ulimit -v {limit_kib} && exec \"$@\"");
    limited.args(["-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
    limited.stdout(Stdio::null()).stderr(Stdio::inherit());
    limited
}

/// Pushes and fetches random bytes in a stanza with segments of this size, and checks the bounds and the bytes.
fn push_and_get(site: &Site, size_mib: u32, compress: &[&str]) {
    let name = site.first().to_owned();
    let path = site.wal(&name);
    random_segment(&path, &path, size_mib as usize * 1024 * 1024);
    let destination = site.folder.path().join("RECOVERYXLOG");
    for compress in compress {
        // A segment of its own for each: the same content under the same name would not be stored again.
        let option = format!("--compress-type={compress}");
        let push = ours().command(&site.conf, &[&option, "archive-push", &path.display().to_string()]);
        let (code, peak) = watch(limited(&push, ADDRESS_KIB_MAX).spawn().unwrap());
        assert_eq!(code, 0, "push of {size_mib} MiB {compress}");
        assert!(peak.resident_kib > 0, "the process was never seen");
        assert!(peak.resident_kib <= PUSH_KIB_MAX, "push of {size_mib} MiB {compress}: {peak:?}");
        assert!(peak.address_kib <= ADDRESS_KIB_MAX, "push of {size_mib} MiB {compress}: {peak:?}");
        let get = ours().command(&site.conf, &["archive-get", &name, &destination.display().to_string()]);
        let (code, got) = watch(limited(&get, ADDRESS_KIB_MAX).spawn().unwrap());
        assert_eq!(code, 0, "get of {size_mib} MiB {compress}");
        assert!(got.resident_kib <= GET_KIB_MAX, "get of {size_mib} MiB {compress}: {got:?}");
        assert!(got.address_kib <= ADDRESS_KIB_MAX, "get of {size_mib} MiB {compress}: {got:?}");
        eprintln!("{size_mib} MiB {compress}: push {peak:?}, get {got:?}");
        assert!(fs::read(&destination).unwrap() == fs::read(&path).unwrap(), "{size_mib} MiB {compress}");
        fs::remove_file(&destination).unwrap();
        // The next one must be stored anew.
        random_segment(&path, &path, size_mib as usize * 1024 * 1024);
        for object in site.objects() {
            fs::remove_file(object).unwrap();
        }
        let bucket = fs::read_dir(site.folder.path().join("store/bucket/r/archive/demo"));
        for entry in bucket.into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
}

#[test]
fn np07_push_and_get_of_random_bytes_stay_within_their_bounds() {
    let mut site = Site::new(16);
    for (option, value) in [("repo1-cipher-type", "aes-256-cbc"), ("repo1-cipher-pass", canary::PASSPHRASE)] {
        site.conf.global(option, value).unwrap();
    }
    let server = S3Server::start(&site.folder.path().join("store")).unwrap();
    server.create_bucket("bucket").unwrap();
    into_s3(&mut site, &server);
    site.conf.global("io-timeout", "60").unwrap();
    push_and_get(&site, 16, &["zst", "gz", "lz4", "none"]);
}

/// Whatever the size of segments, up to the largest, which is streamed in parts.
#[test]
fn np07_pu20_memory_does_not_depend_on_the_segment() {
    for size_mib in [1, 64, 1024] {
        // pg_control tells archive-get how large segments are.
        let site = Site::with_stanza(size_mib);
        // gz takes minutes without optimisation, over the same stream as zst.
        let compress: &[&str] = if size_mib == 1024 { &["lz4", "zst"] } else { &["none", "lz4", "zst", "gz"] };
        push_and_get(&site, size_mib, compress);
    }
}

/// The resident engine with two files in work, and before it has any.
#[test]
fn np07_the_resident_engine_stays_within_its_bounds() {
    let mut site = Site::new(16);
    for (option, value) in [
        ("repo1-cipher-type", "aes-256-cbc"),
        ("repo1-cipher-pass", canary::PASSPHRASE),
        ("process-max", "2"),
        ("compress-type", "zst"),
    ] {
        site.conf.global(option, value).unwrap();
    }
    let server = S3Server::start(&site.folder.path().join("store")).unwrap();
    server.create_bucket("bucket").unwrap();
    into_s3(&mut site, &server);
    site.conf.global("io-timeout", "60").unwrap();
    for name in &site.segments {
        let path = site.wal(name);
        random_segment(&path, &path, 16 * 1024 * 1024);
        let ready = site.data.join("pg_wal/archive_status").join(format!("{name}.ready"));
        user::write_file(&ready, "").unwrap();
    }
    let mut serve = ours().command(&site.conf, &["serve"]);
    let mut engine = serve.stdout(Stdio::null()).spawn().unwrap();
    let socket = site.folder.path().join("backrest/lock/demo-serve.sock");
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let status = format!("/proc/{}/status", engine.id());
    let idle = Peak::read(&status);
    for name in &site.segments {
        let pushed = site.push(ours(), name, &[]);
        assert_eq!(pushed.exit_code, Some(0), "{}", pushed.text());
    }
    let busy = Peak::read(&status);
    engine.kill().unwrap();
    engine.wait().unwrap();
    eprintln!("resident engine: idle {idle:?}, two in work {busy:?}");
    assert!(idle.resident_kib > 0 && idle.resident_kib <= IDLE_KIB_MAX, "{idle:?}");
    assert!(busy.resident_kib <= PUSH_KIB_MAX, "{busy:?}");
}
