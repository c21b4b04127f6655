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

/// What happens to each repository. Every type is based on a backup of the other program and on one of its own.
const STEPS: [Step; 8] = [
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
    let rows = match std::env::var("PGBR_INTEROP").as_deref() {
        Ok("all") => pairwise::rows(),
        _ => pairwise::slice(),
    };
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    run(row);
                }
            });
        }
    });
}

fn run(row: &Row) {
    let mut scene = Scene::new(row);
    for step in STEPS {
        scene.take(step);
    }
    scene.the_last_backup_runs();
    println!("{row:?}: {} s", scene.elapsed_s());
}
