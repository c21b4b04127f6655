//! The socket's place, and what may be in it.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use pgbr_plugin::ids;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::client::{name, unix};
use crate::server::{Heard, UnixServer, services, spawn_unix};

#[tokio::test]
async fn c07_an_abandoned_socket_is_replaced_and_nothing_else_is_there() {
    let folder = TempDir::new().expect("a folder");
    let socket = folder.path().join(ids::PLUGIN_NAME);
    drop(UnixListener::bind(&socket).expect("a socket"));
    assert!(socket.symlink_metadata().expect("it is left").file_type().is_socket());

    let (heard, shutdown) = (Heard::default(), CancellationToken::new());
    let _task = spawn_unix(&socket, services(&heard.log(), &std::sync::Arc::default()), &shutdown);
    heard.wait_for("listening").await;
    assert_eq!(name(unix(&socket).await).await.expect("served"), ids::PLUGIN_NAME);
    let entries: Vec<_> =
        fs::read_dir(folder.path()).expect("the folder").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(entries, [ids::PLUGIN_NAME], "every entry would be taken for a plugin");
    shutdown.cancel();
}

#[tokio::test]
async fn sec14_only_the_pods_user_connects() {
    let server = UnixServer::start().await;
    let mode = server.socket.symlink_metadata().expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn sec14_what_is_no_abandoned_socket_is_left_alone() {
    let served = UnixServer::start().await;
    let log = Heard::default().log();
    let refused = async |path: &std::path::Path| {
        let task = spawn_unix(path, services(&log, &std::sync::Arc::default()), &CancellationToken::new());
        task.await.expect("no panic").expect_err("refused")
    };
    assert!(refused(&served.socket).await.starts_with("another process listens on socket"));
    name(unix(&served.socket).await).await.expect("the first one serves on");

    let file = served.folder.path().join("file");
    fs::write(&file, "somebody's").expect("write");
    assert!(refused(&file).await.contains("is not a socket"));
    let link = served.folder.path().join("link");
    symlink(&file, &link).expect("a link");
    assert!(refused(&link).await.contains("is not a socket"));
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "somebody's");
    assert!(refused(&served.folder.path().join("nowhere/socket")).await.contains("nowhere/socket"));
}
