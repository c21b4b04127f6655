//! When an Archive changes, its status shows the settings in effect, and what is wrong with it.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use pgbr_repo::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::objects::{ObjectError, Objects, within};
use super::tally::Tally;
use crate::log::Log;
use crate::resource::{Archive, ArchiveStatus, EffectiveRepository, Truth, Wanted};
use crate::settings::{Findings, archive_findings};

/// Archives in one answer of the API server.
const PAGE_OBJECTS: u32 = 100;

/// Watches the Archives of all namespaces until it is told to stop.
pub async fn run(objects: Objects, tally: Tally, log: Log, stop: CancellationToken) {
    watch(objects, &tally, log, stop).await;
    // Another process watches now, or none does.
    tally.watch_caught_up();
}

async fn watch(objects: Objects, tally: &Tally, log: Log, stop: CancellationToken) {
    tally.watch_began();
    let api: Api<Archive> = Api::all(objects.client().clone());
    let config = watcher::Config::default().page_size(PAGE_OBJECTS);
    let mut events = std::pin::pin!(watcher::watcher(api, config).default_backoff());
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        let archive = match event {
            None => return,
            Some(Ok(Event::Apply(archive) | Event::InitApply(archive))) => archive,
            Some(Ok(Event::Init | Event::Delete(_))) => continue,
            Some(Ok(Event::InitDone)) => {
                tally.watch_caught_up();
                continue;
            }
            Some(Err(error)) => {
                tally.watch_lost();
                log.warn("the Archives cannot be watched", &[("error", Value::from(error.to_string()))]);
                continue;
            }
        };
        if let Err(error) = show_settings(&objects, &archive).await {
            let name = archive.metadata.name.as_deref().unwrap_or_default();
            let fields = [("archive", Value::from(name)), ("error", Value::from(error.to_string()))];
            log.warn("the settings of an Archive were not shown", &fields);
            tally.reconcile_failed();
        }
    }
}

/// Whether the Archive can be used by every command.
fn valid(archive: &Archive) -> Wanted {
    let wanted = |truth, reason, message| Wanted { kind: "Valid", truth, reason, message };
    let Findings { mistakes, warnings } = archive_findings(&archive.spec);
    let joined = |texts: BTreeSet<String>| texts.into_iter().collect::<Vec<_>>().join("; ");
    match (mistakes.is_empty(), warnings.is_empty()) {
        (false, _) => wanted(Truth::False, "Mistake", joined(mistakes)),
        (true, false) => wanted(Truth::True, "WithoutEffect", joined(warnings)),
        (true, true) => wanted(Truth::True, "Understood", "every option is one that its command takes".to_owned()),
    }
}

/// Writes the settings in effect to the Archive's status, and the condition about them.
async fn show_settings(objects: &Objects, archive: &Archive) -> Result<(), ObjectError> {
    let (Some(name), Some(namespace)) = (&archive.metadata.name, &archive.metadata.namespace) else { return Ok(()) };
    let repositories = EffectiveRepository::all(&archive.spec);
    let present = archive.status.as_ref();
    let generation = archive.metadata.generation;
    let before = present.map(|it| it.conditions.as_slice()).unwrap_or_default();
    let conditions = vec![valid(archive).condition(before, SystemClock.now_s())];
    let is_there = |it: &ArchiveStatus| {
        it.observed_generation == generation && it.repositories == repositories && it.conditions == conditions
    };
    if present.is_some_and(is_there) {
        return Ok(());
    }
    let api: Api<Archive> = Api::namespaced(objects.client().clone(), namespace);
    let patch = Patch::Merge(json!({ "status": { "observedGeneration": generation, "repositories": repositories,
        "conditions": conditions } }));
    let parameters = PatchParams::default();
    let written = api.patch_status(name, &parameters, &patch);
    match within(format!("patch archives/status '{namespace}/{name}'"), written).await {
        // It was deleted meanwhile.
        Err(ObjectError::Api { source, .. }) if matches!(&*source, kube::Error::Api(status) if status.code == 404) => {
            Ok(())
        }
        done => done.map(|_| ()),
    }
}
