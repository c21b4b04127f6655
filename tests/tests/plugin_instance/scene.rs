//! One pod: folders, server, sidecar, and a caller that does for every WAL file what the instance manager does.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pgbr_plugin::proto::backup::backup_client::BackupClient;
use pgbr_plugin::proto::backup::{BackupRequest, BackupResult};
use pgbr_plugin::proto::identity::identity_client::IdentityClient;
use pgbr_plugin::proto::identity::{GetPluginCapabilitiesRequest, GetPluginMetadataRequest, ProbeRequest};
use pgbr_plugin::proto::metrics::metrics_client::MetricsClient;
use pgbr_plugin::proto::wal::restore_job_hooks_client::RestoreJobHooksClient;
use pgbr_plugin::proto::wal::wal_client::WalClient;
use pgbr_plugin::proto::wal::{
    RestoreRequest, RestoreResponse, WalArchiveRequest, WalCapabilitiesRequest, WalRestoreRequest,
};
use pgbr_testkit::kube_api::KubeApi;
use pgbr_testkit::kube_secrets::Mounted;
use pgbr_testkit::postgres::{Cluster, Options, Version};
use pgbr_testkit::running::Running;
use pgbr_testkit::s3::Bucket;
use pgbr_testkit::{pgbr, user};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

pub(crate) const NAMESPACE: &str = "apps";
pub(crate) const PLUGIN: &str = "pgbackrest.cnpg.opera.com";
pub(crate) const VERSION: Version = Version::V16;

/// The store and the API server that pods share.
pub(crate) struct World {
    pub(crate) bucket: Bucket,
    pub(crate) api: KubeApi,
    pub(crate) folder: TempDir,
    /// What the kubelet would mount into the sidecars.
    pub(crate) secrets: Mounted,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = user::scratch_on_disk().unwrap();
        let bucket = Bucket::start(folder.path()).unwrap();
        let api = KubeApi::start();
        api.define(&pgbr_plugin::resource::definition());
        let server = bucket.server();
        let authority = fs::read(server.ca_file()).unwrap();
        let secrets = Mounted::new(&[
            ("id", server.key().as_bytes()),
            ("secret", server.secret().as_bytes()),
            ("cipher", b"canary-passphrase"),
            ("ca", &authority),
        ]);
        let world = Self { bucket, api, folder, secrets };
        world.archive("store", &json!({}));
        world
    }

    /// An Archive of this name, with changes of its configuration.
    pub(crate) fn archive(&self, name: &str, change: &Value) {
        let mut configuration = json!({
            "compression": "lz4",
            "wal": {"maxParallel": 2},
            "data": {"immediateCheckpoint": true},
            "repositories": [{
                "bucket": "backups",
                "destinationPath": "/repo",
                "endpointURL": format!("localhost:{}", self.bucket.server().port()),
                "endpointCA": {"name": "keys", "key": "ca"},
                "encryption": "aes-256-cbc",
                "encryptionKey": {"name": "keys", "key": "cipher"},
                "s3Credentials": {
                    "region": self.bucket.server().region(),
                    "uriStyle": "path",
                    "accessKeyId": {"name": "keys", "key": "id"},
                    "secretAccessKey": {"name": "keys", "key": "secret"},
                },
            }],
        });
        if let (Value::Object(whole), Value::Object(change)) = (&mut configuration, change) {
            whole.extend(change.clone());
        }
        self.api.put(json!({
            "apiVersion": format!("{PLUGIN}/v1"), "kind": "Archive",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"configuration": configuration},
        }));
    }

    /// The names of the objects below a folder of the repository.
    pub(crate) fn objects(&self, below: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.bucket.repo().join(below)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                match entry.path().is_dir() {
                    true => folders.push(entry.path()),
                    false => found.push(entry.file_name().to_string_lossy().into_owned()),
                }
            }
        }
        found.sort();
        found
    }
}

/// One pod of cluster `name`: its sidecar runs, its server perhaps.
pub(crate) struct Pod {
    pub(crate) data: PathBuf,
    pub(crate) sidecar: Option<Running>,
    sockets: PathBuf,
    pub(crate) variables: Vec<(String, String)>,
    /// Further arguments of the sidecar.
    pub(crate) arguments: Vec<String>,
}

impl Pod {
    /// A pod whose server has its socket in `server_socket`. The sidecar is started.
    pub(crate) fn start(world: &World, name: &str, data: &Path, server_socket: &Path) -> Self {
        let folder = world.folder.path().join(name);
        for part in ["plugins", "controller", "wal"] {
            user::create_dir(&folder.join(part)).unwrap();
        }
        let kubeconfig = folder.join("kubeconfig");
        user::write_file(&kubeconfig, fs::read(world.api.kubeconfig()).unwrap()).unwrap();
        let variables = [
            ("POD_NAME", name.to_owned()),
            ("NAMESPACE", NAMESPACE.to_owned()),
            ("PGDATA", data.display().to_string()),
            ("PGHOST", server_socket.display().to_string()),
            ("PLUGIN_SOCKET_DIR", folder.join("plugins").display().to_string()),
            ("PLUGIN_SECRETS_DIR", world.secrets.path().display().to_string()),
            ("SCRATCH_DIR", folder.join("controller").display().to_string()),
            ("WAL_VOLUME_DIR", folder.join("wal").display().to_string()),
            ("KUBECONFIG", kubeconfig.display().to_string()),
            ("PGBACKREST_IO_TIMEOUT", "2".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
        let sockets = folder.join("plugins");
        let mut pod = Self { data: data.to_owned(), sidecar: None, sockets, variables, arguments: Vec::new() };
        pod.start_sidecar();
        pod
    }

    pub(crate) fn start_sidecar(&mut self) {
        let mut command = user::command(user::reachable_copy(&pgbr::binary()).unwrap());
        // The user's variables come after those of the testkit, which clear PG*.
        command.arg("instance").args(&self.arguments).envs(self.variables.iter().cloned());
        self.sidecar = Some(Running::start(&mut command).unwrap());
        self.wait_for_the_sidecar();
    }

    /// Until the sidecar serves.
    pub(crate) fn wait_for_the_sidecar(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while block_on(self.channel()).is_err() {
            let alive = self.sidecar.as_mut().unwrap().is_alive();
            if !alive || Instant::now() > deadline {
                let outcome = self.sidecar.take().unwrap();
                outcome.ask_to_end();
                panic!("the sidecar does not serve: {:?}", outcome.finish(Duration::from_secs(5)));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the sidecar at once and starts another.
    pub(crate) fn kill_sidecar(&mut self) {
        self.sidecar.take().unwrap().kill();
        self.start_sidecar();
    }

    /// What the sidecar has written into its log.
    pub(crate) fn log(&self) -> String {
        self.sidecar.as_ref().unwrap().printed().unwrap()
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller { socket: self.sockets.join(PLUGIN), data: self.data.clone() }
    }

    async fn channel(&self) -> Result<Channel, tonic::transport::Error> {
        self.caller().channel().await
    }
}

/// What the instance manager is to the sidecar. Every call is a connection of its own with the whole handshake.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    socket: PathBuf,
    data: PathBuf,
}

impl Caller {
    async fn channel(&self) -> Result<Channel, tonic::transport::Error> {
        Endpoint::from_shared(format!("unix://{}", self.socket.display()))?.connect().await
    }

    async fn greeted(&self) -> Result<Channel, Status> {
        let channel = self.channel().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut identity = IdentityClient::new(channel.clone());
        let metadata = identity.get_plugin_metadata(GetPluginMetadataRequest {}).await?.into_inner();
        assert_eq!(metadata.name, PLUGIN);
        identity.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await?;
        WalClient::new(channel.clone()).get_capabilities(WalCapabilitiesRequest {}).await?;
        BackupClient::new(channel.clone())
            .get_capabilities(pgbr_plugin::proto::backup::BackupCapabilitiesRequest {})
            .await?;
        RestoreJobHooksClient::new(channel.clone())
            .get_capabilities(pgbr_plugin::proto::wal::RestoreJobHooksCapabilitiesRequest {})
            .await?;
        MetricsClient::new(channel.clone())
            .get_capabilities(pgbr_plugin::proto::metrics::MetricsCapabilitiesRequest {})
            .await?;
        identity.probe(ProbeRequest {}).await?;
        Ok(channel)
    }

    pub(crate) async fn archive_async(&self, cluster: &Value, name: &str, check: Option<bool>) -> Result<(), Status> {
        let request = WalArchiveRequest {
            cluster_definition: cluster.to_string().into_bytes(),
            source_file_name: self.data.join("pg_wal").join(name).display().to_string(),
            check_empty_wal_archive: check,
            ..WalArchiveRequest::default()
        };
        WalClient::new(self.greeted().await?).archive(request).await.map(drop)
    }

    pub(crate) fn archive(&self, cluster: &Value, name: &str, check: Option<bool>) -> Result<(), Status> {
        block_on(self.archive_async(cluster, name, check))
    }

    pub(crate) fn fetch(&self, cluster: &Value, name: &str, destination: &str, mode: i32) -> Result<(), Status> {
        block_on(async {
            let request = WalRestoreRequest {
                cluster_definition: cluster.to_string().into_bytes(),
                source_wal_name: name.to_owned(),
                destination_file_name: self.data.join("pg_wal").join(destination).display().to_string(),
                mode,
                ..WalRestoreRequest::default()
            };
            WalClient::new(self.greeted().await?).restore(request).await.map(drop)
        })
    }

    pub(crate) async fn backup_async(
        &self,
        cluster: &Value,
        name: &str,
        parameters: &[(&str, &str)],
    ) -> Result<BackupResult, Status> {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let definition = json!({
            "apiVersion": "postgresql.cnpg.io/v1", "kind": "Backup",
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": format!("uid-of-{name}")},
            "spec": {"cluster": {"name": "demo"}, "method": "plugin"},
        });
        let request = BackupRequest {
            cluster_definition: cluster.to_string().into_bytes(),
            backup_definition: definition.to_string().into_bytes(),
            parameters: parameters.collect(),
        };
        Ok(BackupClient::new(self.greeted().await?).backup(request).await?.into_inner())
    }

    pub(crate) fn backup(
        &self,
        cluster: &Value,
        name: &str,
        parameters: &[(&str, &str)],
    ) -> Result<BackupResult, Status> {
        block_on(self.backup_async(cluster, name, parameters))
    }

    pub(crate) fn restore_job(&self, cluster: &Value, check: Option<bool>) -> Result<RestoreResponse, Status> {
        block_on(async {
            let request =
                RestoreRequest { cluster_definition: cluster.to_string().into_bytes(), check_empty_wal_archive: check };
            Ok(RestoreJobHooksClient::new(self.greeted().await?).restore(request).await?.into_inner())
        })
    }

    pub(crate) fn metrics(&self, cluster: &Value) -> Vec<(String, f64, Vec<String>)> {
        block_on(async {
            let request = pgbr_plugin::proto::metrics::CollectMetricsRequest {
                cluster_definition: cluster.to_string().into_bytes(),
            };
            let mut client = MetricsClient::new(self.greeted().await.unwrap());
            let samples = client.collect(request).await.unwrap().into_inner().metrics;
            samples.into_iter().map(|sample| (sample.fq_name, sample.value, sample.variable_labels)).collect()
        })
    }
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// A Cluster that archives into `store`, with this primary.
pub(crate) fn cluster(primary: &str) -> Value {
    json!({
        "apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster",
        "metadata": {"name": "demo", "namespace": NAMESPACE, "uid": "uid-of-demo"},
        "spec": {"plugins": [{"name": PLUGIN, "isWALArchiver": true, "parameters": {"pgbackrestObjectName": "store"}}]},
        "status": {"currentPrimary": primary, "targetPrimary": primary, "timelineID": 1},
    })
}

/// A Cluster that is being recovered from stanza `demo` of `store`.
pub(crate) fn recovering(target: &Value) -> Value {
    json!({
        "apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster",
        "metadata": {"name": "copy", "namespace": NAMESPACE},
        "spec": {
            "bootstrap": {"recovery": {"source": "origin", "recoveryTarget": target}},
            "externalClusters": [{
                "name": "origin",
                "plugin": {"name": PLUGIN, "parameters": {"pgbackrestObjectName": "store", "stanza": "demo"}},
            }],
        },
        "status": {},
    })
}

/// A server whose `archive_command` and `restore_command` ask a caller: a script leaves the request in a folder and waits for
/// the answer there.
pub(crate) struct Bridge {
    folder: PathBuf,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bridge {
    pub(crate) fn new(folder: &Path) -> Self {
        let folder = folder.join("bridge");
        user::create_dir(&folder).unwrap();
        let script = "cd \"$1\" || exit 1\nn=$2-$3-$$\necho \"$4\" > $n.new && mv $n.new $n.ask\n\
            while [ ! -e $n.code ]; do sleep 0.02; done\nread c < $n.code; rm -f $n.code; exit $c\n";
        user::write_file(&folder.join("ask.sh"), script).unwrap();
        Self { folder, end: Arc::default(), thread: None }
    }

    pub(crate) fn command(&self, what: &str) -> String {
        let folder = self.folder.display();
        format!("sh {folder}/ask.sh {folder} {what} %f %p")
    }

    /// Answers requests as the instance manager of a pod with this Cluster.
    pub(crate) fn serve(&mut self, caller: Caller, cluster: Value) {
        self.answer(move |what, file, base| {
            let done = match what {
                "archive" => caller.archive(&cluster, file, None),
                _ => caller.fetch(&cluster, file, base, 0),
            };
            if let Err(status) = &done
                && status.code() != Code::NotFound
            {
                println!("{what} {file}: {status:?}");
            }
            done.is_ok()
        });
    }

    /// Answers requests, each on a thread of its own, by what is wanted, the file, and the base name of its path.
    pub(crate) fn answer(&mut self, answer: impl Fn(&str, &str, &str) -> bool + Send + Sync + 'static) {
        self.stop();
        let (folder, end, answer) = (self.folder.clone(), Arc::new(AtomicBool::new(false)), Arc::new(answer));
        self.end = Arc::clone(&end);
        self.thread = Some(std::thread::spawn(move || {
            let mut answering = Vec::new();
            while !end.load(Ordering::Relaxed) {
                for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    let Some(asked) = name.strip_suffix(".ask").map(str::to_owned) else { continue };
                    let path = fs::read_to_string(entry.path()).unwrap_or_default();
                    fs::remove_file(entry.path()).unwrap();
                    let (folder, answer) = (folder.clone(), Arc::clone(&answer));
                    answering.push(std::thread::spawn(move || {
                        let mut words = asked.splitn(3, '-');
                        let (what, file) = (words.next().unwrap(), words.next().unwrap());
                        let base = Path::new(path.trim()).file_name().unwrap().to_string_lossy().into_owned();
                        let code = if answer(what, file, &base) { "0\n" } else { "1\n" };
                        let temporary = folder.join(format!("{asked}.tmp"));
                        user::write_file(&temporary, code).unwrap();
                        fs::rename(temporary, folder.join(format!("{asked}.code"))).unwrap();
                    }));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            for thread in answering {
                drop(thread.join());
            }
        }));
    }

    fn stop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A server on what a Job has restored: it recovers from the archive as CloudNativePG has it, with these targets, and then
/// takes writes.
pub(crate) fn recover(bridge: &mut Bridge, job: &Pod, definition: &Value, targets: &[(&str, &str)]) -> Cluster {
    let mut settings = vec![
        ("restore_command", bridge.command("restore")),
        ("archive_command", "false".to_owned()),
        ("recovery_target_action", "promote".to_owned()),
    ];
    settings.extend(targets.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let overrides = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    user::write_file(&job.data.join("recovery.signal"), "").unwrap();
    bridge.serve(job.caller(), definition.clone());
    let mut server = Cluster::open(VERSION, &job.data, Options { overrides, ..Options::default() }).unwrap();
    server.start().unwrap();
    server.wait_until_promoted(Duration::from_secs(30)).unwrap();
    server
}

/// A running primary with its sidecar, archiving.
pub(crate) struct Primary {
    pub(crate) bridge: Bridge,
    pub(crate) pod: Pod,
    pub(crate) server: Cluster,
    pub(crate) world: World,
}

impl Primary {
    pub(crate) fn start() -> Self {
        Self::in_world(World::new())
    }

    pub(crate) fn in_world(world: World) -> Self {
        let mut bridge = Bridge::new(world.folder.path());
        let data = world.folder.path().join("data");
        let options =
            Options { wal_segment_size_mib: 1, archive_command: Some(bridge.command("archive")), ..Options::default() };
        let mut server = Cluster::create(VERSION, &data, options).unwrap();
        user::write_file(&data.join(".check-empty-wal-archive"), "").unwrap();
        let pod = Pod::start(&world, "demo-1", &data, server.socket_dir());
        bridge.serve(pod.caller(), cluster("demo-1"));
        server.start().unwrap();
        Self { bridge, pod, server, world }
    }
}
