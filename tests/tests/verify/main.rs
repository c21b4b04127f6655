//! `verify` against the truth: the text of the original on whole repositories, and on damaged ones the outcome of a
//! restore of every backup.

mod damage;
mod rows;
mod store;
mod text;
mod truth;
mod world;
