//! The program's roles as processes: whatever a role serves must hold to these.

use std::time::{Duration, Instant};

use pgbr_plugin::ids;
use pgbr_plugin::proto::backup::BackupCapabilitiesRequest;
use pgbr_plugin::proto::backup::backup_client::BackupClient;
use pgbr_plugin::proto::identity::identity_client::IdentityClient;
use pgbr_plugin::proto::identity::plugin_capability::service::Type;
use pgbr_plugin::proto::identity::postgres_client::PostgresClient;
use pgbr_plugin::proto::identity::{
    GetPluginCapabilitiesRequest, GetPluginMetadataRequest, PostgresCapabilitiesRequest, ProbeRequest,
    plugin_capability,
};
use pgbr_plugin::proto::metrics::MetricsCapabilitiesRequest;
use pgbr_plugin::proto::metrics::metrics_client::MetricsClient;
use pgbr_plugin::proto::operator::OperatorCapabilitiesRequest;
use pgbr_plugin::proto::operator::operator_client::OperatorClient;
use pgbr_plugin::proto::operator_lifecycle::OperatorLifecycleCapabilitiesRequest;
use pgbr_plugin::proto::operator_lifecycle::operator_lifecycle_client::OperatorLifecycleClient;
use pgbr_plugin::proto::reconciler::ReconcilerHooksCapabilitiesRequest;
use pgbr_plugin::proto::reconciler::reconciler_hooks_client::ReconcilerHooksClient;
use pgbr_plugin::proto::wal::restore_job_hooks_client::RestoreJobHooksClient;
use pgbr_plugin::proto::wal::wal_client::WalClient;
use pgbr_plugin::proto::wal::{RestoreJobHooksCapabilitiesRequest, WalCapabilitiesRequest};
use pgbr_testkit::running::Running;
use tonic::Code;
use tonic::transport::Channel;

use crate::certificates::{self, mount};
use crate::client::{self, unix};
use crate::sidecar::Pod;
use crate::wrong::{METHODS, call};

/// A role that runs, and a connection to it.
struct Started {
    pod: Pod,
    running: Running,
    channel: Channel,
}

async fn started(words: &[&str]) -> Started {
    let pod = Pod::new();
    let folder = pod.folder.path().join("plugins").display().to_string();
    let plugin_path = format!("--plugin-path={folder}");
    let mut words = words.to_vec();
    if words == ["operator"] {
        words.push(&plugin_path);
    }
    let running = pod.start(&words);
    let channel = unix(&pod.socket()).await;
    Started { pod, running, channel }
}

const ROLES: [&str; 3] = ["operator", "instance", "restore"];

/// The handshake as callers do it. Answers the name and the advertised services.
async fn handshake(channel: &Channel) -> (String, Vec<Type>) {
    let mut identity = IdentityClient::new(channel.clone());
    let name = identity.get_plugin_metadata(GetPluginMetadataRequest {}).await.expect("metadata").into_inner().name;
    let capabilities = identity.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await.expect("capabilities");
    let mut types = Vec::new();
    for capability in capabilities.into_inner().capabilities {
        let Some(plugin_capability::Type::Service(service)) = capability.r#type else {
            panic!("a capability without its type crashes the caller");
        };
        let advertised = Type::try_from(service.r#type).expect("a known type");
        assert_ne!(advertised, Type::Unspecified);
        capabilities_of(channel.clone(), advertised).await;
        types.push(advertised);
    }
    identity.probe(ProbeRequest {}).await.expect("a probe");
    (name, types)
}

/// A service that is advertised answers, and each of its capabilities has its type.
async fn capabilities_of(channel: Channel, advertised: Type) {
    let sets: Vec<bool> = match advertised {
        Type::OperatorService => {
            let answer = OperatorClient::new(channel).get_capabilities(OperatorCapabilitiesRequest {}).await;
            answer.expect("served").into_inner().capabilities.iter().map(|one| one.r#type.is_some()).collect()
        }
        Type::WalService => {
            let answer = WalClient::new(channel).get_capabilities(WalCapabilitiesRequest {}).await;
            answer.expect("served").into_inner().capabilities.iter().map(|one| one.r#type.is_some()).collect()
        }
        Type::BackupService => {
            let answer = BackupClient::new(channel).get_capabilities(BackupCapabilitiesRequest {}).await;
            answer.expect("served").into_inner().capabilities.iter().map(|one| one.r#type.is_some()).collect()
        }
        Type::LifecycleService => {
            let request = OperatorLifecycleCapabilitiesRequest {};
            let answer = OperatorLifecycleClient::new(channel).get_capabilities(request).await.expect("served");
            answer.into_inner().lifecycle_capabilities.iter().map(|one| !one.operation_types.is_empty()).collect()
        }
        Type::ReconcilerHooks => {
            let request = ReconcilerHooksCapabilitiesRequest {};
            let answer = ReconcilerHooksClient::new(channel).get_capabilities(request).await.expect("served");
            answer.into_inner().reconciler_capabilities.iter().map(|one| one.kind != 0).collect()
        }
        Type::RestoreJob => {
            let request = RestoreJobHooksCapabilitiesRequest {};
            let answer = RestoreJobHooksClient::new(channel).get_capabilities(request).await.expect("served");
            answer.into_inner().capabilities.iter().map(|one| one.kind != 0).collect()
        }
        Type::Postgres => {
            let answer = PostgresClient::new(channel).get_capabilities(PostgresCapabilitiesRequest {}).await;
            answer.expect("served").into_inner().capabilities.iter().map(|one| one.r#type.is_some()).collect()
        }
        Type::Metrics => {
            let answer = MetricsClient::new(channel).get_capabilities(MetricsCapabilitiesRequest {}).await;
            answer.expect("served").into_inner().capabilities.iter().map(|one| one.r#type.is_some()).collect()
        }
        // These two bring no service.
        Type::InstanceSidecarInjection | Type::InstanceJobSidecarInjection => return,
        Type::Unspecified => Vec::new(),
    };
    assert!(!sets.is_empty() && sets.iter().all(|set| *set), "{advertised:?}: {sets:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c07_c08_c09_c10_c12_c40_c44_every_role_completes_the_handshake() {
    for role in ROLES {
        let started = started(&[role]).await;
        let (name, services) = handshake(&started.channel).await;
        assert_eq!(name, ids::PLUGIN_NAME, "{role}");
        // c44: what a restore needs is served in every phase; c40: no status is written into the Cluster.
        let wanted: &[Type] = match role {
            "operator" => &[Type::ReconcilerHooks, Type::LifecycleService],
            _ => &[Type::WalService, Type::BackupService, Type::RestoreJob, Type::Metrics],
        };
        assert!(wanted.iter().all(|service| services.contains(service)), "{role}: {services:?}");
        assert!(!services.contains(&Type::OperatorService), "{role}");
        let plugins = std::fs::read_dir(started.pod.folder.path().join("plugins")).expect("the folder");
        let entries: Vec<_> = plugins.map(|entry| entry.expect("one").file_name()).collect();
        assert_eq!(entries, [ids::PLUGIN_NAME], "{role}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c11_every_role_does_it_quickly() {
    for role in ROLES {
        let started = started(&[role]).await;
        let mut times = Vec::new();
        for _ in 0..20 {
            let begin = Instant::now();
            handshake(&unix(&started.pod.socket()).await).await;
            times.push(begin.elapsed());
        }
        times.sort();
        assert!(times[10] < Duration::from_millis(100), "{role}: {times:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kg05_c38_no_method_of_any_role_ends_it() {
    for role in ROLES {
        let mut started = started(&[role]).await;
        for path in METHODS {
            let code = tokio::time::timeout(Duration::from_secs(10), call(&started.channel, path)).await;
            assert_ne!(code.expect("an answer in time"), Code::Internal, "{role}: {path}");
        }
        assert_eq!(call(&started.channel, "/cnpgi.wal.v1.WAL/SetFirstRequired").await, Code::Unimplemented, "{role}");
        handshake(&started.channel).await;
        assert!(started.running.is_alive());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kg01_a_killed_sidecar_is_replaced_within_two_seconds() {
    let started = started(&["instance"]).await;
    started.running.kill();
    assert!(started.pod.socket().symlink_metadata().is_ok(), "its socket is left");
    assert_eq!(started.pod.health(), 1);
    let begin = Instant::now();
    let _again = started.pod.start(&["instance"]);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    handshake(&unix(&started.pod.socket()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_ends_when_it_is_told_to() {
    for role in ROLES {
        let started = started(&[role]).await;
        started.running.ask_to_end();
        let outcome = started.running.finish(Duration::from_secs(15)).expect("it ends");
        assert_eq!(outcome.exit_code, Some(0), "{role}: {outcome:?}");
        for line in outcome.stderr.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
            assert!(line["level"].is_string() && line["ts"].is_string() && line["msg"].is_string(), "{line}");
            assert_eq!(line["logging_pod"], "cluster-example-1");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_originals_deployment_serves_the_operator() {
    let pod = Pod::new();
    let (server, operator) = (certificates::server(), certificates::client());
    let files = mount(pod.folder.path(), &server, &[&operator.pem]);
    let free = || std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let (port, health, metrics) = (free(), free(), free());
    let words = [
        "operator".to_owned(),
        format!("--server-cert={}", files.server_cert.display()),
        format!("--server-key={}", files.server_key.display()),
        format!("--client-cert={}", files.client_cert.display()),
        format!("--server-address=:{port}"),
        "--leader-elect".to_owned(),
        "--log-level=debug".to_owned(),
        format!("--health-probe-bind-address=127.0.0.1:{health}"),
        format!("--metrics-bind-address=127.0.0.1:{metrics}"),
        "--metrics-secure=false".to_owned(),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut running = Running::start(&mut pod.command(&words)).expect("a process");
    let address = ([127, 0, 0, 1], port).into();
    let begin = Instant::now();
    let channel = loop {
        assert!(running.is_alive() && begin.elapsed() < Duration::from_secs(20), "it does not answer");
        match client::tls(address, &server, &operator).await {
            Ok(channel) => break channel,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let (name, _services) = handshake(&channel).await;
    assert_eq!(name, ids::PLUGIN_NAME);
    client::served(client::tls(address, &server, &certificates::client()).await).await.expect_err("nobody else");
    for (port, path) in [(health, "healthz"), (health, "readyz"), (metrics, "metrics")] {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("a listener");
        std::io::Write::write_all(&mut stream, format!("GET /{path} HTTP/1.0\r\n\r\n").as_bytes()).expect("sent");
        let answer = std::io::read_to_string(stream).expect("an answer");
        assert!(answer.contains(" 200 OK\r\n"), "{path}: {answer}");
    }
}

#[test]
fn under_its_own_name_restore_is_pgbackrests() {
    let pod = Pod::new();
    let output = pod.command_of(&pgbr_testkit::pgbr::binary(), &["restore"]).output().expect("a process");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("stanza"), "{text}");
    let output = pod.command(&["operator", "--loud"]).output().expect("a process");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "unknown flag: --loud\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sec17_no_role_leaves_a_core_dump() {
    for role in ROLES {
        let started = started(&[role]).await;
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", started.running.id())).expect("a process");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("the limit");
        let words: Vec<&str> = core.split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"], "{role}: {core}");
    }
}

/// Every thread of every role is held to it by the kernel, from its first line on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sec02_no_thread_of_any_role_may_start_a_program() {
    for role in ROLES {
        let started = started(&[role]).await;
        handshake(&started.channel).await;
        let threads = std::fs::read_dir(format!("/proc/{}/task", started.running.id())).expect("a process");
        let mut count = 0;
        for thread in threads {
            let status = std::fs::read_to_string(thread.expect("one").path().join("status")).expect("a status");
            let field = |name: &str| {
                let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                value.expect("the field").trim().to_owned()
            };
            // 2 is SECCOMP_MODE_FILTER.
            assert_eq!((field("Seccomp").as_str(), field("NoNewPrivs").as_str()), ("2", "1"), "{role}: {status}");
            count += 1;
        }
        assert!(count > 2, "{role} has {count} threads");
        assert!(!started.running.printed().expect("its lines").contains("starting programs"), "{role}");
    }
}

/// Runs in a process of its own, where it is started again with this variable set: it could not be undone here.
const FORBIDDEN: &str = "PGBR_TEST_NO_EXEC";

#[test]
fn sec02_the_kernel_refuses_another_program() {
    if std::env::var_os(FORBIDDEN).is_some() {
        let begun = std::thread::spawn(|| std::thread::sleep(Duration::from_secs(1)));
        let before = std::process::Command::new("true").status();
        assert!(before.expect("a program before").success());
        pgbr_plugin::run::no_exec::forbid().expect("a filter");
        for _ in 0..2 {
            let refused = || std::process::Command::new("true").status().map_err(|error| error.raw_os_error());
            assert_eq!(refused().expect_err("refused here"), Some(1));
            assert_eq!(std::thread::spawn(refused).join().expect("a thread").expect_err("and there"), Some(1));
        }
        begun.join().expect("the other thread");
        // Everything else goes on.
        std::fs::read_to_string("/proc/self/status").expect("a file");
        println!("refused");
        return;
    }
    let this = std::env::current_exe().expect("this program");
    let name = "roles::sec02_the_kernel_refuses_another_program";
    let mut again = std::process::Command::new(this);
    let output = again.args(["--exact", name, "--nocapture"]).env(FORBIDDEN, "1").output().expect("a process");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("refused\n"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
