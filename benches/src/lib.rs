//! What the benchmarks measure with: inputs that are the same in every run, the filter chain over a segment, and a
//! manifest of any size.
//!
//! The benchmarks of single functions are in `benches/`; `pgbr-bench` is the program behind `cargo xtask bench`, and
//! `README.md` has the figures.

pub mod chain;
pub mod input;
pub mod manifest;
