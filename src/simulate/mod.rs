//! `evenkeel simulate`: a recorded run on other slots, other machines and with other luck, on virtual time.

mod chart;
mod svg;

use crate::cli::{Format, OfSuite, SimulateArgs};
use crate::exit::{Exit, Failure};
use crate::show;
use evenkeel_coordinator::rehearsal::{
    Point, Scene, Stalled, WhatIf, recorded, remembered, slots_within, sweep,
};
use serde::Serialize;
use std::fmt::Write;

/// Where chance decides, so many seeds are played unless something else is said.
const SEEDS: u64 = 20;
/// No more slots than this are tried.
const MOST: u32 = 65_536;

pub async fn simulate(args: SimulateArgs) -> Result<Exit, Failure> {
    let (what, scene) = match &args.run {
        Some(run) => of_run(&args, run).await?,
        None if args.history => of_history(&args).await?,
        None => {
            return Err(Failure::usage("which run is to be played?").with_hint(
                "name one, as `evenkeel runs` lists them; or --history plays what is recorded of a suite",
            ));
        }
    };
    let work = tokio::task::spawn_blocking(move || played(what, &scene, &args));
    let text = work
        .await
        .map_err(|error| Failure::infrastructure("the simulation broke off", error))??;
    print!("{text}");
    Ok(Exit::Green)
}

/// What is played.
enum Played {
    /// A run, by its id, which took so many seconds.
    Run { run: String, makespan_s: f64 },
    /// The history of a suite.
    History { suite: String },
}

async fn of_run(args: &SimulateArgs, run: &str) -> Result<(Played, Scene), Failure> {
    let record = show::load(&args.books, run).await?.record;
    if record.closed.is_none() || record.leases.iter().all(|lease| lease.begun.is_none()) {
        return Err(Failure::usage(format!(
            "run {} has no tests that ran to their end",
            record.opened.run
        ))
        .with_hint("`evenkeel runs` lists what there is"));
    }
    let run = Played::Run {
        run: record.opened.run.clone(),
        makespan_s: record.schedule().makespan.as_secs_f64(),
    };
    Ok((run, recorded(&record)))
}

async fn of_history(args: &SimulateArgs) -> Result<(Played, Scene), Failure> {
    let of = OfSuite {
        suite: args.suite.clone(),
        root: args.root.clone(),
        state: args.books.state.clone(),
    };
    let units = crate::timings::recorded(&of).await?;
    let suite = units
        .first()
        .map(|unit| unit.suite.clone())
        .unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let scene = remembered(&suite, &units, cores);
    Ok((Played::History { suite }, scene))
}

/// What is asked for, worked out.
struct Answer<'a> {
    what: &'a Played,
    tests: usize,
    units: usize,
    work_s: f64,
    slots: u32,
    seeds: u64,
    points: Vec<Point>,
    /// The time in seconds, and what was found.
    within: Option<(f64, Option<Point>)>,
}

fn played(what: Played, scene: &Scene, args: &SimulateArgs) -> Result<String, Failure> {
    let differs = what_if(args);
    let seeds = args
        .seeds
        .unwrap_or(if differs.draws() { SEEDS } else { 1 });
    let own = scene.slots() as u32;
    let slots = if !args.slots.is_empty() {
        args.slots.clone()
    } else if args.within.is_some() {
        Vec::new()
    } else {
        let mut slots = vec![own.div_ceil(2), own, own * 2, own * 4];
        slots.dedup();
        slots
    };
    let points = sweep(scene, &differs, &slots, seeds).map_err(stalled)?;
    let within = match args.within {
        None => None,
        Some(within) => {
            let found = slots_within(scene, &differs, within.into(), seeds, MOST);
            Some((within.as_secs_f64(), found.map_err(stalled)?))
        }
    };
    let answer = Answer {
        what: &what,
        tests: scene.units.iter().map(|unit| unit.cases.len()).sum(),
        units: scene.units.len(),
        work_s: scene.work().as_secs_f64(),
        slots: own,
        seeds,
        points,
        within,
    };
    if let Some(file) = &args.svg {
        let drawn = svg::draw(what.name(), &answer.all_points());
        std::fs::write(file, drawn).map_err(|error| {
            Failure::usage(format!("cannot write {}", file.display())).caused_by(error)
        })?;
    }
    Ok(match args.format {
        Format::Text => answer.text(scene),
        Format::Json => answer.json(),
    })
}

impl Played {
    fn name(&self) -> &str {
        match self {
            Played::Run { run, .. } => run,
            Played::History { suite } => suite,
        }
    }
}

fn what_if(args: &SimulateArgs) -> WhatIf {
    let default = WhatIf::default();
    let (slow, slow_speed) = args.slow.unwrap_or((0.0, default.slow_speed));
    WhatIf {
        slots: None,
        slow,
        slow_speed,
        lose: args.lose.unwrap_or_default(),
        noise: args.noise.unwrap_or_default(),
        grow: args.grow.unwrap_or_default(),
        boot: args.boot.map(Into::into),
        setup: args.setup.unwrap_or(1.0),
        informed: args.informed,
    }
}

fn stalled(error: Stalled) -> Failure {
    Failure::infrastructure("the run cannot be simulated", error)
}

impl Answer<'_> {
    /// Those that were asked for and the one that was found, by their slots.
    fn all_points(&self) -> Vec<&Point> {
        let found = self.within.as_ref().and_then(|(_, found)| found.as_ref());
        let mut points: Vec<&Point> = self.points.iter().chain(found).collect();
        points.sort_by_key(|point| point.slots);
        points.dedup_by_key(|point| point.slots);
        points
    }

    fn text(&self, scene: &Scene) -> String {
        let mut text = format!(
            "{}: {} tests in {} units, {:.2} s of work",
            self.what.name(),
            self.tests,
            self.units,
            self.work_s
        );
        match self.what {
            Played::Run { makespan_s, .. } => {
                writeln!(text, "; it took {makespan_s:.2} s on {} slots", self.slots)
            }
            Played::History { .. } => writeln!(text, ", as each was recorded last"),
        }
        .ok();
        for agent in &scene.agents {
            let steps = agent.speed.steps();
            let slowest = steps.iter().map(|(_, speed)| *speed).min().unwrap_or(1000);
            if slowest < 1000 {
                let percent = f64::from(slowest) / 10.0;
                writeln!(
                    text,
                    "agent {} ran at {percent:.0}% of the others' speed{}",
                    agent.name,
                    match steps {
                        [_] => String::new(),
                        [.., (from, _)] => format!(" from {:.1} s on", from.as_secs_f64()),
                        [] => String::new(),
                    }
                )
                .ok();
            }
            if let Some(loss) = agent.loss {
                writeln!(
                    text,
                    "agent {} was lost at {:.1} s",
                    agent.name,
                    loss.at.as_secs_f64()
                )
                .ok();
            }
        }
        let points = self.all_points();
        text.push_str(&chart::table(&points, self.seeds));
        text.push_str(&chart::bars(&points));
        if let Some((within, found)) = &self.within {
            let limit = within;
            match found {
                Some(point) => writeln!(
                    text,
                    "{} slots: verdict within {limit:.1} s{}",
                    point.slots,
                    if self.seeds > 1 { " in nineteen of twenty runs" } else { "" },
                ),
                None => writeln!(
                    text,
                    "no number of slots: what takes longest alone, or comes before the first test, is more than {limit:.1} s"
                ),
            }
            .ok();
        }
        text
    }

    fn json(&self) -> String {
        #[derive(Serialize)]
        struct Line {
            slots: u32,
            gate_s: f64,
            gate_p95_s: f64,
            makespan_s: f64,
            gap: f64,
            slot_seconds: f64,
        }
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            run: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            suite: Option<&'a str>,
            tests: usize,
            units: usize,
            work_s: f64,
            #[serde(skip_serializing_if = "Option::is_none")]
            recorded_slots: Option<u32>,
            #[serde(skip_serializing_if = "Option::is_none")]
            recorded_makespan_s: Option<f64>,
            seeds: u64,
            points: Vec<Line>,
            #[serde(skip_serializing_if = "Option::is_none")]
            within_s: Option<f64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            slots_within: Option<u32>,
        }
        let points = self.all_points();
        let points = points.iter().map(|point| Line {
            slots: point.slots,
            gate_s: point.gate().as_secs_f64(),
            gate_p95_s: point.late_gate().as_secs_f64(),
            makespan_s: point.makespan().as_secs_f64(),
            gap: point.gap(),
            slot_seconds: point.cost().as_secs_f64(),
        });
        let found = self.within.as_ref().and_then(|(_, found)| found.as_ref());
        let (run, suite, makespan) = match self.what {
            Played::Run { run, makespan_s } => (Some(run.as_str()), None, Some(*makespan_s)),
            Played::History { suite } => (None, Some(suite.as_str()), None),
        };
        let whole = Whole {
            run,
            suite,
            tests: self.tests,
            units: self.units,
            work_s: self.work_s,
            recorded_slots: run.map(|_| self.slots),
            recorded_makespan_s: makespan,
            seeds: self.seeds,
            points: points.collect(),
            within_s: self.within.as_ref().map(|(within, _)| *within),
            slots_within: found.map(|point| point.slots),
        };
        let mut text = serde_json::to_string_pretty(&whole).unwrap_or_default();
        text.push('\n');
        text
    }
}
