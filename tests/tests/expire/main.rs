//! `expire` against the original over random repositories, under faults, and killed.

mod account;
mod cli;
mod faults;
mod kill;
mod oracle;
mod random;
mod restored;
mod seed;
mod stage;
