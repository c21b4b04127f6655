//! Deleted Backups that nobody looks after any more are let go.
//!
//! The sidecar holds a Backup until its backup is removed (`upkeep::deletion`). Without a Cluster, or one that archives with this
//! plugin, there is no such sidecar, and the object would stay for ever. The repository is never touched from here.

use kube::api::{Api, ListParams};
use kube::core::PartialObjectMeta;
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio::time::Duration;
use tokio_util::sync::CancellationToken;

use super::objects::{ObjectError, within};
use super::tally::Tally;
use crate::cluster::{Presence, presence};
use crate::log::Log;
use crate::upkeep::backup_objects;
use crate::{finalizer, ids, parameters};

/// How often deleted Backups are looked for.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// Objects in one answer of the API server.
const PAGE_OBJECTS: u32 = 500;

/// Looks every `interval` until it is told to stop.
pub async fn run(client: Client, interval: Duration, tally: Tally, log: Log, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        if let Err(error) = round(&client, &tally, &log).await {
            tally.reconcile_failed();
            log.debug("Deleted Backups could not be looked at", &[("error", Value::from(error.to_string()))]);
        }
    }
}

async fn round(client: &Client, tally: &Tally, log: &Log) -> Result<(), ObjectError> {
    for deleted in deleted(client).await? {
        let (namespace, name) = (deleted.namespace().unwrap_or_default(), deleted.name_any());
        match release(client, &namespace, &name).await {
            Ok(false) => {}
            Ok(true) => {
                let fields = [("backup", Value::from(name)), ("namespace", Value::from(namespace))];
                log.info("A Backup without a sidecar is let go without its backup", &fields);
            }
            // The others are no worse for it.
            Err(error) => {
                let fields = [("backup", Value::from(name)), ("error", Value::from(error.to_string()))];
                log.warn("A deleted Backup could not be let go", &fields);
                tally.reconcile_failed();
            }
        }
    }
    Ok(())
}

/// The Backups of all namespaces that are being deleted and held by us, by their metadata.
async fn deleted(client: &Client) -> Result<Vec<PartialObjectMeta<kube::api::DynamicObject>>, ObjectError> {
    let api = Api::all_with(client.clone(), &backup_objects::resource_of(""));
    let mut found = Vec::new();
    let mut parameters = ListParams::default().limit(PAGE_OBJECTS);
    loop {
        let page = within("list backups".to_owned(), api.list_metadata(&parameters)).await?;
        let is_wanted = |object: &PartialObjectMeta<_>| {
            object.metadata.deletion_timestamp.is_some() && finalizer::is_in(&object.metadata)
        };
        found.extend(page.items.into_iter().filter(is_wanted));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// Lets one go if no sidecar looks after it; whether it did.
async fn release(client: &Client, namespace: &str, name: &str) -> Result<bool, ObjectError> {
    let resource = backup_objects::resource_of("");
    let api: Api<kube::api::DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let Some(object) = within(format!("get backups '{namespace}/{name}'"), api.get_opt(name)).await? else {
        return Ok(false);
    };
    let cluster = object.data.pointer("/spec/cluster/name").and_then(Value::as_str).unwrap_or_default();
    let is_forsaken = cluster.is_empty()
        || match presence(client.clone(), ids::CNPG_API_VERSION, namespace, cluster).await? {
            Presence::Goes => true,
            Presence::Stays(cluster) => parameters::own(&cluster).is_none(),
        };
    if is_forsaken {
        finalizer::remove(&api, name).await?;
    }
    Ok(is_forsaken)
}
