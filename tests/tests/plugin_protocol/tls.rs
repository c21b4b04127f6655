//! The operator's connection.

use std::fs;

use pgbr_plugin::transport::tls as transport;
use rustls::version::{TLS12, TLS13};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::certificates::{self, Pair, mount};
use crate::client::{dial, served, tls, tls_config};
use crate::server::{Heard, TlsServer, services};

/// A server that trusts this client alone.
async fn server_for(client: &Pair) -> (TempDir, Pair, TlsServer) {
    let folder = TempDir::new().expect("a folder");
    let server = certificates::server();
    let files = mount(folder.path(), &server, &[&client.pem]);
    let running = TlsServer::start(files).await;
    (folder, server, running)
}

#[tokio::test]
async fn c31_tls_13_with_http_2_and_the_pinned_certificate_is_served() {
    for client in [certificates::client(), certificates::client_authority(), certificates::client_of_any_use()] {
        let (_folder, server, running) = server_for(&client).await;
        served(tls(running.address, &server, &client).await).await.expect("served");
    }
}

#[tokio::test]
async fn c31_anything_else_is_refused() {
    let client = certificates::client();
    let (_folder, server, running) = server_for(&client).await;
    let refused = async |config| served(dial(running.address, config).await).await.expect_err("refused");
    refused(tls_config(&server.der, Some(&client), &TLS12, &["h2"])).await;
    refused(tls_config(&server.der, Some(&client), &TLS13, &[])).await;
    refused(tls_config(&server.der, Some(&client), &TLS13, &["http/1.1"])).await;
    refused(tls_config(&server.der, None, &TLS13, &["h2"])).await;
    // The server's own certificate is not one of a client.
    refused(tls_config(&server.der, Some(&server), &TLS13, &["h2"])).await;
    served(tls(running.address, &server, &client).await).await.expect("served still");
}

#[tokio::test]
async fn sec14_wrong_expired_and_missing_client_certificates_are_refused() {
    for (client, reason) in [
        (certificates::client_expired(), "Expired"),
        (certificates::client_of_the_future(), "NotValidYet"),
        (certificates::client_of_wrong_use(), "InvalidPurpose"),
    ] {
        let (_folder, server, running) = server_for(&client).await;
        served(tls(running.address, &server, &client).await).await.expect_err("refused though it is pinned");
        let line = running.heard.wait_for("a TLS connection was refused").await;
        assert!(line.to_lowercase().contains(&reason.to_lowercase()[..5]), "{reason}: {line}");
    }
    let (_folder, server, running) = server_for(&certificates::client()).await;
    served(tls(running.address, &server, &certificates::client()).await)
        .await
        .expect_err("the same name is not enough");
    served(tls(running.address, &server, &certificates::client_authority()).await).await.expect_err("nor an authority");
    served(dial(running.address, tls_config(&server.der, None, &TLS13, &["h2"])).await).await.expect_err("nor nothing");
}

#[tokio::test]
async fn kg13_c32_replaced_files_count_from_the_next_connection() {
    let (old_client, new_client) = (certificates::client(), certificates::client());
    let (folder, old_server, running) = server_for(&old_client).await;
    served(tls(running.address, &old_server, &old_client).await).await.expect("served");

    let new_server = certificates::server();
    mount(folder.path(), &new_server, &[&new_client.pem]);
    served(tls(running.address, &new_server, &new_client).await).await.expect("the new pair is served");
    served(tls(running.address, &new_server, &old_client).await).await.expect_err("the old client is refused");
    running.heard.wait_for("a TLS connection was refused").await;
    served(tls(running.address, &old_server, &new_client).await).await.expect_err("the old server is gone");

    // Both at once, while the operator has not noticed.
    mount(folder.path(), &new_server, &[&old_client.pem, &new_client.pem]);
    for client in [&old_client, &new_client] {
        served(tls(running.address, &new_server, client).await).await.expect("either is served");
    }

    // A file that makes no sense refuses, and says which.
    fs::write(folder.path().join("server.key"), &old_server.key_pem).expect("write");
    served(tls(running.address, &new_server, &new_client).await).await.expect_err("the key is of another certificate");
    mount(folder.path(), &new_server, &[&new_client.pem]);
    served(tls(running.address, &new_server, &new_client).await).await.expect("as soon as it does, it is served");
}

#[tokio::test]
async fn unusable_files_are_named_at_the_start() {
    let folder = TempDir::new().expect("a folder");
    let (server, client) = (certificates::server(), certificates::client());
    let log = Heard::default().log();
    let start = async |files| {
        let bound = transport::bind("127.0.0.1:0").await.expect("a port");
        let serving =
            transport::serve_bound(bound, files, services(&log, &std::sync::Arc::default()), CancellationToken::new());
        serving.await.expect_err("it does not start").to_string()
    };
    for (name, content, reason) in [
        ("server.crt", "", "it has no certificate"),
        ("client.crt", "", "it has no certificate"),
        ("server.key", "", "it has no private key in PEM form"),
        ("server.key", client.key_pem.as_str(), "it does not fit the certificate"),
        (
            "client.crt",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "it holds something that is no certificate",
        ),
    ] {
        let files = mount(folder.path(), &server, &[&client.pem]);
        fs::write(folder.path().join(name), content).expect("write");
        let error = start(files).await;
        assert!(error.contains(name) && error.contains(reason), "{error}");
        assert!(!error.contains("PRIVATE"), "{error}");
    }
    let files = mount(folder.path(), &server, &[&client.pem]);
    fs::remove_file(folder.path().join("server.crt")).expect("remove");
    assert!(start(files).await.contains("server.crt"));
}

#[tokio::test]
async fn addresses_are_written_as_the_originals_flag_has_them() {
    let bound = transport::bind(":0").await.expect("every address");
    assert!(bound.address().ip().is_unspecified() && bound.address().port() > 0);
    for bad in [":x", ":70000", "nowhere", ""] {
        let error = transport::bind(bad).await.expect_err("no address").to_string();
        assert!(error.starts_with(&format!("unable to listen on address '{bad}'")), "{error}");
    }
}
