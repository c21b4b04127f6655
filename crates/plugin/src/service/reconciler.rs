//! The ReconcilerHooks service: before a Cluster's Pods and Jobs are made, their rights are.

use std::collections::BTreeMap;

use serde_json::Value;
use tonic::{Request, Response, Status};

use super::lifecycle::{HOOK_TIME_MAX, Injection};
use crate::cluster::Cluster;
use crate::lenient::{InputError, Node, json};
use crate::log::Log;
use crate::operator::events::Events;
use crate::operator::objects::{Change, ObjectError, Objects};
use crate::parameters::{archives, enabled_plugin, own};
use crate::patch::rbac::{self, Originals};
use crate::proto::reconciler::reconciler_hooks_capability::Kind;
use crate::proto::reconciler::reconciler_hooks_result::Behavior;
use crate::proto::reconciler::reconciler_hooks_server::ReconcilerHooks;
use crate::proto::reconciler::{
    ReconcilerHooksCapabilitiesRequest, ReconcilerHooksCapabilitiesResult, ReconcilerHooksCapability,
    ReconcilerHooksRequest, ReconcilerHooksResult,
};
use crate::resource::ArchiveSpec;

/// When the operator asks again after an Archive was missing, in seconds.
const REQUEUE_S: i64 = 10;

/// The hooks around a reconciliation.
#[derive(Clone)]
pub struct Reconciler {
    objects: Objects,
    events: Events,
    injection: Injection,
    log: Log,
}

impl Reconciler {
    /// Over this API server.
    #[must_use]
    pub fn new(objects: Objects, events: Events, injection: Injection, log: Log) -> Self {
        Self { objects, events, injection, log }
    }

    async fn before(&self, request: &ReconcilerHooksRequest) -> Result<Behavior, ObjectError> {
        if !is_cluster(&request.resource_definition)? {
            return Ok(Behavior::Continue);
        }
        let cluster = Cluster::parse(&request.resource_definition)?;
        if !request.cluster_definition.is_empty() {
            let stated = Cluster::parse(&request.cluster_definition)?;
            if (&stated.namespace, &stated.name) != (&cluster.namespace, &cluster.name) {
                let problem = format!("is '{}/{}' in one definition and", stated.namespace, stated.name);
                let problem = format!("{problem} '{}/{}' in the other", cluster.namespace, cluster.name);
                return Err(InputError::new("metadata", problem).into());
            }
        }
        self.advise(&cluster).await;
        let names = archives(&cluster);
        if names.is_empty() {
            return Ok(Behavior::Continue);
        }
        let archives = match self.objects.archives(&cluster.namespace, &names).await {
            Err(missing @ ObjectError::Missing { .. }) => {
                self.events.warn(&cluster, "ArchiveMissing", missing.to_string()).await;
                return Ok(Behavior::Requeue);
            }
            archives => archives?,
        };
        // A cluster that runs must go on being looked after: its sidecars refuse the repository, and it is told.
        if !self.is_allowed(&cluster, &archives).await? && cluster.status.current_primary.is_none() {
            return Ok(Behavior::Requeue);
        }
        let (role, binding) = self.ensure_rights(&cluster, &archives).await?;
        if [role, binding].iter().any(|change| matches!(change, Change::Created | Change::Patched)) {
            let fields = [
                ("cluster", Value::from(cluster.name.as_str())),
                ("namespace", Value::from(cluster.namespace.as_str())),
                ("role", Value::from(format!("{role:?}"))),
                ("roleBinding", Value::from(format!("{binding:?}"))),
            ];
            self.log.info("the rights of the cluster's pods were renewed", &fields);
        }
        Ok(Behavior::Continue)
    }

    /// Makes Role and RoleBinding what they should be.
    async fn ensure_rights(
        &self,
        cluster: &Cluster,
        archives: &BTreeMap<String, ArchiveSpec>,
    ) -> Result<(Change, Change), ObjectError> {
        let wanted = rbac::role(cluster, archives)?;
        let mut role = self.objects.ensure_role(&wanted, Originals::Unknown).await?;
        if role == Change::Waits {
            let originals = self.objects.originals(cluster).await?;
            if !originals.is_empty() {
                self.tell_waiting(cluster, &originals).await;
                // Nor can who does not hold all that the Role gives bind it to anybody.
                return Ok((role, Change::Waits));
            }
            role = self.objects.ensure_role(&wanted, Originals::Gone).await?;
        }
        Ok((role, self.objects.ensure_role_binding(&rbac::role_binding(cluster)?).await?))
    }

    /// The original's sidecars read their Secrets through the Role: it stays as it is until the last of them is replaced, and
    /// ours have the rights of the original so long.
    async fn tell_waiting(&self, cluster: &Cluster, originals: &[String]) {
        let note = format!(
            "the rights of the pods are renewed when {} {} replaced: until then no status is written, and backups are taken \
             on the primary",
            originals.join(", "),
            if originals.len() == 1 { "is" } else { "are" }
        );
        self.events.note(cluster, "RightsWait", note).await;
    }

    /// Whether every repository is within the administrator's limit; the owner is told what is not.
    async fn is_allowed(
        &self,
        cluster: &Cluster,
        archives: &BTreeMap<String, ArchiveSpec>,
    ) -> Result<bool, ObjectError> {
        let Some(limit) = self.injection.limit(&cluster.namespace)? else { return Ok(true) };
        let mut is_allowed = true;
        for (name, archive) in archives {
            if let Err(why) = limit.check_fields(&archive.configuration.repositories) {
                self.events.warn(cluster, "ArchiveNotAllowed", format!("Archive '{name}': {why}")).await;
                is_allowed = false;
            }
        }
        Ok(is_allowed)
    }

    /// Tells a Cluster's owner what is legal and dangerous.
    async fn advise(&self, cluster: &Cluster) {
        let Some(plugin) = enabled_plugin(cluster) else { return };
        if own(cluster).is_some() && !plugin.is_wal_archiver {
            let note = "spec.plugins has no isWALArchiver: true for this plugin: while its sidecar is missing in a pod, \
                        PostgreSQL drops WAL that was never archived";
            self.events.warn(cluster, "NotTheWALArchiver", note.to_owned()).await;
        }
        if plugin.is_wal_archiver && own(cluster).is_none() {
            let note = format!("spec.plugins names no Archive: set the parameter {}", crate::ids::PARAMETER_ARCHIVE);
            self.events.warn(cluster, "NoArchive", note).await;
        }
    }
}

/// Whether the resource is the Cluster. Its `kind` may be missing; what then refers to a cluster is none.
fn is_cluster(resource: &[u8]) -> Result<bool, InputError> {
    let value = json(resource, "the resource definition")?;
    let root = Node::root(&value, "the resource definition")?;
    match root.text_field("kind")? {
        Some(kind) => Ok(kind == "Cluster"),
        None => match root.field("spec")? {
            Some(spec) => Ok(!spec.has("cluster")?),
            None => Ok(true),
        },
    }
}

fn result(behavior: Behavior) -> Response<ReconcilerHooksResult> {
    let requeue_after = if behavior == Behavior::Requeue { REQUEUE_S } else { 0 };
    Response::new(ReconcilerHooksResult { behavior: i32::from(behavior), requeue_after })
}

#[tonic::async_trait]
impl ReconcilerHooks for Reconciler {
    async fn get_capabilities(
        &self,
        _request: Request<ReconcilerHooksCapabilitiesRequest>,
    ) -> Result<Response<ReconcilerHooksCapabilitiesResult>, Status> {
        let reconciler_capabilities =
            [Kind::Cluster, Kind::Backup].map(|kind| ReconcilerHooksCapability { kind: i32::from(kind) }).into();
        Ok(Response::new(ReconcilerHooksCapabilitiesResult { reconciler_capabilities }))
    }

    async fn pre(&self, request: Request<ReconcilerHooksRequest>) -> Result<Response<ReconcilerHooksResult>, Status> {
        let request = request.into_inner();
        let behavior = tokio::time::timeout(HOOK_TIME_MAX, self.before(&request)).await;
        let behavior = behavior.unwrap_or_else(|_| Err(ObjectError::Time { what: "answer the hook".to_owned() }));
        Ok(result(behavior?))
    }

    async fn post(&self, _request: Request<ReconcilerHooksRequest>) -> Result<Response<ReconcilerHooksResult>, Status> {
        Ok(result(Behavior::Continue))
    }
}
