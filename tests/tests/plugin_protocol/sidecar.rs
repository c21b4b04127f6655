//! The program as a process of its own, in each of its roles.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use pgbr_plugin::ids;
use pgbr_testkit::kube_api::KubeApi;
use pgbr_testkit::running::Running;
use tempfile::TempDir;

/// A folder in which a process finds everything that a pod would have.
pub(crate) struct Pod {
    pub(crate) folder: TempDir,
    api: KubeApi,
    manager: PathBuf,
}

impl Pod {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let manager = folder.path().join("manager");
        std::os::unix::fs::symlink(pgbr_testkit::pgbr::binary(), &manager).expect("a link");
        for name in ["plugins", "controller", "pgdata"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        Self { folder, api: KubeApi::start(), manager }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("plugins").join(ids::PLUGIN_NAME)
    }

    /// The command of a role, as a pod's specification has it.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        self.command_of(&self.manager, words)
    }

    pub(crate) fn command_of(&self, program: &PathBuf, words: &[&str]) -> Command {
        let below = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(program);
        command
            .args(words)
            .env("PLUGIN_SOCKET_DIR", below("plugins"))
            .env("SCRATCH_DIR", below("controller"))
            .env("SPOOL_DIRECTORY", below("controller/wal-restore-spool"))
            .env("PGDATA", below("pgdata"))
            .env("PGHOST", below("controller/run"))
            .env("POD_NAME", "cluster-example-1")
            .env("NAMESPACE", "default")
            .env("CLUSTER_NAME", "cluster-example")
            .env("SIDECAR_IMAGE", "example/sidecar:1")
            .env("KUBECONFIG", self.api.kubeconfig())
            .env_remove("KUBERNETES_SERVICE_HOST");
        command
    }

    /// Starts a role and waits until it answers.
    pub(crate) fn start(&self, words: &[&str]) -> Running {
        let mut running = Running::start(&mut self.command(words)).expect("a process");
        let begin = Instant::now();
        while self.health() != 0 {
            assert!(running.is_alive(), "{words:?} ended: {:?}", running.finish(Duration::from_secs(1)));
            assert!(begin.elapsed() < Duration::from_secs(20), "{words:?} does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }

    /// The exit code of the probe.
    pub(crate) fn health(&self) -> i32 {
        let output = self.command(&["healthcheck", "unix"]).output().expect("a process");
        output.status.code().expect("a code")
    }
}
