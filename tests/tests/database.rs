//! The session on a real server: identity, backups, segment switches, and what happens when it breaks.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::Path;
use std::time::Duration;

use pgbr_repo::db::{ConnectOptions, Database, DbErrorKind, Session};
use pgbr_repo::postgres::PgVersion;
use pgbr_testkit::postgres::{Cluster, Options, Shutdown, Version};
use pgbr_testkit::user;

const VERSIONS: [(Version, PgVersion); 3] =
    [(Version::V13, PgVersion::V13), (Version::V15, PgVersion::V15), (Version::V18, PgVersion::V18)];

fn start(version: Version, data: &Path) -> Cluster {
    Cluster::started(version, data, Options::default()).unwrap()
}

fn options(cluster: &Cluster) -> ConnectOptions {
    ConnectOptions {
        socket_directory: Some(cluster.socket_dir().to_owned()),
        port: cluster.port(),
        database: "postgres".into(),
        user: "postgres".into(),
        application_name: "pgBackRest [backup]".into(),
        timeout: Duration::from_secs(60),
    }
}

async fn connect(cluster: &Cluster) -> Session {
    Session::connect(&options(cluster)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_and_backup_on_each_version() {
    for (version, expected) in VERSIONS {
        let dir = user::scratch().unwrap();
        let data = dir.path().join("data");
        let cluster = start(version, &data);
        let space = dir.path().join("space");
        user::create_dir(&space).unwrap();
        cluster.sql(&format!("CREATE TABLESPACE fast LOCATION '{}'", space.display())).unwrap();
        cluster.sql("CREATE DATABASE \"o'dd \\ n\u{e4}me\"").unwrap();

        let session = connect(&cluster).await;
        let identity = session.identity();
        assert_eq!(identity.version, expected);
        assert_eq!(Path::new(&identity.data_directory), data);
        assert_eq!(identity.archive_mode, "on");
        assert!(!identity.in_recovery);
        assert_eq!(identity.checkpoint_timeout.as_secs().to_string(), setting(&cluster, "checkpoint_timeout"));
        assert_eq!(
            cluster
                .value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgBackRest [backup]'")
                .unwrap(),
            "1"
        );

        let databases = session.databases().await.unwrap();
        let template0 = databases.iter().find(|database| database.name == "template0").unwrap().oid;
        assert!(databases.iter().all(|database| database.last_system_oid == template0));
        assert!(databases.iter().any(|database| database.name == "o'dd \\ n\u{e4}me"));
        let spaces = session.tablespaces().await.unwrap();
        assert!(spaces.contains(&(1663, "pg_default".into())));
        let fast = spaces.iter().find(|(_, name)| name == "fast").unwrap().0;

        let before = session.insert_segment().await.unwrap();
        let started = session.start_backup(true).await.unwrap();
        let segment = started.segment.unwrap();
        assert!(segment > before, "a backup starts in a new segment: {before:?} {segment:?}");
        let checkpoint = session.control_checkpoint().await.unwrap();
        assert!(checkpoint.lsn >= started.lsn && checkpoint.redo_lsn == started.lsn);
        assert_eq!(checkpoint.timeline, segment.timeline());
        session.ping().await.unwrap();
        session.checkpoint().await.unwrap();
        assert_eq!(session.replay_lsn().await.unwrap(), None);
        let stopped = session.stop_backup().await.unwrap();
        assert!(stopped.lsn > started.lsn);
        assert!(stopped.segment.unwrap() >= segment);
        let first = format!("START WAL LOCATION: {} (file {segment})\n", started.lsn);
        assert!(stopped.backup_label.starts_with(&first), "{}", stopped.backup_label);
        assert!(stopped.backup_label.contains("LABEL: pgBackRest backup started at "));
        assert_eq!(stopped.tablespace_map.unwrap(), format!("{fast} {}\n", space.display()));

        let switched = session.switch_wal().await.unwrap();
        assert!(session.insert_segment().await.unwrap() > switched);
        let server_ms: f64 =
            cluster.value("SELECT extract(epoch FROM clock_timestamp()) * 1000").unwrap().parse().unwrap();
        let ours = session.time_ms().await.unwrap();
        assert!((server_ms - ours as f64).abs() < 10_000.0, "{server_ms} {ours}");
        drop(session);
        cluster.sql("DROP TABLESPACE fast").unwrap();
        let session = connect(&cluster).await;
        session.start_backup(true).await.unwrap();
        assert_eq!(session.stop_backup().await.unwrap().tablespace_map, None);
    }
}

fn setting(cluster: &Cluster, name: &str) -> String {
    cluster.value(&format!("SELECT setting FROM pg_settings WHERE name = '{name}'")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_without_the_rights_are_told_so() {
    let dir = user::scratch().unwrap();
    let cluster = start(Version::V15, &dir.path().join("data"));
    cluster.sql("CREATE ROLE plain LOGIN; CREATE ROLE reader LOGIN; GRANT pg_read_all_settings TO reader").unwrap();
    cluster.sql("ALTER ROLE reader SET statement_timeout = '1ms'; ALTER ROLE reader SET search_path = x").unwrap();
    let as_user = |user: &str| ConnectOptions { user: user.into(), ..options(&cluster) };

    let error = Session::connect(&as_user("nobody_here")).await.unwrap_err();
    assert_eq!((error.kind(), error.sql_state()), (DbErrorKind::Connect, Some("28000")), "{error}");
    let other = ConnectOptions { database: "none".into(), ..options(&cluster) };
    let error = Session::connect(&other).await.unwrap_err();
    assert_eq!((error.kind(), error.sql_state()), (DbErrorKind::Connect, Some("3D000")), "{error}");
    let error = Session::connect(&as_user("plain")).await.unwrap_err();
    assert_eq!(error.kind(), DbErrorKind::Settings, "{error}");

    let session = Session::connect(&as_user("reader")).await.unwrap();
    let error = session.start_backup(true).await.unwrap_err();
    assert_eq!((error.kind(), error.sql_state()), (DbErrorKind::Query, Some("42501")), "{error}");
    assert!(error.to_string().contains("permission denied for function pg_backup_start"), "{error}");
    session.ping().await.unwrap();

    cluster.sql("GRANT EXECUTE ON FUNCTION pg_backup_start, pg_backup_stop TO reader").unwrap();
    session.start_backup(true).await.unwrap();
    session.stop_backup().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bk11_a_lost_session_is_a_lost_backup_and_the_next_one_starts_clean() {
    for version in [Version::V13, Version::V18] {
        let dir = user::scratch().unwrap();
        let mut cluster = start(version, &dir.path().join("data"));
        let session = connect(&cluster).await;
        session.start_backup(true).await.unwrap();
        let killed = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgBackRest%'";
        assert_eq!(cluster.value(killed).unwrap(), "t");
        let error = session.stop_backup().await.unwrap_err();
        assert_eq!(error.kind(), DbErrorKind::Lost, "{error}");
        assert!(error.to_string().contains("terminating connection due to administrator command"), "{error}");
        assert_eq!(session.ping().await.unwrap_err().kind(), DbErrorKind::Lost);

        // A session that was not the one that started it cannot stop it.
        let session = connect(&cluster).await;
        assert_eq!(session.stop_backup().await.unwrap_err().kind(), DbErrorKind::Query);
        session.start_backup(true).await.unwrap();
        cluster.stop(Shutdown::Immediate).unwrap();
        assert_eq!(session.stop_backup().await.unwrap_err().kind(), DbErrorKind::Lost);
        assert_eq!(Session::connect(&options(&cluster)).await.unwrap_err().kind(), DbErrorKind::Connect);

        cluster.start().unwrap();
        let session = connect(&cluster).await;
        session.start_backup(true).await.unwrap();
        session.stop_backup().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_is_cancelled_and_the_session_goes_on() {
    let dir = user::scratch().unwrap();
    let cluster = start(Version::V15, &dir.path().join("data"));
    // A checkpoint that is spread over minutes: each of these pages waits for its turn.
    cluster.sql("CREATE TABLE dirty AS SELECT g, repeat('x', 1000) FROM generate_series(1, 8000) g").unwrap();
    let impatient = ConnectOptions { timeout: Duration::from_millis(500), ..options(&cluster) };
    let session = Session::connect(&impatient).await.unwrap();
    let error = session.start_backup(false).await.unwrap_err();
    assert_eq!(error.kind(), DbErrorKind::Timeout, "{error}");
    session.time_ms().await.unwrap();
    let patient = connect(&cluster).await;
    patient.start_backup(true).await.unwrap();
    patient.stop_backup().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_backed_up_without_segment_names_and_promotion_is_noticed() {
    for (version, _) in VERSIONS {
        let dir = user::scratch().unwrap();
        let (data, copy) = (dir.path().join("data"), dir.path().join("standby"));
        let mut primary = start(version, &data);
        primary.stop(Shutdown::Fast).unwrap();
        let copied = user::command("cp").arg("-a").arg(&data).arg(&copy).status().unwrap();
        assert!(copied.success());
        let signal = user::command("touch").arg(copy.join("standby.signal")).status().unwrap();
        assert!(signal.success());
        let mut standby = Cluster::open(version, &copy, Options::default()).unwrap();
        standby.start().unwrap();

        let session = connect(&standby).await;
        assert!(session.identity().in_recovery);
        session.ping().await.unwrap();
        let started = session.start_backup(true).await.unwrap();
        assert_eq!(started.segment, None);
        assert!(session.replay_lsn().await.unwrap().unwrap() >= started.lsn);
        session.checkpoint().await.unwrap();
        assert!(session.control_checkpoint().await.unwrap().lsn >= started.lsn);
        let stopped = session.stop_backup().await.unwrap();
        assert_eq!(stopped.segment, None);
        assert!(stopped.backup_label.contains("BACKUP FROM: standby\n"), "{}", stopped.backup_label);
        assert_eq!(session.insert_segment().await.unwrap_err().kind(), DbErrorKind::Query);

        assert_eq!(standby.value("SELECT pg_promote()").unwrap(), "t");
        assert_eq!(session.ping().await.unwrap_err().kind(), DbErrorKind::Mismatch);
    }
}
