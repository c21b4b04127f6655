//! `cargo xtask tools`: installs what tests need and prints where it is.

use crate::Failure;

pub(crate) fn run() -> Result<(), Failure> {
    for line in pgbr_testkit::tools::install_all()? {
        println!("{line}");
    }
    Ok(())
}
