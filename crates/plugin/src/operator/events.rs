//! Events on a Cluster or another object: what its owner should know, where `kubectl describe` shows it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::ids;
use crate::log::Log;

/// The same event is not told again for this long: the operator asks at every reconciliation.
const REPEAT_TIME: Duration = Duration::from_secs(600);

/// Events that are remembered; with more, all are forgotten and may be told again.
const REMEMBERED_MAX: usize = 4_096;

/// The longest note that the API server takes (Kubernetes: `NoteLengthLimit` in pkg/apis/core/validation/events.go, which
/// counts bytes and says characters).
const NOTE_BYTES_MAX: usize = 1024;

/// An event may take this long: the hook waits for it.
const PUBLISH_TIME_MAX: Duration = Duration::from_secs(2);

/// Publishes events. One that cannot be published is a line in the log and nothing more.
#[derive(Clone)]
pub struct Events {
    client: Client,
    told: Arc<Mutex<HashMap<(String, String), Instant>>>,
    log: Log,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Over this client.
    #[must_use]
    pub fn new(client: Client, log: Log) -> Self {
        Self { client, told: Arc::default(), log }
    }

    /// A warning about a Cluster.
    pub async fn warn(&self, cluster: &Cluster, reason: &str, note: String) {
        self.tell(&reference(cluster), EventType::Warning, reason, note).await;
    }

    /// A warning about another object.
    pub async fn warn_about(&self, object: &ObjectReference, reason: &str, note: String) {
        self.tell(object, EventType::Warning, reason, note).await;
    }

    /// Something that a Cluster's owner should know, and that is as it should be.
    pub async fn note(&self, cluster: &Cluster, reason: &str, note: String) {
        self.tell(&reference(cluster), EventType::Normal, reason, note).await;
    }

    async fn tell(&self, object: &ObjectReference, kind: EventType, reason: &str, note: String) {
        let key = (object.uid.clone().unwrap_or_default(), format!("{reason} {note}"));
        {
            let mut told = self.told.lock().await;
            if told.get(&key).is_some_and(|at| at.elapsed() < REPEAT_TIME) {
                return;
            }
            if told.len() >= REMEMBERED_MAX {
                told.clear();
            }
            told.insert(key, Instant::now());
        }
        let field = if object.kind.as_deref() == Some("Cluster") { "cluster" } else { "object" };
        let names = [(field, Value::from(object.name.clone())), ("namespace", Value::from(object.namespace.clone()))];
        match kind {
            EventType::Warning => self.log.warn(&note, &names),
            EventType::Normal => self.log.info(&note, &names),
        }
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(note[..note.floor_char_boundary(NOTE_BYTES_MAX)].to_owned()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        // A recorder that lives on counts a second event of the same reason on the first one, and its note is never seen.
        let reporter = Reporter { controller: ids::PLUGIN_NAME.to_owned(), instance: None };
        let recorder = Recorder::new(self.client.clone(), reporter);
        let published = tokio::time::timeout(PUBLISH_TIME_MAX, recorder.publish(&event, object)).await;
        if !matches!(published, Ok(Ok(()))) {
            self.log.debug("the event was not published", &names);
        }
    }
}

fn reference(cluster: &Cluster) -> ObjectReference {
    let filled = |text: &String| (!text.is_empty()).then(|| text.clone());
    ObjectReference {
        api_version: filled(&cluster.api_version),
        kind: Some("Cluster".to_owned()),
        name: Some(cluster.name.clone()),
        namespace: Some(cluster.namespace.clone()),
        uid: filled(&cluster.uid),
        ..ObjectReference::default()
    }
}
