//! The OperatorLifecycle service: the sidecar of Pods and recovery Jobs.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tonic::{Request, Response, Status};

use crate::cluster::Cluster;
use crate::lenient::{InputError, Node, json};
use crate::limit::Limit;
use crate::log::Log;
use crate::operator::objects::{ObjectError, Objects};
use crate::parameters::{enabled_plugin, own, recovers_with_us, recovery_source, replica_source};
use crate::patch::{Sidecar, job, pod};
use crate::proto::operator_lifecycle::operator_lifecycle_server::OperatorLifecycle;
use crate::proto::operator_lifecycle::operator_operation_type::Type;
use crate::proto::operator_lifecycle::{
    OperatorLifecycleCapabilities, OperatorLifecycleCapabilitiesRequest, OperatorLifecycleCapabilitiesResponse,
    OperatorLifecycleRequest, OperatorLifecycleResponse, OperatorOperationType,
};
use crate::resource::ArchiveSpec;

/// The whole hook, which the operator gives 30 s.
pub(super) const HOOK_TIME_MAX: Duration = Duration::from_secs(15);

/// The hook of a Pod's or Job's life.
#[derive(Clone)]
pub struct Lifecycle {
    objects: Objects,
    injection: Injection,
    log: Log,
}

/// How sidecars are made, whatever the Cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Injection {
    /// Their image.
    pub image: String,
    /// Whether a Cluster with the plugin enabled gets one also without an Archive: then that is what the role promises.
    pub always: bool,
    /// The folder of the limits of namespaces.
    pub limits: Option<PathBuf>,
}

impl Injection {
    /// The limit of a namespace.
    ///
    /// # Errors
    /// [`ObjectError::Limit`]: without knowing it nothing is made.
    pub(super) fn limit(&self, namespace: &str) -> Result<Option<Limit>, ObjectError> {
        match &self.limits {
            // A small local file, which the kubelet keeps in memory.
            Some(folder) => Ok(Limit::of_namespace(folder, namespace)?),
            None => Ok(None),
        }
    }
}

/// What the hook is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Pod,
    Job,
}

impl Lifecycle {
    /// Injects such containers.
    #[must_use]
    pub fn new(objects: Objects, injection: Injection, log: Log) -> Self {
        Self { objects, injection, log }
    }

    async fn patch(&self, request: &OperatorLifecycleRequest) -> Result<Vec<u8>, ObjectError> {
        let cluster = Cluster::parse(&request.cluster_definition)?;
        let (subject, name) = subject(&request.object_definition)?;
        let sources = match subject {
            Subject::Pod => [own(&cluster), replica_source(&cluster), recovery_source(&cluster)],
            // What recovers the cluster decides about its Job.
            Subject::Job if recovers_with_us(&cluster) => {
                [recovery_source(&cluster), own(&cluster), replica_source(&cluster)]
            }
            Subject::Job => [None, None, None],
        };
        let mut names: Vec<String> = Vec::new();
        for source in sources.into_iter().flatten() {
            if !names.contains(&source.archive) {
                names.push(source.archive);
            }
        }
        let is_promised = self.injection.always && subject == Subject::Pod && enabled_plugin(&cluster).is_some();
        if names.is_empty() && !is_promised {
            return Ok(Vec::new());
        }
        let found = self.objects.archives(&cluster.namespace, &names.iter().cloned().collect()).await?;
        let archives: Vec<&ArchiveSpec> = names.iter().filter_map(|name| found.get(name)).collect();
        let limit = self.injection.limit(&cluster.namespace)?;
        let sidecar =
            Sidecar { cluster: &cluster, image: &self.injection.image, archives: &archives, limit: limit.as_ref() };
        let patch = match subject {
            Subject::Pod => pod::patch(&request.object_definition, &sidecar)?,
            Subject::Job => job::patch(&request.object_definition, &sidecar)?,
        };
        let fields = [
            ("cluster", Value::from(cluster.name.as_str())),
            ("namespace", Value::from(cluster.namespace.as_str())),
            ("object", Value::from(name)),
            ("patchBytes", Value::from(patch.len())),
        ];
        self.log.debug("the object was looked at", &fields);
        Ok(patch)
    }
}

/// Kind and name of the object.
fn subject(object: &[u8]) -> Result<(Subject, String), InputError> {
    let value = json(object, "the object definition")?;
    let root = Node::root(&value, "the object definition")?;
    let kind = root.required_text("kind")?;
    let name = match root.field("metadata")? {
        Some(metadata) => metadata.text_field("name")?.unwrap_or_default(),
        None => String::new(),
    };
    match kind.as_str() {
        "Pod" => Ok((Subject::Pod, name)),
        "Job" => Ok((Subject::Job, name)),
        other => Err(InputError::new("kind", format!("should be Pod or Job, is {}", crate::lenient::shown(other)))),
    }
}

#[tonic::async_trait]
impl OperatorLifecycle for Lifecycle {
    async fn get_capabilities(
        &self,
        _request: Request<OperatorLifecycleCapabilitiesRequest>,
    ) -> Result<Response<OperatorLifecycleCapabilitiesResponse>, Status> {
        let capability = |group: &str, kind: &str, types: &[Type]| OperatorLifecycleCapabilities {
            group: group.to_owned(),
            kind: kind.to_owned(),
            operation_types: types.iter().map(|it| OperatorOperationType { r#type: i32::from(*it) }).collect(),
        };
        Ok(Response::new(OperatorLifecycleCapabilitiesResponse {
            lifecycle_capabilities: vec![
                capability("", "Pod", &[Type::Create, Type::Evaluate]),
                capability("batch", "Job", &[Type::Create]),
            ],
        }))
    }

    async fn lifecycle_hook(
        &self,
        request: Request<OperatorLifecycleRequest>,
    ) -> Result<Response<OperatorLifecycleResponse>, Status> {
        let request = request.into_inner();
        let patch = tokio::time::timeout(HOOK_TIME_MAX, self.patch(&request)).await;
        let patch = patch.unwrap_or_else(|_| Err(ObjectError::Time { what: "answer the lifecycle hook".to_owned() }));
        Ok(Response::new(OperatorLifecycleResponse { json_patch: patch? }))
    }
}
