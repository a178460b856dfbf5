//! The listing: what there is to run, as it comes.
//!
//! It may come in parts. Each part is estimated and put up once it is stored, so that slots start before the last file is
//! known; the plan is made when all is known.

use super::{Awaited, Command, History, Micros, Part, Phase, Run, SuiteHistory, UnitState, Work};
use evenkeel_proto::ledger as l;
use evenkeel_schedule::{Order, plan};
use l::entry::Body;
use std::collections::HashSet;

impl SuiteHistory {
    /// What all units took when each was run last.
    pub(super) fn work(&self) -> Micros {
        let units = self.past.units.values();
        let newest = units.filter_map(|samples| samples.first());
        newest.map(|sample| sample.work + sample.setup).sum()
    }

    /// The most that loading a unit took.
    pub(super) fn longest_setup(&self) -> Micros {
        let samples = self.past.units.values().flatten();
        let setups = samples.map(|sample| sample.setup);
        setups.max().unwrap_or_default()
    }
}

impl Run {
    /// Whether everything that is to be run is known and has been put up.
    pub(super) fn is_listed(&self) -> bool {
        self.record.listed && self.unstored.is_empty()
    }

    pub(super) fn ask_for_listing(&mut self, now: Micros) {
        if self.over || self.record.stopped.is_some() {
            return;
        }
        for suite in 0..self.suites.len() as u32 {
            let state = &self.suites[suite as usize];
            if state.lister.is_some() || state.listed {
                continue;
            }
            let Some(shard) = self.next_lister(now, suite) else {
                continue;
            };
            let ask = self.next_ask();
            self.suites[suite as usize].lister = Some(shard);
            self.suites[suite as usize].ask = ask;
            self.shards[shard as usize].kind = suite;
            self.dispatcher.turn(shard, suite);
            let (slot, kind) = (self.record.shards[shard as usize].slot, suite);
            self.send_to_shard(shard, Command::List { slot, kind, ask });
        }
    }

    /// Who lists a suite: a slot that starts with it, or the one that holds least.
    ///
    /// A slot that is alone lists one when it has run what it knows of the others: nothing is to be balanced, and a process
    /// that has to start once more costs more than it would gain.
    fn next_lister(&self, now: Micros, suite: u32) -> Option<u32> {
        let shards = (0..self.shards.len() as u32).filter(|&shard| {
            let opened = !self.unopened.contains(&shard) && self.is_reachable(shard);
            let state = &self.shards[shard as usize];
            let serves = !state.gone && !state.leaving && !state.unable.contains(&suite);
            serves && opened && !self.lists(shard)
        });
        let own = shards.clone().find(|&shard| {
            let state = &self.shards[shard as usize];
            state.kind == suite && state.leases.is_empty()
        });
        let alone = self.serving() == 1;
        own.or_else(|| {
            let idle = |shard: &u32| {
                let state = &self.shards[*shard as usize];
                let kind = state.kind;
                state.leases.is_empty() && self.dispatcher.kind_for(*shard) != Some(kind) && {
                    let own = self.rules.suite_of(kind);
                    let listed = |own: u32| own == suite || self.suites[own as usize].listed;
                    own.is_none_or(listed) && self.unstored.is_empty()
                }
            };
            let shards = shards.filter(|shard| !alone || idle(shard));
            let ready = shards.filter(|&shard| self.shards[shard as usize].ready);
            ready.min_by_key(|&shard| (self.dispatcher.free(shard, now), shard))
        })
    }

    /// Whether a shard is busy with a listing.
    pub(super) fn lists(&self, shard: u32) -> bool {
        let mut suites = self.suites.iter();
        suites.any(|suite| suite.lister == Some(shard) && !suite.listed)
    }

    /// Takes in what earlier runs tell.
    pub(super) fn learn(&mut self, mut history: History) {
        history
            .suites
            .resize_with(self.suites.len(), SuiteHistory::default);
        self.dispatcher.set_order(if self.record.opened.first_red {
            Order::FirstRed
        } else {
            Order::Balanced
        });
        self.history = Some(history);
    }

    /// A part of a suite's listing has come.
    pub(super) fn listed(
        &mut self,
        now: Micros,
        shard: u32,
        kind: u32,
        ask: u64,
        units: Vec<l::Unit>,
        more: bool,
    ) {
        let Some(suite) = self.rules.suite_of(kind) else {
            return;
        };
        let state = &mut self.suites[suite as usize];
        // Releases that number no asks answer with none.
        if state.lister != Some(shard) || state.listed || !(ask == state.ask || ask == 0) {
            return;
        }
        let units = units.into_iter().map(|unit| l::Unit { suite, ..unit });
        state.listing.extend(units);
        state.listed = !more;
        self.take_listing(now, suite);
    }

    /// Takes what has been listed of any suite on record.
    pub(super) fn take_listings(&mut self, now: Micros) {
        for suite in 0..self.suites.len() as u32 {
            let state = &self.suites[suite as usize];
            if state.listed || !state.listing.is_empty() {
                self.take_listing(now, suite);
            }
        }
    }

    /// Takes what has been listed of a suite on record, as soon as the history can tell what it should take.
    pub(super) fn take_listing(&mut self, now: Micros, suite: u32) {
        let state = &mut self.suites[suite as usize];
        if self.history.is_none()
            || state.recorded
            || self.over
            || (state.listing.is_empty() && !state.listed)
        {
            return;
        }
        // A listing that began anew repeats what is known.
        let listed = std::mem::take(&mut state.listing);
        let own = self.record.units.iter().filter(|unit| unit.suite == suite);
        let known: HashSet<&str> = own.map(|unit| &*unit.name).collect();
        let units: Vec<l::Unit> = listed
            .into_iter()
            .filter(|unit| !known.contains(unit.name.as_str()))
            .collect();
        let first = self.record.units.len();
        for (number, unit) in (first as u32..).zip(&units) {
            let history = self.history.as_mut().expect("looked at above");
            let known = &mut history.suites[suite as usize].cases;
            if let Some(times) = known.remove(&unit.name) {
                self.case_times.insert(number, times);
            }
            self.enrol(number, suite, &unit.name, &unit.path);
        }
        let state = &mut self.suites[suite as usize];
        state.recorded = state.listed;
        let recorded = state.recorded && !state.over && self.settings.script.is_none();
        let all = self.suites.iter().all(|suite| suite.recorded);
        self.append(Body::Listed(l::Listed {
            units,
            more: !all,
            whole: self.suites[suite as usize].recorded.then_some(suite),
        }));
        let startup = self.history_of(suite).longest_setup();
        let known = &mut self.suites[suite as usize].startup;
        *known = startup.max(*known);
        self.forecast(suite);
        if recorded {
            self.note_idle_overrides(suite);
        }
        if all && self.settings.script.is_none() {
            self.plan();
        }
        self.unstored.push_back(self.units.len() as u32);
        self.await_stored(now, Awaited::Listing);
        self.acknowledge_listings();
    }

    /// A unit is known: what it needs, and the work that it is.
    pub(super) fn enrol(&mut self, number: u32, suite: u32, name: &str, path: &str) {
        let (mut needs, limits) = self.rules.of(suite, name, path);
        // One process has one deadline.
        let known = self.limits.iter().position(|known| *known == limits);
        needs.apart = known.unwrap_or(self.limits.len()) as u32;
        if known.is_none() {
            self.limits.push(limits);
        }
        self.units.push(UnitState {
            work: self.works.len() as u32,
            needs,
            limits,
            ..UnitState::default()
        });
        self.works.push(Work::new(number, Part::Rest));
    }

    /// What is said of units that are not there may be a mistake, and what it would have kept apart is not.
    fn note_idle_overrides(&mut self, suite: u32) {
        let units = self.record.units.iter().filter(|unit| unit.suite == suite);
        let names = units.map(|unit| (&*unit.name, &*unit.path));
        let idle = self.rules.idle_overrides(suite, names);
        let name = self.rules.name(suite).to_owned();
        for patterns in idle {
            let text = format!(
                "suite {name}: no unit is named by the override for {patterns}; the JUnit report names the units of a run"
            );
            self.note_once(super::Level::Warning, &text);
        }
    }

    pub(super) fn history_of(&self, suite: u32) -> &SuiteHistory {
        let history = self
            .history
            .as_ref()
            .expect("nothing is listed before it came");
        &history.suites[suite as usize]
    }

    fn plan(&mut self) {
        // Of what was expected when all was known, and not of what has been seen since.
        let weights = std::mem::take(&mut self.prior);
        let slots = self.shards.iter().filter(|shard| !shard.gone).count();
        let planned = plan(&weights, &vec![Micros::ZERO; slots.max(1)]);
        let digests = (0..self.suites.len() as u32).map(|suite| self.history_of(suite).digest);
        self.append(Body::Planned(l::Planned {
            history_digest: digests.flatten().collect(),
            seed: self.record.opened.seed,
            shards: planned
                .shards
                .into_iter()
                .map(|units| l::PlannedShard { units })
                .collect(),
            expected_makespan_us: planned.makespan.0,
            suspects: self.suspects(),
        }));
    }

    /// A part of the listing is durable: its units may be leased.
    pub(super) fn listing_stored(&mut self) {
        let Some(end) = self.unstored.pop_front() else {
            return;
        };
        if self.over || self.record.stopped.is_some() || self.is_concluding() {
            return;
        }
        for unit in self.put_up..end {
            if self.settings.script.is_some() {
                self.open_more(unit);
                continue;
            }
            self.put_up(self.units[unit as usize].work);
        }
        self.put_up = end;
        if self.phase == Phase::Listing {
            self.phase = Phase::Running;
        }
    }
}
