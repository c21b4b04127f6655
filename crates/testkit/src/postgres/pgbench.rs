//! Load with pgbench.

use std::time::Duration;

use super::Cluster;
use crate::error::Result;
use crate::process::{self, Outcome};

/// pgbench is given as long as the longest test may take.
const LIMIT: Duration = Duration::from_secs(1800);

/// How much to run.
#[derive(Debug, Clone, Copy)]
pub enum Load {
    /// For this long.
    Time(Duration),
    /// This many transactions by each client.
    Transactions(u32),
}

impl Cluster {
    /// Makes pgbench's tables; a scale of 1 is about 15 MB.
    ///
    /// # Errors
    /// When pgbench is not to be had or fails.
    pub fn pgbench_init(&self, scale: u32) -> Result<Outcome> {
        let mut command = self.client("pgbench")?;
        command.args(["--initialize", "--quiet", &format!("--scale={scale}"), "postgres"]);
        process::run(&mut command, LIMIT)?.success()
    }

    /// Runs pgbench's own mix of updates.
    ///
    /// # Errors
    /// When pgbench is not to be had or fails.
    pub fn pgbench_run(&self, clients: u32, load: Load) -> Result<Outcome> {
        let mut command = self.client("pgbench")?;
        command.args(["--no-vacuum", &format!("--client={clients}"), &format!("--jobs={}", clients.min(2))]);
        command.arg(match load {
            Load::Time(duration) => format!("--time={}", duration.as_secs().max(1)),
            Load::Transactions(count) => format!("--transactions={count}"),
        });
        process::run(command.arg("postgres"), LIMIT)?.success()
    }
}
