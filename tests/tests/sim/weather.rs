//! What goes wrong in a run, and how often: each seed draws a few kinds of trouble and leaves out the others.

use std::time::Duration;

use pgbr_repo::storage::fault::{Call, Fault, KeyPattern, Phase, Rule, When};
use pgbr_repo::storage::{ConditionSupport, ErrorClass, MemoryOptions};

use crate::dice::Dice;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Requests that fail and that do nothing, in a thousand.
    refused: u16,
    /// Requests that are done and whose answer is lost.
    lost: u16,
    /// Requests that the store asks to send later.
    slow_down: u16,
    /// Bits that arrive wrong in what is read of WAL and backups.
    flips: u16,
    /// Segments of which the store keeps the beginning only, and says that it has them: nobody can stand that, so it is not
    /// part of any seed.
    pub(crate) lies: u16,
    /// Bodies that end too early.
    cuts: u16,
    /// Chances that a busy host is about to die, at each step.
    pub(crate) crashes: u64,
    /// Chances that time passes although requests wait.
    pub(crate) delays: u64,
    /// Chances of a fail-over and the like.
    pub(crate) events: u64,
    /// Two primaries on one timeline.
    pub(crate) rivals: bool,
    /// Clocks are set while commands run.
    pub(crate) jumps: bool,
    /// How wrong the clocks of the hosts are at most.
    pub(crate) skew_ms: usize,
    /// The hosts try again what fails.
    pub(crate) retries: bool,
    pub(crate) store: MemoryOptions,
}

impl Weather {
    pub(crate) fn of(seed: u64, dice: &mut Dice) -> Self {
        let store = MemoryOptions {
            conditions: [ConditionSupport::Checked, ConditionSupport::Refused][dice.below(2)],
            page_entries: [2, 7, 1000][dice.below(3)],
            ..MemoryOptions::default()
        };
        let calm = Self {
            refused: 0,
            lost: 0,
            slow_down: 0,
            flips: 0,
            lies: 0,
            cuts: 0,
            crashes: 0,
            delays: 20,
            events: 10,
            rivals: false,
            jumps: false,
            skew_ms: 0,
            retries: dice.chance(500),
            store,
        };
        if seed.is_multiple_of(8) {
            return calm;
        }
        let rate = |dice: &mut Dice| if dice.chance(500) { [2, 10, 40, 120][dice.below(4)] } else { 0 };
        Self {
            refused: rate(dice),
            lost: rate(dice),
            slow_down: rate(dice) / 2,
            flips: rate(dice) / 2,
            cuts: if calm.retries { 0 } else { rate(dice) / 2 },
            crashes: if dice.chance(600) { 40 } else { 0 },
            delays: [5, 20, 100][dice.below(3)],
            events: [0, 10, 40][dice.below(3)],
            rivals: dice.chance(500),
            jumps: dice.chance(250),
            skew_ms: [0, 0, 800, 5000][dice.below(4)],
            ..calm
        }
    }

    /// The same store on a good day.
    pub(crate) fn calm(self) -> Self {
        let none = Self { refused: 0, lost: 0, slow_down: 0, flips: 0, cuts: 0, crashes: 0, events: 0, ..self };
        Self { rivals: false, jumps: false, skew_ms: 0, ..none }
    }

    /// Whether every command has to succeed.
    pub(crate) fn is_calm(&self) -> bool {
        let requests = self.refused + self.lost + self.slow_down + self.flips + self.cuts;
        requests == 0 && self.crashes == 0 && !self.rivals && !self.jumps && self.skew_ms == 0
    }

    pub(crate) fn rules(&self) -> Vec<Rule> {
        let chance = |per_mille| When::Chance { per_mille };
        let fail = |phase| Fault::Fail(ErrorClass::Transient, phase);
        let mut rules = vec![
            Rule::any(chance(self.refused), fail(Phase::Before)),
            Rule::any(chance(self.lost), fail(Phase::After)),
            Rule::any(chance(self.slow_down), Fault::SlowDown { retry_after: Some(Duration::from_secs(1)) }),
            Rule::new(Call::Put, chance(self.lies), Fault::Truncate { keep_bytes: 100 })
                .on(KeyPattern::Contains("00000000/".to_owned())),
            Rule::new(Call::Read, chance(self.cuts), Fault::CutBody { after_bytes: None }),
        ];
        for (byte, bit) in [(3, 1), (70, 6), (700, 0)] {
            // A history file has no checksum, so only the transport can protect it.
            for key in [".info", "00000000/", "/bundle/", "/pg_data/"] {
                let rule = Rule::new(Call::Read, chance(self.flips), Fault::FlipBit { byte, bit });
                rules.push(rule.on(KeyPattern::Contains(key.to_owned())));
            }
        }
        rules
    }
}
