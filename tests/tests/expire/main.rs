//! `expire` against the original over random repositories, under faults, and killed.

mod faults;
mod oracle;
mod random;
mod seed;
mod stage;
mod world;
