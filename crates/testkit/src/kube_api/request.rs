//! What a request asks for.

use std::collections::BTreeMap;

use http::Method;

use super::kinds::Kind;

/// The verb of a request, in the words of RBAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// One object.
    Get,
    /// Many objects.
    List,
    /// A stream of changes.
    Watch,
    /// A new object.
    Create,
    /// A whole object in place of another.
    Update,
    /// A part of an object.
    Patch,
    /// An object's end.
    Delete,
}

impl Verb {
    /// As RBAC writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// One request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiRequest {
    /// What is to be done.
    pub verb: Verb,
    /// The API group; empty for the core.
    pub group: String,
    /// The plural, with its subresource if there is one: `archives`, `archives/status`.
    pub resource: String,
    /// The namespace; empty for all.
    pub namespace: String,
    /// The object's name; empty for a list or a new object.
    pub name: String,
    /// The field manager, where the request names one.
    pub manager: String,
}

/// A request's path and query, taken apart.
pub(super) struct Target {
    pub(super) kind: &'static Kind,
    pub(super) namespace: String,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
    pub(super) query: BTreeMap<String, String>,
}

impl Target {
    pub(super) fn parse(path: &str, query: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] => (*namespace, rest),
            rest => ("", rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (plural, None, None),
            [plural, name] => (plural, Some(*name), None),
            [plural, name, subresource] => (plural, Some(*name), Some(*subresource)),
            _ => return None,
        };
        Some(Self {
            kind: Kind::of_path(group, version, plural)?,
            namespace: namespace.to_owned(),
            name: name.map(decoded),
            subresource: subresource.map(str::to_owned),
            query: query
                .split('&')
                .filter_map(|pair| pair.split_once('=').map(|(key, value)| (decoded(key), decoded(value))))
                .collect(),
        })
    }

    pub(super) fn verb(&self, method: &Method) -> Option<Verb> {
        let is_watch = self.query.get("watch").is_some_and(|value| value == "true" || value == "1");
        Some(match (method.as_str(), &self.name) {
            ("GET", None) if is_watch => Verb::Watch,
            ("GET", None) => Verb::List,
            ("GET", Some(_)) => Verb::Get,
            ("POST", None) => Verb::Create,
            ("PUT", Some(_)) => Verb::Update,
            ("PATCH", Some(_)) => Verb::Patch,
            ("DELETE", Some(_)) => Verb::Delete,
            _ => return None,
        })
    }

    pub(super) fn request(&self, verb: Verb) -> ApiRequest {
        let resource = match &self.subresource {
            None => self.kind.plural.to_owned(),
            Some(subresource) => format!("{}/{subresource}", self.kind.plural),
        };
        ApiRequest {
            verb,
            group: self.kind.group.to_owned(),
            resource,
            namespace: self.namespace.clone(),
            name: self.name.clone().unwrap_or_default(),
            manager: self.query.get("fieldManager").cloned().unwrap_or_default(),
        }
    }
}

/// Takes percent signs and plus signs back.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        (bytes, rest) = match (first, hex) {
            (b'%', Some(byte)) => (pushed(bytes, byte), &after[2..]),
            (b'+', _) => (pushed(bytes, b' '), after),
            (other, _) => (pushed(bytes, *other), after),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn pushed(mut bytes: Vec<u8>, byte: u8) -> Vec<u8> {
    bytes.push(byte);
    bytes
}
