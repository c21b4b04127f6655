//! `archive-push`

use pgbr_config::opt;
use pgbr_repo::command::archive::push::{PushOptions, push};
use pgbr_repo::command::archive::{WalSource, measure_queue};
use pgbr_repo::error::ErrorKind;

use super::wal_path;
use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// Archives one file.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    let [parameter] = session.parsed.parameters.as_slice() else {
        return Err(Failure::new(ErrorKind::ParamRequired, "WAL segment to push required"));
    };
    session.test_stop()?;
    let source = WalSource::new(&wal_path::resolve(session, parameter)?)?;
    let options = session.options();
    if let Some(limit_bytes) = options.size_bytes(opt::ARCHIVE_PUSH_QUEUE_MAX)
        && is_queue_full(&source, limit_bytes)?
    {
        let limit = options_text(limit_bytes);
        session.context.warn(format!("dropped WAL file '{}' because archive queue exceeded {limit}", source.name));
        return Ok(Outcome::Done);
    }
    let push_options = PushOptions {
        header_check: options.boolean(opt::ARCHIVE_HEADER_CHECK),
        mode_check: options.boolean(opt::ARCHIVE_MODE_CHECK),
        compress: session.compression()?,
        cluster: session.pg_path().map(|path| session.cluster(&path)).transpose()?,
    };
    let pushed = push(&session.writable_repositories()?, &source, &push_options, &session.context).await?;
    for warning in &pushed.warnings {
        session.context.warn(warning);
    }
    session.context.info(format!("pushed WAL file '{}' to the archive", source.name));
    Ok(Outcome::Done)
}

fn is_queue_full(source: &WalSource, limit_bytes: u64) -> Result<bool, Failure> {
    let Some(directory) = source.path.parent() else { return Ok(false) };
    Ok(measure_queue(directory)?.waiting_bytes > limit_bytes)
}

fn options_text(bytes: u64) -> String {
    pgbr_repo::progress::size_text(bytes)
}
