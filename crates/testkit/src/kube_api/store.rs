//! The objects, their versions and the history that watches replay.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::kinds::Kind;

/// Where an object is: group, plural, namespace, name.
type Key = (&'static str, &'static str, String, String);

/// One change, as a watch shows it.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) version: u64,
    group: &'static str,
    plural: &'static str,
    pub(super) event: &'static str,
    pub(super) object: Value,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    objects: BTreeMap<Key, Value>,
    history: Vec<Change>,
    version: u64,
    /// Changes up to this version are forgotten.
    forgotten: u64,
}

/// Why a write was refused: HTTP status, reason and message.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
}

fn refused<T>(status: u16, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { status, message: message.into() })
}

/// Which part of an object a write may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Main,
    Status,
}

/// What a watch gets next.
#[derive(Debug)]
pub(super) enum Next {
    Changes(Vec<Change>),
    Gone,
}

impl Store {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn put(&mut self, object: Value) -> Result<Value, String> {
        let kind = object["kind"].as_str().ok_or("it has no kind")?;
        let known = Kind::of_object(kind, object["apiVersion"].as_str()).ok_or("its kind is not known")?;
        let name = object["metadata"]["name"].as_str().ok_or("it has no name")?.to_owned();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        Ok(self.keep(known, &namespace, &name, object))
    }

    pub(super) fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.objects
            .iter()
            .find(|((group, plural, in_namespace, its_name), _)| {
                Kind::of_path(group, "v1", plural).is_some_and(|known| known.kind == kind)
                    && in_namespace == namespace
                    && its_name == name
            })
            .map(|(_, object)| object.clone())
    }

    pub(super) fn all(&self, kind: &str) -> Vec<Value> {
        let of_kind = |key: &&Key| Kind::of_path(key.0, "v1", key.1).is_some_and(|known| known.kind == kind);
        self.objects.iter().filter(|(key, _)| of_kind(key)).map(|(_, object)| object.clone()).collect()
    }

    pub(super) fn remove(&mut self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let known = Kind::of_object(kind, None)?;
        self.remove_now(known, namespace, name).ok()
    }

    pub(super) fn delete_of(&mut self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.delete(Kind::of_object(kind, None)?, namespace, name).ok()
    }

    pub(super) fn read(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Value, Refusal> {
        match self.objects.get(&(kind.group, kind.plural, namespace.to_owned(), name.to_owned())) {
            Some(object) => Ok(object.clone()),
            None => refused(404, format!("{} \"{name}\" not found", kind.plural)),
        }
    }

    /// The objects of a kind in a namespace (all when it is empty) that a filter takes.
    pub(super) fn list(&self, kind: &Kind, namespace: &str, filter: &dyn Fn(&Value) -> bool) -> Vec<Value> {
        self.objects
            .iter()
            .filter(|(key, object)| {
                key.0 == kind.group
                    && key.1 == kind.plural
                    && (namespace.is_empty() || key.2 == namespace)
                    && filter(object)
            })
            .map(|(_, object)| object.clone())
            .collect()
    }

    pub(super) fn create(&mut self, kind: &'static Kind, namespace: &str, mut object: Value) -> Result<Value, Refusal> {
        if let (None, Some(prefix)) = (object["metadata"]["name"].as_str(), object["metadata"]["generateName"].as_str())
        {
            object["metadata"]["name"] = json!(format!("{prefix}{:05x}", self.version));
        }
        let Some(name) = object["metadata"]["name"].as_str().map(str::to_owned) else {
            return refused(422, "metadata.name is required");
        };
        if self.read(kind, namespace, &name).is_ok() {
            return refused(409, format!("{} \"{name}\" already exists", kind.plural));
        }
        if kind.has_status
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("status");
        }
        Ok(self.keep(kind, namespace, &name, object))
    }

    pub(super) fn update(
        &mut self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        part: Part,
        change: impl FnOnce(Value) -> Result<Value, Refusal>,
    ) -> Result<Value, Refusal> {
        let before = self.read(kind, namespace, name)?;
        let after = change(before.clone())?;
        let version = &before["metadata"]["resourceVersion"];
        let stated = &after["metadata"]["resourceVersion"];
        if !stated.is_null() && stated != "" && stated != version {
            return refused(
                409,
                format!("the object \"{name}\" has been modified; please apply your changes to the latest version"),
            );
        }
        let after = match part {
            Part::Status => with_status(before.clone(), &after["status"]),
            Part::Main if kind.has_status => with_status(after, &before["status"]),
            Part::Main => after,
        };
        if kind.kind == "RoleBinding" && after["roleRef"] != before["roleRef"] {
            return refused(422, "roleRef: Invalid value: cannot change roleRef");
        }
        if after == before {
            return Ok(before);
        }
        let kept = self.keep(kind, namespace, name, after);
        // The last finalizer of a deleted object holds it.
        match kept["metadata"]["deletionTimestamp"].is_string() && !is_held(&kept) {
            true => self.remove_now(kind, namespace, name),
            false => Ok(kept),
        }
    }

    /// Removes an object, or marks it as deleted while it has finalizers.
    pub(super) fn delete(&mut self, kind: &'static Kind, namespace: &str, name: &str) -> Result<Value, Refusal> {
        let mut object = self.read(kind, namespace, name)?;
        if !is_held(&object) {
            return self.remove_now(kind, namespace, name);
        }
        if object["metadata"]["deletionTimestamp"].is_string() {
            return Ok(object);
        }
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        Ok(self.keep(kind, namespace, name, object))
    }

    fn remove_now(&mut self, kind: &'static Kind, namespace: &str, name: &str) -> Result<Value, Refusal> {
        match self.objects.remove(&(kind.group, kind.plural, namespace.to_owned(), name.to_owned())) {
            None => refused(404, format!("{} \"{name}\" not found", kind.plural)),
            Some(mut object) => {
                self.version += 1;
                object["metadata"]["resourceVersion"] = json!(self.version.to_string());
                self.record(kind, "DELETED", object.clone());
                Ok(object)
            }
        }
    }

    /// The changes of a kind after a version.
    pub(super) fn after(&self, kind: &Kind, version: u64) -> Next {
        if version < self.forgotten {
            return Next::Gone;
        }
        let of_kind = |change: &&Change| change.group == kind.group && change.plural == kind.plural;
        Next::Changes(self.history.iter().filter(of_kind).filter(|change| change.version > version).cloned().collect())
    }

    pub(super) fn forget_history(&mut self) {
        self.version += 1;
        self.forgotten = self.version;
        self.history.clear();
    }

    fn keep(&mut self, kind: &'static Kind, namespace: &str, name: &str, mut object: Value) -> Value {
        self.version += 1;
        let key = (kind.group, kind.plural, namespace.to_owned(), name.to_owned());
        let before = self.objects.get(&key);
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.kind);
        if !object["metadata"].is_object() {
            object["metadata"] = Value::Object(Map::new());
        }
        let is_same_spec = before.is_some_and(|before| before["spec"] == object["spec"]);
        let generation = before.and_then(|before| before["metadata"]["generation"].as_u64()).unwrap_or(0);
        let uid = before.map_or_else(
            || match object["metadata"]["uid"].as_str() {
                Some(uid) if !uid.is_empty() => json!(uid),
                _ => json!(format!("00000000-0000-4000-8000-{:012x}", self.version)),
            },
            |before| before["metadata"]["uid"].clone(),
        );
        let metadata = &mut object["metadata"];
        metadata["name"] = json!(name);
        metadata["namespace"] = json!(namespace);
        metadata["uid"] = uid;
        metadata["resourceVersion"] = json!(self.version.to_string());
        metadata["generation"] = json!(if is_same_spec { generation } else { generation + 1 });
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let event = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.record(kind, event, object.clone());
        self.objects.insert(key, object.clone());
        object
    }

    fn record(&mut self, kind: &'static Kind, event: &'static str, object: Value) {
        self.history.push(Change { version: self.version, group: kind.group, plural: kind.plural, event, object });
    }
}

fn is_held(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty())
}

fn with_status(mut object: Value, status: &Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        if status.is_null() {
            fields.remove("status");
        } else {
            fields.insert("status".to_owned(), status.clone());
        }
    }
    object
}
