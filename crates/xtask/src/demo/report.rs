//! What the demo prints: a line a step, with its time and what came of it.

use std::io::Write;
use std::time::Instant;

use crate::Failure;

/// Numbers the steps and adds up their time.
#[derive(Debug)]
pub(super) struct Report {
    started: Instant,
    step: u32,
}

impl Report {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), step: 0 }
    }

    /// Does a step; `work` answers its result and a figure to show.
    pub(super) fn step<T>(
        &mut self,
        title: &str,
        work: impl FnOnce() -> Result<(T, String), Failure>,
    ) -> Result<T, Failure> {
        self.step += 1;
        print!("{:>2}  {title:<50}", self.step);
        // Only so that a slow step shows its title; a lost line harms nobody.
        let _flushed = std::io::stdout().flush();
        let started = Instant::now();
        let done = work();
        let seconds = started.elapsed().as_secs_f64();
        match done {
            Ok((result, figure)) => {
                println!(" {seconds:>6.2} s  {figure}");
                Ok(result)
            }
            Err(failure) => {
                println!(" {seconds:>6.2} s  FAILED");
                Err(failure)
            }
        }
    }

    pub(super) fn print_total(&self) {
        println!("{} steps in {:.1} s: what was lost is back", self.step, self.started.elapsed().as_secs_f64());
    }
}

/// A size for people, in binary units.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let exponent = (count.ilog2() / 10).min(4);
    let unit = UNITS[usize::try_from(exponent - 1).unwrap_or(0)];
    let tenths = (u128::from(count) * 10) >> (10 * exponent);
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal_and_the_largest_fitting_unit() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(1024 * 1024), "1.0 MiB");
        assert_eq!(bytes(u64::MAX), "16777215.9 TiB");
    }
}
