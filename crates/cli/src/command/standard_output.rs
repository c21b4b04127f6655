//! Standard output for what a command prints, where programs read it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use pgbr_repo::error::ErrorKind;
use pgbr_repo::progress::{Context, Level, Progress, Reporter};

use crate::exit::Failure;

/// Standard output without a buffer of lines.
pub fn open() -> Result<File, Failure> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned().map_err(|error| failed(&error))?))
}

/// Prints the whole text. A reader that has left is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    check(open()?.write_all(text.as_bytes()))
}

/// The failure of a write; a reader that has left is none.
pub fn check(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(failed(&error)),
        _ => Ok(()),
    }
}

fn failed(error: &io::Error) -> Failure {
    Failure::new(ErrorKind::FileWrite, format!("unable to write to standard output: {error}"))
}

/// The context of a command whose output is data: the console log goes to standard output too, so that a warning would
/// stand within the data. It is logged as information.
pub fn quiet(context: &Context) -> Context {
    Context { reporter: Arc::new(Quiet(Arc::clone(&context.reporter))), ..context.clone() }
}

#[derive(Debug)]
struct Quiet(Arc<dyn Reporter>);

impl Reporter for Quiet {
    fn message(&self, level: Level, worker: usize, text: &str) {
        self.0.message(level.max(Level::Info), worker, text);
    }

    fn progress(&self, progress: Progress) {
        self.0.progress(progress);
    }
}
