//! A backup into a directory (repository-behaviour.md §5).
//!
//! Nothing is changed before the backup was chosen, its manifest read, every destination checked and every object of the
//! backup found. Then `pg_control` goes first and comes back last, when everything else is durable: a server cannot
//! start on a half-restored directory, and `--delta` goes on where a restore was interrupted.

mod block;
mod databases;
mod file;
mod finish;
mod options;
mod plan;
mod preflight;
mod prepare;
mod process;
pub mod recovery;
mod remap;
mod validate;

use std::sync::Arc;

use crate::error::Result;
use crate::progress::{Context, Scope, blocking, size_text};
use crate::repository::Repository;
use crate::repository::backup_choice::choose_backup;

use file::Restorer;

pub use databases::DatabaseChoice;
pub use options::{PageErrors, RestoreOptions, RestoreOutcome};

/// Restores a backup out of one of `repositories`, which are searched in order.
///
/// # Errors
/// Those of the original, before any change where that is possible: running server 38, directory not empty 40, no such
/// backup 75, unreachable timeline 58, wrong mappings 76, 78, 70, missing objects 55, invalid pages 26; later a file's
/// damage 26, 29, 42, 55 or 95, or what the system says.
pub async fn restore(
    repositories: &[Repository],
    options: &RestoreOptions,
    context: &Context,
) -> Result<RestoreOutcome> {
    let scope = Scope::new(context);
    scope.run(restore_one(repositories, options, scope.context())).await
}

async fn restore_one(
    repositories: &[Repository],
    options: &RestoreOptions,
    context: &Context,
) -> Result<RestoreOutcome> {
    let mut options = options.clone();
    validate::check_destination(&mut options, context)?;
    validate::remove_spool(&options)?;
    let chosen = choose_backup(repositories, &options.goal(), context).await?;
    let (repository, label) = (chosen.repository, chosen.label);
    let passphrase = repository.manifest_passphrase(&chosen.info)?;
    let manifest = repository.manifest(&label, passphrase.as_ref(), context).await?;
    validate::check_timeline(repository, &manifest, &options, context).await?;
    validate::settle_type(&manifest, &mut options);
    validate::check_manifest(&manifest, &label)?;
    context.info(validate::begin_line(repository, &manifest, &options));

    let layout = remap::remap(&manifest, &options, context)?;
    let empty = databases::choose(&manifest, &options.databases, &layout.data)?;
    prepare::describe_databases(empty.as_ref(), context);
    let plan = plan::plan(&manifest, empty.as_ref(), |row| !layout.is_skipped(row.name().as_bytes()));
    validate::check_pages(&manifest, &plan, empty.as_ref(), options.page_errors, context)?;
    preflight::check_objects(repository, &manifest, &plan, empty.as_ref()).await?;
    let passphrase = repository.backup_passphrase(&manifest)?;

    context.check_cancelled()?;
    let (manifest, layout, roots) = prepare::prepare(manifest, layout, &options, context).await?;
    let outcome = RestoreOutcome {
        repository: repository.index(),
        label,
        size_bytes: plan.size_bytes,
        file_count: plan.file_count(),
    };
    let restorer = Arc::new(Restorer {
        repository: repository.clone(),
        manifest,
        passphrase,
        layout,
        roots,
        reuse: prepare::reuse(&options),
        empty,
        codecs: context.codecs.clone(),
        cancel: context.cancel.clone(),
    });
    prepare::check_room(&restorer, &plan, context);
    let now_s = context.clock.now_s();
    process::restore_files(&restorer, &plan, options.workers, options.read_over_bytes, context).await?;
    let (work, surroundings) = (Arc::clone(&restorer), context.clone());
    blocking(move || {
        let version = work.manifest.cluster().version;
        let now = validate::time_text(now_s, &options);
        finish::write_recovery(&work.roots, &options.recovery, version, now_s, &now, &surroundings)?;
        surroundings.check_cancelled()?;
        finish::make_durable(&work.roots)?;
        finish::place_control(&work, &options, &surroundings)
    })
    .await?;
    let (size, files) = (size_text(outcome.size_bytes), outcome.file_count);
    context.info(format!("restore size = {size}, file total = {files}"));
    Ok(outcome)
}
