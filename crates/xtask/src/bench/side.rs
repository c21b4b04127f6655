//! Ours and the original side by side: rounds in turns, medians, and one table for all cases.

use pgbr_testkit::engine::Engine;

use super::figures::median;
use super::store::Requests;
use super::watch::Run;
use super::{machine, number, programs};
use crate::Failure;

/// Both programs.
#[derive(Debug)]
pub(super) struct Sides {
    pub(super) ours: Engine,
    pub(super) stock: Engine,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Ours,
    Stock,
}

impl Sides {
    pub(super) fn find() -> Result<Self, Failure> {
        Ok(Self { ours: programs::ours()?, stock: programs::stock()? })
    }

    pub(super) fn engine(&self, side: Side) -> &Engine {
        match side {
            Side::Ours => &self.ours,
            Side::Stock => &self.stock,
        }
    }
}

/// One run with what it asked of the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) run: Run,
    pub(super) requests: Requests,
}

/// All runs of one case.
#[derive(Debug)]
pub(super) struct Compared {
    title: String,
    /// Plain bytes that went through, for the CPU time of a GiB.
    plain_bytes: u64,
    samples: [Vec<Sample>; 2],
}

impl Compared {
    /// Runs `work` for both programs, `rounds` times. What comes second finds the machine warmer or more tired than
    /// what comes first, so they change places from round to round.
    pub(super) fn measure(
        title: impl Into<String>,
        plain_bytes: u64,
        rounds: usize,
        mut work: impl FnMut(Side) -> Result<Sample, Failure>,
    ) -> Result<Self, Failure> {
        let mut compared = Self { title: title.into(), plain_bytes, samples: [Vec::new(), Vec::new()] };
        for round in 0..rounds {
            let mut order = [Side::Ours, Side::Stock];
            if round % 2 == 1 {
                order.reverse();
            }
            for side in order {
                let sample = work(side)?;
                let Run { wall_s, cpu_s, resident_kib, address_kib } = sample.run;
                eprintln!(
                    "{}: {side:?}: {wall_s:.2} s, CPU {cpu_s:.2} s, {} MiB of {} MiB, load {}",
                    compared.title,
                    resident_kib / 1024,
                    address_kib / 1024,
                    machine::load()
                );
                let [ours, stock] = &mut compared.samples;
                match side {
                    Side::Ours => ours.push(sample),
                    Side::Stock => stock.push(sample),
                }
            }
        }
        Ok(compared)
    }

    /// The median of a figure for ours and for the original.
    fn medians(&self, figure: impl Fn(&Sample) -> f64) -> [f64; 2] {
        self.samples.each_ref().map(|samples| median(samples.iter().map(&figure)))
    }

    /// CPU seconds for a GiB of plain bytes, medians of ours and of the original.
    pub(super) fn cpu_s_per_gib(&self) -> [f64; 2] {
        #[expect(clippy::cast_precision_loss, reason = "sizes of this benchmark are small")]
        let gib = (self.plain_bytes as f64 / (1024.0 * 1024.0 * 1024.0)).max(f64::MIN_POSITIVE);
        self.medians(|sample| sample.run.cpu_s).map(|cpu_s| cpu_s / gib)
    }

    fn row(&self) -> String {
        let [ours_s, stock_s] = self.medians(|sample| sample.run.wall_s);
        let [ours_cpu_s, stock_cpu_s] = self.medians(|sample| sample.run.cpu_s);
        let peak_mib = |figure: fn(&Run) -> u64| {
            let peak = |samples: &Vec<Sample>| samples.iter().map(|sample| figure(&sample.run)).max().unwrap_or(0);
            self.samples.each_ref().map(|samples| peak(samples).div_ceil(1024))
        };
        let [ours_mib, stock_mib] = peak_mib(|run| run.resident_kib);
        let [ours_space_mib, _] = peak_mib(|run| run.address_kib);
        let requests = self.samples.each_ref().map(|samples| samples.last().map_or(0, |last| last.requests.total()));
        #[expect(clippy::cast_precision_loss, reason = "sizes of this benchmark are small")]
        let gib = (self.plain_bytes as f64 / (1024.0 * 1024.0 * 1024.0)).max(f64::MIN_POSITIVE);
        let cpu = |cpu_s: f64| if self.plain_bytes == 0 { "–".to_owned() } else { format!("{:.2}", cpu_s / gib) };
        format!(
            "| {} | {ours_s:.2} | {stock_s:.2} | **{:.2}** | {} | {} | **{:.2}** | {ours_mib} | {ours_space_mib} | {stock_mib} \
             | {} | {} |",
            self.title,
            ours_s / stock_s,
            cpu(ours_cpu_s),
            cpu(stock_cpu_s),
            ours_cpu_s / stock_cpu_s,
            requests[0],
            requests[1],
        )
    }
}

/// Prints the table.
pub(super) fn print(all: &[Compared], stock: &Engine, rounds: usize, machine_before: &str) {
    println!("\nMachine: {machine_before}; load after the run {}.", machine::load());
    println!("Medians of {rounds} rounds in turns, against {}; process-max 2.\n", stock.name());
    println!(
        "| case | wall s, ours | stock | ratio | CPU s/GiB, ours | stock | ratio | resident MiB, ours | address space MiB, \
         ours | resident MiB, stock (all processes) | requests, ours | stock |"
    );
    println!("|{}", " --- |".repeat(12));
    for compared in all {
        println!("{}", compared.row());
    }
}

/// Numbers on the command line, each with a default.
pub(super) fn numbers<const N: usize>(arguments: &[String], names: [(&str, usize); N]) -> Result<[usize; N], Failure> {
    let mut values = names.map(|(_, default)| default);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match names.iter().position(|(name, _)| name == argument) {
            Some(place) => values[place] = number(argument, rest.next())?,
            None => {
                let known: Vec<String> = names.iter().map(|(name, default)| format!("[{name} {default}]")).collect();
                return Err(Failure::new(format!("unknown argument {argument:?}, expected {}", known.join(" "))));
            }
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_defaults_and_names() {
        let parse = |text: &str| {
            let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            numbers(&words, [("--mb", 1500), ("--rounds", 3)])
        };
        assert_eq!(parse("").unwrap(), [1500, 3]);
        assert_eq!(parse("--rounds 1 --mb 20").unwrap(), [20, 1]);
        assert!(parse("--mb").is_err() && parse("--size 1").is_err() && parse("--mb x").is_err());
    }

    #[test]
    fn sides_take_turns_and_ratios_are_ours_by_theirs() {
        let mut order = Vec::new();
        let compared = Compared::measure("case", 1 << 30, 2, |side| {
            order.push(side);
            let wall_s = if side == Side::Ours { 1.0 } else { 4.0 };
            let run = Run { wall_s, cpu_s: 2.0 * wall_s, resident_kib: 1024, address_kib: 2048 };
            Ok(Sample { run, requests: Requests::default() })
        });
        assert_eq!(order, [Side::Ours, Side::Stock, Side::Stock, Side::Ours]);
        let row = compared.unwrap().row();
        assert!(row.starts_with("| case | 1.00 | 4.00 | **0.25** | 2.00 | 8.00 | **0.25** | 1 | 2 | 1 |"), "{row}");
    }
}
