//! The stanza commands and `check`, compared with the original on the same states: exit codes, log lines, files.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod both;
mod check;
mod delete;
mod exclusion;
mod kills;
mod states;
mod upgrade;
