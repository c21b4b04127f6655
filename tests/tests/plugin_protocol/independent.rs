//! The roles asked by Google's own gRPC with messages that Google's own compiler made of `proto/`: nothing here depends on
//! our stack at both ends.

use std::path::Path;
use std::time::Duration;

use pgbr_plugin::ids;
use pgbr_testkit::tools;
use pgbr_testkit::{process, running::Running};
use serde_json::Value;
use tempfile::TempDir;

use crate::certificates::{self, mount};
use crate::server::TlsServer;
use crate::sidecar::Pod;
use crate::wrong::METHODS;

/// Calls every method and gives what the client printed.
fn ask(address: &[&str]) -> Value {
    let scratch = TempDir::new().expect("a folder");
    let root = tools::workspace();
    let mut command = tools::grpc::python().expect("grpcio");
    command
        .arg(root.join("tests/tests/plugin_protocol/independent.py"))
        .arg(root.join("proto"))
        .arg(scratch.path())
        .args(address);
    let outcome = process::run(&mut command, Duration::from_secs(120)).expect("a process");
    let printed = outcome.success().expect("it asks").stdout;
    serde_json::from_str(&printed).expect("an object")
}

/// Every method was called, none found the server gone, and Identity spoke for the plugin.
fn check(answers: &Value, who: &str) {
    let codes = answers["codes"].as_object().expect("codes");
    assert_eq!(codes.len(), METHODS.len(), "{who}: the messages have every method: {codes:?}");
    for path in METHODS {
        let code = codes[path].as_str().expect("a code");
        assert!(
            !["UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED", "CANCELLED"].contains(&code),
            "{who}: {path}: {code}"
        );
    }
    for method in ["GetPluginMetadata", "GetPluginCapabilities", "Probe"] {
        assert_eq!(codes[&format!("/cnpgi.identity.v1.Identity/{method}")], "OK", "{who}");
    }
    assert_eq!(codes["/cnpgi.wal.v1.WAL/SetFirstRequired"], "UNIMPLEMENTED", "{who}");
    assert_eq!(answers["said"]["/cnpgi.identity.v1.Identity/GetPluginMetadata"]["name"], ids::PLUGIN_NAME, "{who}");
}

#[test]
fn c38_an_independent_client_calls_every_method_of_every_role() {
    for role in ["operator", "instance", "restore"] {
        let pod = Pod::new();
        let plugin_path = format!("--plugin-path={}", pod.folder.path().join("plugins").display());
        let words = if role == "operator" { vec![role, &plugin_path] } else { vec![role] };
        let mut running: Running = pod.start(&words);
        check(&ask(&[&format!("unix:{}", pod.socket().display())]), role);
        assert!(running.is_alive(), "{role}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c31_an_independent_client_comes_through_mutual_tls() {
    let folder = TempDir::new().expect("a folder");
    let (server, client) = (certificates::server(), certificates::client());
    let running = TlsServer::start(mount(folder.path(), &server, &[&client.pem])).await;
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("write");
        path.display().to_string()
    };
    let (key, other) = (file("client.key", &client.key_pem), certificates::client());
    let (certificate, address) = (file("client.pem", &client.pem), running.address.to_string());
    let server = Path::new(folder.path()).join("server.crt").display().to_string();
    let codes = |key: &str, certificate: &str| {
        let answers = tokio::task::block_in_place(|| ask(&[&address, &server, key, certificate]));
        answers["codes"]["/cnpgi.identity.v1.Identity/Probe"].as_str().map(str::to_owned)
    };
    assert_eq!(codes(&key, &certificate).as_deref(), Some("OK"));
    let (key, certificate) = (file("other.key", &other.key_pem), file("other.pem", &other.pem));
    assert_eq!(codes(&key, &certificate).as_deref(), Some("UNAVAILABLE"), "another certificate");
}
