//! `pgbr serve`: requests over its socket, what is done ahead of them, and what happens when it is not there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pgbr_testkit::postgres::{Cluster, Load, Options, Version};
use pgbr_testkit::s3::{Bucket, Fault, Rule, S3Server};
use pgbr_testkit::wait::until;
use pgbr_testkit::{stock, user};

use crate::wal_site::{MISSING, Site, assert_code, files_below, into_s3, ours};

const WAIT: Duration = Duration::from_secs(180);

/// A running engine; killed when dropped.
struct Engine {
    child: Child,
    log: PathBuf,
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Engine {
    fn start(site: &Site) -> Self {
        let log = site.folder.path().join("serve.log");
        let output = fs::File::create(&log).unwrap();
        let mut command = ours().command(&site.conf, &["--log-level-console=detail", "serve"]);
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let engine = Self { child: command.spawn().unwrap(), log };
        until(WAIT, "the engine listens", || UnixStream::connect(site.socket()).is_ok());
        engine
    }

    /// As systemd starts it when somebody has connected.
    fn activated(site: &Site, listener: &UnixListener) -> Self {
        let serve = ours().command(&site.conf, &["--log-level-console=detail", "serve"]);
        let words: Vec<_> = serve.get_args().map(|word| word.to_str().unwrap()).collect();
        // The number of the process is known to the process itself alone.
        let script = r#"exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@""#;
        let log = site.folder.path().join("serve.log");
        let output = fs::File::create(&log).unwrap();
        let mut command = user::command("sh");
        command.args(["-c", script]).arg(ours().binary()).args(words);
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone().unwrap())));
        command.stdout(output.try_clone().unwrap()).stderr(output);
        Self { child: command.spawn().unwrap(), log }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn terminate(&mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Site {
    fn socket(&self) -> PathBuf {
        self.folder.path().join("backrest/lock/demo-serve.sock")
    }

    fn make_ready(&self) {
        for name in &self.segments {
            user::write_file(&self.data.join(format!("pg_wal/archive_status/{name}.ready")), "").unwrap();
        }
    }
}

#[test]
fn np02_requests_are_answered_by_what_was_done_ahead_while_it_is_the_same_file() {
    let site = Site::with_stanza(1);
    site.make_ready();
    let mut engine = Engine::start(&site);
    let names = site.segments.clone();
    let pushed = site.push(ours(), &names[0], &[]);
    assert_code(&pushed, 0);
    assert!(pushed.text().contains(&format!("pushed WAL file '{}' to the archive", names[0])), "{}", pushed.text());
    assert!(engine.said().contains(&format!("pushed WAL file '{}'", names[0])), "{}", engine.said());
    // A file that is still being written has a name of its own.
    let is_whole = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "gz");
    until(WAIT, "the others were pushed ahead", || {
        let objects = site.objects();
        objects.len() == names.len() && objects.iter().all(is_whole)
    });
    let before = site.objects();
    assert_code(&site.push(ours(), &names[1], &[]), 0);
    // Changed between: another content must not be acknowledged.
    let path = site.wal(&names[2]);
    let whole = fs::read(&path).unwrap();
    let mut other = whole.clone();
    other[whole.len() - 1] ^= 1;
    user::write_file(&path, &other).unwrap();
    assert_code(&site.push(ours(), &names[2], &[]), 45);
    // After the acknowledgement of the true one, after a restart, and without the engine.
    user::write_file(&path, &whole).unwrap();
    assert_code(&site.push(ours(), &names[2], &[]), 0);
    user::write_file(&path, &other).unwrap();
    assert_code(&site.push(ours(), &names[2], &[]), 45);
    assert_eq!(engine.terminate(), Some(0), "{}", engine.said());
    assert!(fs::symlink_metadata(site.socket()).is_err(), "the socket is gone");
    let again = Engine::start(&site);
    assert_code(&site.push(ours(), &names[2], &[]), 45);
    drop(again);
    // Killed: its socket is still there and nobody answers.
    assert!(fs::symlink_metadata(site.socket()).is_ok());
    assert_code(&site.push(ours(), &names[2], &[]), 45);
    assert_eq!(site.objects(), before);
    // The next one takes its place.
    drop(Engine::start(&site));
}

#[test]
fn tc05_errors_and_refusals_come_through_the_socket_as_from_the_command() {
    let mut site = Site::with_stanza(1);
    let first = site.first().to_owned();
    let whole = fs::read(site.wal(&first)).unwrap();
    let engine = Engine::start(&site);
    user::write_file(&site.wal(&first), &whole[..whole.len() / 2]).unwrap();
    assert_code(&site.push(ours(), &first, &[]), 42);
    user::write_file(&site.wal(&first), &whole).unwrap();
    assert_code(&site.get(ours(), &first, &[]).0, MISSING);
    // Twice the same: the warning reaches the command.
    assert_code(&site.push(ours(), &first, &[]), 0);
    let again = site.push(ours(), &first, &[]);
    assert_code(&again, 0);
    assert!(again.text().contains("already exists in the repo1 archive with the same checksum"), "{}", again.text());
    // A second engine is refused.
    assert_code(&ours().run(&site.conf, &["serve"]).unwrap(), 50);
    // Other options than the engine's: the command does it itself.
    let second = site.folder.path().join("second");
    user::create_dir(&second).unwrap();
    let said = engine.said();
    site.conf.global("repo2-path", &second.display().to_string()).unwrap();
    ours().ok(&site.conf, &["stanza-create", "--no-online"]).unwrap();
    assert_code(&site.push(ours(), &site.segments[1].clone(), &[]), 0);
    let mut found = Vec::new();
    files_below(&second.join("archive/demo/15-1"), &mut found);
    assert_eq!(found.len(), 1, "the repository that the engine does not know has it");
    assert_eq!(engine.said(), said);
    // A stop file holds for both.
    ours().ok(&site.conf, &["stop"]).unwrap();
    assert_code(&site.push(ours(), &first, &[]), 62);
    ours().ok(&site.conf, &["start"]).unwrap();
}

/// Many ask for one file, and some of them give up.
#[test]
fn pu18_ge17_requests_for_one_file_join() {
    let mut site = Site::with_stanza(1);
    site.conf.global("process-max", "2").unwrap();
    let first = site.first().to_owned();
    let engine = Engine::start(&site);
    let path = site.wal(&first).display().to_string();
    let mut given_up = ours().command(&site.conf, &["archive-push", &path]);
    let mut given_up = given_up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    given_up.kill().unwrap();
    given_up.wait().unwrap();
    std::thread::scope(|scope| {
        let pushes: Vec<_> = (0..12).map(|_| scope.spawn(|| site.push(ours(), &first, &[]))).collect();
        for push in pushes {
            assert_code(&push.join().unwrap(), 0);
        }
    });
    let objects = site.objects();
    let of_first = objects.iter().filter(|path| path.to_string_lossy().contains(&first)).count();
    assert_eq!(of_first, 1, "{objects:?}");
    let whole = fs::read(site.wal(&first)).unwrap();
    std::thread::scope(|scope| {
        let gets = (0..12).map(|number| {
            let destination = site.folder.path().join(format!("RECOVERYXLOG.{number}"));
            let (site, first) = (&site, &first);
            scope.spawn(move || {
                let outcome =
                    ours().run(&site.conf, &["archive-get", first, &destination.display().to_string()]).unwrap();
                assert_code(&outcome, 0);
                fs::read(destination).unwrap()
            })
        });
        for get in gets.collect::<Vec<_>>() {
            assert!(get.join().unwrap() == whole);
        }
    });
    drop(engine);
}

#[test]
fn tc07_many_signals_end_the_engine_once_and_nothing_is_lost() {
    let site = Site::with_stanza(1);
    let mut engine = Engine::start(&site);
    let id = engine.child.id().to_string();
    assert_code(&site.push(ours(), site.first(), &[]), 0);
    for signal in ["-CHLD", "-PIPE", "-HUP", "-TERM", "-INT", "-TERM"] {
        // It may be gone by now.
        drop(Command::new("kill").args([signal, &id]).stderr(Stdio::null()).status());
    }
    let code = engine.child.wait().unwrap().code();
    assert!([Some(0), Some(63)].contains(&code), "{code:?}: {}", engine.said());
    for name in &site.segments {
        assert_code(&site.push(ours(), name, &[]), 0);
    }
    assert_eq!(site.objects().len(), site.segments.len());
}

/// Somebody else at the socket, and bytes that are no request.
#[test]
fn a_peer_that_is_not_the_engine_changes_nothing() {
    let site = Site::with_stanza(1);
    let first = site.first().to_owned();
    {
        let listener = UnixListener::bind(site.socket()).unwrap();
        fs::set_permissions(site.socket(), fs::Permissions::from_mode(0o777)).unwrap();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // Nothing that the engine would say.
            drop(std::io::Write::write_all(&mut stream, b"\0\0\0\x04what"));
        });
        let pushed = site.push(ours(), &first, &["--log-level-console=detail"]);
        assert_code(&pushed, 0);
        answering.join().unwrap();
        assert_eq!(site.objects().len(), 1, "the command pushed by itself");
    }
    fs::remove_file(site.socket()).unwrap();
    let engine = Engine::start(&site);
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 2, 9, b'{'], &[255; 64]] {
        let mut stream = UnixStream::connect(site.socket()).unwrap();
        drop(std::io::Write::write_all(&mut stream, bytes));
    }
    assert_code(&site.push(ours(), &site.segments[1], &[]), 0);
    drop(engine);
}

#[test]
fn segments_are_fetched_ahead_and_never_those_of_another_timeline() {
    let mut site = Site::with_stanza(1);
    for name in &site.segments {
        assert_code(&site.push(ours(), name, &[]), 0);
    }
    // The same place on the next timeline has another content.
    let name = site.segments[1].clone();
    let switched = format!("00000002{}", &name[8..]);
    let mut content = fs::read(site.wal(&name)).unwrap();
    let last = content.len() - 1;
    content[last] ^= 1;
    user::write_file(&site.wal(&switched), &content).unwrap();
    assert_code(&site.push(ours(), &switched, &[]), 0);
    site.conf.global("archive-get-queue-max", "2MiB").unwrap();
    let engine = Engine::start(&site);
    let waiting = site.folder.path().join("backrest/spool/archive/demo/serve");
    let delivered = |name: &str| site.get(ours(), name, &[]).1;
    assert!(delivered(&site.segments[0]) == Some(fs::read(site.wal(&site.segments[0])).unwrap()));
    until(WAIT, "the next two were fetched", || site.segments[1..].iter().all(|name| waiting.join(name).is_file()));
    assert!(delivered(&switched) == Some(content));
    // What lies there was damaged meanwhile: it is fetched again.
    assert!(delivered(&site.segments[0]).is_some());
    until(WAIT, "the next two were fetched", || site.segments[1..].iter().all(|name| waiting.join(name).is_file()));
    user::write_file(&waiting.join(&name), vec![0; 1024 * 1024]).unwrap();
    assert!(delivered(&name) == Some(fs::read(site.wal(&name)).unwrap()));
    assert!(delivered(&site.segments[2]) == Some(fs::read(site.wal(&site.segments[2])).unwrap()));
    // That one is missing is a fact of the moment.
    let later = "0000000100000000000000F0";
    assert_code(&site.get(ours(), later, &[]).0, MISSING);
    let mut bytes = fs::read(site.wal(&site.segments[0])).unwrap();
    bytes[8..16].copy_from_slice(&0x0F00_0000_u64.to_le_bytes());
    user::write_file(&site.wal(later), &bytes).unwrap();
    assert_code(&site.push(&stock::newest().engine, later, &[]), 0);
    assert!(delivered(later) == Some(bytes));
    drop(engine);
}

/// PostgreSQL under load archives through the engine, which is killed meanwhile: nothing is lost, and nobody but PostgreSQL
/// touches `archive_status`.
#[test]
fn np06_pu13_a_server_archives_through_the_engine_and_without_it() {
    let folder = user::scratch().unwrap();
    let mut conf = pgbr_testkit::conf::Conf::create(&folder.path().join("backrest"), "demo").unwrap();
    // The log must be free of errors, and the last segment the last one: an autovacuum that meets pgbench's next tables
    // is cancelled with an error, and writes WAL whenever it likes.
    let options = Options {
        archive_command: Some(ours().archive_command(&conf)),
        wal_segment_size_mib: 1,
        conf: vec![
            "autovacuum = on".to_owned(),
            "autovacuum_naptime = 1s".to_owned(),
            "autovacuum_vacuum_cost_delay = 50ms".to_owned(),
            "autovacuum_vacuum_cost_limit=1".to_owned(),
            "deadlock_timeout = 50ms".to_owned(),
        ],
        ..Options::default()
    };
    let cluster = Cluster::started(Version::V17, &folder.path().join("data"), options).unwrap();
    conf.cluster(&cluster).unwrap().global("compress-type", "zst").unwrap().global("process-max", "2").unwrap();
    ours().ok(&conf, &["stanza-create"]).unwrap();
    cluster.archive_current_segment(WAIT).unwrap();
    let log_path = cluster.socket_dir().join("log");
    let before = fs::read_to_string(&log_path).unwrap().len();
    let site = Site { folder, conf, data: cluster.data().to_owned(), segments: Vec::new() };
    for _ in 0..2 {
        let engine = Engine::start(&site);
        cluster.pgbench_init(1).unwrap();
        cluster.pgbench_run(2, Load::Transactions(100)).unwrap();
        until(WAIT, "the engine was used", || engine.said().contains("pushed WAL file"));
        // Killed with requests and files ahead in work.
        drop(engine);
    }
    let last = cluster.archive_current_segment(WAIT).unwrap();
    let archived: usize = cluster.value("SELECT archived_count FROM pg_stat_archiver").unwrap().parse().unwrap();
    assert!(archived >= 10, "only {archived} segments");
    let log = fs::read_to_string(&log_path).unwrap();
    let ours_in_log: Vec<&str> = log[before..]
        .lines()
        .filter(|line| ["ERROR", "FATAL", "PANIC", "archive command failed"].iter().any(|word| line.contains(word)))
        // The server's own: pgbench wants a table that it is vacuuming.
        .filter(|line| !line.contains("canceling autovacuum task"))
        .collect();
    assert!(ours_in_log.is_empty(), "{ours_in_log:#?}");
    // No gap up to the last one, and the original agrees.
    let mut objects = Vec::new();
    files_below(&site.folder.path().join("backrest/repo/archive/demo"), &mut objects);
    // What a killed process was writing has a name that nobody takes for a segment; expire removes it.
    let names = objects.iter().filter_map(|path| path.file_name()?.to_str());
    let mut stored: Vec<String> = names
        .filter(|name| !name.ends_with(".tmp"))
        .filter_map(|name| Some(name.get(..24)?.to_owned()))
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .collect();
    stored.sort();
    assert_eq!(stored.last(), Some(&last));
    let number = |name: &str| {
        u64::from_str_radix(&name[8..16], 16).unwrap() * 4096 + u64::from_str_radix(&name[16..], 16).unwrap()
    };
    for pair in stored.windows(2) {
        assert_eq!(number(&pair[0]) + 1, number(&pair[1]), "{objects:#?}");
    }
    // With a segment of its own through the same archive_command.
    assert_code(&stock::newest().engine.run(&site.conf, &["check"]).unwrap(), 0);
}

/// Without a request for a while, an engine that systemd started ends; a connection starts it again.
#[test]
fn an_idle_engine_on_a_socket_of_systemd_ends() {
    let mut site = Site::with_stanza(1);
    site.conf.global("serve-idle", "1s").unwrap();
    let listener = UnixListener::bind(site.socket()).unwrap();
    fs::set_permissions(site.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    for name in &site.segments[..2] {
        let mut engine = Engine::activated(&site, &listener);
        assert_code(&site.push(ours(), name, &[]), 0);
        assert!(engine.said().contains(&format!("pushed WAL file '{name}'")), "{}", engine.said());
        assert_eq!(engine.child.wait().unwrap().code(), Some(0), "{}", engine.said());
    }
    assert!(fs::symlink_metadata(site.socket()).is_ok(), "the socket is not the engine's to remove");
    // One with a socket of its own stays.
    drop(listener);
    let mut engine = Engine::start(&site);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(engine.child.try_wait().unwrap().is_none());
}

/// Nobody reads what the engine says.
#[test]
fn re07_a_full_pipe_does_not_keep_wal_from_the_archive() {
    for level in ["console", "stderr"] {
        let site = Site::with_stanza(1);
        let (reader, mut pipe) = std::io::pipe().unwrap();
        // All that a pipe holds.
        std::io::Write::write_all(&mut pipe, &[b' '; 64 * 1024]).unwrap();
        let mut command = ours().command(&site.conf, &[&format!("--log-level-{level}=detail"), "serve"]);
        command.stdin(Stdio::null()).stdout(pipe.try_clone().unwrap()).stderr(pipe);
        let mut engine = Engine { child: command.spawn().unwrap(), log: PathBuf::new() };
        until(WAIT, "the engine listens", || UnixStream::connect(site.socket()).is_ok());
        let begun = Instant::now();
        for name in &site.segments {
            assert_code(&site.push(ours(), name, &["--archive-timeout=10"]), 0);
            assert_code(&site.get(ours(), name, &["--archive-timeout=10"]).0, 0);
        }
        assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
        assert_eq!(engine.terminate(), Some(0));
        drop(reader);
    }
}

/// The old key is refused from one moment to the next.
#[test]
fn os22_rotated_keys_are_used_without_a_restart_and_lose_no_wal() {
    let store = user::scratch().unwrap();
    let mut server = S3Server::start(store.path()).unwrap();
    server.create_bucket("bucket").unwrap();
    let mut site = Site::new(1);
    into_s3(&mut site, &server);
    // Nothing is pushed before it is asked for.
    for entry in fs::read_dir(site.data.join("pg_wal/archive_status")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let engine = Engine::start(&site);
    assert_code(&site.push(ours(), site.first(), &[]), 0);
    assert!(engine.said().contains(&format!("pushed WAL file '{}'", site.first())), "{}", engine.said());
    server.rotate_keys("canary-other-key-id", "canary-other-secret-key");
    let second = site.segments[1].clone();
    let refused = site.push(ours(), &second, &[]);
    assert!(![Some(0), Some(MISSING)].contains(&refused.exit_code), "{}", refused.text());
    assert!(!refused.text().contains("ANOTHERSECRET"));
    let (outcome, delivered) = site.get(ours(), site.first(), &[]);
    assert!(outcome.exit_code > Some(MISSING) && delivered.is_none(), "{}", outcome.text());
    // The configuration has the new ones: what is asked is done at once, though the engine has the old ones.
    site.conf.global("repo1-s3-key", server.key()).unwrap();
    site.conf.global("repo1-s3-key-secret", server.secret()).unwrap();
    for name in &site.segments {
        assert_code(&site.push(ours(), name, &[]), 0);
        let (outcome, delivered) = site.get(ours(), name, &[]);
        assert_code(&outcome, 0);
        assert!(delivered == Some(fs::read(site.wal(name)).unwrap()));
    }
    drop(engine);
}

/// A day without the repository, at the pace of a test: nothing grows, and afterwards all of it arrives in order.
#[test]
fn pu21_a_repository_that_is_away_for_long_leaves_nothing_behind() {
    let store = user::scratch().unwrap();
    let server = S3Server::start(store.path()).unwrap();
    server.create_bucket("bucket").unwrap();
    let mut site = Site::new(1);
    into_s3(&mut site, &server);
    site.conf.global("io-timeout", "100ms").unwrap();
    let engine = Engine::start(&site);
    site.make_ready();
    let resident_kib = || {
        let status = fs::read_to_string(format!("/proc/{}/status", engine.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    server.inject(Rule::always(Fault::error(503, "ServiceUnavailable"), |_| true));
    let try_for = |times: usize| {
        for _ in 0..times {
            let outcome = site.push(ours(), site.first(), &[]);
            assert!(outcome.exit_code > Some(MISSING), "{}", outcome.text());
        }
        (resident_kib(), engine.said().len(), site.folder.path().join("backrest/spool"))
    };
    let (early_kib, early_bytes, spool) = try_for(10);
    let (late_kib, late_bytes, _) = try_for(40);
    assert!(late_kib < early_kib + 4096, "{early_kib} KiB, then {late_kib} KiB");
    assert!(late_bytes - early_bytes < 40 * 4096, "{} bytes of log", late_bytes - early_bytes);
    let mut files = Vec::new();
    files_below(&spool, &mut files);
    assert!(files.is_empty(), "{files:?}");
    server.heal();
    for name in &site.segments {
        assert_code(&site.push(ours(), name, &[]), 0);
    }
}

/// The socket is systemd's: opened before, by root, and there when the engine is gone.
#[test]
fn a_socket_that_was_handed_over_is_served_and_left() {
    let site = Site::with_stanza(1);
    let listener = UnixListener::bind(site.socket()).unwrap();
    fs::set_permissions(site.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    let mut engine = Engine::activated(&site, &listener);
    // The first request waits in the socket for the engine.
    assert_code(&site.push(ours(), site.first(), &[]), 0);
    assert!(engine.said().contains(&format!("pushed WAL file '{}'", site.first())), "{}", engine.said());
    assert_eq!(engine.terminate(), Some(0), "{}", engine.said());
    assert!(fs::symlink_metadata(site.socket()).is_ok(), "the socket is not the engine's to remove");
}

/// The engine knows the present. A request for another time is not answered by what it holds, ahead or not.
#[test]
fn a_request_for_the_past_is_not_answered_from_the_present() {
    let mut site = Site::new(1);
    let bucket = Bucket::start_versioned(site.folder.path()).unwrap();
    for (option, value) in bucket.options(1) {
        site.conf.global(&option, &value).unwrap();
    }
    ours().ok(&site.conf, &["stanza-create", "--no-online"]).unwrap();
    // The current second, which is over afterwards.
    let moment = || {
        let now = jiff::Timestamp::now();
        std::thread::sleep(Duration::from_millis(1005 - u64::try_from(now.subsec_millisecond()).unwrap()));
        now.strftime("--repo-target-time=%Y-%m-%d %H:%M:%S+00").to_string()
    };
    let [one, two, three] = [0, 1, 2].map(|place| site.segments[place].clone());
    assert_code(&site.push(ours(), &one, &[]), 0);
    assert_code(&site.push(ours(), &two, &[]), 0);
    let before = moment();
    assert_code(&site.push(ours(), &three, &[]), 0);
    let mut engine = Engine::start(&site);
    assert_code(&site.get(ours(), &one, &[]).0, 0);
    let waiting = site.folder.path().join("backrest/spool/archive/demo");
    let waits = |name: &str| {
        let mut files = Vec::new();
        files_below(&waiting, &mut files);
        files.iter().any(|file| file.ends_with(name))
    };
    until(WAIT, "the next ones were fetched ahead", || waits(&two) && waits(&three));
    let (outcome, delivered) = site.get(ours(), &three, &["--repo=1", &before]);
    assert_code(&outcome, MISSING);
    assert!(delivered.is_none());
    let (outcome, delivered) = site.get(ours(), &two, &["--repo=1", &before]);
    assert_code(&outcome, 0);
    assert!(delivered == Some(fs::read(site.wal(&two)).unwrap()));
    // Gone by now, and there at that time.
    ours().ok(&site.conf, &["stop"]).unwrap();
    ours().ok(&site.conf, &["--force", "stanza-delete"]).unwrap();
    ours().ok(&site.conf, &["start"]).unwrap();
    ours().ok(&site.conf, &["stanza-create", "--no-online"]).unwrap();
    let (outcome, delivered) = site.get(ours(), &one, &["--repo=1", &before]);
    assert_code(&outcome, 0);
    assert!(delivered == Some(fs::read(site.wal(&one)).unwrap()));
    assert_code(&site.get(ours(), &one, &[]).0, MISSING);
    assert_eq!(engine.terminate(), Some(0), "{}", engine.said());
}
