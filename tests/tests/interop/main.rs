//! One repository, two programs: ours and the original write into it in turns, and both restore every step of it to
//! equal directories.
//!
//! A row of the matrix is a combination of compression, cipher, layout, storage, server and release of the original.
//! The tests run a slice that has every value; `PGBR_INTEROP=all` (or `cargo xtask interop`) runs rows that have every
//! pair of values.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod pairwise;
mod scene;
mod tree;
mod values;

use std::sync::atomic::{AtomicUsize, Ordering};

use scene::{Scene, Step, Who};
use values::Row;

/// What happens to each repository of the slice: full, incremental and differential backups, each on one of the other
/// program, and an expiry of what both wrote.
const STEPS: [Step; 5] = [
    Step::Backup(Who::First, "full"),
    Step::Backup(Who::Second, "incr"),
    Step::Backup(Who::First, "diff"),
    Step::Backup(Who::Second, "full"),
    Step::Expire(Who::First),
];

/// In the whole matrix each type also comes after one of the same program, and the other one expires.
const ALL_STEPS: [Step; 8] = [
    Step::Backup(Who::First, "full"),
    Step::Backup(Who::Second, "incr"),
    Step::Backup(Who::First, "incr"),
    Step::Backup(Who::Second, "diff"),
    Step::Backup(Who::First, "diff"),
    Step::Backup(Who::Second, "full"),
    Step::Backup(Who::First, "incr"),
    Step::Expire(Who::Second),
];

#[test]
fn both_programs_take_turns_in_one_repository() {
    let (rows, steps): (_, &[Step]) = match std::env::var("PGBR_INTEROP").as_deref() {
        Ok("all") => (pairwise::rows(), &ALL_STEPS),
        _ => (pairwise::slice(), &STEPS),
    };
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    run(row, steps);
                }
            });
        }
    });
}

fn run(row: &Row, steps: &[Step]) {
    let mut scene = Scene::new(row);
    for (at, step) in steps.iter().enumerate() {
        scene.take(*step, at + 1 == steps.len());
    }
    scene.the_last_backup_runs();
    println!("{row:?}: {} s", scene.elapsed_s());
}
