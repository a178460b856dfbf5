//! The least time that any schedule could have taken, from what the pieces really took.

use crate::Micros;

/// What one slot could give: from when on, and how fast (thousandths of the reference speed).
#[derive(Clone, Copy, Debug)]
pub struct SlotCapacity {
    pub ready: Micros,
    pub speed_milli: u32,
}

/// A lower bound on the makespan and which of its parts decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// All the work spread evenly over the slots.
    Work(Micros),
    /// The longest pieces, which nothing divides.
    Pieces(Micros),
    /// What must run one after the other.
    Chain(Micros),
}

impl Bound {
    pub fn makespan(self) -> Micros {
        match self {
            Bound::Work(micros) | Bound::Pieces(micros) | Bound::Chain(micros) => micros,
        }
    }

    /// The bound where a chain of so much is among the work, whose parts run one after the other.
    #[must_use]
    pub fn with_chain(self, chain: Micros) -> Bound {
        if chain > self.makespan() {
            Bound::Chain(chain)
        } else {
            self
        }
    }

    /// The bound where so much has to run besides, with nothing beside it.
    #[must_use]
    pub fn behind(self, alone: Micros) -> Bound {
        match self {
            Bound::Work(micros) => Bound::Work(micros + alone),
            Bound::Pieces(micros) => Bound::Pieces(micros + alone),
            Bound::Chain(micros) => Bound::Chain(micros + alone),
        }
    }
}

/// The larger of (a) the smallest T with Σ speedⱼ × max(0, T − readyⱼ) ≥ the work, and (b) over k up to the number of slots,
/// the k longest pieces over the k fastest slots. `pieces` is what nothing divides; it need not add up to the work.
///
/// (b) is the classic bound for uniform machines without preemption; see Horvath, Lam and Sethi, "A level algorithm for
/// preemptive scheduling" (1977). Work, pieces and result are in microseconds at the reference speed; without slots or
/// work the bound is zero.
pub fn lower_bound(work: Micros, pieces: &[Micros], slots: &[SlotCapacity]) -> Bound {
    let total = u128::from(work.0) * 1000;
    let mut usable: Vec<SlotCapacity> = slots
        .iter()
        .copied()
        .filter(|s| s.speed_milli > 0)
        .collect();
    if usable.is_empty() || total == 0 {
        return Bound::Work(Micros::ZERO);
    }
    usable.sort_by_key(|slot| slot.ready);

    // With the i+1 earliest slots at work, T = (total + Σ speed × ready) / Σ speed; it holds if no later slot is ready by then.
    let mut speed_sum: u128 = 0;
    let mut ready_sum: u128 = 0;
    let mut fluid = u128::MAX;
    for (i, slot) in usable.iter().enumerate() {
        speed_sum += u128::from(slot.speed_milli);
        ready_sum += u128::from(slot.speed_milli) * u128::from(slot.ready.0);
        fluid = (total + ready_sum).div_ceil(speed_sum);
        let next_ready = usable
            .get(i + 1)
            .map_or(u128::MAX, |next| u128::from(next.ready.0));
        if fluid <= next_ready {
            break;
        }
    }

    let mut longest: Vec<Micros> = pieces.to_vec();
    longest.sort_by(|a, b| b.cmp(a));
    usable.sort_by_key(|slot| std::cmp::Reverse(slot.speed_milli));
    let mut longest_work: u128 = 0;
    let mut speed: u128 = 0;
    let mut piecewise: u128 = 0;
    for (piece, slot) in longest.iter().zip(&usable) {
        longest_work += u128::from(piece.0) * 1000;
        speed += u128::from(slot.speed_milli);
        piecewise = piecewise.max(longest_work.div_ceil(speed));
    }

    let micros = |value: u128| Micros(u64::try_from(value).unwrap_or(u64::MAX));
    if piecewise > fluid {
        Bound::Pieces(micros(piecewise))
    } else {
        Bound::Work(micros(fluid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the pieces are all there is.
    fn bound(pieces: &[Micros], slots: &[SlotCapacity]) -> Bound {
        lower_bound(pieces.iter().copied().sum(), pieces, slots)
    }

    fn slots(ready: &[u64]) -> Vec<SlotCapacity> {
        ready
            .iter()
            .map(|&r| SlotCapacity {
                ready: Micros(r),
                speed_milli: 1000,
            })
            .collect()
    }

    #[test]
    fn work_is_spread_over_the_slots_that_are_ready() {
        let pieces = [Micros(10), Micros(10), Micros(10)];
        assert_eq!(bound(&pieces, &slots(&[0, 0])), Bound::Work(Micros(15)));
        assert_eq!(bound(&pieces, &slots(&[0, 10])), Bound::Work(Micros(20)));
        assert_eq!(bound(&pieces, &slots(&[0, 100])), Bound::Work(Micros(30)));
    }

    #[test]
    fn one_long_piece_decides() {
        let pieces = [Micros(100), Micros(1)];
        assert_eq!(bound(&pieces, &slots(&[0, 0])), Bound::Pieces(Micros(100)));
    }

    #[test]
    fn a_slow_slot_counts_for_what_it_gives() {
        let mut both = slots(&[0, 0]);
        both[1].speed_milli = 500;
        assert_eq!(bound(&[Micros(30); 3], &both), Bound::Work(Micros(60)));
    }

    #[test]
    fn nothing_takes_no_time() {
        assert_eq!(bound(&[], &slots(&[0])).makespan(), Micros::ZERO);
        assert_eq!(bound(&[Micros(5)], &[]).makespan(), Micros::ZERO);
    }
}
