//! What a [`super::FaultStorage`] remembers: its plan, the dice, what it counted, and the point at which all ends.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{Call, Fault, Rule, When};

/// The random numbers of one run: SplitMix64 (Steele, Lea and Flood, 2014), so that a seed is a run.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[derive(Debug)]
pub(super) struct State {
    rules: Vec<(Rule, u64)>,
    dice: Dice,
    /// Calls so far: the time that lagging listings go by.
    pub(super) calls: u64,
    pub(super) requests: BTreeMap<Call, u64>,
    /// When each object was last written, and when removed.
    pub(super) written: BTreeMap<String, u64>,
    pub(super) removed: BTreeMap<String, u64>,
    /// Written with deferred durability since the last flush.
    pub(super) unflushed: BTreeSet<String>,
    pub(super) uploads_deferred: BTreeSet<String>,
    pub(super) mutations: u64,
    pub(super) crash_after: Option<u64>,
    pub(super) crashed: bool,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rules: Vec::new(),
            dice: Dice(seed),
            calls: 0,
            requests: BTreeMap::new(),
            written: BTreeMap::new(),
            removed: BTreeMap::new(),
            unflushed: BTreeSet::new(),
            uploads_deferred: BTreeSet::new(),
            mutations: 0,
            crash_after: None,
            crashed: false,
        }
    }

    pub(super) fn set_rules(&mut self, rules: Vec<Rule>) {
        self.rules = rules.into_iter().map(|rule| (rule, 0)).collect();
    }

    pub(super) fn add_rule(&mut self, rule: Rule) {
        self.rules.push((rule, 0));
    }

    /// Counts a call and says what goes wrong with it.
    pub(super) fn begin(&mut self, call: Call, path: &str) -> Vec<Fault> {
        self.calls += 1;
        *self.requests.entry(call).or_default() += 1;
        let mut faults = Vec::new();
        for (rule, matched) in &mut self.rules {
            if rule.call.is_some_and(|only| only != call) || !rule.key.matches(path) {
                continue;
            }
            *matched += 1;
            let acts = match rule.when {
                When::Always => true,
                When::Nth(nth) => *matched == nth,
                When::First(count) => *matched <= count,
                When::From(nth) => *matched >= nth,
                When::Chance { per_mille } => self.dice.roll() % 1_000 < u64::from(per_mille),
            };
            if acts {
                faults.push(rule.fault.clone());
            }
        }
        faults
    }

    /// Takes a step that changes the store; `false` when the process is gone.
    pub(super) fn mutate(&mut self) -> bool {
        if self.crashed || self.crash_after.is_some_and(|after| self.mutations >= after) {
            self.crashed = true;
            return false;
        }
        self.mutations += 1;
        true
    }

    pub(super) fn roll_below(&mut self, bound: u64) -> u64 {
        self.dice.roll() % bound.max(1)
    }

    pub(super) fn note_written(&mut self, path: &str, deferred: bool) {
        self.written.insert(path.to_owned(), self.calls);
        self.removed.remove(path);
        if deferred {
            self.unflushed.insert(path.to_owned());
        } else {
            self.unflushed.remove(path);
        }
    }

    pub(super) fn note_removed(&mut self, path: &str) {
        self.removed.insert(path.to_owned(), self.calls);
        self.written.remove(path);
        self.unflushed.remove(path);
    }
}
