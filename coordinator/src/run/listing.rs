//! The listing: what there is to run, as it comes.
//!
//! It may come in parts. Each part is estimated and put up once it is stored, so that slots start before the last file is
//! known; the plan is made when all is known.

use super::{Command, Micros, Part, Phase, Run, UnitState, Work};
use evenkeel_proto::ledger as l;
use evenkeel_schedule::{Estimate, UnitFacts, estimate, plan};
use l::entry::Body;
use std::collections::HashSet;

impl Run {
    /// Whether everything that is to be run is known and has been put up.
    pub(super) fn is_listed(&self) -> bool {
        self.record.listed && self.unstored.is_empty()
    }

    pub(super) fn ask_for_listing(&mut self) {
        if self.lister.is_some()
            || self.listing_complete
            || self.over
            || self.record.stopped.is_some()
        {
            return;
        }
        let Some(shard) = self.shards.iter().position(|shard| !shard.gone) else {
            return;
        };
        let shard = shard as u32;
        self.lister = Some(shard);
        let slot = self.record.shards[shard as usize].slot;
        self.send_to_shard(shard, Command::List { slot });
    }

    /// Takes what has been listed on record, as soon as the history can tell what it should take.
    pub(super) fn take_listing(&mut self, now: Micros) {
        let Some(history) = &mut self.history else {
            return;
        };
        if self.record.listed || self.over || (self.listing.is_empty() && !self.listing_complete) {
            return;
        }
        // A listing that began anew repeats what is known.
        let known: HashSet<&str> = self.record.units.iter().map(|unit| &*unit.name).collect();
        let listed = std::mem::take(&mut self.listing);
        let units: Vec<l::Unit> = listed
            .into_iter()
            .filter(|unit| !known.contains(unit.name.as_str()))
            .collect();
        let first = self.record.units.len();
        self.units
            .resize_with(first + units.len(), UnitState::default);
        for (number, unit) in (first as u32..).zip(&units) {
            if let Some(times) = history.cases.remove(&unit.name) {
                self.case_times.insert(number, times);
            }
            self.units[number as usize].work = self.works.len() as u32;
            self.works.push(Work::new(number, Part::Rest));
        }
        let more = !self.listing_complete;
        self.append(Body::Listed(l::Listed { units, more }));
        self.estimate(first);
        if self.listing_complete && self.settings.script.is_none() {
            self.plan();
        }
        self.unstored.push_back(self.units.len() as u32);
        self.flush_entries(now);
        self.effects.push(super::Effect::CallWhenStored);
    }

    /// Estimates the units from this one on, by all that is known.
    fn estimate(&mut self, first: usize) {
        let history = self.history.as_ref().expect("the caller has looked");
        let setups = history.samples.values().flatten();
        let startup = setups.map(|sample| sample.setup).max();
        self.startup = self.startup.max(startup.unwrap_or_default());
        let mut estimates = self.estimates_of_all();
        self.estimates.extend(estimates.drain(first..));
    }

    fn estimates_of_all(&self) -> Vec<Estimate> {
        let history = self.history.as_ref().expect("the caller has looked");
        let facts: Vec<UnitFacts<'_>> = self
            .record
            .units
            .iter()
            .map(|unit| UnitFacts {
                name: &unit.name,
                size: unit.size,
                samples: history
                    .samples
                    .get(&*unit.name)
                    .map_or(&[][..], Vec::as_slice),
            })
            .collect();
        let mut estimates = estimate(&facts);
        if self.shards.iter().any(|shard| shard.bundles) {
            // What a unit paid once was the start of a bundle, which most units do not have to pay.
            for estimate in &mut estimates {
                estimate.order = estimate.order - estimate.setup;
                estimate.setup = Micros::ZERO;
            }
        }
        if self.settings.closed_shop && self.shards.len() == 1 {
            // Nothing is to be balanced, and nobody else will come: keep the framework's own order.
            for estimate in &mut estimates {
                estimate.order = Micros(1);
            }
        }
        estimates
    }

    fn plan(&mut self) {
        // Anew, since what a unit is guessed to take depends on what has been listed with it, and so on the parts of the listing.
        let estimates = self.estimates_of_all();
        let weights: Vec<Micros> = estimates.iter().map(|e| e.work + e.setup).collect();
        let slots = self.shards.iter().filter(|shard| !shard.gone).count();
        let planned = plan(&weights, &vec![Micros::ZERO; slots.max(1)]);
        let history = self.history.as_ref().expect("the caller has looked");
        self.append(Body::Planned(l::Planned {
            history_digest: history.digest.to_vec(),
            seed: self.record.opened.seed,
            shards: planned
                .shards
                .into_iter()
                .map(|units| l::PlannedShard { units })
                .collect(),
            expected_makespan_us: planned.makespan.0,
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
                self.units[unit as usize].open = 1;
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
