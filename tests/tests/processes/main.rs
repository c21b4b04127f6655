//! Real processes that are suspended, signalled, starved, and told to stop; clocks and zones; panics (faults.md, sections
//! TC and RE).

mod ahead;
mod clones;
mod limits;
mod locks;
mod modes;
mod options;
mod panics;
mod scene;
mod signals;
mod trace;
mod volume;
mod zones;
