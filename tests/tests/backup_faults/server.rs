//! The server, its clock and its WAL go wrong, or the backup is to stop.

use pgbr_repo::db::DbErrorKind;
use pgbr_repo::error::ErrorKind;
use pgbr_repo::format::BackupLabel;
use pgbr_repo::postgres::{Lsn, Timeline};
use pgbr_repo::progress::Context;
use tokio_util::sync::CancellationToken;

use crate::fake::{Moment, Server};
use crate::stage::{Stage, local, memory, verifies};

#[tokio::test(flavor = "multi_thread")]
async fn bk08_copying_begins_in_a_later_second_than_every_file() {
    let stage = Stage::new(memory()).await;
    let outcome = stage.backup(&Server::new(&stage.data), &stage.options(true)).await.unwrap();
    let manifest = stage.manifest(&outcome.label).await;
    let copy_start_s = manifest.header().timestamp_copy_start_s;
    let newest_s = manifest.files().iter().filter(|file| file.name().as_bytes() != b"pg_data/backup_label");
    assert!(newest_s.map(|file| file.timestamp_s).max().unwrap() < copy_start_s);

    let mut stuck = Server::new(&stage.data);
    stuck.clock_step_ms = 0;
    let error = stage.backup(&stuck, &stage.options(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Kernel, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bk10_a_failover_in_the_middle_fails_the_backup() {
    let other = Timeline::new(7).unwrap();
    for case in ["ping", "recovery", "stop", "start"] {
        let stage = Stage::new(memory()).await;
        let mut server = Server::new(&stage.data);
        match case {
            "ping" => server.fail_ping(DbErrorKind::Mismatch),
            "recovery" => server.fail_ping(DbErrorKind::Recovery),
            "stop" => server.stop_timeline = other,
            _ => server.start_timeline = other,
        }
        let error = stage.backup(&server, &stage.options(true)).await.unwrap_err();
        let expected = if case == "recovery" { ErrorKind::Assert } else { ErrorKind::DbMismatch };
        assert_eq!(error.kind(), expected, "{case}: {error}");
        if case == "stop" {
            assert!(error.message().contains("from 1 to 7"), "{error}");
        }
        assert_eq!(stage.listed().await, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bk11_a_lost_session_fails_the_backup_and_the_next_one_starts_clean() {
    let (dir, stage) = local().await;
    let server = Server::new(&stage.data);
    server.fail_stop(DbErrorKind::Lost);
    let error = stage.backup(&server, &stage.options(false)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DbQuery, "{error}");
    assert_eq!(stage.listed().await, []);
    assert!(!stage.objects().await.iter().any(|name| name.contains("backup_label")));
    let left = stage.objects().await.into_iter().find(|name| name.ends_with("backup.manifest.copy")).unwrap();
    let left = left.split('/').next().unwrap().to_owned();

    let outcome = stage.backup(&Server::new(&stage.data), &stage.options(false)).await.unwrap();
    assert_eq!(stage.listed().await, [outcome.label]);
    let others = stage.objects().await.into_iter().filter(|name| name.starts_with(&left)).count();
    assert!(others == 0 || left == outcome.label.to_string(), "{left} was not removed");
    verifies(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn bk12_a_hole_in_the_archive_fails_the_backup() {
    let (dir, stage) = local().await;
    let mut server = Server::new(&stage.data);
    let options = stage.checked(true);
    let error = stage.backup(&server, &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ArchiveTimeout, "{error}");
    let prior = server.prior_segment();
    assert!(error.message().starts_with(&format!("WAL segment {prior} was not archived before the 300ms timeout")));
    // Nothing was copied in vain.
    assert!(stage.objects().await.iter().all(|name| name.starts_with("backup.info")));

    let size = stage.data.control.wal_segment_size();
    let first = server.start_segment();
    let second = first.next(size).unwrap();
    let third = second.next(size).unwrap();
    server.stop_lsn = Lsn(third.start_lsn(size).unwrap().0 + 0x28);
    for segment in [prior, first, third] {
        stage.archive(segment).await;
    }
    let error = stage.backup(&server, &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ArchiveTimeout, "{error}");
    assert!(error.message().starts_with(&format!("WAL segment {second} was not archived")), "{error}");
    assert_eq!(stage.listed().await, []);

    stage.archive(second).await;
    let mut server = Server::new(&stage.data);
    server.stop_lsn = Lsn(third.start_lsn(size).unwrap().0 + 0x28);
    let outcome = stage.backup(&server, &options).await.unwrap();
    let info = stage.repository.backup_info(&stage.context).await.unwrap();
    let entry = info.backup(&outcome.label).unwrap();
    assert_eq!((entry.archive_start, entry.archive_stop), (Some(first), Some(third)));
    drop(dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn bk25_a_backup_that_is_to_stop_leaves_what_the_next_one_removes() {
    for moment in [Moment::Scanned, Moment::Copied] {
        let (dir, mut stage) = local().await;
        let cancel = CancellationToken::new();
        stage.context = Context { cancel: cancel.clone(), ..stage.context.clone() };
        let server = Server::new(&stage.data).at(|now| {
            if now == moment {
                cancel.cancel();
            }
        });
        let error = stage.backup(&server, &stage.options(true)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Term, "{error}");
        assert_eq!(stage.listed().await, []);
        stage.context = Context { cancel: CancellationToken::new(), ..stage.context.clone() };
        let outcome = stage.backup(&Server::new(&stage.data), &stage.options(true)).await.unwrap();
        assert_eq!(stage.listed().await, [outcome.label]);
        verifies(dir.path());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bk28_a_clock_that_went_back_is_an_error_that_names_both_labels() {
    let stage = Stage::new(memory()).await;
    let first = stage.backup(&Server::new(&stage.data), &stage.options(true)).await.unwrap();
    let server = Server::new(&stage.data);
    server.set_clock_s(pgbr_repo::clock::Clock::now_s(&pgbr_repo::clock::SystemClock) - 3600);
    let error = stage.backup(&server, &stage.options(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Clock, "{error}");
    assert!(error.message().contains(&first.label.to_string()), "{error}");
    assert_eq!(stage.listed().await, [first.label]);

    // In the same second: the next label, and no wait that anybody would notice.
    let again = Server::new(&stage.data);
    let label_s = jiff_second(&first.label);
    again.set_clock_s(label_s);
    let second = stage.backup(&again, &stage.options(true)).await.unwrap();
    assert_eq!(jiff_second(&second.label), label_s + 1);
}

/// The second that a label of these tests, which is in UTC, stands for.
fn jiff_second(label: &BackupLabel) -> i64 {
    let text = label.time().to_string();
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
    let (year, month, day) = (number(0..4), number(4..6), number(6..8));
    // Days from the civil calendar, March first.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * shifted_year + shifted_year / 4 - shifted_year / 100
        + shifted_year / 400
        + (153 * shifted_month + 2) / 5
        + day
        - 1
        - 719_468;
    days * 86_400 + number(9..11) * 3600 + number(11..13) * 60 + number(13..15)
}
