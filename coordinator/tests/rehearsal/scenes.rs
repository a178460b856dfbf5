//! Scenes that are drawn with everything that may happen to a run.

use evenkeel_coordinator::rehearsal::{Draw, Loss, Model, Scene, Speed};
use evenkeel_proto::suite::{Names, Override};
use evenkeel_schedule::Micros;

fn chance(draw: &mut Draw, of: u64) -> bool {
    draw.below(of) == 0
}

pub fn drawn(seed: u64) -> Scene {
    let mut draw = Draw::new(seed).apart(77);
    let model = Model {
        files: 1 + draw.below(30) as u32,
        tests: 1 + draw.below(12) as u32,
        agents: 1 + draw.below(5) as u32,
        slots: 1 + draw.below(4) as u32,
        mean: Micros(1 + draw.below(200_000)),
        setup: draw.unit() * 0.4,
        noise: draw.unit(),
        fresh: draw.unit(),
        unknown: chance(&mut draw, 4),
        slow: 0.3,
        weather: if chance(&mut draw, 3) { 0.3 } else { 0.0 },
        undivided: chance(&mut draw, 8),
        listing: Micros(draw.below(300_000)),
        boot: Micros(draw.below(500_000)),
        ..Model::default()
    };
    let mut scene = model.draw(seed);
    let even = Micros(scene.work().0 / scene.slots() as u64);
    if chance(&mut draw, 6) {
        scene.few = Some(0);
    }
    pieces(&mut scene, &mut draw);
    people(&mut scene, &mut draw, even);
    constraints(&mut scene, &mut draw);
    for unit in &mut scene.units {
        if chance(&mut draw, 4) {
            for case in &mut unit.cases {
                case.group = ["", "one", "other"][draw.below(3) as usize].to_owned();
            }
        }
        unit.fixture = Micros(draw.below(20_000));
        unit.reload = Micros(unit.load.0 / 10);
        for case in &mut unit.cases {
            case.fails = chance(&mut draw, 30);
        }
    }
    scene.suites[0].waits = !chance(&mut draw, 3);
    scene.suites[0].grants = !chance(&mut draw, 3);
    if chance(&mut draw, 10) {
        scene.suites[0].bundles = Some(Micros(draw.below(300_000)));
        scene.suites[0].undivided = true;
        scene.suites[0].waits = false;
    }
    scene.suites[0].suite.copies = chance(&mut draw, 2);
    scene
}

fn pieces(scene: &mut Scene, draw: &mut Draw) {
    let listing = &mut scene.suites[0].listing;
    let end = listing.pieces[0].0;
    if chance(draw, 2) {
        let first = Micros(draw.below(end.0 + 1));
        let count = draw.below(scene.units.len() as u64 + 1) as u32;
        listing.pieces = vec![(first, count), (end, 0)];
    }
}

/// The first agent stays: a run that everybody leaves is another story. And two are lost at most: a test that was at work when three
/// were is an error.
fn people(scene: &mut Scene, draw: &mut Draw, even: Micros) {
    let mut losses = 0;
    for agent in scene.agents.iter_mut().skip(1) {
        if chance(draw, 3) {
            agent.joins = Micros(draw.below(even.0 * 2 + 1));
        }
        if chance(draw, 3) && losses < 2 {
            losses += 1;
            agent.loss = Some(Loss {
                at: agent.joins + Micros(draw.below(even.0 * 2 + 1)),
                noticed: Micros(draw.below(5_000_000)),
            });
        }
    }
    for agent in &mut scene.agents {
        if chance(draw, 3) {
            let at = Micros(draw.below(even.0 + 1));
            let before = agent.speed.at(Micros::ZERO);
            agent.speed = Speed::constant(before).then(at, before / 3);
        }
    }
}

fn constraints(scene: &mut Scene, draw: &mut Draw) {
    let mut overrides = Vec::new();
    for unit in &scene.units {
        let locks: Vec<String> = match draw.below(8) {
            0 => vec!["database".to_owned()],
            1 => vec!["port".to_owned()],
            2 => vec!["database".to_owned(), "port".to_owned()],
            _ => continue,
        };
        overrides.push(Override {
            units: vec![unit.name.clone()],
            locks: Some(Names { names: locks }),
            ..Override::default()
        });
    }
    if chance(draw, 3) {
        let unit = draw.below(scene.units.len() as u64) as usize;
        overrides.push(Override {
            units: vec![scene.units[unit].name.clone()],
            exclusive: Some(true),
            ..Override::default()
        });
    }
    if chance(draw, 2) {
        scene.suites[0].suite.overrides = overrides;
    }
}
