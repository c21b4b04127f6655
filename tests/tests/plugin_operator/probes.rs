//! Health and metrics of the role: what they say, and what they never say.

use std::time::Duration;

use pgbr_plugin::operator::objects::Objects;
use pgbr_plugin::operator::probes::{self, Page, State};
use pgbr_plugin::operator::refresh;
use pgbr_plugin::proto::operator_lifecycle::operator_operation_type::Type;
use pgbr_plugin::transport::tls::TlsFiles;
use pgbr_testkit::kube_api::{Answer, Rule, Verb};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::call::{Operator, client, quiet_log};
use crate::objects::{archive, cluster_with, pod};

/// Status and text of what is at a path.
async fn ask(address: std::net::SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test]
async fn sec21_probes_and_metrics_tell_the_state_and_nobodys_name() {
    let operator = Operator::start().await;
    let (api, stop, folder) = (&operator.api, CancellationToken::new(), tempfile::tempdir().unwrap());
    let file = |name: &str| folder.path().join(name);
    let files = TlsFiles { server_cert: file("crt"), server_key: file("key"), client_cert: file("client") };
    let keys = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(["pgbackrest".to_owned()]).unwrap().self_signed(&keys).unwrap().pem();
    for (path, text) in [("crt", &certificate), ("key", &keys.serialize_pem()), ("client", &certificate)] {
        std::fs::write(file(path), text).unwrap();
    }
    let state = State { tally: operator.tally.clone(), tls: Some(files) };
    let mut pages = Vec::new();
    for page in [Page::Health, Page::Metrics] {
        let listener = probes::listen("127.0.0.1:0").await.unwrap();
        pages.push(listener.local_addr().unwrap());
        tokio::spawn(probes::serve(listener, page, state.clone(), quiet_log(), stop.clone()));
    }
    let [health, metrics] = pages[..] else { panic!() };

    // Names of tenants in everything that is counted.
    let mut canary = archive("canaryarchive");
    canary["spec"]["configuration"]["repositories"][0]["bucket"] = json!("canarybucket");
    api.put(canary);
    let mut cluster = cluster_with(Some("canaryarchive"), None, None);
    cluster["metadata"]["name"] = json!("canarycluster");
    operator.pre(&cluster).await.unwrap();
    operator.hook(Type::Evaluate, &cluster, &pod("1.30")).await.unwrap();
    operator.pre_bytes(b"canary", b"canary").await.unwrap_err();
    operator.hook(Type::Evaluate, &cluster, &json!({ "kind": "Canary" })).await.unwrap_err();

    // The watch begins, is held up, and catches up.
    api.inject(Rule::on(Verb::List, "archives", Answer::Status(500)).times(1));
    let watching = refresh::run(Objects::new(client(api)), operator.tally.clone(), quiet_log(), stop.clone());
    let watching = tokio::spawn(watching);
    let mut seen = Vec::new();
    for _ in 0..400 {
        let (status, text) = ask(health, "GET /readyz").await;
        if seen.last() != Some(&status) {
            seen.push(status);
        }
        if status == 200 {
            assert_eq!(text, "certificate ok\nwatch ok\n");
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(seen.last(), Some(&200), "{seen:?}");
    assert!(seen.contains(&503), "it was ready before it had seen the Archives: {seen:?}");
    assert_eq!(ask(health, "GET /healthz").await, (200, "ok\n".to_owned()));
    let text = ask(metrics, "GET /metrics").await.1;
    for line in [
        "pgbackrest_operator_requests_total{method=\"/cnpgi.reconciler.v1.ReconcilerHooks/Pre\",code=\"0\"} 1",
        "pgbackrest_operator_requests_total{method=\"/cnpgi.reconciler.v1.ReconcilerHooks/Pre\",code=\"3\"} 1",
        "pgbackrest_operator_requests_total{method=\"/cnpgi.operator_lifecycle.v1.OperatorLifecycle/LifecycleHook\",code=\"0\"} 1",
        "pgbackrest_operator_watch_restarts_total 1",
    ] {
        assert!(text.lines().any(|it| it == line), "no {line} in {text}");
    }
    // A certificate that does not fit its key any more: no handshake would succeed.
    std::fs::write(file("crt"), "canary: no certificate").unwrap();
    let (status, text) = ask(health, "GET /readyz").await;
    assert_eq!((status, text.as_str()), (503, "certificate failed\nwatch ok\n"));

    // Nothing else is there, neither page has the other's, and nothing names anybody.
    let mut everything = String::new();
    for (address, request, wanted) in [
        (health, "GET /metrics", 404),
        (health, "GET /", 404),
        (health, "GET /healthz/../readyz", 404),
        (metrics, "GET /healthz", 404),
        (metrics, "POST /metrics", 405),
        (metrics, "GET /metrics?canary", 200),
        (health, "GET /readyz", 503),
    ] {
        let (status, text) = ask(address, request).await;
        assert_eq!(status, wanted, "{request}");
        everything += &text;
    }
    assert!(!everything.contains("canary") && !everything.contains("apps"), "{everything}");
    stop.cancel();
    watching.await.unwrap();
}

#[tokio::test]
async fn sec21_a_silent_peer_holds_no_place_for_long_and_others_get_theirs() {
    let listener = probes::listen("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let state = State { tally: Operator::start().await.tally.clone(), tls: None };
    tokio::spawn(probes::serve(listener, Page::Health, state, quiet_log(), stop.clone()));
    let silent = futures_util::future::join_all((0..10).map(|_| TcpStream::connect(address))).await;
    assert!(silent.iter().all(Result::is_ok));
    assert_eq!(ask(address, "GET /healthz").await.0, 200);
    let long = format!("GET /{}", "x".repeat(1_000_000));
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It is cut off somewhere in the middle.
    let _cut = stream.write_all(format!("{long} HTTP/1.1\r\n").as_bytes()).await;
    assert_eq!(ask(address, "GET /healthz").await.0, 200);
    stop.cancel();
}
