//! An explanation in words, a line for each thing that there is to say.

use super::explain::{Cause, Explained, Step};
use evenkeel_schedule::Micros;
use std::fmt::Write;

/// What is less is not worth a word.
const LEAST: i64 = 5_000;

fn word(cause: Cause) -> &'static str {
    match cause {
        Cause::Chance => "what a replay does not show",
        Cause::Order => "suspects that came first",
        Cause::Copies => "what ran twice",
        Cause::Agents => "agents that were lost or slow",
        Cause::Estimates => "wrong or missing estimates",
        Cause::Setup => "set-up that was repeated",
        Cause::Waiting => "waiting for answers and for work",
        Cause::LongUnit => "tests that nothing divides",
    }
}

fn seconds(time: Micros) -> f64 {
    time.as_secs_f64()
}

/// Several lines, without a line's end behind the last; empty where there is nothing to say.
pub fn words(explained: &Explained) -> String {
    let mut lines: Vec<String> = Vec::new();
    let gap = explained.makespan.0 as i64 - explained.bound.0 as i64;
    let mut lost: Vec<_> = explained
        .lost
        .iter()
        .filter(|lost| lost.us.abs() >= LEAST)
        .collect();
    lost.sort_by_key(|lost| (std::cmp::Reverse(lost.us), lost.cause));
    if gap >= LEAST && !lost.is_empty() {
        let mut line = format!("{:.2} s above the bound:", gap as f64 / 1e6);
        for (at, lost) in lost.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(
                line,
                "{comma} {:.2} s {}",
                lost.us as f64 / 1e6,
                word(lost.cause)
            )
            .ok();
            if let Some(what) = lost.what.as_ref().filter(|_| lost.us > 0) {
                write!(line, " ({what})").ok();
            }
        }
        lines.push(line);
    }
    if let Some((unit, percent, slots)) = &explained.dominant {
        lines.push(match slots {
            0 | 1 => format!("{unit} is {percent}% of the work, on one slot"),
            _ => format!("{unit} is {percent}% of the work, in parts on {slots} slots"),
        });
    }
    for change in &explained.next {
        let what = match &change.what {
            Step::Split(unit) => format!("with the longest of {unit} split in two"),
            Step::LessSetup {
                unit: Some(unit),
                less,
            } => {
                format!("with {:.2} s less to load, mostly {unit}", seconds(*less))
            }
            Step::LessSetup { unit: None, less } => {
                format!("with {:.2} s less set-up in all", seconds(*less))
            }
            Step::Slots(slots) => format!("on {slots} slots"),
        };
        lines.push(format!(
            "{what} it should take {:.2} s, {:.2} s less",
            seconds(change.makespan),
            seconds(change.saved)
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearsal::{Change, Lost};

    #[test]
    fn the_dearest_comes_first_and_what_is_next_is_named() {
        let lost = |cause, us, what: Option<&str>| Lost {
            cause,
            us,
            what: what.map(str::to_owned),
        };
        let explained = Explained {
            makespan: Micros(5_000_000),
            bound: Micros(4_000_000),
            lost: vec![
                lost(Cause::Agents, 200_000, Some("spot-3")),
                lost(Cause::Estimates, 850_000, Some("test_a.py")),
                lost(Cause::Waiting, -50_000, None),
                lost(Cause::LongUnit, 10, None),
            ],
            dominant: Some(("test_big.py".to_owned(), 52, 4)),
            next: vec![Change {
                what: Step::Slots(12),
                makespan: Micros(3_500_000),
                saved: Micros(700_000),
            }],
        };
        assert_eq!(
            words(&explained),
            "1.00 s above the bound: 0.85 s wrong or missing estimates (test_a.py), 0.20 s agents that were lost or slow (spot-3), \
             -0.05 s waiting for answers and for work\n\
             test_big.py is 52% of the work, in parts on 4 slots\n\
             on 12 slots it should take 3.50 s, 0.70 s less"
        );
    }
}
