//! Gate time and cost against slots, as a table and as bars for the terminal.

use evenkeel_coordinator::rehearsal::Point;
use std::fmt::Write;

/// Characters of the longest bar.
const WIDTH: f64 = 28.0;
/// Eighths of a character.
const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

pub(super) fn table(points: &[&Point], seeds: u64) -> String {
    let mut text = String::new();
    let late = seeds > 1;
    let p95 = if late { "        p95" } else { "" };
    writeln!(
        text,
        "slots      gate{p95}   makespan     gap   slot-seconds"
    )
    .ok();
    for point in points {
        let p95 = match late {
            true => format!(" {:>8.2} s", point.late_gate().as_secs_f64()),
            false => String::new(),
        };
        writeln!(
            text,
            "{:>5} {:>7.2} s{p95} {:>8.2} s {:>7.3} {:>14.1}",
            point.slots,
            point.gate().as_secs_f64(),
            point.makespan().as_secs_f64(),
            point.gap(),
            point.cost().as_secs_f64(),
        )
        .ok();
    }
    text
}

/// Two bars a line: nothing where there is nothing to compare.
pub(super) fn bars(points: &[&Point]) -> String {
    let mut text = String::new();
    if points.len() < 2 {
        return text;
    }
    let most = |of: fn(&Point) -> f64| points.iter().map(|point| of(point)).fold(0.0, f64::max);
    let gate: fn(&Point) -> f64 = |point| point.gate().as_secs_f64();
    let cost: fn(&Point) -> f64 = |point| point.cost().as_secs_f64();
    let (longest, dearest) = (most(gate), most(cost));
    let head = WIDTH as usize + 1;
    writeln!(text, "\n      {:<head$}slot-seconds", "gate time").ok();
    for point in points {
        let (time, price) = (bar(gate(point), longest), bar(cost(point), dearest));
        let line = format!("{:>5} {time:<head$}{price}", point.slots);
        writeln!(text, "{}", line.trim_end()).ok();
    }
    text
}

fn bar(value: f64, most: f64) -> String {
    let eighths = if most > 0.0 {
        (value / most * WIDTH * 8.0).round() as usize
    } else {
        0
    };
    let mut bar = "█".repeat(eighths / 8);
    if eighths % 8 > 0 {
        bar.push(PARTS[eighths % 8]);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn point(slots: u32, gate: u64) -> Point {
        let time = |us: u64| Duration::from_micros(us).into();
        Point {
            slots,
            gates: vec![time(gate)],
            makespans: vec![time(gate)],
            gaps: vec![1.01],
            costs: vec![time(gate * u64::from(slots))],
        }
    }

    #[test]
    fn the_longest_bar_is_as_long_as_may_be_and_half_is_half() {
        let points = [point(4, 8_000_000), point(8, 4_000_000)];
        let points: Vec<&Point> = points.iter().collect();
        let text = bars(&points);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        let count = |line: &str| {
            line.split_whitespace()
                .nth(1)
                .map(|bar| bar.chars().count())
        };
        assert_eq!(
            (count(lines[0]), count(lines[1])),
            (Some(28), Some(14)),
            "{text}"
        );
        assert!(bars(&points[..1]).is_empty());
        assert!(table(&points, 1).contains("    4    8.00 s     8.00 s   1.010           32.0"));
    }
}
