//! WAL in and out over a store in memory, with faults (faults.md, sections PU, GE and NP).

mod get;
mod push;
mod race;
mod world;
