//! WAL through the real program: every exit code, what survives a kill, and the original on the other side (faults.md,
//! sections PU, GE and NP).

mod wal_site;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use pgbr_testkit::canary;
use pgbr_testkit::conf::Conf;
use pgbr_testkit::postgres::{Cluster, Load, Options, Shutdown, Version};
use pgbr_testkit::process;
use pgbr_testkit::s3::{Fault, Rule, S3Operation, S3Server};
use pgbr_testkit::{stock, user};
use wal_site::{MISSING, Site, assert_code, files_below, into_s3, ours};

const WAIT: Duration = Duration::from_secs(120);

#[test]
fn wal_goes_both_ways_between_the_original_and_us() {
    let mut site = Site::new(1);
    let content = fs::read(site.wal(site.first())).unwrap();
    let first = site.first().to_owned();
    let mut combinations = 0;
    for stock in stock::all() {
        for cipher in [false, true] {
            let repo = site.folder.path().join(format!("repo-{}-{cipher}", stock.release));
            user::create_dir(&repo).unwrap();
            site.conf.global("repo1-path", &repo.display().to_string()).unwrap();
            site.conf.without("repo1-cipher-type").unwrap().without("repo1-cipher-pass").unwrap();
            if cipher {
                site.conf.global("repo1-cipher-type", "aes-256-cbc").unwrap();
                site.conf.global("repo1-cipher-pass", canary::PASSPHRASE).unwrap();
            }
            let creator = if cipher { &stock.engine } else { ours() };
            creator.ok(&site.conf, &["stanza-create", "--no-online"]).unwrap();
            for compress in ["none", "gz", "lz4", "zst", "bz2"] {
                let option = format!("--compress-type={compress}");
                for (writer, reader) in [(ours(), &stock.engine), (&stock.engine, ours())] {
                    assert_code(&site.push(writer, &first, &[&option]), 0);
                    for reader in [reader, writer] {
                        let (outcome, delivered) = site.get(reader, &first, &[]);
                        assert_code(&outcome, 0);
                        assert!(delivered.as_ref() == Some(&content), "{} {compress} {cipher}", stock.version);
                    }
                    let archive = repo.join("archive/demo/15-1");
                    let mut objects = Vec::new();
                    files_below(&archive, &mut objects);
                    assert_eq!(objects.len(), 1, "{objects:?}");
                    fs::remove_dir_all(&archive).unwrap();
                    combinations += 1;
                }
            }
        }
    }
    assert_eq!(combinations, stock::all().len() * 2 * 5 * 2);
}

#[test]
fn pu03_pu04_np02_what_the_original_stored_is_recognised() {
    let site = Site::with_stanza(1);
    let stock = &stock::newest().engine;
    let first = site.first().to_owned();
    assert_code(&site.push(stock, &first, &["--compress-type=gz"]), 0);
    let again = site.push(ours(), &first, &["--compress-type=zst"]);
    assert_code(&again, 0);
    assert!(again.text().contains("already exists in the repo1 archive with the same checksum"), "{}", again.text());
    let mut content = fs::read(site.wal(&first)).unwrap();
    *content.last_mut().unwrap() ^= 1;
    user::write_file(&site.wal(&first), &content).unwrap();
    assert_code(&site.push(ours(), &first, &[]), 45);
    assert_code(&site.push(ours(), &first, &[]), 45);
    assert_eq!(site.objects().len(), 1);

    user::write_file(&site.wal("00000002.history"), "1\t0/3000000\tby the original\n").unwrap();
    assert_code(&site.push(stock, "00000002.history", &[]), 0);
    assert_code(&site.push(ours(), "00000002.history", &[]), 0);
    user::write_file(&site.wal("00000002.history"), "1\t0/4000000\tanother promotion\n").unwrap();
    assert_code(&site.push(ours(), "00000002.history", &[]), 45);
}

#[test]
fn pu06_pu17_pu19_np03_what_is_refused_has_its_exit_code() {
    let site = Site::with_stanza(1);
    let whole = fs::read(site.wal(site.first())).unwrap();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut content = whole.clone();
        change(&mut content);
        content
    };
    let cases: [(&str, Vec<u8>, i32); 5] = [
        ("empty", Vec::new(), 29),
        ("short", changed(&|content| content.truncate(content.len() / 2)), 42),
        ("zero", vec![0; whole.len()], 29),
        ("magic", changed(&|content| content[0] ^= 0xff), 29),
        ("another cluster", changed(&|content| content[24] ^= 1), 44),
    ];
    let name = "0000000100000000000000F0";
    for (what, content, code) in cases {
        user::write_file(&site.wal(name), &content).unwrap();
        let outcome = site.push(ours(), name, &[]);
        assert_eq!(outcome.exit_code, Some(code), "{what}: {}", outcome.text());
        assert!(outcome.text().contains(name), "{what}: {}", outcome.text());
    }
    fs::remove_file(site.wal(name)).unwrap();
    std::os::unix::fs::symlink(site.wal(site.first()), site.wal(name)).unwrap();
    assert_code(&site.push(ours(), name, &[]), 96);
    for name in ["00000001000000000000000g", "archive_status", "0000000100000000000000011"] {
        assert_code(&site.push(ours(), name, &[]), 96);
    }
    assert_code(&site.push(ours(), "0000000100000000000000EE", &[]), 55);
    assert!(site.objects().is_empty());
}

#[test]
fn pu08_a_killed_push_leaves_nothing_or_the_whole_segment() {
    let site = Site::with_stanza(16);
    let name = site.first().to_owned();
    let content = fs::read(site.wal(&name)).unwrap();
    let path = site.wal(&name).display().to_string();
    let whole_run = Instant::now();
    assert_code(&site.push(ours(), &name, &["--compress-type=none"]), 0);
    let limit = whole_run.elapsed();
    let mut killed = 0;
    for round in 0..30_u32 {
        for object in site.objects() {
            fs::remove_file(object).unwrap();
        }
        let mut command = ours().command(&site.conf, &["--compress-type=none", "archive-push", &path]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(limit * round / 30);
        child.kill().unwrap();
        let acknowledged = child.wait().unwrap().success();
        killed += u32::from(!acknowledged);
        let (outcome, delivered) = site.get(ours(), &name, &[]);
        match outcome.exit_code {
            Some(0) => assert!(delivered.as_ref() == Some(&content), "round {round}"),
            Some(MISSING) => assert!(!acknowledged, "round {round}: acknowledged and not there"),
            _ => panic!("round {round}: {}", outcome.text()),
        }
        assert_code(&site.push(ours(), &name, &["--compress-type=none"]), 0);
        let (outcome, delivered) = site.get(&stock::newest().engine, &name, &[]);
        assert_code(&outcome, 0);
        assert!(delivered.as_ref() == Some(&content), "round {round}");
    }
    assert!(killed > 10, "only {killed} of 30 were killed in time");
}

#[test]
fn pu09_a_marker_in_the_spool_acknowledges_nothing() {
    let site = Site::with_stanza(1);
    let spool = site.folder.path().join("backrest/spool/archive/demo/out");
    user::create_dir(&spool).unwrap();
    for name in [site.first().to_owned() + ".ok", "global.ok".to_owned(), "global.error".to_owned()] {
        user::write_file(&spool.join(name), "").unwrap();
    }
    assert_code(&site.push(ours(), site.first(), &[]), 0);
    assert_eq!(site.objects().len(), 1, "the segment is in the archive");
    // And none answers for a segment that does not exist.
    user::write_file(&spool.join("0000000100000000000000EE.ok"), "").unwrap();
    assert_code(&site.push(ours(), "0000000100000000000000EE", &[]), 55);
}

/// A file or a marker that an earlier recovery left in the spool is neither an answer nor a delivery.
#[test]
fn ge06_ge07_the_spool_is_no_source() {
    let site = Site::with_stanza(1);
    let spool = site.folder.path().join("backrest/spool/archive/demo/in");
    user::create_dir(&spool).unwrap();
    let (first, second) = (site.segments[0].clone(), site.segments[1].clone());
    assert_code(&site.push(ours(), &first, &[]), 0);
    user::write_file(&spool.join(format!("{first}.ok")), "").unwrap();
    user::write_file(&spool.join(&first), fs::read(site.wal(&second)).unwrap()).unwrap();
    user::write_file(&spool.join(&second), fs::read(site.wal(&first)).unwrap()).unwrap();
    let (outcome, delivered) = site.get(ours(), &first, &[]);
    assert_code(&outcome, 0);
    assert!(delivered == Some(fs::read(site.wal(&first)).unwrap()));
    assert_code(&site.get(ours(), &second, &[]).0, MISSING);
}

#[test]
fn pu11_nothing_is_dropped_unless_it_is_asked_for() {
    let mut site = Site::with_stanza(1);
    let name = site.first().to_owned();
    let status = site.data.join("pg_wal/archive_status");
    for number in 0..5 {
        user::write_file(&status.join(format!("{name}.{number}.ready")), "").unwrap();
        user::write_file(&site.wal(&format!("{name}.{number}")), vec![0; 1024 * 1024]).unwrap();
    }
    site.conf.global("repo1-path", "/nonexistent/repository").unwrap();
    assert_code(&site.push(ours(), &name, &[]), 103);
    let dropped = site.push(ours(), &name, &["--archive-push-queue-max=2MiB"]);
    assert_code(&dropped, 0);
    let warning = format!("dropped WAL file '{name}' because archive queue exceeded 2MB");
    assert!(dropped.text().contains(&warning), "{}", dropped.text());
    assert_code(&site.push(ours(), &name, &["--archive-push-queue-max=1GiB"]), 103);
}

#[test]
fn ge04_ge05_ge16_each_cause_has_its_exit_code() {
    let mut site = Site::with_stanza(1);
    let names = site.segments.clone();
    assert_code(&site.get(ours(), &names[0], &[]).0, MISSING);
    for name in [&names[0], &names[2]] {
        assert_code(&site.push(ours(), name, &["--compress-type=zst"]), 0);
    }
    // A hole is named; whether it ends recovery is the user's decision.
    let (gap, delivered) = site.get(ours(), &names[1], &[]);
    assert_code(&gap, MISSING);
    assert_eq!(delivered, None);
    assert!(gap.text().contains("WARN: gap in the archive") && gap.text().contains(&names[2]), "{}", gap.text());
    let stop = "--recovery-stop-on-error";
    let (gap, _) = site.get(ours(), &names[1], &[stop]);
    assert_code(&gap, 200);
    // The end of WAL is none.
    assert_code(&site.get(ours(), "0000000100000000000000F0", &[stop]).0, MISSING);
    assert_code(&site.get(ours(), "00000009.history", &[stop]).0, MISSING);
    assert_code(&site.get(ours(), &names[0], &[stop]).0, 0);

    // Two contents.
    let object = site.objects().remove(0);
    let twin = object.with_file_name(format!("{}-{}.zst", names[0], "0".repeat(40)));
    fs::copy(&object, &twin).unwrap();
    assert_code(&site.get(ours(), &names[0], &[]).0, 45);
    assert_code(&site.get(ours(), &names[0], &[stop]).0, 200);
    fs::remove_file(&twin).unwrap();
    // Damage.
    let whole = fs::read(&object).unwrap();
    fs::write(&object, &whole[..whole.len() / 2]).unwrap();
    let (damaged, delivered) = site.get(ours(), &names[0], &[]);
    assert_code(&damaged, 42);
    assert_eq!(delivered, None);
    assert_code(&site.get(ours(), &names[0], &[stop]).0, 200);
    // No repository.
    site.conf.global("repo1-path", "/nonexistent/repository").unwrap();
    assert_code(&site.get(ours(), &names[0], &[]).0, 103);
    assert_code(&site.get(ours(), &names[0], &[stop]).0, 200);
}

#[test]
fn pu14_two_repositories_with_one_down() {
    let mut site = Site::with_stanza(1);
    let name = site.first().to_owned();
    site.conf.global("repo2-path", "/nonexistent/repository").unwrap();
    let outcome = site.push(ours(), &name, &[]);
    assert!(![Some(0), Some(MISSING)].contains(&outcome.exit_code), "{}", outcome.text());
    assert!(outcome.text().contains("repo2: ["), "{}", outcome.text());
    assert_eq!(site.objects().len(), 1, "the healthy one has it");
    let second = site.folder.path().join("second");
    user::create_dir(&second).unwrap();
    site.conf.global("repo2-path", &second.display().to_string()).unwrap();
    ours().ok(&site.conf, &["stanza-create", "--no-online"]).unwrap();
    assert_code(&site.push(ours(), &name, &[]), 0);
    assert_code(&site.get(&stock::newest().engine, &name, &["--repo=2"]).0, 0);
}

#[test]
fn np01_ge03_whatever_the_store_answers_it_is_never_the_end_of_wal() {
    let store = user::scratch().unwrap();
    let server = S3Server::start(store.path()).unwrap();
    server.create_bucket("bucket").unwrap();
    let mut site = Site::new(1);
    into_s3(&mut site, &server);
    let name = site.first().to_owned();
    assert_code(&site.push(ours(), &name, &[]), 0);
    let faults = || {
        vec![
            Fault::error(503, "SlowDown"),
            Fault::error(500, "InternalError"),
            Fault::error(403, "AccessDenied"),
            Fault::error(400, "ExpiredToken"),
            Fault::error(301, "PermanentRedirect"),
            Fault::error(200, "InternalError"),
            Fault::html(),
            Fault::CutBody(5),
            Fault::Reset,
        ]
    };
    for (fault_number, fault) in faults().into_iter().enumerate() {
        // On every request, on everything but the info files, on listings only.
        for scope in 0..3 {
            let fault = fault.clone();
            server.inject(Rule::always(fault, move |request| match scope {
                0 => true,
                1 => !request.key.contains("archive.info"),
                _ => request.query.contains("list-type"),
            }));
            // One that is there, and one that is not: an error in both cases, unless the fault does not touch it.
            for asked in [name.as_str(), "0000000100000000000000F0"] {
                let (outcome, delivered) = site.get(ours(), asked, &[]);
                let code = outcome.exit_code.unwrap();
                assert!(code > MISSING, "fault {fault_number} scope {scope} {asked}: {code}\n{}", outcome.text());
                assert_eq!(delivered, None);
            }
            if scope == 0 {
                let (stopped, _) = site.get(ours(), &name, &["--recovery-stop-on-error"]);
                assert_code(&stopped, 200);
            }
            server.heal();
        }
    }
    assert_code(&site.get(ours(), &name, &[]).0, 0);
    assert_code(&site.get(ours(), "0000000100000000000000F0", &[]).0, MISSING);
    // What heals within io-timeout is not noticed.
    site.conf.global("io-timeout", "20").unwrap();
    server.inject(Rule::next(3, S3Operation::GetObject, Fault::error(503, "SlowDown")));
    assert_code(&site.get(ours(), &name, &[]).0, 0);
}

/// A server that recovers from the archive, with a hole in it.
#[test]
fn ge03_ge04_recovery_stops_at_an_error_instead_of_opening_early() {
    let folder = user::scratch().unwrap();
    let mut conf = Conf::create(&folder.path().join("backrest"), "demo").unwrap();
    let data = folder.path().join("data");
    let options =
        Options { archive_command: Some(ours().archive_command(&conf)), wal_segment_size_mib: 1, ..Options::default() };
    let mut cluster = Cluster::started(Version::V15, &data, options.clone()).unwrap();
    conf.cluster(&cluster).unwrap();
    ours().ok(&conf, &["stanza-create"]).unwrap();
    cluster.sql("CREATE TABLE t (a int)").unwrap();
    // A copy of the stopped cluster is a base to recover from.
    cluster.stop(Shutdown::Fast).unwrap();
    let copy = folder.path().join("copy");
    process::run(user::command("cp").arg("-a").arg(&data).arg(&copy), WAIT).unwrap().success().unwrap();
    cluster.start().unwrap();
    for number in 0..6 {
        cluster.sql(&format!("INSERT INTO t VALUES ({number})")).unwrap();
        cluster.archive_current_segment(WAIT).unwrap();
    }
    cluster.stop(Shutdown::Fast).unwrap();
    drop(cluster);

    let recover = |stop: bool| {
        let target = folder.path().join(format!("recovered-{stop}"));
        process::run(user::command("cp").arg("-a").arg(&copy).arg(&target), WAIT).unwrap().success().unwrap();
        drop(fs::remove_file(target.join("postmaster.pid")));
        user::write_file(&target.join("recovery.signal"), "").unwrap();
        let command = format!(
            "{} {} {} --pg1-path={} {} archive-get %f %p",
            ours().binary().display(),
            conf.config_option(),
            conf.stanza_option(),
            target.display(),
            if stop { "--recovery-stop-on-error" } else { "" },
        );
        let overrides = vec![("restore_command".to_owned(), command), ("archive_mode".to_owned(), "off".to_owned())];
        let options = Options { overrides, wal_segment_size_mib: 1, ..Options::default() };
        let mut server = Cluster::open(Version::V15, &target, options).unwrap();
        // A server that stops may have been ready for readers before.
        let opened = server.start().and_then(|()| server.wait_until_promoted(Duration::from_secs(20)));
        let rows = opened.is_ok().then(|| server.value("SELECT count(*) FROM t").unwrap());
        (rows, server.log_end())
    };
    assert_eq!(recover(true).0.as_deref(), Some("6"), "without a fault");
    fs::remove_dir_all(folder.path().join("recovered-true")).unwrap();

    // A hole in the middle.
    let mut objects = Vec::new();
    files_below(&folder.path().join("backrest/repo/archive/demo/15-1"), &mut objects);
    objects.sort();
    let hole = objects[objects.len() - 3].clone();
    let kept = fs::read(&hole).unwrap();
    fs::remove_file(&hole).unwrap();
    let (early, _) = recover(false);
    assert!(early.as_deref().is_some_and(|rows| rows != "6"), "this is what the option is for: {early:?}");
    let (stopped, log) = recover(true);
    assert_eq!(stopped, None, "{log}");
    assert!(log.contains("gap in the archive"), "{log}");
    // After healing the same directory goes on to the same end.
    user::write_file(&hole, &kept).unwrap();
    let target = folder.path().join("recovered-true");
    fs::remove_dir_all(&target).unwrap();
    assert_eq!(recover(true).0.as_deref(), Some("6"));
}

#[test]
fn np06_a_server_under_load_has_nothing_to_warn_about() {
    for version in [Version::V13, Version::V15, Version::V18] {
        let folder = user::scratch().unwrap();
        let mut conf = Conf::create(&folder.path().join("backrest"), "demo").unwrap();
        let options = Options {
            archive_command: Some(ours().archive_command(&conf)),
            wal_segment_size_mib: 1,
            ..Options::default()
        };
        let cluster = Cluster::started(version, &folder.path().join("data"), options).unwrap();
        conf.cluster(&cluster).unwrap().global("compress-type", "zst").unwrap();
        ours().ok(&conf, &["stanza-create"]).unwrap();
        // What was tried before there was a stanza may be complained about.
        cluster.archive_current_segment(WAIT).unwrap();
        let log_path = cluster.socket_dir().join("log");
        let before = fs::read_to_string(&log_path).unwrap().len();
        cluster.pgbench_init(2).unwrap();
        cluster.pgbench_run(2, Load::Transactions(300)).unwrap();
        let last = cluster.archive_current_segment(WAIT).unwrap();
        let archived: u32 = cluster.value("SELECT archived_count FROM pg_stat_archiver").unwrap().parse().unwrap();
        assert!(archived >= 20, "{version}: only {archived} segments");
        let log = fs::read_to_string(&log_path).unwrap();
        let ours_in_log: Vec<&str> = log[before..]
            .lines()
            .filter(|line| {
                ["WARN", "ERROR", "FATAL", "PANIC", "archive command"].iter().any(|word| line.contains(word))
            })
            .collect();
        assert!(ours_in_log.is_empty(), "{version}: {ours_in_log:#?}");
        // Every one of them can be fetched.
        let mut objects = Vec::new();
        files_below(&folder.path().join("backrest/repo/archive/demo"), &mut objects);
        let segments = objects.iter().filter(|path| path.extension().is_some_and(|end| end == "zst")).count();
        assert!(segments >= 20, "{version}: {segments} stored up to {last}");
    }
}

/// A push that was suspended between its look and its write, while another cluster's copy of the segment was archived: at
/// most one of them is acknowledged, and what is acknowledged is what is there.
#[test]
fn tc03_a_push_that_was_suspended_does_not_acknowledge_what_another_replaced() {
    let site = Site::with_stanza(16);
    let name = site.first().to_owned();
    let whole = fs::read(site.wal(&name)).unwrap();
    // Another content under the same name, as a second primary has it.
    let copy = site.folder.path().join("copy");
    user::create_dir(&copy).unwrap();
    let mut other = whole.clone();
    let last = other.len() - 1;
    other[last] ^= 1;
    user::write_file(&copy.join(&name), &other).unwrap();
    let mut suspended = 0;
    for round in 0..8_u64 {
        for object in site.objects() {
            fs::remove_file(object).unwrap();
        }
        let path = site.wal(&name).display().to_string();
        let mut command = ours().command(&site.conf, &["--compress-type=none", "archive-push", &path]);
        let mut first = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(10 * round));
        let id = first.id().to_string();
        let signal = |signal: &str| process::run(std::process::Command::new("kill").args([signal, &id]), WAIT).unwrap();
        signal("-STOP");
        let still_runs = first.try_wait().unwrap().is_none();
        suspended += u32::from(still_runs);
        let second = copy.join(&name).display().to_string();
        let second = ours().run(&site.conf, &["--compress-type=none", "archive-push", &second]).unwrap();
        signal("-CONT");
        let first = first.wait().unwrap().success();
        let second = second.exit_code == Some(0);
        assert!(!(first && second), "round {round}: both were acknowledged");
        if first || second {
            let (got, delivered) = site.get(ours(), &name, &[]);
            assert_code(&got, 0);
            assert!(delivered.as_ref() == Some(if first { &whole } else { &other }), "round {round}");
        }
    }
    assert!(suspended >= 4, "only {suspended} of 8 were suspended in time");
}

/// A history file is what a promotion waits for: a store that stumbles once is asked again within the same call. And one of a
/// timeline that nobody follows is served as asked.
#[test]
fn pu23_ge12_history_files_survive_a_stumbling_store() {
    let store = user::scratch().unwrap();
    let server = S3Server::start(store.path()).unwrap();
    server.create_bucket("bucket").unwrap();
    let mut site = Site::new(1);
    into_s3(&mut site, &server);
    site.conf.global("io-timeout", "20").unwrap();
    let name = "00000005.history";
    user::write_file(&site.wal(name), "4\t0/3000000\tno recovery target specified\n").unwrap();
    for operation in [S3Operation::PutObject, S3Operation::GetObject] {
        server.inject(Rule::next(1, operation, Fault::error(503, "SlowDown")));
    }
    assert_code(&site.push(ours(), name, &[]), 0);
    let (got, delivered) = site.get(ours(), name, &[]);
    assert_code(&got, 0);
    assert!(delivered == Some(fs::read(site.wal(name)).unwrap()));
}

/// pg_control as a restore leaves it, without the backup_label that makes it consistent; and one that cannot be read.
#[test]
fn ge14_no_wal_for_a_cluster_that_would_be_inconsistent() {
    let site = Site::with_stanza(1);
    let name = site.first().to_owned();
    assert_code(&site.push(ours(), &name, &[]), 0);
    let path = site.data.join("global/pg_control");
    let control = fs::read(&path).unwrap();
    let parsed = pgbr_repo::postgres::ControlFile::parse(&control).unwrap();
    user::write_file(&path, parsed.invalidated()).unwrap();
    for more in [&[][..], &["--archive-async"]] {
        let (refused, delivered) = site.get(ours(), &name, more);
        assert_code(&refused, 29);
        assert!(refused.text().contains("was the backup_label file removed?"), "{}", refused.text());
        assert_eq!(delivered, None);
        assert_code(&site.get(&stock::newest().engine, &name, more).0, 29);
    }
    user::write_file(&site.data.join("backup_label"), "START WAL LOCATION\n").unwrap();
    assert_code(&site.get(ours(), &name, &[]).0, 0);
    user::write_file(&path, &control[..100]).unwrap();
    let (unreadable, delivered) = site.get(ours(), &name, &[]);
    assert!(![Some(0), Some(MISSING)].contains(&unreadable.exit_code), "{}", unreadable.text());
    assert_eq!(delivered, None);
}
