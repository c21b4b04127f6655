//! How the server misbehaves, and what an enforced role allows.

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

    /// What happens to a request; nothing unusual for `None`.
    pub(super) fn decide(&mut self, request: &ApiRequest) -> Option<Answer> {
        if let Some(rules) = &self.enforced
            && !rules.iter().any(|rule| allows(rule, request))
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

/// Whether one policy rule covers the request, as the real authorizer decides it.
fn allows(rule: &Value, request: &ApiRequest) -> bool {
    let holds = |field: &str, wanted: &str| {
        rule[field].as_array().is_some_and(|values| values.iter().any(|value| value == wanted || value == "*"))
    };
    let names = rule["resourceNames"].as_array().filter(|names| !names.is_empty());
    let named = names.is_none_or(|names| names.iter().any(|name| name == request.name.as_str()));
    holds("apiGroups", &request.group)
        && holds("resources", &request.resource)
        && holds("verbs", request.verb.as_str())
        && named
}
