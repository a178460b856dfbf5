//! How fast slots are, from what units took on them beside what they were expected to.
//!
//! Each unit that ends tells a logarithm: how much faster its slot was than the reference. Those of a slot are shrunk towards
//! its agent's, and those of an agent towards all agents', by how much is known (empirical Bayes with known variances). What is uncertain
//! about a unit makes it tell less, and what was told long ago fades, since speeds drift.

use super::planted::{Fault, is_planted};

/// Variance of agents among each other, and of the slots of an agent.
const AGENT: f64 = 0.05;
const SLOT: f64 = 0.0125;
/// Variance of all slots' common level around the reference.
const LEVEL: f64 = 0.02;
/// A slot's record is worth no more than this precision: some 30 units of a known history. What is beyond it fades.
const REMEMBERED: f64 = 350.0;
/// A slot is known when its agent was told of with this precision: by some three units that have run before.
const KNOWN: f64 = 20.0;
/// What the parts of units tell of a slot that has become faster or slower is worth this precision.
const SHIFTED: f64 = 40.0;
/// A unit that is further off than so many standard deviations tells no more than one that is as far.
const FARTHEST: f64 = 2.5;
/// The fastest and slowest there is, as logarithms.
const MOST: f64 = 3.0;
/// So many standard deviations are taken off where a speed decides whether something ends in time.
const CAUTION: f64 = 2.0;

/// How many units whose measured times deviate by this, as logarithms, make a slot known.
pub(super) fn needed(sigma: f64) -> f64 {
    (KNOWN * sigma * sigma).max(1.0)
}

/// A mean with what it is worth: the sum of precisions, and of values times precisions.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    precision: f64,
    sum: f64,
}

impl Told {
    /// What this tells of a group whose members vary so much.
    fn of_group(&self, variance: f64) -> Told {
        if self.precision <= 0.0 {
            return Told::default();
        }
        let precision = 1.0 / (variance + 1.0 / self.precision);
        Told {
            precision,
            sum: self.sum / self.precision * precision,
        }
    }

    /// The mean where it is shrunk towards another one, around which it varies so much.
    fn shrunk(&self, towards: f64, variance: f64) -> f64 {
        (self.sum + towards / variance) / (self.precision + 1.0 / variance)
    }

    fn replace(&mut self, before: Told, after: Told) {
        self.precision += after.precision - before.precision;
        self.sum += after.sum - before.sum;
    }
}

/// What is known of all slots together.
#[derive(Debug, Default)]
pub(super) struct Speeds {
    all: Told,
    /// By the agent's number.
    agents: Vec<Told>,
}

/// What is known of one slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speed {
    agent: u32,
    own: Told,
    /// As it is counted with, in thousandths of the reference speed; and where time is short.
    pub milli: u32,
    pub careful: u32,
    /// Standard deviation of the logarithm, in thousandths.
    pub unsure: u32,
    /// Nothing has told yet how fast it is.
    pub unknown: bool,
}

impl Speed {
    pub fn agent(&self) -> u32 {
        self.agent
    }
}

impl Speeds {
    /// A slot of this agent, of which nothing is known but what is of its neighbours.
    pub fn slot(&self, agent: u32) -> Speed {
        self.settled(Speed {
            agent,
            own: Told::default(),
            milli: 1000,
            careful: 1000,
            unsure: 0,
            unknown: true,
        })
    }

    fn agent(&self, agent: u32) -> Told {
        self.agents.get(agent as usize).copied().unwrap_or_default()
    }

    /// Whether nothing has told yet how fast the slot or another one of its agent is.
    fn is_unknown(&self, speed: &Speed) -> bool {
        self.agent(speed.agent).precision < KNOWN
    }

    /// A unit took a time whose logarithm is `log` there; at the reference speed it was expected to be `mean`, with that deviation.
    pub fn learn(&mut self, speed: &Speed, (mean, sigma): (f64, f64), log: f64) -> Speed {
        let log = if is_planted(Fault::SpeedsBackwards) {
            2.0 * mean - log
        } else {
            log
        };
        let known = self.log(speed);
        let deviation = (sigma * sigma + self.variance(speed)).sqrt();
        let most = FARTHEST * deviation;
        let told = known + (mean - log - known).clamp(-most, most);
        let precision = 1.0 / (sigma * sigma);
        let mut own = speed.own;
        let fade = (REMEMBERED / (own.precision + precision)).min(1.0);
        own.precision = (own.precision + precision) * fade;
        own.sum = (own.sum + told * precision) * fade;

        self.replace(speed, own);
        self.settled(Speed { own, ..*speed })
    }

    /// A slot has become so fast, as a logarithm: what was told of it before counts no more.
    pub fn shifted(&mut self, speed: &Speed, log: f64) -> Speed {
        let own = Told {
            precision: SHIFTED,
            sum: log * SHIFTED,
        };
        self.replace(speed, own);
        Speed { own, ..*speed }
    }

    fn replace(&mut self, speed: &Speed, own: Told) {
        let number = speed.agent as usize;
        if self.agents.len() <= number {
            self.agents.resize(number + 1, Told::default());
        }
        let agent = &mut self.agents[number];
        let before = agent.of_group(AGENT);
        agent.replace(speed.own.of_group(SLOT), own.of_group(SLOT));
        let after = agent.of_group(AGENT);
        self.all.replace(before, after);
    }

    /// The logarithm of how fast a slot is.
    pub fn log(&self, speed: &Speed) -> f64 {
        let all = self.all.shrunk(0.0, LEVEL);
        let agent = self.agent(speed.agent);
        speed.own.shrunk(agent.shrunk(all, AGENT), SLOT)
    }

    /// Of the logarithm; what is uncertain about all slots aside.
    fn variance(&self, speed: &Speed) -> f64 {
        let agent = self.agent(speed.agent);
        let own = 1.0 / (speed.own.precision + 1.0 / SLOT);
        let share = own / SLOT;
        own + share * share / (agent.precision + 1.0 / AGENT)
    }

    /// With what is known of its agent and of all slots by now.
    pub fn settled(&self, speed: Speed) -> Speed {
        let (log, deviation) = (self.log(&speed), self.variance(&speed).sqrt());
        let milli = |log: f64| (log.clamp(-MOST, MOST).exp() * 1000.0).round() as u32;
        Speed {
            milli: milli(log),
            careful: milli(log - CAUTION * deviation),
            unknown: self.is_unknown(&speed),
            unsure: (deviation * 1000.0).round() as u32,
            ..speed
        }
    }
}
