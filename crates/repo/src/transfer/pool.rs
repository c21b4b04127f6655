//! [`run_jobs`]: bounded workers over a list of jobs.

use std::future::Future;

use futures_util::stream::{self, StreamExt, TryStreamExt};

/// Runs `work` on every job, at most `workers` at once, started in the order of the list. Results are handed to `done`
/// as they come, one at a time, with the job's place in the list. The first error drops the jobs that run and those
/// that wait, and is the result.
///
/// # Errors
/// The first error of `work` or `done`.
pub async fn run_jobs<J, R, E, F>(
    jobs: impl IntoIterator<Item = J>,
    workers: usize,
    work: impl Fn(usize, J) -> F,
    mut done: impl FnMut(usize, R) -> Result<(), E>,
) -> Result<(), E>
where
    F: Future<Output = Result<R, E>>,
{
    let running = stream::iter(jobs.into_iter().enumerate())
        .map(|(place, job)| {
            let job = work(place, job);
            async move { job.await.map(|result| (place, result)) }
        })
        .buffer_unordered(workers.max(1));
    tokio::pin!(running);
    while let Some((place, result)) = running.try_next().await? {
        done(place, result)?;
    }
    Ok(())
}
