//! Which files are copied, and which stay where the prior backup stored them (repository-behaviour.md §4.7; pgBackRest
//! `manifestBuildIncr` of `src/info/manifest/manifest.c`).
//!
//! A file may be the same although its time is another one: then it is read, and stored only if its content is another
//! one too. Until that is known its row is that of the prior backup, with a reference to it.

use super::delta;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Manifest;
use crate::format::manifest::FileRow;
use crate::postgres::WalSegmentName;
use crate::postgres::data_path::CONTROL_FILE;
use crate::progress::Context;

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing: the prior backup has it, or it is empty and a bundled backup does not store it.
    Keep,
    /// It is copied, unless what was read turns out to be what the row refers to.
    Copy,
    /// Its checksum is compared with the row's first, and it is copied if that is another one.
    Compare,
}

/// What is done with a file, and whether its row becomes that of the prior backup until it is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decision {
    action: Action,
    inherits: bool,
}

/// Decides for each file of a new manifest, by position, and lets the rows that may stay refer to `prior`. `start` is
/// the segment where an online backup starts.
///
/// # Errors
/// [`ErrorKind::FileMissing`] when there is nothing to copy, or no `pg_control` for an online backup.
pub(super) fn settle(
    manifest: &mut Manifest,
    prior: Option<&Manifest>,
    start: Option<WalSegmentName>,
    context: &Context,
) -> Result<Vec<Action>> {
    if let Some(prior) = prior {
        settle_delta(manifest, prior, start, context);
    }
    let delta = manifest.options().delta.unwrap_or(false);
    let is_bundled = manifest.header().bundle;
    let mut actions = Vec::with_capacity(manifest.files().len());
    for position in 0..manifest.files().len() {
        let Some(file) = manifest.files().get(position) else { break };
        let before = prior.and_then(|prior| prior.file(file.name().as_bytes()));
        // A bundled backup lists empty files and does not store them, so there is nothing to refer to.
        let is_stored = |before: &&FileRow| before.size_bytes > 0 || prior.is_some_and(|prior| !prior.header().bundle);
        let before = before.filter(is_stored);
        let decision = decide(file, before, is_bundled, delta);
        if decision.inherits
            && let (Some(prior), Some(before)) = (prior, before)
            && !manifest.reference_prior(position, prior, before)
        {
            return Err(Error::new(ErrorKind::Assert, "a file cannot refer to the prior backup"));
        }
        actions.push(decision.action);
    }
    check(manifest, &actions)?;
    Ok(actions)
}

/// Turns the comparison of contents on where times cannot be trusted.
fn settle_delta(manifest: &mut Manifest, prior: &Manifest, start: Option<WalSegmentName>, context: &Context) {
    let mut delta = manifest.options().delta.unwrap_or(false);
    if let Some(reason) = delta::circumstances(manifest, prior, start) {
        context.warn(reason.to_string());
        delta = true;
    }
    if !delta && let Some(reason) = delta::contradiction(manifest.files(), prior) {
        context.warn(reason.to_string());
        delta = true;
    }
    manifest.options_mut().delta = Some(delta);
}

/// Decides for one file, with the row that the prior backup has of it.
fn decide(file: &FileRow, prior: Option<&FileRow>, is_bundled: bool, delta: bool) -> Decision {
    if file.size_bytes == 0 && is_bundled {
        return Decision { action: Action::Keep, inherits: false };
    }
    let Some(prior) = prior else { return Decision { action: Action::Copy, inherits: false } };
    let is_size_equal = file.size_bytes == prior.size_bytes;
    // The size of blocks cannot change within a set. A file smaller than a block is stored whole, and the map of what
    // it was has no use any more.
    let is_block_base = prior.is_block_incremental()
        && prior.block_incr.is_some_and(|block| file.size_bytes >= block.block_size_bytes.into());
    let action = match (is_size_equal, delta) {
        // Empty files are always equal.
        (true, _) if file.size_bytes == 0 => Action::Keep,
        (true, true) => Action::Compare,
        (true, false) if file.timestamp_s == prior.timestamp_s => Action::Keep,
        _ => Action::Copy,
    };
    Decision { action, inherits: is_size_equal || is_block_base }
}

/// A backup that copies nothing, or no `pg_control` of a running cluster, is none.
fn check(manifest: &Manifest, actions: &[Action]) -> Result<()> {
    let is_copied = |position: usize| actions.get(position).is_some_and(|action| *action != Action::Keep);
    let control = manifest.file_position(CONTROL_FILE.as_bytes());
    if manifest.options().online && !control.is_some_and(is_copied) {
        return Err(Error::new(ErrorKind::FileMissing, "pg_control must be present in all online backups")
            .hint("is something wrong with the clock or filesystem timestamps?"));
    }
    if actions.iter().all(|action| *action == Action::Keep) {
        let message = "no files have changed since the last backup - this seems unlikely";
        return Err(Error::new(ErrorKind::FileMissing, message));
    }
    Ok(())
}
