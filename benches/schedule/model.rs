//! What is played: how long units take, what is known of that beforehand, and what the slots are like.

use crate::random::Random;
use evenkeel_schedule::{Micros, SlotCapacity, lower_bound};

/// How many units a file has.
const FILE: usize = 20;
/// So many runs say the same where the history is right.
const CERTAIN: usize = 5;
/// A slow slot's speed, in thousandths.
const SLOW: u32 = 600;

/// The law of the units' times.
#[derive(Clone, Copy, Debug)]
pub enum Times {
    /// Log-normal with a mean of one second. Units of a file share half of the variance. `cap` is the most that a unit may
    /// take, as a share of what each slot gets.
    LogNormal { sigma: f64, cap: Option<f64> },
    /// Even between half a second and one and a half.
    Even,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    pub units: usize,
    pub slots: usize,
    pub times: Times,
    /// Deviation of the logarithm of what the history says, and the share of units that it says nothing of.
    pub noise: f64,
    pub new: f64,
    /// The share of slots that are slow.
    pub slow: f64,
    /// One slot is lost when this share of the bound has passed.
    pub lost_at: Option<f64>,
    /// What a slot pays for each lease.
    pub lease: Micros,
}

/// One seed of a row. Times are in microseconds.
pub struct Instance {
    /// What each unit takes at the speed of 1000.
    pub times: Vec<u64>,
    /// What its last run took, by the history.
    pub history: Vec<Option<u64>>,
    /// How many runs there were of which the history says the same.
    pub runs: usize,
    pub files: Vec<u32>,
    /// Thousandths.
    pub speeds: Vec<u32>,
    /// A slot that is lost, and when.
    pub lost: Option<(u32, u64)>,
    pub lease: u64,
    pub bound: u64,
    pub seed: u64,
}

impl Setting {
    pub fn instance(&self, seed: u64) -> Instance {
        let mut random = Random::of(seed, 1);
        let count = self.units;
        let files: Vec<u32> = (0..count).map(|unit| (unit / FILE) as u32).collect();
        let mut times: Vec<f64> = match self.times {
            Times::Even => (0..count).map(|_| 0.5 + random.unit()).collect(),
            Times::LogNormal { sigma, .. } => {
                let shared: Vec<f64> = (0..count.div_ceil(FILE)).map(|_| random.normal()).collect();
                let half = 0.5f64.sqrt();
                let own = |random: &mut Random, file: &u32| {
                    let z = half * shared[*file as usize] + half * random.normal();
                    (sigma * z - sigma * sigma / 2.0).exp()
                };
                files.iter().map(|file| own(&mut random, file)).collect()
            }
        };
        if let Times::LogNormal { cap: Some(cap), .. } = self.times {
            let share = cap / self.slots as f64;
            let mut most = share * times.iter().sum::<f64>();
            // What is cut off makes the share smaller, by less each time.
            for _ in 0..50 {
                most = share * times.iter().map(|time| time.min(most)).sum::<f64>();
            }
            times.iter_mut().for_each(|time| *time = time.min(most));
        }
        let times: Vec<u64> = times.into_iter().map(micros).collect();
        let (history, speeds) = (
            history(&times, self.noise, self.new, seed),
            speeds(self.slots, self.slow, seed),
        );
        let mut instance = Instance::new(
            times,
            history,
            files,
            speeds,
            self.lost_at,
            self.lease.0,
            seed,
        );
        if self.noise == 0.0 {
            instance.runs = CERTAIN;
        }
        instance
    }
}

fn micros(seconds: f64) -> u64 {
    ((seconds * 1e6).round() as u64).max(1)
}

/// What the history says of units that took so long.
pub fn history(times: &[u64], noise: f64, new: f64, seed: u64) -> Vec<Option<u64>> {
    let mut random = Random::of(seed, 2);
    let mut said = |time: &u64| {
        let (is_new, error) = (random.unit() < new, (noise * random.normal()).exp());
        (!is_new).then(|| ((*time as f64 * error).round() as u64).max(1))
    };
    times.iter().map(&mut said).collect()
}

/// Speeds of slots of which a share is slow, in no order.
pub fn speeds(slots: usize, slow: f64, seed: u64) -> Vec<u32> {
    let mut random = Random::of(seed, 3);
    let slow = (slots as f64 * slow).round() as usize;
    let mut speeds: Vec<u32> = (0..slots)
        .map(|slot| if slot < slow { SLOW } else { 1000 })
        .collect();
    random.shuffle(&mut speeds);
    speeds
}

impl Instance {
    pub fn new(
        times: Vec<u64>,
        history: Vec<Option<u64>>,
        files: Vec<u32>,
        speeds: Vec<u32>,
        lost_at: Option<f64>,
        lease: u64,
        seed: u64,
    ) -> Instance {
        let mut instance = Instance {
            times,
            history,
            runs: 1,
            files,
            speeds,
            lost: None,
            lease,
            bound: 0,
            seed,
        };
        instance.bound = instance.lower_bound();
        if let Some(share) = lost_at {
            let mut random = Random::of(seed, 4);
            let slot = random.below(instance.speeds.len()) as u32;
            let at = (instance.bound as f64 * share).round() as u64;
            instance.lost = Some((slot, at));
            instance.bound = instance.bound_with_loss(slot, at);
        }
        instance
    }

    /// The least time for the work on these slots, by the actual times and speeds, and without what leases cost.
    fn lower_bound(&self) -> u64 {
        let pieces: Vec<Micros> = self.times.iter().copied().map(Micros).collect();
        let speed = |&speed_milli: &u32| SlotCapacity {
            ready: Micros::ZERO,
            speed_milli,
        };
        let slots: Vec<SlotCapacity> = self.speeds.iter().map(speed).collect();
        lower_bound(pieces.iter().copied().sum(), &pieces, &slots)
            .makespan()
            .0
    }

    /// The same where a slot gives nothing from some time on.
    fn bound_with_loss(&self, lost: u32, at: u64) -> u64 {
        let work: u128 = self.times.iter().map(|&time| u128::from(time)).sum();
        let speed = |slot: usize| u128::from(self.speeds[slot]);
        let others = (0..self.speeds.len()).filter(|&slot| slot != lost as usize);
        let others: u128 = others.map(speed).sum();
        let given = speed(lost as usize) * u128::from(at);
        let fluid = (work * 1000).saturating_sub(given).div_ceil(others);
        self.bound.max(u64::try_from(fluid).unwrap_or(u64::MAX))
    }
}
