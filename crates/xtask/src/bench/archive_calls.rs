//! `cargo xtask bench archive-calls`: WAL through the plugin as CloudNativePG sends it, against the original started for each
//! file.
//!
//! For every file there is a connection of its own with the whole handshake, then Archive; the next file comes when the answer is
//! there. The sidecar sees the `.ready` files that wait and works ahead with four uploads in flight.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pgbr_plugin::ids;
use pgbr_plugin::proto::backup::BackupCapabilitiesRequest;
use pgbr_plugin::proto::backup::backup_client::BackupClient;
use pgbr_plugin::proto::identity::identity_client::IdentityClient;
use pgbr_plugin::proto::identity::{GetPluginCapabilitiesRequest, GetPluginMetadataRequest, ProbeRequest};
use pgbr_plugin::proto::metrics::MetricsCapabilitiesRequest;
use pgbr_plugin::proto::metrics::metrics_client::MetricsClient;
use pgbr_plugin::proto::wal::restore_job_hooks_client::RestoreJobHooksClient;
use pgbr_plugin::proto::wal::wal_client::WalClient;
use pgbr_plugin::proto::wal::{RestoreJobHooksCapabilitiesRequest, WalArchiveRequest, WalCapabilitiesRequest};
use pgbr_testkit::kube_api::KubeApi;
use pgbr_testkit::kube_secrets::Mounted;
use pgbr_testkit::user;
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};

use super::batch::Ground;
use super::case::{CASES, Case, Mode, PASSPHRASE};
use super::figures::percentile;
use super::store::Store;
use super::wal_set::WalSet;
use super::{machine, programs, side};
use crate::Failure;

const NAMESPACE: &str = "bench";

/// What one side took for all calls.
#[derive(Debug, Default)]
struct Taken {
    calls: Vec<Duration>,
    wall: Duration,
}

pub(super) fn run(arguments: &[String]) -> Result<(), Failure> {
    let [calls, segments, delay_ms] =
        side::numbers(arguments, [("--calls", 1000), ("--segments", 64), ("--delay-ms", 0)])?;
    let (ours, stock) = (programs::ours()?, programs::stock()?);
    let wal = WalSet::open(segments)?;
    let folder = user::scratch()?;
    let mut store = Store::start(folder.path(), delay_ms)?;
    let options = store.options().to_vec();
    let machine = machine::describe();
    let [case, ..] = CASES;
    let mut ground =
        Ground { ours: &ours, stock: &stock, wal: &wal, store: &mut store, folder: folder.path(), batches: 0 };
    let data = ground.data_with_status()?;
    let sidecar = Sidecar::start(ours.binary(), folder.path(), &data, &options, &case)?;
    let idle_kib = sidecar.memory_kib("VmRSS:")?;
    let (mut plugin, mut original) = (Taken::default(), Taken::default());
    for round in 0..calls.div_ceil(segments.max(1)) {
        eprintln!("round {round}, load {}", machine::load());
        // What comes second finds the machine warmer or more tired than what comes first: they change places.
        for second in [round % 2 == 1, round % 2 == 0] {
            if second {
                let measured = ground.run(&case, Mode::StockOneByOne)?;
                original.wall += measured.wall;
                original.calls.extend(measured.pushes);
            } else {
                sidecar.archive_all(&format!("round-{round}"), &data, wal.names(), &mut plugin)?;
            }
        }
    }
    let peak_kib = sidecar.memory_kib("VmHWM:")?;
    report(&case, &plugin, &original, stock.name(), delay_ms);
    println!(
        "\nThe sidecar's memory: {:.1} MiB idle, at most {:.1} MiB with four uploads in flight (bars: 24 and 64).\nMachine: \
         {machine}; load after the run {}.",
        f64::from(idle_kib) / 1024.0,
        f64::from(peak_kib) / 1024.0,
        machine::load()
    );
    Ok(())
}

fn report(case: &Case, plugin: &Taken, original: &Taken, stock: &str, delay_ms: usize) {
    println!("\n{}, {} calls, every answer of the store {delay_ms} ms later\n", case.title(), plugin.calls.len());
    println!("| | p50 ms | p99 ms | wall s |\n| --- | --- | --- | --- |");
    let millis =
        |taken: &Taken, percent| percentile(taken.calls.iter().map(|call| call.as_secs_f64() * 1000.0), percent);
    for (name, taken) in [("Archive calls", plugin), (stock, original)] {
        println!("| {name} | {:.1} | {:.1} | {:.1} |", millis(taken, 50), millis(taken, 99), taken.wall.as_secs_f64());
    }
    println!(
        "| **ratio** | **{:.2}** | **{:.2}** | **{:.2}** |",
        millis(plugin, 50) / millis(original, 50),
        millis(plugin, 99) / millis(original, 99),
        plugin.wall.as_secs_f64() / original.wall.as_secs_f64()
    );
}

/// A running sidecar with its API server; dropping it ends it.
struct Sidecar {
    process: Child,
    socket: PathBuf,
    runtime: tokio::runtime::Runtime,
    _api: KubeApi,
    _secrets: Mounted,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Sidecar {
    fn start(
        program: &Path,
        folder: &Path,
        data: &Path,
        options: &[(&'static str, String)],
        case: &Case,
    ) -> Result<Self, Failure> {
        let api = KubeApi::start();
        let secrets = configure(&api, options, case)?;
        let (plugins, scratch) = (folder.join("plugins"), folder.join("controller"));
        for path in [&plugins, &scratch] {
            user::create_dir(path)?;
        }
        let kubeconfig = folder.join("kubeconfig");
        user::write_file(&kubeconfig, fs::read(api.kubeconfig())?)?;
        let mut command: Command = user::command(user::reachable_copy(program)?);
        command
            .arg("instance")
            .env("POD_NAME", "bench-1")
            .env("NAMESPACE", NAMESPACE)
            .env("PGDATA", data)
            .env("PGHOST", &scratch)
            .env("PLUGIN_SOCKET_DIR", &plugins)
            .env("PLUGIN_SECRETS_DIR", secrets.path())
            .env("SCRATCH_DIR", &scratch)
            .env("KUBECONFIG", &kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("sidecar.log"))?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (process, socket) = (command.spawn()?, plugins.join(ids::PLUGIN_NAME));
        let sidecar = Self { process, socket, runtime, _api: api, _secrets: secrets };
        let deadline = Instant::now() + Duration::from_secs(10);
        while sidecar.runtime.block_on(greeted(&sidecar.socket)).is_err() {
            if Instant::now() > deadline {
                return Err(Failure::new("the sidecar does not answer"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(sidecar)
    }

    /// A field of the process' status.
    fn memory_kib(&self, field: &str) -> Result<u32, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let value = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        value.ok_or_else(|| Failure::new(format!("the sidecar's status has no {field}")))
    }

    /// Archives every segment, one call after the other, as the archiver does.
    fn archive_all(&self, stanza: &str, data: &Path, names: &[String], taken: &mut Taken) -> Result<(), Failure> {
        let status = data.join("pg_wal/archive_status");
        for name in names {
            user::write_file(&status.join(format!("{name}.ready")), "")?;
        }
        let cluster = cluster(stanza).to_string().into_bytes();
        let begin = Instant::now();
        for name in names {
            let request = WalArchiveRequest {
                cluster_definition: cluster.clone(),
                source_file_name: data.join("pg_wal").join(name).display().to_string(),
                check_empty_wal_archive: Some(false),
                ..WalArchiveRequest::default()
            };
            let call = Instant::now();
            let archived = self.runtime.block_on(async {
                let channel = greeted(&self.socket).await?;
                WalClient::new(channel).archive(request).await.map_err(|status| status.to_string())
            });
            archived.map_err(|error| Failure::new(format!("{name}: {error}")))?;
            taken.calls.push(call.elapsed());
            fs::rename(status.join(format!("{name}.ready")), status.join(format!("{name}.done")))?;
        }
        taken.wall += begin.elapsed();
        Ok(())
    }
}

/// The handshake that comes before every call.
async fn greeted(socket: &Path) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).map_err(|error| error.to_string())?;
    let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
    let shake = async {
        let mut identity = IdentityClient::new(channel.clone());
        identity.get_plugin_metadata(GetPluginMetadataRequest {}).await?;
        identity.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await?;
        WalClient::new(channel.clone()).get_capabilities(WalCapabilitiesRequest {}).await?;
        BackupClient::new(channel.clone()).get_capabilities(BackupCapabilitiesRequest {}).await?;
        let hooks = RestoreJobHooksCapabilitiesRequest {};
        RestoreJobHooksClient::new(channel.clone()).get_capabilities(hooks).await?;
        MetricsClient::new(channel.clone()).get_capabilities(MetricsCapabilitiesRequest {}).await?;
        identity.probe(ProbeRequest {}).await
    };
    shake.await.map_err(|status: tonic::Status| status.to_string())?;
    Ok(channel)
}

fn cluster(stanza: &str) -> Value {
    let parameters = json!({"pgbackrestObjectName": "store", "stanza": stanza});
    json!({
        "apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster",
        "metadata": {"name": "bench", "namespace": NAMESPACE, "uid": "uid-of-bench"},
        "spec": {"plugins": [{"name": ids::PLUGIN_NAME, "isWALArchiver": true, "parameters": parameters}]},
        "status": {"currentPrimary": "bench-1", "targetPrimary": "bench-1", "timelineID": 1},
    })
}

/// The Archive and its Secret.
fn configure(api: &KubeApi, options: &[(&'static str, String)], case: &Case) -> Result<Mounted, Failure> {
    let option = |name: &str| {
        let found = options.iter().find(|(option, _)| *option == name).map(|(_, value)| value.clone());
        found.ok_or_else(|| Failure::new(format!("the S3 server has no {name}")))
    };
    let authority = fs::read(option("repo1-storage-ca-file")?)?;
    let secrets = Mounted::new(&[
        ("id", option("repo1-s3-key")?.as_bytes()),
        ("secret", option("repo1-s3-key-secret")?.as_bytes()),
        ("cipher", PASSPHRASE.as_bytes()),
        ("ca", &authority),
    ]);
    let key = |key: &str| json!({"name": "keys", "key": key});
    let mut repository = json!({
        "bucket": option("repo1-s3-bucket")?,
        "destinationPath": "/plugin",
        "endpointURL": format!("localhost:{}", option("repo1-storage-port")?),
        "endpointCA": key("ca"),
        "s3Credentials": {
            "region": option("repo1-s3-region")?, "uriStyle": "path",
            "accessKeyId": key("id"), "secretAccessKey": key("secret"),
        },
    });
    if case.cipher {
        repository["encryption"] = json!("aes-256-cbc");
        repository["encryptionKey"] = key("cipher");
    }
    let level = format!("--compress-level={}", case.compress_level);
    api.put(json!({
        "apiVersion": format!("{}/v1", ids::PLUGIN_NAME), "kind": "Archive",
        "metadata": {"name": "store", "namespace": NAMESPACE},
        "spec": {"configuration": {
            "compression": case.compress_type,
            "wal": {"maxParallel": 4, "archiveAdditionalCommandArgs": [level]},
            "repositories": [repository],
        }},
    }));
    Ok(secrets)
}
