//! Cases that are at work under two leases: which of the two a result may come of, and what that came to.

use super::{ApplyError, Ended, Lease, Outcome, Record, case};
use evenkeel_proto::ledger as l;
use evenkeel_schedule::Micros;
use l::lease_ended::Reason;

/// What a lease is that was given as a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The lease that had its cases before.
    pub of: u64,
    /// When the copy was given.
    pub at: Micros,
    /// Since when it has them alone: the other one was lost, or cancelled because the copy was first.
    pub stands: Option<Micros>,
    /// Cases that it gave back before, which are the other one's whatever becomes of that; and those that the other one did, which are
    /// whoever's gets them then.
    pub gave_back: Vec<u32>,
}

impl Copied {
    pub(super) fn of(copy: &l::Copy) -> Copied {
        Copied {
            of: copy.of,
            at: Micros(copy.at_us),
            stands: None,
            gave_back: Vec::new(),
        }
    }
}

/// A result that came beside the one that decided, and says something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differing {
    pub unit: u32,
    pub case: u32,
    /// Under which it came, by the lower half of its number.
    pub lease: u32,
    pub outcome: Outcome,
}

/// What copies were given in a run, and what they came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    pub given: u32,
    /// Those that ended first, so that what they are copies of was cancelled.
    pub won: u32,
    /// Those that were left with their cases because what they are copies of was lost.
    pub stood: u32,
    /// What slots spent on copies, from when they were given until they ended, or had their cases alone.
    pub spent: Micros,
}

impl Lease {
    /// Whether it has its cases beside another one.
    pub fn is_copy(&self) -> bool {
        self.copied
            .as_ref()
            .is_some_and(|copy| copy.stands.is_none())
    }

    /// What its slot spent on it as a copy until `now`, or until it ended.
    pub fn spent_as_copy(&self, now: Micros) -> Micros {
        let Some(copy) = &self.copied else {
            return Micros::ZERO;
        };
        let end = copy.stands.or(self.ended.map(|ended| ended.at));
        end.unwrap_or(now) - copy.at
    }

    /// Whether a copy of it ended first.
    pub fn hung(&self) -> bool {
        self.was_cancelled() && self.copied.is_none()
    }

    /// Whether it was over before it had loaded anything: given back whole, or void since its slot's process had ended.
    pub fn never_loaded(&self) -> bool {
        let returned = |ended: Ended| ended.reason == Reason::Returned;
        self.cases.is_empty() && self.ended.is_some_and(returned)
    }

    pub fn was_cancelled(&self) -> bool {
        self.ended
            .is_some_and(|ended| ended.reason == Reason::Cancelled)
    }
}

impl Record {
    /// The live copy of a live lease.
    pub fn copy_of(&self, lease: u64) -> Option<u64> {
        self.copies.get(&lease).copied()
    }

    /// The live lease that a lease is a copy of.
    pub(super) fn original(&self, lease: &Lease) -> Option<u64> {
        let copy = lease.copied.as_ref().filter(|copy| copy.stands.is_none())?;
        self.lease(copy.of).filter(|of| of.is_live())?;
        Some(copy.of)
    }

    /// Live leases that have their cases twice: each with its copy.
    pub fn pairs(&self) -> impl Iterator<Item = (u64, u64)> + Clone + '_ {
        self.copies.iter().map(|(&of, &copy)| (of, copy))
    }

    /// Whether a result of a case of its unit may come under this lease: it is its own, or that of the lease that it is a copy of.
    pub fn may_decide(&self, lease: u64, number: u32) -> bool {
        let Some(on_record) = self.lease(lease).filter(|lease| lease.is_live()) else {
            return false;
        };
        let case = &self.units[on_record.unit as usize].cases[number as usize];
        let original = self.original(on_record);
        case.is_owned_by(lease) || original.is_some_and(|of| case.is_owned_by(of))
    }

    pub fn copies(&self) -> Copies {
        let mut copies = Copies::default();
        for lease in &self.leases {
            let Some(copy) = &lease.copied else { continue };
            copies.spent += lease.spent_as_copy(self.latest);
            if lease.never_loaded() {
                continue;
            }
            copies.given += 1;
            let won = self.lease(copy.of).is_some_and(Lease::hung);
            copies.won += u32::from(won);
            copies.stood += u32::from(copy.stands.is_some() && !won);
        }
        copies
    }

    /// A lease ends: it is no pair with another one any more. `free`: what it has not decided is the copy's, if there is one.
    pub(super) fn end_pair(&mut self, ended: &l::LeaseEnded, free: bool) -> Option<u64> {
        let own = self.lease(ended.lease);
        if let Some(of) = own.and_then(|own| own.copied.as_ref()).map(|copy| copy.of)
            && self.copies.get(&of) == Some(&ended.lease)
        {
            self.copies.remove(&of);
        }
        let heir = self.copies.remove(&ended.lease).filter(|_| free)?;
        let copy = self.lease_mut(heir).ok()?.copied.as_mut()?;
        copy.stands = Some(Micros(ended.at_us));
        Some(heir)
    }

    /// What nobody has of a copy's cases, and it has declared, is its own.
    pub(super) fn inherit(&mut self, heir: Option<u64>, unit: usize) {
        let Some(heir) = heir else { return };
        let Some(lease) = self.lease(heir) else {
            return;
        };
        let gave_back = lease.copied.as_ref().map(|copy| &copy.gave_back[..]);
        let gave_back = gave_back.unwrap_or_default();
        let cases = lease.cases.iter().copied();
        let cases = cases.filter(|number| !gave_back.contains(number));
        for number in cases.collect::<Vec<u32>>() {
            let case = &mut self.units[unit].cases[number as usize];
            if case.owner == 0 {
                case.owner = case::owner(heir);
            }
        }
    }

    pub(super) fn apply_differing(&mut self, evidence: &l::Evidence) -> Result<(), ApplyError> {
        let lease = self.lease_mut(evidence.lease)?;
        let number = lease.cases.get(evidence.case as usize).copied();
        let unit = lease.unit;
        let case = number.ok_or(ApplyError::Unknown {
            what: "case",
            number: evidence.case.into(),
        })?;
        self.differing.push(Differing {
            unit,
            case,
            lease: case::owner(evidence.lease),
            outcome: Outcome::from_ledger(evidence.outcome)?,
        });
        Ok(())
    }
}
