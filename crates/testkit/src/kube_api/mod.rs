//! A Kubernetes API server for tests: the requests that the plugin's roles make, over HTTP, on objects in memory.
//!
//! It is no copy of the real one: it knows a dozen kinds (`kinds.rs`), keeps resource versions, answers conflicts,
//! watches and the status subresource as the real one does, refuses what has not the shape of its kind (`shape.rs`,
//! [`KubeApi::define`]), merges lists with keys when they are applied (`apply.rs`), and can be told to misbehave ([`Rule`]) or to enforce a
//! role's rules ([`KubeApi::enforce`]), which a test of the rendered RBAC needs.

mod apply;
mod kinds;
mod request;
mod rules;
mod schema;
mod serve;
mod shape;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

pub use request::{ApiRequest, Verb};
pub use rules::{Answer, Rule};
pub use schema::mistakes;
pub use shape::shape_mistakes;

use crate::canary;
use crate::s3::thread::ServerThread;
use rules::Rules;
use store::Store;

/// A running API server; dropping it ends it.
#[derive(Debug)]
pub struct KubeApi {
    thread: ServerThread,
    shared: Arc<Shared>,
    files: TempDir,
}

/// What the handle and the server's thread both reach.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Counts changes, so that watches wake up.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    store: Store,
    rules: Rules,
    requests: Vec<ApiRequest>,
    /// The schema of the kind that a definition adds, by its name.
    definitions: BTreeMap<String, Value>,
}

impl Drop for KubeApi {
    /// Whoever may read an object of another kind must not learn what is in a Secret.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let kinds: BTreeSet<&str> =
            kinds::KINDS.iter().map(|kind| kind.kind).filter(|kind| *kind != "Secret").collect();
        for kind in kinds {
            for object in self.list(kind) {
                canary::look(&format!("an object of kind {kind}"), &object.to_string());
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl KubeApi {
    /// Serves on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When the machine has no port or no temporary folder to give: no test can go on without.
    pub fn start() -> Self {
        Self::try_start().unwrap_or_else(|error| panic!("no API server for the test: {error}"))
    }

    fn try_start() -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: watch::Sender::new(0) });
        let serving = Arc::clone(&shared);
        let thread = ServerThread::start(move |listener| serve::serve_listener(listener, serving))?;
        let files = tempfile::tempdir()?;
        let api = Self { thread, shared, files };
        std::fs::write(api.kubeconfig(), api.kubeconfig_text())?;
        Ok(api)
    }

    /// The address: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.thread.address)
    }

    /// A kubeconfig file that leads here.
    pub fn kubeconfig(&self) -> PathBuf {
        self.files.path().join("kubeconfig")
    }

    /// The variable that makes a client's program talk to this server.
    pub fn kubeconfig_env(&self) -> (String, String) {
        ("KUBECONFIG".to_owned(), self.kubeconfig().to_string_lossy().into_owned())
    }

    fn kubeconfig_text(&self) -> String {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": self.url() } }],
            "users": [{ "name": "test", "user": {} }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test", "namespace": "default" } }],
        })
        .to_string()
    }

    /// From now on objects of the kind that this CustomResourceDefinition describes are written only as it says.
    ///
    /// # Panics
    /// When it names no kind.
    pub fn define(&self, definition: &Value) {
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap_or_else(|| panic!("no kind in {definition}"));
        let schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        self.shared.lock().definitions.insert(kind.to_owned(), schema);
    }

    /// Stores an object as it is, status included, whether it was there or not; returns what is stored.
    ///
    /// # Panics
    /// When the object has no kind that this server knows, or no name: that is a mistake of the test.
    pub fn put(&self, object: Value) -> Value {
        let stored =
            self.shared.lock().store.put(object).unwrap_or_else(|why| panic!("the object cannot be put: {why}"));
        self.shared.wake();
        stored
    }

    /// The stored object.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.shared.lock().store.get(kind, namespace, name)
    }

    /// All stored objects of a kind, by namespace and name.
    pub fn list(&self, kind: &str) -> Vec<Value> {
        self.shared.lock().store.all(kind)
    }

    /// Deletes an object as a person does: it stays while it has finalizers. Whether it was there.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let deleted = self.shared.lock().store.delete_of(kind, namespace, name).is_some();
        self.shared.wake();
        deleted
    }

    /// Removes an object, whatever holds it; whether it was there.
    pub fn remove(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let removed = self.shared.lock().store.remove(kind, namespace, name).is_some();
        self.shared.wake();
        removed
    }

    /// Adds a rule; the first that matches a request decides.
    pub fn inject(&self, rule: Rule) {
        self.shared.lock().rules.add(rule);
    }

    /// Answers this verb on this resource (its plural) with 403 until [`KubeApi::heal`].
    pub fn deny(&self, verb: Verb, resource: &str) {
        self.inject(Rule::on(verb, resource, Answer::Status(403)));
    }

    /// Takes away all rules and the enforced role.
    pub fn heal(&self) {
        self.shared.lock().rules.clear();
    }

    /// From now on only what these rules (the `rules` of a Role or ClusterRole) allow is answered; the rest is 403, and so is
    /// a Role or RoleBinding that gives a right which is not among them.
    pub fn enforce(&self, rules: &Value) {
        self.shared.lock().rules.enforce(rules);
    }

    /// Allows this too in a namespace, as a Role and its RoleBinding there do.
    pub fn grant(&self, namespace: &str, rules: &Value) {
        self.shared.lock().rules.grant(namespace, rules);
    }

    /// Ends every watch with 410 Gone and forgets the history, as a server does after its window.
    pub fn expire_watches(&self) {
        self.shared.lock().store.forget_history();
        self.shared.wake();
    }

    /// The requests that came, in order.
    pub fn requests(&self) -> Vec<ApiRequest> {
        self.shared.lock().requests.clone()
    }

    /// Forgets the requests that came so far.
    pub fn forget_requests(&self) {
        self.shared.lock().requests.clear();
    }
}
