//! `cargo bench -p evenkeel-schedule --bench plan`: what a plan costs, beside merely sorting its units. Medians, after one run that
//! does not count. Then what the exact search is worth for few units. Prints two tables.

use evenkeel_schedule::{
    Micros, Plan, Problem, Rule, SlotCapacity, SlotOffer, lower_bound, lpt, plan, solve,
};
use std::hint::black_box;
use std::time::Instant;

/// On these slots.
const SLOTS: u32 = 1000;
/// Each tenth unit needs a label, which each tenth slot has.
const LABELLED: u32 = 10;
const GPU: u32 = 7;

/// How slots and units of a row are.
#[derive(Clone, Copy)]
struct Setting {
    what: &'static str,
    units: u32,
    labels: bool,
    /// How many speeds there are.
    speeds: u32,
    /// Units that need the label are small: placed by size, they come when their slots are full.
    small: bool,
    again: bool,
    most_ms: Option<f64>,
    runs: usize,
}

const PLAIN: Setting = Setting {
    what: "",
    units: 100_000,
    labels: false,
    speeds: 1,
    small: false,
    again: false,
    most_ms: None,
    runs: 21,
};

fn main() {
    let rows = [
        Setting {
            what: "100,000 units",
            most_ms: Some(30.0),
            ..PLAIN
        },
        Setting {
            what: "  a label on each tenth",
            labels: true,
            most_ms: Some(30.0),
            ..PLAIN
        },
        Setting {
            what: "  a label on each tenth, the small ones",
            labels: true,
            small: true,
            most_ms: Some(30.0),
            ..PLAIN
        },
        Setting {
            what: "  slots of two speeds",
            speeds: 2,
            most_ms: Some(30.0),
            ..PLAIN
        },
        Setting {
            what: "  slots of 400 speeds",
            speeds: 1000,
            most_ms: Some(30.0),
            ..PLAIN
        },
        Setting {
            what: "  the second time, a tenth of the units anew",
            again: true,
            ..PLAIN
        },
        Setting {
            what: "1,000,000 units",
            units: 1_000_000,
            most_ms: Some(500.0),
            runs: 7,
            ..PLAIN
        },
        Setting {
            what: "  a label on each tenth",
            units: 1_000_000,
            labels: true,
            most_ms: Some(500.0),
            runs: 7,
            ..PLAIN
        },
        Setting {
            what: "  slots of 400 speeds",
            units: 1_000_000,
            speeds: 1000,
            most_ms: Some(500.0),
            runs: 7,
            ..PLAIN
        },
    ];
    println!(
        "{:<46} {:>10} {:>10} {:>10} {:>10} {:>12}",
        "a plan on 1,000 slots (median)", "plan", "slowest", "at most", "sorting", "over bound"
    );
    rows.into_iter().for_each(measure);
    println!(
        "\n{:<46} {:>10} {:>10} {:>10}",
        "few units: over the bound (mean of 200)", "LPT", "MULTIFIT", "solved"
    );
    for (units, slots) in [(12, 4), (16, 4), (20, 6), (30, 8), (40, 8), (40, 12)] {
        few(units, slots);
    }
}

/// How far plans of few units of 0.5 to 1.5 s are above the bound.
fn few(units: u32, slots: usize) {
    const CASES: u64 = 200;
    let offers = vec![SlotOffer::default(); slots];
    let free = vec![Micros::ZERO; slots];
    let (mut sums, mut took) = ([0.0; 3], 0.0);
    for seed in 1..=CASES {
        let mut state = seed;
        let weights: Vec<Micros> = (0..units)
            .map(|_| Micros(500_000 + (uniform(&mut state) * 1e6) as u64))
            .collect();
        let problem = Problem {
            weights: &weights,
            slots: &offers,
            rules: &[],
        };
        let begun = Instant::now();
        let solved = solve(&problem, None).expect("there are no rules");
        took += begun.elapsed().as_secs_f64() * 1e3;
        let plans = [lpt(&weights, &free), plan(&weights, &free), solved];
        for (sum, plan) in sums.iter_mut().zip(&plans) {
            *sum += over(plan, &weights, &offers);
        }
    }
    let [first, packed, solved] = sums.map(|sum| sum / CASES as f64);
    println!(
        "{:<46} {first:>9.2}% {packed:>9.2}% {solved:>9.2}%  {:.2} ms a plan",
        format!("{units} units on {slots} slots"),
        took / CASES as f64,
    );
}

fn measure(setting: Setting) {
    let weights = weights(setting, 1);
    let slots: Vec<SlotOffer> = (0..SLOTS).map(|slot| offer(setting, slot)).collect();
    let labelled = (0..setting.units).filter(|unit| unit % LABELLED == 0);
    let rules: Vec<Rule> = setting
        .labels
        .then(|| Rule::Needs {
            units: labelled.collect(),
            labels: vec![GPU],
        })
        .into_iter()
        .collect();
    let problem = Problem {
        weights: &weights,
        slots: &slots,
        rules: &rules,
    };
    let before = setting.again.then(|| {
        let mut before = weights.clone();
        let others = self::weights(setting, 2);
        (0..before.len())
            .step_by(10)
            .for_each(|unit| before[unit] = others[unit]);
        let problem = Problem {
            weights: &before,
            ..problem
        };
        solve(&problem, None).expect("the rules can be kept")
    });
    let solved = || solve(&problem, before.as_ref()).expect("the rules can be kept");
    let (planned, mut times) = timed(setting.runs, solved);
    let sorted = || {
        let mut weights = weights.clone();
        weights.sort_unstable_by(|one, other| other.cmp(one));
        weights
    };
    let (_, mut sorting) = timed(setting.runs, sorted);
    let most = setting
        .most_ms
        .map_or(String::new(), |most| format!("{most:.0} ms"));
    println!(
        "{:<46} {:>7.1} ms {:>7.1} ms {:>10} {:>7.1} ms {:>11.3}%",
        setting.what,
        median(&mut times),
        times.last().copied().unwrap_or_default(),
        most,
        median(&mut sorting),
        over(&planned, &weights, &slots),
    );
}

/// How far a plan ends above what no plan could beat, labels aside.
fn over(plan: &Plan, weights: &[Micros], slots: &[SlotOffer]) -> f64 {
    let capacities: Vec<SlotCapacity> = slots
        .iter()
        .map(|slot| SlotCapacity {
            ready: slot.ready,
            speed_milli: slot.speed_milli,
        })
        .collect();
    let bound = lower_bound(weights.iter().copied().sum(), weights, &capacities).makespan();
    (plan.makespan.as_secs_f64() / bound.as_secs_f64() - 1.0) * 100.0
}

/// The last answer, and how long each took in milliseconds.
fn timed<T>(runs: usize, mut work: impl FnMut() -> T) -> (T, Vec<f64>) {
    let mut answer = black_box(work());
    let times = (0..runs).map(|_| {
        let begun = Instant::now();
        answer = black_box(work());
        begun.elapsed().as_secs_f64() * 1e3
    });
    let times = times.collect();
    (answer, times)
}

/// Sorts them, too.
fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn offer(setting: Setting, slot: u32) -> SlotOffer {
    SlotOffer {
        speed_milli: 1000 - 400 * (slot * 7919 % setting.speeds) / setting.speeds,
        agent: slot / 4,
        labels: if slot.is_multiple_of(LABELLED) {
            vec![GPU]
        } else {
            Vec::new()
        },
        ..SlotOffer::default()
    }
}

/// Log-normal, with a second in the middle and σ 1.2.
fn weights(setting: Setting, seed: u64) -> Vec<Micros> {
    let mut state = seed;
    (0..setting.units)
        .map(|unit| {
            let normal = (-2.0 * uniform(&mut state).ln()).sqrt()
                * (std::f64::consts::TAU * uniform(&mut state)).cos();
            let micros = (1e6 * (1.2 * normal).exp()) as u64;
            let small = setting.small && unit % LABELLED == 0;
            Micros(if small { micros / 100 } else { micros }.max(1))
        })
        .collect()
}

/// Between 0 and 1, neither of them.
fn uniform(state: &mut u64) -> f64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}
