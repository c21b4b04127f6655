//! The objects that the role beside the operator reads and writes, each request within a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::ids;
use crate::lenient::InputError;
use crate::limit::LimitError;
use crate::patch::rbac::{Foreign, Originals, role_binding_patch, role_patch};
use crate::resource::{Archive, ArchiveSpec};

/// How long one request may take. The operator gives each hook 30 s, and a hook makes fewer than five requests in turn.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(4);

/// How often a change is tried on a fresh object when another came in between.
const CONFLICTS_MAX: u32 = 4;

/// Why an object could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// An Archive that the Cluster refers to is not there.
    #[error("the Archive '{namespace}/{name}' is not there: create it, or correct the plugin parameter")]
    Missing {
        /// Where it was looked for.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The API server answered with an error.
    #[error("unable to {what}: {source}")]
    Api {
        /// Verb, resource and name.
        what: String,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("unable to {what}: no answer within {} s", REQUEST_TIME_MAX.as_secs())]
    Time {
        /// Verb, resource and name.
        what: String,
    },
    /// Others changed the object each time.
    #[error("unable to {what}: it is changed by others again and again")]
    Conflict {
        /// Verb, resource and name.
        what: String,
    },
    /// The object belongs to something else.
    #[error("unable to change {what}: {foreign}")]
    Foreign {
        /// The object.
        what: String,
        /// To what.
        foreign: Foreign,
    },
    /// The administrator's limit cannot be used.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The caller's message cannot be used.
    #[error(transparent)]
    Input(#[from] InputError),
}

impl ObjectError {
    /// The HTTP status of the API server's answer, if there was one.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Api { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }
}

impl From<ObjectError> for tonic::Status {
    fn from(error: ObjectError) -> Self {
        let text = error.to_string();
        match (&error, error.code()) {
            (ObjectError::Input(_), _) => Self::invalid_argument(text),
            (ObjectError::Missing { .. } | ObjectError::Foreign { .. } | ObjectError::Limit(_), _) => {
                Self::failed_precondition(text)
            }
            // The rights of the plugin come with its manifest, perhaps a moment later.
            (_, Some(401 | 403)) => Self::failed_precondition(text),
            (ObjectError::Conflict { .. }, _) | (_, Some(409)) => Self::aborted(text),
            _ => Self::unavailable(text),
        }
    }
}

/// The API server.
#[derive(Clone)]
pub struct Objects {
    client: Client,
}

impl Objects {
    /// Over this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client, for watches and events.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The Archives of these names in a namespace.
    ///
    /// # Errors
    /// [`ObjectError`]; [`ObjectError::Missing`] only when the API server says that one is not there.
    pub async fn archives(
        &self,
        namespace: &str,
        names: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, ArchiveSpec>, ObjectError> {
        let api: Api<Archive> = Api::namespaced(self.client.clone(), namespace);
        let read = names.iter().map(|name| {
            let api = &api;
            async move {
                let what = format!("get archives '{namespace}/{name}'");
                match within(what, api.get_opt(name)).await? {
                    Some(archive) => Ok((name.clone(), archive.spec)),
                    None => Err(ObjectError::Missing { namespace: namespace.to_owned(), name: name.clone() }),
                }
            }
        });
        futures_util::future::try_join_all(read).await.map(|archives| archives.into_iter().collect())
    }

    /// Makes the Role what it should be; not one that the original's sidecars may need, unless they are gone.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn ensure_role(&self, wanted: &Role, originals: Originals) -> Result<Change, ObjectError> {
        match self.ensure("roles", wanted, |present| role_patch(present, wanted, originals)).await {
            Err(ObjectError::Foreign { foreign: Foreign::Needed, .. }) => Ok(Change::Waits),
            change => change,
        }
    }

    /// The pods of a cluster that have the original's sidecar, and have not ended.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn originals(&self, cluster: &Cluster) -> Result<Vec<String>, ObjectError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &cluster.namespace);
        let of_cluster = ListParams::default().labels(&format!("{}={}", cluster.label(), cluster.name));
        let what = format!("list pods of '{}/{}'", cluster.namespace, cluster.name);
        let pods = within(what, api.list(&of_cluster)).await?;
        Ok(pods.into_iter().filter(has_original).filter_map(|pod| pod.metadata.name).collect())
    }

    /// Makes the RoleBinding what it should be.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn ensure_role_binding(&self, wanted: &RoleBinding) -> Result<Change, ObjectError> {
        self.ensure("rolebindings", wanted, |present| role_binding_patch(present, wanted)).await
    }

    /// Reads the object and creates or patches it, on a fresh one when another change came in between.
    async fn ensure<K>(
        &self,
        plural: &str,
        wanted: &K,
        patch: impl Fn(&K) -> Result<Option<Value>, Foreign>,
    ) -> Result<Change, ObjectError>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let name = wanted.meta().name.clone().unwrap_or_default();
        let namespace = wanted.meta().namespace.clone().unwrap_or_default();
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let what = |verb: &str| format!("{verb} {plural} '{namespace}/{name}'");
        for _ in 0..CONFLICTS_MAX {
            let (done, change) = match within(what("get"), api.get_opt(&name)).await? {
                None => {
                    let created = within(what("create"), api.create(&PostParams::default(), wanted)).await;
                    (created, Change::Created)
                }
                Some(present) => {
                    let foreign =
                        |foreign| ObjectError::Foreign { what: format!("{plural} '{namespace}/{name}'"), foreign };
                    let Some(patch) = patch(&present).map_err(foreign)? else { return Ok(Change::None) };
                    let parameters = PatchParams::default();
                    let patched = within(what("patch"), api.patch(&name, &parameters, &Patch::Merge(patch))).await;
                    (patched, Change::Patched)
                }
            };
            match done {
                Ok(_) => return Ok(change),
                // Made or changed, or removed, by another since it was read.
                Err(error) if matches!(error.code(), Some(409 | 404)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ObjectError::Conflict { what: what("change") })
    }
}

/// What was done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was as it should be.
    None,
    /// It was not there.
    Created,
    /// It was different.
    Patched,
    /// It is the original's, whose sidecars may need it.
    Waits,
}

/// Whether the pod has a sidecar that knows no folder of Secrets.
fn has_original(pod: &Pod) -> bool {
    let ended = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    let mut sidecars = containers.filter(|container| container.name == ids::SIDECAR_CONTAINER);
    !matches!(ended, Some("Succeeded" | "Failed"))
        && sidecars.any(|it| it.env.iter().flatten().all(|variable| variable.name != ids::SECRETS_VARIABLE))
}

/// The request's answer, in time.
pub(crate) async fn within<T>(
    what: String,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ObjectError> {
    match tokio::time::timeout(REQUEST_TIME_MAX, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(ObjectError::Api { what, source: Box::new(source) }),
        Err(_) => Err(ObjectError::Time { what }),
    }
}
