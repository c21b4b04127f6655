//! When an Archive changes, its status shows the settings in effect.

use futures_util::StreamExt;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::objects::{ObjectError, Objects, within};
use super::tally::Tally;
use crate::log::Log;
use crate::resource::{Archive, EffectiveRepository};

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

/// Writes the settings in effect to the Archive's status.
async fn show_settings(objects: &Objects, archive: &Archive) -> Result<(), ObjectError> {
    let (Some(name), Some(namespace)) = (&archive.metadata.name, &archive.metadata.namespace) else { return Ok(()) };
    let repositories = EffectiveRepository::all(&archive.spec);
    let present = archive.status.as_ref();
    let generation = archive.metadata.generation;
    if present.is_some_and(|it| it.observed_generation == generation && it.repositories == repositories) {
        return Ok(());
    }
    let api: Api<Archive> = Api::namespaced(objects.client().clone(), namespace);
    let patch = Patch::Merge(json!({ "status": { "observedGeneration": generation, "repositories": repositories } }));
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
