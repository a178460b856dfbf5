//! What if: scenes that differ from a recorded one in the machines, the suite or the luck.

use super::draw::Draw;
use super::model::{micros, milli};
use super::scene::{Agent, Loss, Scene, Slot, Speed};
use evenkeel_schedule::Micros;

/// What is to be different. Nothing is, by default.
#[derive(Clone, Debug)]
pub struct WhatIf {
    /// So many slots, as the recorded ones or copies of them; as many as there were where nothing is said.
    pub slots: Option<u32>,
    /// A share of the machines has this part of the speed.
    pub slow: f64,
    pub slow_speed: f64,
    /// A share of the machines is lost at some time.
    pub lose: f64,
    /// Deviation of the logarithm of what each test takes this time.
    pub noise: f64,
    /// The suite has so much more work, in files like those that it has, of which nothing is known.
    pub grow: f64,
    /// What a process takes to start.
    pub boot: Option<Micros>,
    /// What loading a file takes, as a part of what it takes now.
    pub setup: f64,
    /// The run knows what everything took, as a run behind the recorded one would.
    pub informed: bool,
}

impl Default for WhatIf {
    fn default() -> WhatIf {
        WhatIf {
            slots: None,
            slow: 0.0,
            slow_speed: 0.5,
            lose: 0.0,
            noise: 0.0,
            grow: 0.0,
            boot: None,
            setup: 1.0,
            informed: false,
        }
    }
}

impl WhatIf {
    /// Whether chance decides anything.
    pub fn draws(&self) -> bool {
        self.slow > 0.0 || self.lose > 0.0 || self.noise > 0.0 || self.grow > 0.0
    }

    /// The scene with all that is different, as chance has it with this seed. Always the same for the same seed.
    pub fn applied(&self, recorded: &Scene, seed: u64) -> Scene {
        let mut scene = recorded.clone();
        let draw = Draw::new(seed);
        if let Some(slots) = self
            .slots
            .filter(|&slots| slots as usize != recorded.slots())
        {
            scene.agents = with_slots(&recorded.agents, slots as usize);
        }
        if let Some(boot) = self.boot {
            scene.suites.iter_mut().for_each(|suite| suite.start = boot);
            let slots = scene.agents.iter_mut().flat_map(|agent| &mut agent.slots);
            slots.for_each(|slot| slot.boot = Some(boot));
        }
        if (self.setup - 1.0).abs() > f64::EPSILON {
            for unit in &mut scene.units {
                for time in [&mut unit.load, &mut unit.reload, &mut unit.fixture] {
                    *time = Micros((time.0 as f64 * self.setup).round() as u64);
                }
            }
        }
        self.grow(&mut scene, &mut draw.apart(11));
        if self.informed {
            scene.history = scene.truth();
        }
        if self.noise > 0.0 {
            let mut draw = draw.apart(12);
            let cases = scene.units.iter_mut().flat_map(|unit| &mut unit.cases);
            cases.for_each(|case| case.work = micros(case.work.0 as f64 * draw.factor(self.noise)));
        }
        if self.slow > 0.0 || self.lose > 0.0 {
            self.trouble(&mut scene, &draw);
        }
        scene
    }

    fn grow(&self, scene: &mut Scene, draw: &mut Draw) {
        let known = scene.units.len() as u64;
        let more = scene.work().0 as f64 * self.grow;
        let mut added = 0.0;
        while added < more && known > 0 {
            let mut unit = scene.units[draw.below(known) as usize].clone();
            unit.name = format!("{}+{}", unit.name, scene.units.len());
            let took = (unit.work() + unit.setup()).0;
            // What would be too much is a part of a file.
            if added + took as f64 > more && unit.cases.len() > 1 {
                let part = (more - added) / took as f64;
                let keep = (unit.cases.len() as f64 * part).ceil().max(1.0) as usize;
                unit.cases.truncate(keep);
            }
            added += (unit.work() + unit.setup()).0.max(1) as f64;
            scene.units.push(unit);
        }
    }

    /// Machines that are slow or lost: drawn among them, as many as the share says, rounded up.
    fn trouble(&self, scene: &mut Scene, draw: &Draw) {
        // One machine with all slots would be slow or lost as a whole.
        if let [only] = &scene.agents[..] {
            scene.agents = apart(only);
        }
        let even = Micros(scene.work().0 / scene.slots().max(1) as u64);
        let machines = scene.agents.len();
        let count = |share: f64| ((machines as f64 * share).ceil() as usize).min(machines);
        let mut order: Vec<usize> = (0..machines).collect();
        let mut slow = draw.apart(13);
        slow.shuffle(&mut order);
        for &machine in &order[..count(self.slow)] {
            let agent = &mut scene.agents[machine];
            agent.speed = agent.speed.clone().times(milli(self.slow_speed));
        }
        let mut lost = draw.apart(14);
        lost.shuffle(&mut order);
        // Somebody has to stay.
        let most = count(self.lose).min(machines.saturating_sub(1));
        for &machine in &order[..most] {
            let agent = &mut scene.agents[machine];
            agent.loss = Some(Loss {
                at: agent.joins + Micros(lost.below(even.0.max(1))),
                noticed: NOTICED,
            });
        }
    }
}

/// A coordinator takes so long to notice that an agent is lost.
const NOTICED: Micros = Micros::from_millis(5_000);

/// Each slot on a machine of its own.
fn apart(agent: &Agent) -> Vec<Agent> {
    let slots = agent.slots.iter().zip(1..);
    let agents = slots.map(|(&slot, number)| Agent {
        name: format!("{}-{number}", agent.name),
        slots: vec![slot],
        ..agent.clone()
    });
    agents.collect()
}

/// So many slots: the first of those that there are, then copies of them on machines that are never lost and stay as fast as they were
/// at first.
fn with_slots(agents: &[Agent], slots: usize) -> Vec<Agent> {
    let mut scene: Vec<Agent> = Vec::new();
    let mut left = slots;
    let own: usize = agents.iter().map(|agent| agent.slots.len()).sum();
    if let [only] = agents {
        // One machine is given more of them.
        let slots = only.slots.iter().copied().cycle().take(slots);
        return vec![Agent {
            slots: slots.collect(),
            ..only.clone()
        }];
    }
    for cycle in 0.. {
        for agent in agents {
            if left == 0 || own == 0 {
                return scene;
            }
            let slots: Vec<Slot> = agent.slots.iter().copied().take(left).collect();
            left -= slots.len();
            let copy = Agent {
                slots,
                ..agent.clone()
            };
            scene.push(if cycle == 0 {
                copy
            } else {
                Agent {
                    name: format!("{}+{cycle}", agent.name),
                    loss: None,
                    speed: Speed::constant(agent.speed.at(Micros::ZERO)),
                    ..copy
                }
            });
        }
    }
    scene
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearsal::Model;

    fn scene() -> Scene {
        Model {
            agents: 3,
            slots: 4,
            ..Model::default()
        }
        .draw(5)
    }

    #[test]
    fn slots_are_added_and_taken_away() {
        for slots in [1, 5, 12, 13, 100] {
            let what = WhatIf {
                slots: Some(slots),
                ..WhatIf::default()
            };
            assert_eq!(what.applied(&scene(), 1).slots(), slots as usize);
        }
    }

    #[test]
    fn a_suite_grows_by_what_was_asked_for() {
        let before = scene();
        let what = WhatIf {
            grow: 0.25,
            ..WhatIf::default()
        };
        let grown = what.applied(&before, 1).work().0 as f64 / before.work().0 as f64;
        assert!((1.249..1.30).contains(&grown), "{grown}");
    }

    #[test]
    fn trouble_comes_to_as_many_machines_as_it_should_and_one_stays() {
        let what = WhatIf {
            slow: 0.5,
            lose: 1.0,
            ..WhatIf::default()
        };
        let scene = what.applied(&scene(), 1);
        let slow = scene
            .agents
            .iter()
            .filter(|agent| agent.speed != Speed::default());
        assert_eq!(slow.count(), 2);
        let lost = scene.agents.iter().filter(|agent| agent.loss.is_some());
        assert_eq!(lost.count(), 2);
    }
}
