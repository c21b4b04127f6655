//! HTTP on one side, the store on the other.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::apply;
use super::request::{Target, Verb};
use super::rules::{Answer, Rules};
use super::schema::mistakes;
use super::shape::shape_mistakes;
use super::store::{Next, Part, Refusal, Store};
use super::{Shared, State};

type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

/// Changes that may wait for a slow reader of a watch.
const WATCH_QUEUE_CHANGES: usize = 64;

pub(super) async fn serve_listener(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(answer(request, &shared).await) }
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _ended = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, shared: &Arc<Shared>) -> Response<AnswerBody> {
    let (head, body) = request.into_parts();
    let Some(target) = Target::parse(head.uri.path(), head.uri.query().unwrap_or("")) else {
        return status(404, &format!("no resource at {}", head.uri.path()));
    };
    let Some(verb) = target.verb(&head.method) else {
        return status(405, "the method is not allowed here");
    };
    let decision = {
        let mut state = shared.lock();
        let request = target.request(verb);
        state.requests.push(request.clone());
        state.rules.decide(&request)
    };
    match decision {
        None => {}
        Some(Answer::Status(code)) => {
            return status(code, &format!("the test answers {} {} with {code}", verb.as_str(), target.kind.plural));
        }
        Some(Answer::Delay(wait)) => tokio::time::sleep(wait).await,
        Some(Answer::Hang) => std::future::pending::<()>().await,
    }
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return status(400, &error.to_string()),
    };
    let content_type = head.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("");
    if verb == Verb::Watch {
        return watch(target, shared);
    }
    let done = act(&target, verb, content_type, &body, shared);
    shared.wake();
    match done {
        Ok(object) => json_answer(if verb == Verb::Create { 201 } else { 200 }, &object),
        Err(refusal) => status(refusal.status, &refusal.message),
    }
}

fn act(target: &Target, verb: Verb, content_type: &str, body: &[u8], shared: &Shared) -> Result<Value, Refusal> {
    let bad = |error: serde_json::Error| Refusal { status: 400, message: error.to_string() };
    let part = if target.subresource.as_deref() == Some("status") { Part::Status } else { Part::Main };
    let mut state = shared.lock();
    let State { store, rules, definitions, .. } = &mut *state;
    let admitted = |object: Value, store: &Store| {
        of_its_shape(&object, target, part, definitions)?;
        unless_escalating(object, target, store, rules)
    };
    let (kind, namespace) = (target.kind, target.namespace.as_str());
    let name = target.name.as_deref().unwrap_or("");
    match verb {
        Verb::Get => store.read(kind, namespace, name),
        Verb::List | Verb::Watch => Ok(json!({
            "apiVersion": kind.api_version(),
            "kind": format!("{}List", kind.kind),
            "metadata": { "resourceVersion": store.version().to_string() },
            "items": store.list(kind, namespace, &|object| selected(target, object)),
        })),
        Verb::Create => {
            let object = serde_json::from_slice(body).map_err(bad)?;
            let object = admitted(object, store)?;
            store.create(kind, namespace, object)
        }
        Verb::Update => {
            let object = serde_json::from_slice(body).map_err(bad)?;
            let object = admitted(object, store)?;
            store.update(kind, namespace, name, part, |_| Ok(object))
        }
        Verb::Patch if content_type.contains("apply-patch") && store.read(kind, namespace, name).is_err() => {
            let object = serde_json::from_slice(body).map_err(bad)?;
            let object = admitted(object, store)?;
            store.create(kind, namespace, object)
        }
        Verb::Patch if content_type.contains("apply-patch") => {
            let applied = serde_json::from_slice(body).map_err(bad)?;
            admitted(apply::applied(store.read(kind, namespace, name)?, &applied), store)?;
            store.update(kind, namespace, name, part, |object| Ok(apply::applied(object, &applied)))
        }
        Verb::Patch => {
            let present = store.read(kind, namespace, name)?;
            admitted(patched(present, content_type, body)?, store)?;
            store.update(kind, namespace, name, part, |object| patched(object, content_type, body))
        }
        Verb::Delete => store.delete(kind, namespace, name),
    }
}

/// Refuses an object that has not the shape of its kind. Of one that a definition describes the part is looked at that is written.
fn of_its_shape(
    object: &Value,
    target: &Target,
    part: Part,
    definitions: &BTreeMap<String, Value>,
) -> Result<(), Refusal> {
    let mut found = shape_mistakes(object);
    if let Some(schema) = definitions.get(target.kind.kind) {
        let field = if part == Part::Status { "status" } else { "spec" };
        found.extend(mistakes(&schema["properties"][field], &object[field]));
    }
    match found.is_empty() {
        true => Ok(()),
        false => {
            let message = format!("{} is invalid: {}", target.kind.kind, found.join(", "));
            Err(Refusal { status: 422, message })
        }
    }
}

/// The object, unless it gives a right that who sends it does not have (Kubernetes: privilege escalation prevention).
fn unless_escalating(object: Value, target: &Target, store: &Store, rules: &Rules) -> Result<Value, Refusal> {
    let given = match target.kind.kind {
        "Role" => object["rules"].clone(),
        "RoleBinding" => {
            let role = object["roleRef"]["name"].as_str().unwrap_or_default();
            store.get("Role", &target.namespace, role).map_or(Value::Null, |role| role["rules"].clone())
        }
        _ => return Ok(object),
    };
    match rules.not_held(&target.namespace, &given) {
        None => Ok(object),
        Some(right) => {
            let message = format!("forbidden: attempting to grant RBAC permissions not currently held: {right}");
            Err(Refusal { status: 403, message })
        }
    }
}

/// Merge patches, JSON patches; a strategic patch is taken as a merge.
fn patched(mut object: Value, content_type: &str, body: &[u8]) -> Result<Value, Refusal> {
    let bad = |message: String| Refusal { status: 422, message };
    if content_type.contains("json-patch") {
        let patch: json_patch::Patch = serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?;
        json_patch::patch(&mut object, &patch).map_err(|error| bad(error.to_string()))?;
    } else {
        let patch: Value = serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?;
        json_patch::merge(&mut object, &patch);
    }
    Ok(object)
}

/// Whether the request's selectors take the object: `metadata.name=`, `metadata.namespace=`, `label=value`, `label`.
fn selected(target: &Target, object: &Value) -> bool {
    let terms = |key: &str| target.query.get(key).map(String::as_str).unwrap_or("").to_owned();
    let fields = terms("fieldSelector");
    let labels = terms("labelSelector");
    let pointer = |path: &str| format!("/{}", path.replace('.', "/"));
    let field_fits = |term: &str| match term.split_once('=') {
        Some((path, value)) => {
            object.pointer(&pointer(path)).and_then(Value::as_str) == Some(value.trim_start_matches('='))
        }
        None => false,
    };
    let label_fits = |term: &str| match term.split_once('=') {
        Some((label, value)) => object["metadata"]["labels"][label].as_str() == Some(value.trim_start_matches('=')),
        None => !object["metadata"]["labels"][term].is_null(),
    };
    fields.split(',').filter(|term| !term.is_empty()).all(field_fits)
        && labels.split(',').filter(|term| !term.is_empty()).all(label_fits)
}

/// Streams the changes after the stated version until the reader or the server's history ends.
fn watch(target: Target, shared: &Arc<Shared>) -> Response<AnswerBody> {
    let (lines, body) = mpsc::channel(WATCH_QUEUE_CHANGES);
    let shared = Arc::clone(shared);
    let seconds = target.query.get("timeoutSeconds").and_then(|text| text.parse().ok()).unwrap_or(300);
    tokio::spawn(async move {
        let following = follow(&target, &shared, &lines);
        let _ended = tokio::time::timeout(Duration::from_secs(seconds), following).await;
    });
    response(200, WatchBody(body).boxed_unsync())
}

async fn follow(target: &Target, shared: &Shared, lines: &mpsc::Sender<Bytes>) {
    let stated =
        target.query.get("resourceVersion").and_then(|text| text.parse::<u64>().ok()).filter(|version| *version > 0);
    let mut changed = shared.changed.subscribe();
    let mut seen = match stated {
        Some(version) => version,
        None => {
            let (version, present) = {
                let state = shared.lock();
                (
                    state.store.version(),
                    state.store.list(target.kind, &target.namespace, &|object| selected(target, object)),
                )
            };
            for object in present {
                if lines.send(line("ADDED", &object)).await.is_err() {
                    return;
                }
            }
            version
        }
    };
    loop {
        let next = shared.lock().store.after(target.kind, seen);
        let changes = match next {
            Next::Changes(changes) => changes,
            Next::Gone => {
                let _sent = lines.send(line("ERROR", &status_object(410, "too old resource version"))).await;
                return;
            }
        };
        for change in changes {
            seen = change.version;
            let is_here =
                target.namespace.is_empty() || change.object["metadata"]["namespace"] == target.namespace.as_str();
            if is_here
                && selected(target, &change.object)
                && lines.send(line(change.event, &change.object)).await.is_err()
            {
                return;
            }
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = lines.closed() => return,
        }
    }
}

fn line(event: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({ "type": event, "object": object })))
}

fn status_object(code: u16, message: &str) -> Value {
    let reason = match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        409 if message.contains("already exists") => "AlreadyExists",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

fn status(code: u16, message: &str) -> Response<AnswerBody> {
    json_answer(code, &status_object(code, message))
}

fn json_answer(code: u16, object: &Value) -> Response<AnswerBody> {
    response(code, Full::new(Bytes::from(object.to_string())).boxed_unsync())
}

fn response(code: u16, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

/// The lines of a watch.
struct WatchBody(mpsc::Receiver<Bytes>);

impl Body for WatchBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
