//! How the server misbehaves, and what an enforced role allows.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::request::{ApiRequest, Verb};

/// What a matching request gets instead of, or before, its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// This HTTP status with a `Status` object.
    Status(u16),
    /// The true answer, this much later.
    Delay(Duration),
    /// No answer at all; the connection stays open.
    Hang,
}

/// Which requests are answered how, and how often.
#[derive(Debug, Clone)]
pub struct Rule {
    verb: Option<Verb>,
    resource: Option<String>,
    name: Option<String>,
    answer: Answer,
    times: Option<u32>,
}

impl Rule {
    /// For this verb on this resource (its plural), always.
    pub fn on(verb: Verb, resource: &str, answer: Answer) -> Self {
        Self { verb: Some(verb), resource: Some(resource.to_owned()), name: None, answer, times: None }
    }

    /// For every request.
    pub fn any(answer: Answer) -> Self {
        Self { verb: None, resource: None, name: None, answer, times: None }
    }

    /// Only for the next so many requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Only for the object of this name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    fn matches(&self, request: &ApiRequest) -> bool {
        self.verb.is_none_or(|verb| verb == request.verb)
            && self.resource.as_ref().is_none_or(|resource| *resource == request.resource)
            && self.name.as_ref().is_none_or(|name| *name == request.name)
    }
}

#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    enforced: Option<Vec<Value>>,
    /// Beside what is enforced, by the namespace that it holds in.
    granted: BTreeMap<String, Vec<Value>>,
}

impl Rules {
    pub(super) fn add(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn enforce(&mut self, rules: &Value) {
        self.enforced = Some(rules.as_array().cloned().unwrap_or_default());
    }

    pub(super) fn grant(&mut self, namespace: &str, rules: &Value) {
        self.granted.entry(namespace.to_owned()).or_default().extend(rules.as_array().cloned().unwrap_or_default());
    }

    /// All that holds in a namespace; `None` when nothing is enforced.
    fn held(&self, namespace: &str) -> Option<impl Iterator<Item = &Value>> {
        let granted = self.granted.get(namespace).into_iter().flatten();
        self.enforced.as_ref().map(|rules| rules.iter().chain(granted))
    }

    /// A right among these rules that is not held in the namespace: nobody can give what he does not have.
    pub(super) fn not_held(&self, namespace: &str, rules: &Value) -> Option<String> {
        let mut wanted = rules.as_array().into_iter().flatten().flat_map(single_rights);
        let is_held = |right: &Right| self.held(namespace).is_none_or(|mut held| held.any(|rule| right.is_in(rule)));
        wanted.find(|right| !is_held(right)).map(|right| format!("{right:?}"))
    }

    /// What happens to a request; nothing unusual for `None`.
    pub(super) fn decide(&mut self, request: &ApiRequest) -> Option<Answer> {
        if let Some(mut rules) = self.held(&request.namespace)
            && !rules.any(|rule| allows(rule, request))
        {
            return Some(Answer::Status(403));
        }
        let at = self.rules.iter().position(|rule| rule.times != Some(0) && rule.matches(request))?;
        let rule = &mut self.rules[at];
        if let Some(times) = &mut rule.times {
            *times = times.saturating_sub(1);
        }
        Some(rule.answer)
    }
}

/// One right out of a policy rule; without a name about all.
#[derive(Debug)]
struct Right {
    group: String,
    resource: String,
    verb: String,
    name: Option<String>,
}

impl Right {
    fn is_in(&self, rule: &Value) -> bool {
        let names = names_of(rule);
        let is_named = names.is_empty() || self.name.as_deref().is_some_and(|name| names.contains(&name));
        holds(rule, "apiGroups", &self.group)
            && holds(rule, "resources", &self.resource)
            && holds(rule, "verbs", &self.verb)
            && is_named
    }
}

/// The rights of a policy rule, each for itself.
fn single_rights(rule: &Value) -> Vec<Right> {
    let texts = |field: &str| {
        let values = rule[field].as_array().into_iter().flatten();
        values.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let names: Vec<Option<String>> = match texts("resourceNames") {
        names if names.is_empty() => vec![None],
        names => names.into_iter().map(Some).collect(),
    };
    let mut rights = Vec::new();
    for group in texts("apiGroups") {
        for resource in texts("resources") {
            for verb in texts("verbs") {
                rights.extend(names.iter().map(|name| Right {
                    group: group.clone(),
                    resource: resource.clone(),
                    verb: verb.clone(),
                    name: name.clone(),
                }));
            }
        }
    }
    rights
}

fn holds(rule: &Value, field: &str, wanted: &str) -> bool {
    rule[field].as_array().is_some_and(|values| values.iter().any(|value| value == wanted || value == "*"))
}

fn names_of(rule: &Value) -> Vec<&str> {
    rule["resourceNames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether one policy rule covers the request, as the real authorizer decides it.
fn allows(rule: &Value, request: &ApiRequest) -> bool {
    let names = names_of(rule);
    holds(rule, "apiGroups", &request.group)
        && holds(rule, "resources", &request.resource)
        && holds(rule, "verbs", request.verb.as_str())
        && (names.is_empty() || names.contains(&request.name.as_str()))
}
