//! A command and all processes that it starts, watched from outside: time, CPU time, peak memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::batch::children_cpu_s;
use crate::Failure;

/// How often the running processes are looked at; peaks only grow, so the last look before an end counts.
const POLL: Duration = Duration::from_millis(5);

/// What one run took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) wall_s: f64,
    /// User and system time of all processes.
    pub(super) cpu_s: f64,
    /// The sum of the resident peaks of all processes.
    pub(super) resident_kib: u64,
    /// The sum of the peaks of address space of all processes.
    pub(super) address_kib: u64,
}

/// Runs `command` to its end; its output goes to `output` and into the error when it fails.
pub(super) fn run(command: &mut Command, output: &Path) -> Result<Run, Failure> {
    let file = fs::File::create(output)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let (cpu_s, started) = (children_cpu_s()?, Instant::now());
    let mut child = command.spawn()?;
    let mut peaks = BTreeMap::new();
    let status = loop {
        look(child.id(), &mut peaks);
        match child.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(POLL),
        }
    };
    let wall_s = started.elapsed().as_secs_f64();
    if !status.success() {
        let printed = String::from_utf8_lossy(&fs::read(output)?).into_owned();
        return Err(Failure::new(format!("{command:?}: {status}\n{printed}")));
    }
    Ok(Run {
        wall_s,
        cpu_s: children_cpu_s()? - cpu_s,
        resident_kib: peaks.values().map(|(resident, _)| resident).sum(),
        address_kib: peaks.values().map(|(_, address)| address).sum(),
    })
}

/// Notes the peaks of a process and of those below it. Between fork and exec a process is still this program: such a
/// look is replaced by the next one of the same process, since both fall back when the new program begins.
fn look(process: u32, peaks: &mut BTreeMap<u32, (u64, u64)>) {
    let Ok(status) = fs::read_to_string(format!("/proc/{process}/status")) else { return };
    let kib = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    if let (Some(resident), Some(address)) = (kib("VmHWM"), kib("VmPeak")) {
        peaks.insert(process, (resident, address));
    }
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|child| child.parse().ok()).for_each(|child| look(child, peaks));
}
