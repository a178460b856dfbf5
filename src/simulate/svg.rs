//! The same as a drawing: gate time and cost against slots, each with an axis of its own.

use evenkeel_coordinator::rehearsal::Point;
use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// Around the plot: left, right, above and below.
const MARGINS: (f64, f64, f64, f64) = (70.0, 80.0, 50.0, 50.0);
const TIME: &str = "#1f5fa8";
const COST: &str = "#b3541e";
/// Lines of an axis, at most.
const LINES: f64 = 5.0;

/// A whole SVG document. Of each number of slots the median, and the time that nineteen of twenty runs do not exceed.
pub(super) fn draw(run: &str, points: &[&Point]) -> String {
    let plot = Plot::of(points);
    let mut svg = String::new();
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">"
    )
    .ok();
    writeln!(
        svg,
        "<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>"
    )
    .ok();
    writeln!(
        svg,
        "<text x=\"{}\" y=\"24\" font-size=\"15\">{}: gate time and cost against slots</text>",
        MARGINS.0,
        escaped(run)
    )
    .ok();
    plot.axes(&mut svg, points);
    let late: fn(&Point) -> f64 = |point| point.late_gate().as_secs_f64();
    let gate: fn(&Point) -> f64 = |point| point.gate().as_secs_f64();
    let cost: fn(&Point) -> f64 = |point| point.cost().as_secs_f64();
    if points.iter().any(|point| point.gates.len() > 1) {
        plot.line(
            &mut svg,
            points,
            late,
            plot.time,
            TIME,
            " stroke-dasharray=\"3 4\"",
        );
    }
    plot.line(&mut svg, points, cost, plot.cost, COST, "");
    plot.line(&mut svg, points, gate, plot.time, TIME, "");
    svg.push_str("</svg>\n");
    svg
}

struct Plot {
    /// Of the logarithm of slots.
    from: f64,
    to: f64,
    /// The end of each axis.
    time: f64,
    cost: f64,
}

impl Plot {
    fn of(points: &[&Point]) -> Plot {
        let most = |of: fn(&Point) -> f64| points.iter().map(|point| of(point)).fold(0.0, f64::max);
        let slots = points
            .iter()
            .map(|point| f64::from(point.slots.max(1)).ln());
        Plot {
            from: slots.clone().fold(f64::INFINITY, f64::min),
            to: slots.fold(f64::NEG_INFINITY, f64::max),
            time: round(most(|point| point.late_gate().as_secs_f64())),
            cost: round(most(|point| point.cost().as_secs_f64())),
        }
    }

    /// Slots double in equal steps.
    fn x(&self, slots: u32) -> f64 {
        let room = WIDTH - MARGINS.0 - MARGINS.1;
        if self.to <= self.from {
            return MARGINS.0 + room / 2.0;
        }
        MARGINS.0 + room * (f64::from(slots.max(1)).ln() - self.from) / (self.to - self.from)
    }

    fn y(value: f64, end: f64) -> f64 {
        let room = HEIGHT - MARGINS.2 - MARGINS.3;
        HEIGHT - MARGINS.3 - room * value / end
    }

    fn axes(&self, svg: &mut String, points: &[&Point]) {
        let (left, right) = (MARGINS.0, WIDTH - MARGINS.1);
        for step in 0..=LINES as u32 {
            let part = f64::from(step) / LINES;
            let y = Plot::y(part, 1.0);
            writeln!(
                svg,
                "<line x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>"
            )
            .ok();
            let label = y + 4.0;
            writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{label:.1}\" text-anchor=\"end\" fill=\"{TIME}\">{}</text>",
                left - 8.0,
                number(self.time * part)
            )
            .ok();
            writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{label:.1}\" fill=\"{COST}\">{}</text>",
                right + 8.0,
                number(self.cost * part)
            )
            .ok();
        }
        for point in points {
            writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                self.x(point.slots),
                HEIGHT - MARGINS.3 + 18.0,
                point.slots
            )
            .ok();
        }
        let above = MARGINS.2 - 8.0;
        writeln!(
            svg,
            "<text x=\"{left}\" y=\"{above}\" fill=\"{TIME}\">gate time, s</text>"
        )
        .ok();
        writeln!(svg, "<text x=\"{right}\" y=\"{above}\" text-anchor=\"end\" fill=\"{COST}\">slot-seconds</text>").ok();
        writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">slots</text>",
            (left + right) / 2.0,
            HEIGHT - 12.0
        )
        .ok();
    }

    fn line(
        &self,
        svg: &mut String,
        points: &[&Point],
        of: fn(&Point) -> f64,
        end: f64,
        colour: &str,
        more: &str,
    ) {
        let places = points
            .iter()
            .map(|point| (self.x(point.slots), Plot::y(of(point), end)));
        let path: Vec<String> = places
            .clone()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{more}/>",
            path.join(" ")
        )
        .ok();
        for (x, y) in places.filter(|_| more.is_empty()) {
            writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>"
            )
            .ok();
        }
    }
}

/// The end of an axis: the next of 1, 2, 2.5, 5 times a power of ten, never 0.
fn round(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1e-3).log10().floor());
    let steps = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0];
    let fits = steps.into_iter().find(|step| step * power >= value);
    fits.unwrap_or(10.0) * power
}

fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers_above_what_they_show() {
        for (value, end) in [
            (0.0, 0.001),
            (0.9, 1.0),
            (1.2, 1.5),
            (27.0, 30.0),
            (412.0, 500.0),
            (1000.0, 1000.0),
        ] {
            assert!(
                (round(value) - end).abs() < 1e-9,
                "{value}: {}",
                round(value)
            );
        }
    }
}
