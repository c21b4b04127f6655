//! Peak memory of a command, watched from outside.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use pgbr_testkit::engine::Engine;
use pgbr_testkit::user;

use super::batch::Ground;
use super::case::{Case, Mode};
use crate::Failure;

/// How often a running command is looked at. Both figures only grow, so the last look counts.
const POLL: Duration = Duration::from_micros(500);

/// Enough for the figures to be the same from run to run.
const SEGMENTS: usize = 3;

/// The largest of some runs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Peak {
    /// `VmHWM`: resident.
    pub(super) resident_kib: u64,
    /// `VmPeak`: address space.
    pub(super) address_kib: u64,
}

impl Ground<'_> {
    /// Pushes some segments of the set, and some of random bytes behind a true header, and watches each command.
    pub(super) fn peaks(&mut self, engine: &Engine, case: &Case) -> Result<[Peak; 2], Failure> {
        let (random, random_names) = self.random_segments()?;
        let names = self.wal.names().iter().take(SEGMENTS).cloned().collect();
        let mut peaks = [Peak::default(); 2];
        let inputs: [(PathBuf, Vec<String>); 2] = [(self.wal.data().to_owned(), names), (random, random_names)];
        for (peak, (data, names)) in peaks.iter_mut().zip(inputs) {
            let mode = if engine.name() == "pgbr" { Mode::OursOneByOne } else { Mode::StockOneByOne };
            let stanza = self.stanza(engine, case, mode, data)?;
            for name in names {
                let mut child = stanza.command(&name)?.spawn()?;
                let status = loop {
                    if let Ok(text) = fs::read_to_string(format!("/proc/{}/status", child.id())) {
                        peak.look(&text, &program_name(engine));
                    }
                    match child.try_wait()? {
                        Some(status) => break status,
                        None => std::thread::sleep(POLL),
                    }
                };
                if !status.success() {
                    return Err(stanza.failed(&name));
                }
            }
            self.discard(&stanza)?;
        }
        Ok(peaks)
    }

    fn random_segments(&self) -> Result<(PathBuf, Vec<String>), Failure> {
        let data = self.folder.join("random");
        let names: Vec<String> = self.wal.names().iter().take(SEGMENTS).cloned().collect();
        if data.is_dir() {
            return Ok((data, names));
        }
        user::create_dir(&data.join("global"))?;
        user::create_dir(&data.join("pg_wal"))?;
        for name in ["PG_VERSION", "global/pg_control"] {
            user::write_file(&data.join(name), fs::read(self.wal.data().join(name))?)?;
        }
        for (name, path) in names.iter().zip(self.wal.paths()) {
            let mut bytes = fs::read(path)?;
            let body = bytes.get_mut(8192..).unwrap_or_default();
            std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, body)?;
            user::write_file(&data.join("pg_wal").join(name), bytes)?;
        }
        Ok((data, names))
    }
}

fn program_name(engine: &Engine) -> String {
    engine.binary().file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Peak {
    /// Between fork and exec the process is this program and not yet the one to be watched.
    pub(super) fn look(&mut self, status: &str, program: &str) {
        // The kernel keeps 15 bytes of the name.
        let kept: String = program.chars().take(15).collect();
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        if field("Name") != Some(&kept) {
            return;
        }
        let kib = |name| field(name).and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        self.resident_kib = self.resident_kib.max(kib("VmHWM"));
        self.address_kib = self.address_kib.max(kib("VmPeak"));
    }
}
