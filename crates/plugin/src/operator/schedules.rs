//! A ScheduledBackup whose parameters cannot be used is told so when it is written, not by the backup that fails at night.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource, ResourceExt};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::events::Events;
use super::objects::{ObjectError, Objects};
use crate::cluster::{Presence, presence};
use crate::log::Log;
use crate::resource::ArchiveSpec;
use crate::settings::parameter_mistake;
use crate::{ids, parameters};

/// Objects in one answer of the API server.
const PAGE_OBJECTS: u32 = 100;

/// The kind.
const KIND: &str = "ScheduledBackup";

/// Watches the ScheduledBackups of all namespaces until it is told to stop.
pub async fn run(client: Client, log: Log, stop: CancellationToken) {
    let (group, version) = ids::CNPG_API_VERSION.split_once('/').unwrap_or((ids::CNPG_GROUP, "v1"));
    let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, KIND), "scheduledbackups");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    let config = watcher::Config::default().page_size(PAGE_OBJECTS);
    let mut changes = std::pin::pin!(watcher::watcher(api, config).default_backoff());
    let events = Events::new(client.clone(), log.clone());
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return,
            change = changes.next() => change,
        };
        let schedule = match change {
            None => return,
            Some(Ok(Event::Apply(schedule) | Event::InitApply(schedule))) => schedule,
            Some(Ok(_)) => continue,
            // Without the kind, or the right to see it, backups tell their mistakes themselves.
            Some(Err(error)) => {
                log.debug("ScheduledBackups cannot be watched", &[("error", Value::from(error.to_string()))]);
                continue;
            }
        };
        if let Err(error) = look(&client, &events, &schedule).await {
            let fields = [("scheduledBackup", Value::from(schedule.name_any())), ("error", error.to_string().into())];
            log.debug("A ScheduledBackup could not be looked at", &fields);
        }
    }
}

async fn look(client: &Client, events: &Events, schedule: &DynamicObject) -> Result<(), ObjectError> {
    let Some(given) = given(&schedule.data) else { return Ok(()) };
    let namespace = schedule.namespace().unwrap_or_default();
    let cluster = schedule.data.pointer("/spec/cluster/name").and_then(Value::as_str).unwrap_or_default();
    // The cluster may be made after the schedule.
    let archive = archive_of(client, &namespace, cluster).await?;
    if let Some(mistake) = parameter_mistake(archive.as_ref(), &given) {
        events.warn_about(&reference(schedule, &namespace), "ParametersNotUnderstood", mistake).await;
    }
    Ok(())
}

/// The parameters, if the schedule is one of ours.
fn given(schedule: &Value) -> Option<BTreeMap<String, String>> {
    let plugin = schedule.pointer("/spec/pluginConfiguration")?;
    if plugin.get("name").and_then(Value::as_str) != Some(ids::PLUGIN_NAME) {
        return None;
    }
    let parameters = plugin.get("parameters").and_then(Value::as_object).into_iter().flatten();
    Some(parameters.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect())
}

/// The Archive that the cluster of a schedule writes to, if both are there.
async fn archive_of(client: &Client, namespace: &str, cluster: &str) -> Result<Option<ArchiveSpec>, ObjectError> {
    let cluster = match presence(client.clone(), ids::CNPG_API_VERSION, namespace, cluster).await? {
        Presence::Stays(cluster) => cluster,
        Presence::Goes => return Ok(None),
    };
    let Some(own) = parameters::own(&cluster) else { return Ok(None) };
    let names = BTreeSet::from([own.archive]);
    match Objects::new(client.clone()).archives(namespace, &names).await {
        Ok(archives) => Ok(archives.into_values().next()),
        Err(ObjectError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn reference(schedule: &DynamicObject, namespace: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(ids::CNPG_API_VERSION.to_owned()),
        kind: Some(KIND.to_owned()),
        name: schedule.meta().name.clone(),
        namespace: Some(namespace.to_owned()),
        uid: schedule.uid(),
        ..ObjectReference::default()
    }
}
