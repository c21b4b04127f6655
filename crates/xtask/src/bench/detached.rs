//! Processes that detach from the one that started them, such as the original's asynchronous archiver: they become
//! children of this program, which waits for them and counts their CPU time.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, wait};

use crate::Failure;

/// An archiver that has nothing to do ends at once.
const LIMIT: Duration = Duration::from_secs(60);

/// From now on orphans among the descendants become children of this program.
pub(super) fn adopt() -> Result<(), Failure> {
    // Which number is given does not matter, only that there is one.
    set_child_subreaper(Some(getpid())).map_err(std::io::Error::from)?;
    Ok(())
}

/// Waits until no child is left but the one that stays. No other thread may have children then.
pub(super) fn wait_for_all_but(staying: u32) -> Result<(), Failure> {
    let deadline = Instant::now() + LIMIT;
    loop {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        let others = children()?.into_iter().filter(|child| *child != staying).count();
        if others == 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(format!("{others} detached processes do not end")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn children() -> Result<Vec<u32>, Failure> {
    let own = getpid();
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Ok(process) = name.parse::<u32>() else { continue };
        // It may be gone by now.
        let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { continue };
        if parent(&stat) == Some(own) {
            children.push(process);
        }
    }
    Ok(children)
}

/// The fourth field of a process's `stat`; the second may hold blanks and parentheses.
fn parent(stat: &str) -> Option<Pid> {
    let (_, rest) = stat.rsplit_once(')')?;
    Pid::from_raw(rest.split_whitespace().nth(1)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_stands_behind_a_name_with_parentheses() {
        assert_eq!(parent("7 (a) b) S 42 7 7"), Pid::from_raw(42));
        assert_eq!(parent("7"), None);
    }
}
