//! Who gets which slots: runs share the agents that may serve them.
//!
//! Pure, like the run's own core: [`Seats::share`] looks at agents, runs and what each has and wants, and says what is to be given
//! and what is to be asked back. A run of a higher priority gets what it can use before any other; runs of the same one get the
//! same, as far as they can use it (max-min fairness: Bertsekas and Gallager, Data Networks, 1987). With fewer slots than runs they take
//! turns: who has had least comes first.

use crate::run::AgentId;
use std::collections::{BTreeMap, BTreeSet};

/// A run keeps what it has for this long, in slot seconds, though another has had less, where there is not one slot for each.
const TURN: f64 = 10.0;

/// Who has a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    Free,
    Serves(u64),
    /// It is on its way back.
    Leaves(u64),
}

impl Seat {
    pub(super) fn run(self) -> Option<u64> {
        match self {
            Seat::Free => None,
            Seat::Serves(run) | Seat::Leaves(run) => Some(run),
        }
    }
}

/// What of an agent matters for who it serves.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub labels: BTreeMap<String, String>,
    /// The only run that it serves.
    pub only: Option<(String, String)>,
    /// It is there, and stays.
    pub serves: bool,
    /// It can serve several runs, and be asked for slots; else it serves one run with all of them, to its end.
    pub shares: bool,
    pub seats: Vec<Seat>,
}

/// What of a run matters for what it gets.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub project: String,
    pub run: String,
    pub priority: i32,
    /// What an agent must have.
    pub labels: BTreeMap<String, String>,
    /// How many slots it could use.
    pub appetite: u32,
    /// Agents that it does not want.
    pub unfit: BTreeSet<AgentId>,
    /// Slot seconds that it has had.
    pub served: f64,
}

impl Claim {
    pub(super) fn fits(&self, agent: AgentId, member: &Member) -> bool {
        let named = member.only.as_ref().is_none_or(|(project, run)| {
            *run == self.run && (project.is_empty() || *project == self.project)
        });
        named && self.lacking(member).is_none() && !self.unfit.contains(&agent)
    }

    /// A label that the run wants of its agents and this one has not.
    pub(super) fn lacking(&self, member: &Member) -> Option<(&String, &String)> {
        let mut labels = self.labels.iter();
        labels.find(|(key, value)| member.labels.get(*key) != Some(*value))
    }
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shares {
    /// Free slots and the runs that get them.
    pub give: BTreeMap<(u64, AgentId), Vec<u32>>,
    /// Of each run that has to give something back: how many, and of which agents.
    pub ask: BTreeMap<u64, (u32, BTreeSet<AgentId>)>,
}

/// Works out who should have what.
pub(super) fn share(agents: &BTreeMap<AgentId, Member>, runs: &BTreeMap<u64, Claim>) -> Shares {
    let mut shares = Shares::default();
    if runs.is_empty() {
        return shares;
    }
    let mut pool = Pool::new(agents, runs);
    let mut priorities: Vec<i32> = runs.values().map(|claim| claim.priority).collect();
    priorities.sort_unstable_by_key(|priority| std::cmp::Reverse(*priority));
    priorities.dedup();
    for priority in priorities {
        let mut hungry: BTreeSet<u64> = runs
            .iter()
            .filter(|(_, claim)| claim.priority == priority && claim.appetite > 0)
            .map(|(run, _)| *run)
            .collect();
        while !hungry.is_empty() {
            let turn = |run: &u64| {
                let keeps = if pool.had(*run) > pool.gets(*run) {
                    TURN
                } else {
                    0.0
                };
                (pool.gets(*run), runs[run].served - keeps, *run)
            };
            let next = hungry.iter().copied().min_by(|a, b| {
                let (a, b) = (turn(a), turn(b));
                a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2))
            });
            let Some(next) = next else { break };
            let sated = pool.gets(next) >= runs[&next].appetite || !pool.take(next);
            if sated {
                hungry.remove(&next);
            }
        }
    }
    pool.into_shares(&mut shares);
    shares
}

/// Slots by what they are good for: those of one agent are alike.
struct Pool<'a> {
    agents: &'a BTreeMap<AgentId, Member>,
    /// Of each agent and run how many slots it has and keeps for now; what is left of them to be given out.
    own: BTreeMap<u64, Vec<(AgentId, u32)>>,
    free: BTreeMap<AgentId, u32>,
    others: BTreeMap<AgentId, BTreeMap<u64, u32>>,
    fits: BTreeMap<u64, Vec<AgentId>>,
    /// Slots that are on their way back: to be counted on, and not to be given yet.
    coming: BTreeMap<AgentId, u32>,
    gets: BTreeMap<u64, u32>,
    had: BTreeMap<u64, u32>,
    give: BTreeMap<(u64, AgentId), u32>,
    /// What is to be asked back of a run, by agent.
    ask: BTreeMap<(u64, AgentId), u32>,
}

impl<'a> Pool<'a> {
    fn new(agents: &'a BTreeMap<AgentId, Member>, runs: &BTreeMap<u64, Claim>) -> Pool<'a> {
        let mut pool = Pool {
            agents,
            own: BTreeMap::new(),
            free: BTreeMap::new(),
            others: BTreeMap::new(),
            fits: BTreeMap::new(),
            coming: BTreeMap::new(),
            gets: BTreeMap::new(),
            had: BTreeMap::new(),
            give: BTreeMap::new(),
            ask: BTreeMap::new(),
        };
        for (id, member) in agents.iter().filter(|(_, member)| member.serves) {
            let mut held: BTreeMap<u64, u32> = BTreeMap::new();
            let mut leaving: BTreeSet<u64> = BTreeSet::new();
            let mut free = 0;
            for seat in &member.seats {
                match *seat {
                    Seat::Free => free += 1,
                    Seat::Serves(run) => *held.entry(run).or_default() += 1,
                    Seat::Leaves(run) => {
                        leaving.insert(run);
                        *pool.coming.entry(*id).or_default() += 1;
                    }
                }
            }
            for (run, count) in &held {
                *pool.had.entry(*run).or_default() += count;
                pool.own.entry(*run).or_default().push((*id, *count));
            }
            let whole = free == member.seats.len() as u32;
            if free > 0 && (member.shares || whole) {
                pool.free.insert(*id, free);
            }
            if member.shares {
                pool.others.insert(*id, held);
            }
            for (run, claim) in runs {
                // What is still on its way back from a run must have arrived before that can have it again.
                if claim.fits(*id, member) && !leaving.contains(run) {
                    pool.fits.entry(*run).or_default().push(*id);
                }
            }
        }
        pool
    }

    fn gets(&self, run: u64) -> u32 {
        self.gets.get(&run).copied().unwrap_or_default()
    }

    fn had(&self, run: u64) -> u32 {
        self.had.get(&run).copied().unwrap_or_default()
    }

    /// One more slot for a run: one that it has, one that is free, or one that another has. False where there is none.
    fn take(&mut self, run: u64) -> bool {
        if let Some(own) = self.own.get_mut(&run)
            && let Some((agent, count)) = own.last_mut()
        {
            let agent = *agent;
            *count -= 1;
            if *count == 0 {
                own.pop();
            }
            if let Some(held) = self
                .others
                .get_mut(&agent)
                .and_then(|held| held.get_mut(&run))
            {
                *held -= 1;
            }
            *self.gets.entry(run).or_default() += 1;
            return true;
        }
        let Some(fits) = self.fits.get(&run) else {
            return false;
        };
        // The agent with most to give: a run's slots are spread, and what is long on one agent's is shared by few.
        let free = fits
            .iter()
            .filter_map(|agent| Some((*self.free.get(agent)?, std::cmp::Reverse(*agent))))
            .max();
        if let Some((count, std::cmp::Reverse(agent))) = free {
            let taken = if self.agents[&agent].shares { 1 } else { count };
            if count == taken {
                self.free.remove(&agent);
            } else {
                self.free.insert(agent, count - taken);
            }
            *self.give.entry((run, agent)).or_default() += taken;
            *self.gets.entry(run).or_default() += taken;
            return true;
        }
        let coming = fits
            .iter()
            .copied()
            .find(|agent| self.coming.contains_key(agent));
        if let Some(agent) = coming {
            let count = self.coming.entry(agent).or_default();
            *count -= 1;
            if *count == 0 {
                self.coming.remove(&agent);
            }
            *self.gets.entry(run).or_default() += 1;
            return true;
        }
        let other = fits.iter().find_map(|agent| {
            let held = self.others.get(agent)?;
            let (holder, _) = held
                .iter()
                .find(|(other, count)| **other != run && **count > 0)?;
            Some((*agent, *holder))
        });
        let Some((agent, holder)) = other else {
            return false;
        };
        if let Some(count) = self
            .others
            .get_mut(&agent)
            .and_then(|held| held.get_mut(&holder))
        {
            *count -= 1;
        }
        let own = self.own.entry(holder).or_default();
        if let Some(at) = own.iter().position(|(other, _)| *other == agent) {
            own[at].1 -= 1;
            if own[at].1 == 0 {
                own.remove(at);
            }
        }
        *self.ask.entry((holder, agent)).or_default() += 1;
        *self.gets.entry(run).or_default() += 1;
        true
    }

    fn into_shares(self, shares: &mut Shares) {
        for ((holder, agent), count) in self.ask {
            let ask = shares.ask.entry(holder).or_default();
            ask.0 += count;
            ask.1.insert(agent);
        }
        // Several runs may get slots of one agent: each its own.
        let mut taken: BTreeMap<AgentId, BTreeSet<u32>> = BTreeMap::new();
        for ((run, agent), count) in self.give {
            let taken = taken.entry(agent).or_default();
            let seats = (0..).zip(&self.agents[&agent].seats);
            let free = seats
                .filter(|(slot, seat): &(u32, _)| **seat == Seat::Free && !taken.contains(slot));
            let slots: Vec<u32> = free.map(|(slot, _)| slot).take(count as usize).collect();
            taken.extend(&slots);
            shares.give.insert((run, agent), slots);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(slots: usize) -> Member {
        Member {
            labels: BTreeMap::new(),
            only: None,
            serves: true,
            shares: true,
            seats: vec![Seat::Free; slots],
        }
    }

    fn run(name: &str, priority: i32, appetite: u32) -> Claim {
        Claim {
            project: "p".into(),
            run: name.into(),
            priority,
            labels: BTreeMap::new(),
            appetite,
            unfit: BTreeSet::new(),
            served: 0.0,
        }
    }

    /// Shares until nothing changes any more, as if slots came back at once. What each run has then.
    fn settle(agents: &mut BTreeMap<AgentId, Member>, runs: &BTreeMap<u64, Claim>) -> Vec<u32> {
        for _ in 0..20 {
            let shares = share(agents, runs);
            if shares == Shares::default() {
                let has = |run: u64| {
                    let seats = agents.values().flat_map(|member| &member.seats);
                    seats.filter(|seat| **seat == Seat::Serves(run)).count() as u32
                };
                return runs.keys().map(|run| has(*run)).collect();
            }
            for ((run, agent), slots) in &shares.give {
                let member = agents.get_mut(agent).unwrap();
                assert!(runs[run].fits(*agent, member));
                for slot in slots {
                    assert_eq!(member.seats[*slot as usize], Seat::Free);
                    member.seats[*slot as usize] = Seat::Serves(*run);
                }
            }
            for (run, (count, of)) in &shares.ask {
                let mut left = *count;
                for agent in of {
                    for seat in &mut agents.get_mut(agent).unwrap().seats {
                        if left > 0 && *seat == Seat::Serves(*run) {
                            *seat = Seat::Free;
                            left -= 1;
                        }
                    }
                }
                assert_eq!(left, 0, "a run is asked for no more than it has");
            }
        }
        panic!("slots go to and fro without end");
    }

    #[test]
    fn runs_share_alike_as_far_as_they_can_use_it_and_a_higher_priority_comes_first() {
        let mut agents = BTreeMap::from([(AgentId(1), agent(4)), (AgentId(2), agent(4))]);
        let mut runs = BTreeMap::from([(1, run("large", 0, u32::MAX))]);
        assert_eq!(settle(&mut agents, &runs), [8]);
        runs.insert(2, run("small", 0, 2));
        assert_eq!(settle(&mut agents, &runs), [6, 2]);
        runs.insert(3, run("other", 0, u32::MAX));
        assert_eq!(settle(&mut agents, &runs), [3, 2, 3]);
        runs.insert(4, run("gate", 5, 7));
        let shares = settle(&mut agents, &runs);
        assert_eq!(shares[3], 7);
        assert_eq!(shares.iter().sum::<u32>(), 8);
        runs.remove(&4);
        for seat in agents.values_mut().flat_map(|member| &mut member.seats) {
            if *seat == Seat::Serves(4) {
                *seat = Seat::Free;
            }
        }
        assert_eq!(settle(&mut agents, &runs), [3, 2, 3]);
    }

    #[test]
    fn what_is_on_its_way_back_is_asked_for_once() {
        let mut agents = BTreeMap::from([(AgentId(1), agent(4))]);
        let mut runs = BTreeMap::from([(1, run("first", 0, u32::MAX))]);
        settle(&mut agents, &runs);
        runs.insert(2, run("second", 0, u32::MAX));
        let shares = share(&agents, &runs);
        assert_eq!(shares.ask[&1].0, 2);
        let seats = &mut agents.get_mut(&AgentId(1)).unwrap().seats;
        (seats[0], seats[1]) = (Seat::Leaves(1), Seat::Leaves(1));
        assert_eq!(share(&agents, &runs), Shares::default());
    }

    #[test]
    fn labels_and_names_say_who_serves_whom() {
        let mut with_gpu = agent(2);
        with_gpu.labels = BTreeMap::from([("gpu".into(), "yes".into())]);
        let mut ephemeral = agent(3);
        ephemeral.only = Some((String::new(), "mine".into()));
        let mut agents = BTreeMap::from([
            (AgentId(1), with_gpu),
            (AgentId(2), ephemeral),
            (AgentId(3), agent(1)),
        ]);
        let mut wants_gpu = run("gpu", 0, u32::MAX);
        wants_gpu.labels = BTreeMap::from([("gpu".into(), "yes".into())]);
        let mut unfit = run("unfit", 0, u32::MAX);
        unfit.unfit.insert(AgentId(3));
        let runs = BTreeMap::from([(1, wants_gpu), (2, run("mine", 0, u32::MAX)), (3, unfit)]);
        // The one with fewest others to turn to gets its share; nobody gets what it may not have.
        let shares = settle(&mut agents, &runs);
        assert_eq!(shares[1], 4);
        assert_eq!((shares[0], shares[2]), (1, 1));
    }

    #[test]
    fn with_fewer_slots_than_runs_they_take_turns() {
        let mut agents = BTreeMap::from([(AgentId(1), agent(1))]);
        let mut runs = BTreeMap::from([(1, run("a", 0, 5)), (2, run("b", 0, 5))]);
        assert_eq!(settle(&mut agents, &runs), [1, 0]);
        runs.get_mut(&1).unwrap().served = TURN / 2.0;
        assert_eq!(settle(&mut agents, &runs), [1, 0]);
        runs.get_mut(&1).unwrap().served = TURN * 1.5;
        assert_eq!(settle(&mut agents, &runs), [0, 1]);
    }
}
