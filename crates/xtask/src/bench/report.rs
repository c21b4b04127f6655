//! The figures as Markdown.

use std::fmt::Write as _;

use super::case::Mode;
use super::figures::{median, percentile};
use super::memory::Peak;
use super::store::Requests;
use super::wal_push::CaseResult;

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
const SEGMENT_BYTES: f64 = 16.0 * 1024.0 * 1024.0;

/// All that a reader needs to judge the figures.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) machine: String,
    pub(super) load_after: String,
    pub(super) wal: String,
    pub(super) rounds: usize,
    pub(super) delay_ms: usize,
    pub(super) stock: String,
    pub(super) results: &'a [CaseResult],
}

/// The middle of what the rounds gave.
#[derive(Debug, Clone, Copy)]
struct Summary {
    wall_s: f64,
    cpu_s_per_gib: f64,
    p50_ms: f64,
    p99_ms: f64,
    stored_part: f64,
}

/// Ours, against what.
const PAIRS: [(Mode, Mode, &str); 5] = [
    (Mode::OursOneByOne, Mode::StockOneByOne, "one by one"),
    (Mode::OursTwo, Mode::StockTwo, "two at a time"),
    (Mode::OursResident, Mode::StockAsync, "resident against archive-async, process-max 2"),
    (Mode::OursResident, Mode::StockOneByOne, "resident against one by one"),
    (Mode::OursAsync, Mode::StockAsync, "archive-async, process-max 2"),
];

impl Report<'_> {
    pub(super) fn markdown(&self) -> String {
        let mut text = String::new();
        let _infallible = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\nMachine: {}; load after the run {}.\n", self.machine, self.load_after)?;
        let delay = match self.delay_ms {
            0 => String::new(),
            ms => format!(", every answer {ms} ms later"),
        };
        writeln!(out, "{}; {} rounds; HTTPS S3 on loopback{delay}; against {}.\n", self.wal, self.rounds, self.stock)?;
        self.write_ratios(out)?;
        self.write_figures(out)?;
        self.write_memory(out)
    }

    fn write_ratios(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "Ours ÷ stock, ratios of medians:\n")?;
        writeln!(out, "| case | wall | CPU | p50 | p99 | our CPU ÷ chain | our p50 ÷ chain |")?;
        writeln!(out, "| --- | --- | --- | --- | --- | --- | --- |")?;
        for result in self.results {
            let chain_cpu = median(result.chain.iter().map(|time| time.cpu_s)) * GIB / SEGMENT_BYTES;
            let chain_ms = median(result.chain.iter().map(|time| time.wall_s)) * 1e3;
            for (ours, stock, how) in PAIRS {
                // An asynchronous command mostly finds its segment pushed: its time is not that of a push.
                let comparable = !stock.is_async();
                let (Some(ours), Some(stock)) = (result.summary(ours), result.summary(stock)) else { continue };
                let latency = |ratio: f64| if comparable { format!("{ratio:.2}") } else { "–".to_owned() };
                writeln!(
                    out,
                    "| {}, {how} | {:.2} | {:.2} | {} | {} | {:.2} | {:.2} |",
                    result.case.title(),
                    ours.wall_s / stock.wall_s,
                    ours.cpu_s_per_gib / stock.cpu_s_per_gib,
                    latency(ours.p50_ms / stock.p50_ms),
                    latency(ours.p99_ms / stock.p99_ms),
                    ours.cpu_s_per_gib / chain_cpu,
                    ours.p50_ms / chain_ms,
                )?;
            }
        }
        writeln!(out)
    }

    fn write_figures(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "| case | who | wall s | CPU s/GiB | p50 ms | p99 ms | requests a segment | stored |")?;
        writeln!(out, "| --- | --- | --- | --- | --- | --- | --- | --- |")?;
        for result in self.results {
            let cpu = median(result.chain.iter().map(|time| time.cpu_s)) * GIB / SEGMENT_BYTES;
            let ms = |percent| percentile(result.chain.iter().map(|time| time.wall_s * 1e3), percent);
            let title = result.case.title();
            writeln!(out, "| {title} | chain alone, one thread | | {cpu:.2} | {:.0} | {:.0} | | |", ms(50), ms(99))?;
            for mode in Mode::ALL {
                let Some(summary) = result.summary(mode) else { continue };
                writeln!(
                    out,
                    "| {title} | {} | {:.2} | {:.2} | {:.0} | {:.0} | {} | {:.1} % |",
                    mode.title(),
                    summary.wall_s,
                    summary.cpu_s_per_gib,
                    summary.p50_ms,
                    summary.p99_ms,
                    result.requests(mode),
                    summary.stored_part * 100.0,
                )?;
            }
        }
        writeln!(out)
    }

    fn write_memory(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "| peak of one command | ours, WAL | ours, random bytes | stock, WAL | stock, random bytes |")?;
        writeln!(out, "| --- | --- | --- | --- | --- |")?;
        let mib = |kib: u64| kib.div_ceil(1024);
        let mut write_row = |title: &str, what: &str, kib: [u64; 4]| {
            write!(out, "| {title}: {what}, MiB |")?;
            kib.into_iter().try_for_each(|kib| write!(out, " {} |", mib(kib)))?;
            writeln!(out)
        };
        for result in self.results {
            let [[ours, ours_random], [stock, stock_random]] = result.peaks;
            let peaks = [ours, ours_random, stock, stock_random];
            write_row(&result.case.title(), "resident", peaks.map(|peak| peak.resident_kib))?;
            write_row(&result.case.title(), "address space", peaks.map(|peak| peak.address_kib))?;
        }
        writeln!(
            out,
            "\n| peak of the resident engine, WAL | resident, MiB | address space, MiB |\n| --- | --- | --- |"
        )?;
        for result in self.results {
            let peaks =
                || result.batches.get(&Mode::OursResident).into_iter().flatten().filter_map(|batch| batch.resident);
            let most = |of: fn(Peak) -> u64| peaks().map(of).max().unwrap_or(0);
            let (resident, address) = (most(|peak| peak.resident_kib), most(|peak| peak.address_kib));
            writeln!(out, "| {} | {} | {} |", result.case.title(), mib(resident), mib(address))?;
        }
        Ok(())
    }
}

impl CaseResult {
    fn summary(&self, mode: Mode) -> Option<Summary> {
        let batches = self.batches.get(&mode)?;
        #[expect(clippy::cast_precision_loss, reason = "counts of segments and bytes of this benchmark are small")]
        let (plain_bytes, stored_bytes) =
            (self.segments as f64 * SEGMENT_BYTES, batches.first().map_or(0, |batch| batch.stored_bytes) as f64);
        let ms = || batches.iter().flat_map(|batch| &batch.pushes).map(|taken| taken.as_secs_f64() * 1e3);
        Some(Summary {
            wall_s: median(batches.iter().map(|batch| batch.wall.as_secs_f64())),
            cpu_s_per_gib: median(batches.iter().map(|batch| batch.cpu_s)) * GIB / plain_bytes,
            p50_ms: percentile(ms(), 50),
            p99_ms: percentile(ms(), 99),
            stored_part: stored_bytes / plain_bytes,
        })
    }

    /// `2 LIST, 1 GET, 1 PUT`, the mean of all rounds.
    fn requests(&self, mode: Mode) -> String {
        let batches = self.batches.get(&mode).map(Vec::as_slice).unwrap_or_default();
        let mut sum = Requests::default();
        batches.iter().for_each(|batch| sum += batch.requests);
        sum.a_segment(batches.len() * self.segments)
    }
}

impl Requests {
    /// The mean of so many segments: `2 LIST, 1 GET, 1 PUT`.
    pub(super) fn a_segment(self, segments: usize) -> String {
        #[expect(clippy::cast_precision_loss, reason = "counts of segments and requests of this benchmark are small")]
        let mean = |count: u64| count as f64 / segments as f64;
        [("LIST", self.list), ("GET", self.get), ("HEAD", self.head), ("PUT", self.put), ("other", self.other)]
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{} {name}", short(mean(count))))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// One digit behind the point, unless it is 0.
fn short(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!((short(2.0).as_str(), short(2.04).as_str(), short(2.06).as_str()), ("2", "2", "2.1"));
    }
}
