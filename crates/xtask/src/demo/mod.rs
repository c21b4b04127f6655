//! `cargo xtask demo`: a cluster is backed up, destroyed and restored to a moment before a mistake.
//!
//! All parts are real: a server of `PostgreSQL` 17, an S3 server that speaks HTTPS, and `pgbr` as its archive command and for every step.
//! `PGBR_DEMO_BINARY` names another program with the same command line, such as the original.

mod report;
mod store;

use std::path::{Path, PathBuf};
use std::time::Duration;

use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::postgres::{Cluster, Load, Options, Shutdown, Version};
use pgbr_testkit::{pgbr, tools, user};

use crate::{Failure, cargo};
use report::{Report, bytes};
use store::Store;

const VERSION: Version = Version::V17;
const STANZA: &str = "demo";
const SCALE: u32 = 10;
const WAIT: Duration = Duration::from_secs(60);

/// A table whose rows say at which step they were written.
const LEDGER: &str = "CREATE TABLE ledger (id int PRIMARY KEY, step text NOT NULL)";

pub(crate) fn run() -> Result<(), Failure> {
    let engine = engine()?;
    let folder = user::scratch()?;
    let store = Store::start(folder.path())?;
    println!("{} over {}, repository on {}\n", engine.name(), server_name()?, store.describe());
    let mut demo = Demo::set_up(&engine, &store, folder.path())?;
    demo.back_up()?;
    let before = demo.work_and_a_mistake()?;
    demo.destroy_and_restore(&before)?;
    demo.prove(&before)?;
    println!("\n{}", store.content()?);
    demo.report.print_total();
    Ok(())
}

/// The state that the restored cluster must come back to.
struct Moment {
    /// As the option `target` takes it.
    time: String,
    facts: Vec<Vec<String>>,
}

struct Demo<'a> {
    engine: &'a Engine,
    conf: Conf,
    data: PathBuf,
    options: Options,
    cluster: Cluster,
    report: Report,
}

impl<'a> Demo<'a> {
    fn set_up(engine: &'a Engine, store: &Store, folder: &Path) -> Result<Self, Failure> {
        let mut conf = Conf::create(&folder.join("pgbr"), STANZA)?;
        for (option, value) in [
            ("repo1-bundle", "y"),
            ("repo1-block", "y"),
            ("repo1-cipher-type", "aes-256-cbc"),
            ("repo1-cipher-pass", "a passphrase for the demo"),
            ("compress-type", "zst"),
            ("process-max", "2"),
        ] {
            conf.global(option, value)?;
        }
        for (option, value) in store.options() {
            conf.global(option, value)?;
        }
        let data = folder.join("data");
        let options = Options { archive_command: Some(engine.archive_command(&conf)), ..Options::default() };
        let mut report = Report::new();
        let cluster = report.step("start a cluster that archives its WAL", || {
            let cluster = Cluster::started(VERSION, &data, options.clone())?;
            conf.cluster(&cluster)?;
            Ok((cluster, format!("archive_command = '{} ... archive-push %p'", file_name(engine.binary()))))
        })?;
        let mut demo = Self { engine, conf, data, options, cluster, report };
        demo.command("create the stanza", &["stanza-create"])?;
        let cluster = &demo.cluster;
        demo.report.step("see that a segment arrives", || {
            let segment = cluster.archive_current_segment(WAIT)?;
            Ok(((), segment))
        })?;
        Ok(demo)
    }

    fn back_up(&mut self) -> Result<(), Failure> {
        let cluster = &self.cluster;
        self.report.step("make data", || {
            cluster.pgbench_init(SCALE)?;
            cluster.sql(LEDGER)?;
            write_ledger(cluster, "before the full backup")?;
            Ok(((), size(cluster)?))
        })?;
        self.backup("full backup", "full")?;
        let cluster = &self.cluster;
        self.report.step("work: pgbench for 5 seconds", || {
            write_ledger(cluster, "before the second backup")?;
            let outcome = cluster.pgbench_run(2, Load::Time(Duration::from_secs(5)))?;
            Ok(((), transactions(&outcome.stdout)))
        })?;
        self.backup("incremental backup, changed blocks only", "incr")
    }

    fn backup(&mut self, title: &str, kind: &str) -> Result<(), Failure> {
        let (engine, conf) = (self.engine, &self.conf);
        self.report.step(title, || {
            engine.ok(conf, &["backup", &format!("--type={kind}")])?;
            let json = engine.ok(conf, &["info", "--output=json"])?.stdout;
            Ok(((), newest_backup(&json)?))
        })
    }

    fn work_and_a_mistake(&mut self) -> Result<Moment, Failure> {
        let cluster = &self.cluster;
        let moment = self.report.step("more work, in WAL only", || {
            write_ledger(cluster, "after the last backup")?;
            cluster.pgbench_run(2, Load::Transactions(500))?;
            let facts = facts(cluster)?;
            // A commit belongs to a moment if it is not later: leave a gap before the mistake.
            std::thread::sleep(Duration::from_millis(1100));
            let time = cluster.value("SELECT to_char(clock_timestamp(), 'YYYY-MM-DD HH24:MI:SS.USOF')")?;
            std::thread::sleep(Duration::from_millis(1100));
            Ok((Moment { time: time.clone(), facts }, format!("remember {time}")))
        })?;
        self.report.step("a mistake: every account emptied, a table dropped", || {
            cluster.sql("UPDATE pgbench_accounts SET abalance = 0; DROP TABLE ledger")?;
            let segment = cluster.archive_current_segment(WAIT)?;
            Ok(((), format!("WAL archived up to {segment}")))
        })?;
        Ok(moment)
    }

    fn destroy_and_restore(&mut self, moment: &Moment) -> Result<(), Failure> {
        let (cluster, data) = (&mut self.cluster, self.data.clone());
        self.report.step("destroy the data directory", || {
            cluster.stop(Shutdown::Immediate)?;
            std::fs::remove_dir_all(&data)?;
            Ok(((), data.display().to_string()))
        })?;
        let target = format!("--target={}", moment.time);
        let arguments = ["restore", "--type=time", &target, "--target-action=promote"];
        self.command("restore to the moment before the mistake", &arguments)?;
        let options = self.options.clone();
        let report = &mut self.report;
        self.cluster = report.step("start and recover", || {
            let mut cluster = Cluster::open(VERSION, &data, options)?;
            cluster.start()?;
            cluster.wait_until_promoted(WAIT)?;
            let timeline = cluster.value("SELECT timeline_id FROM pg_control_checkpoint()")?;
            Ok((cluster, format!("promoted, timeline {timeline}")))
        })?;
        Ok(())
    }

    fn prove(&mut self, moment: &Moment) -> Result<(), Failure> {
        let cluster = &self.cluster;
        self.report.step("compare the rows with the remembered ones", || {
            let found = facts(cluster)?;
            if found != moment.facts {
                return Err(Failure::new(format!("rows differ: found {found:?}, expected {:?}", moment.facts)));
            }
            let counts: Vec<String> = found
                .iter()
                .filter_map(|row| row.split_first())
                .map(|(name, rest)| format!("{name} {}", rest.join("/")))
                .collect();
            Ok(((), counts.join(", ")))
        })
    }

    fn command(&mut self, title: &str, arguments: &[&str]) -> Result<(), Failure> {
        let (engine, conf) = (self.engine, &self.conf);
        self.report.step(title, || {
            engine.ok(conf, arguments)?;
            Ok(((), format!("{} {}", file_name(engine.binary()), arguments.join(" "))))
        })
    }
}

/// The program to show: `pgbr`, built now, or the one that the environment names.
fn engine() -> Result<Engine, Failure> {
    if let Some(path) = std::env::var_os("PGBR_DEMO_BINARY") {
        let path = PathBuf::from(path);
        return Ok(Engine::at(path.display().to_string(), &path)?);
    }
    cargo::run(&mut cargo::command(&["build", "--package", "pgbr", "--locked", "--quiet"]))?;
    Ok(pgbr::engine())
}

fn server_name() -> Result<String, Failure> {
    Ok(tools::postgresql::install(VERSION)?.version.replace("postgres (PostgreSQL)", "PostgreSQL"))
}

fn write_ledger(cluster: &Cluster, step: &str) -> Result<(), Failure> {
    cluster.sql(&format!("INSERT INTO ledger SELECT coalesce(max(id), 0) + 1, '{step}' FROM ledger"))?;
    Ok(())
}

/// Everything that the restored cluster must have again: rows and sums of each table.
fn facts(cluster: &Cluster) -> Result<Vec<Vec<String>>, Failure> {
    Ok(cluster.sql(
        "SELECT 'accounts', count(*), sum(abalance) FROM pgbench_accounts \
         UNION ALL SELECT 'history', count(*), sum(delta) FROM pgbench_history \
         UNION ALL SELECT 'ledger', count(*), sum(hashtext(step)) FROM ledger",
    )?)
}

fn size(cluster: &Cluster) -> Result<String, Failure> {
    let size = cluster.value("SELECT sum(pg_database_size(oid)) FROM pg_database")?;
    Ok(format!("{} in all databases", bytes(size.parse().unwrap_or(0))))
}

/// pgbench's own count of transactions.
fn transactions(printed: &str) -> String {
    let line = printed.lines().find(|line| line.starts_with("number of transactions actually processed"));
    line.and_then(|line| line.rsplit(' ').next()).map_or_else(String::new, |count| format!("{count} transactions"))
}

/// Label and sizes of the last backup that `info` lists.
fn newest_backup(json: &str) -> Result<String, Failure> {
    let info: serde_json::Value =
        serde_json::from_str(json).map_err(|error| Failure::new(format!("info --output=json: {error}")))?;
    let backup = info.pointer("/0/backup").and_then(serde_json::Value::as_array).and_then(|list| list.last());
    let backup = backup.ok_or_else(|| Failure::new(format!("info lists no backup: {json}")))?;
    let number = |path: &str| backup.pointer(path).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let label = backup.pointer("/label").and_then(serde_json::Value::as_str).unwrap_or("?");
    Ok(format!(
        "{label}: {} of the cluster's {} copied, stored in {}",
        bytes(number("/info/delta")),
        bytes(number("/info/size")),
        bytes(number("/info/repository/delta")),
    ))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
