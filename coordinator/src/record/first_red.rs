//! How early a run knew that something is wrong.

use super::{Case, Record, Suspicion, Unit, Verdict};
use evenkeel_schedule::Micros;

/// When failures became known, in a run that has any.
#[derive(Clone, Copy, Debug)]
pub struct FirstRed<'a> {
    /// The case that failed first, by when its last attempt ended; then by its place in the listing.
    pub unit: &'a Unit,
    pub case: &'a Case,
    /// From the first unit's start to that end.
    pub after: Micros,
    /// The average percentage of faults detected, as a share of one: 1 − Σ TFᵢ / (n m) + 1 / (2n), where TFᵢ is the place of the
    /// i-th of m failures among the n results in the order in which they came (Rothermel, Untch, Chu and Harrold, "Test case
    /// prioritization", 1999). Near 1 where failures come first, near 0 where they come last, one half where they are anywhere.
    pub apfd: f64,
    /// Why the unit was thought to fail, if it was.
    pub suspicion: Option<Suspicion>,
}

impl Record {
    /// Nothing where no case that ran failed.
    pub fn first_red(&self) -> Option<FirstRed<'_>> {
        let units = (0u32..).zip(&self.units);
        let cases = units
            .flat_map(|(unit, on_record)| on_record.cases.iter().map(move |case| (unit, case)));
        let mut ends: Vec<(Micros, u32, &Case)> = cases
            .filter_map(|(unit, case)| Some((case.last_attempt()?.ended, unit, case)))
            .collect();
        // Stable: what ended together stays in the order of the listing.
        ends.sort_by_key(|(ended, ..)| *ended);
        let failed = |case: &Case| case.verdict().is_some_and(Verdict::is_failure);
        let (ended, unit, case) = *ends.iter().find(|(.., case)| failed(case))?;
        let places = (1..).zip(&ends).filter(|(_, (.., case))| failed(case));
        let places: Vec<u64> = places.map(|(place, _)| place).collect();
        let (n, m) = (ends.len() as f64, places.len() as f64);
        let sum: u64 = places.iter().sum();
        Some(FirstRed {
            unit: &self.units[unit as usize],
            suspicion: self.suspicion(unit),
            case,
            after: ended - self.begun(),
            apfd: 1.0 - sum as f64 / (n * m) + 1.0 / (2.0 * n),
        })
    }

    /// When the first unit was begun that was not given back unrun.
    pub(super) fn begun(&self) -> Micros {
        let begun = self.spans().map(|(_, begun, _)| begun.at);
        begun.min().unwrap_or_default()
    }
}
