//! Histories of recorded suites: what earlier runs of them might have recorded, and what the next one takes.
//!
//! A trace tells what each test took once. The rest is made up, by one set of figures for all suites: how runs, machines and units vary, and
//! how suites change. New units and files are real ones that the history was not told of, so that what their
//! neighbours tell of them is what real neighbours do.

use crate::random::Random;
use crate::traces::Case;
use evenkeel_schedule::{Micros, Past, PastRun, Sample};
use std::collections::{BTreeMap, HashSet};

/// What happened to a unit between the history and the run that is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is there, and was.
    Known,
    /// It was not there: by itself, or with its whole file.
    New,
    NewFile,
    /// Its file is in another directory now.
    Moved,
    /// Its file, or a word of its own name, is called otherwise.
    Renamed,
    /// It has other parameters.
    Reparametrised,
    /// It is not there any more.
    Gone,
}

pub struct Unit {
    pub name: String,
    pub fate: Fate,
    /// What it takes in the run that is judged.
    pub took: Micros,
    /// What its source has in bytes; the traces do not tell.
    pub size: u64,
}

pub struct World {
    pub past: Past,
    /// Those of the run that is judged.
    pub units: Vec<Unit>,
}

/// The units of a trace: its files or its cases, with what they took.
pub fn recorded(cases: &[Case], by_file: bool) -> Vec<(String, String, u64)> {
    let mut units: Vec<(String, String, u64)> = Vec::new();
    if by_file {
        let mut files: BTreeMap<&str, u64> = BTreeMap::new();
        for case in cases {
            *files.entry(&case.file).or_default() += case.micros;
        }
        let files = files.into_iter();
        return files
            .map(|(file, took)| (file.to_owned(), String::new(), took))
            .collect();
    }
    let mut seen = HashSet::new();
    for case in cases {
        if seen.insert((&case.file, &case.name)) {
            units.push((case.file.clone(), case.name.clone(), case.micros));
        }
    }
    units
}

/// A history of these units and the run after it.
pub fn world(recorded: &[(String, String, u64)], seed: u64) -> World {
    let mut random = Random::new(seed);
    let random = &mut random;
    let runs = [1, 2, 3, 5, 8][random.below(5)];
    let runs: Vec<RunModel> = RunModel::all(random, runs);
    let changes = Changes::new(random, recorded);
    let mut past = Past {
        runs: (0u32..)
            .zip(&runs)
            .map(|(number, run)| PastRun {
                runs: number,
                days: run.days,
                circumstances: u32::from(run.foreign.is_some()),
            })
            .collect(),
        units: BTreeMap::new(),
    };
    let today = random.normal(RUN);
    let mut units = Vec::new();
    for (file, case, micros) in recorded {
        let fate = changes.fate(random, file, case);
        let name = joined(file, case);
        let mut unit = UnitModel::new(random, *micros);
        let since = match random.happens(YOUNG) {
            true => random.below(runs.len() + 1),
            false => runs.len(),
        };
        let mut samples = Vec::new();
        // From the oldest run to the newest.
        for (number, run) in runs.iter().enumerate().rev() {
            let sample = unit.run(random, run.effect, run.foreign);
            if number < since.max(1) {
                samples.push(Sample {
                    work: Micros(sample.0),
                    setup: Micros(0),
                    run: number as u32,
                    passed: sample.1,
                });
            }
        }
        samples.reverse();
        if !matches!(fate, Fate::New | Fate::NewFile) {
            past.units.insert(name.clone(), samples);
        }
        let name = match fate {
            Fate::Gone => continue,
            Fate::Moved | Fate::Renamed | Fate::Reparametrised => {
                unit.change(random);
                changes.renamed(random, fate, file, case)
            }
            _ => name,
        };
        let took = loop {
            // The judged run is one of passing durations.
            let (took, passed) = unit.run(random, today, None);
            if passed {
                break Micros(took);
            }
        };
        units.push(Unit {
            name,
            fate,
            took,
            size: 0,
        });
    }
    // Two that have one name now are no longer two.
    let mut names = HashSet::new();
    units.retain(|unit| names.insert(unit.name.clone()));
    let kept: HashSet<&str> = units
        .iter()
        .filter(|unit| unit.fate != Fate::Known)
        .map(|unit| unit.name.as_str())
        .collect();
    past.units.retain(|name, _| !kept.contains(name.as_str()));
    World { past, units }
}

fn joined(file: &str, case: &str) -> String {
    match case {
        "" => file.to_owned(),
        case => format!("{file}::{case}"),
    }
}

/// Deviation of what the units of a run have in common.
const RUN: f64 = 0.1;
/// How many of the units are younger than the history.
const YOUNG: f64 = 0.2;

struct RunModel {
    effect: f64,
    /// On another kind of machine, which is so much slower.
    foreign: Option<f64>,
    days: u32,
}

impl RunModel {
    /// The newest first.
    fn all(random: &mut Random, count: usize) -> Vec<RunModel> {
        let slower = random.normal(0.3) + 0.3;
        let mut days = 0;
        (0..count)
            .map(|_| {
                days += random.below(4) as u32;
                RunModel {
                    effect: random.normal(RUN),
                    foreign: random.happens(0.25).then_some(slower),
                    days,
                }
            })
            .collect()
    }
}

struct UnitModel {
    /// The logarithm of what it takes.
    level: f64,
    noise: f64,
    /// What it takes more on the other kind of machine than units do.
    foreign: f64,
}

impl UnitModel {
    fn new(random: &mut Random, micros: u64) -> UnitModel {
        // What is less than the report's resolution is somewhere below it.
        let took = match micros {
            0 => random.within(3.0, 6.1).exp(),
            micros => micros as f64 + random.within(-400.0, 400.0).min(micros as f64 / 2.0),
        };
        UnitModel {
            level: took.max(20.0).ln(),
            noise: (0.1f64.ln() + random.normal(0.7)).exp().clamp(0.01, 0.6),
            foreign: random.normal(0.15),
        }
    }

    /// What a run of it takes, in microseconds, and whether it passes. Its level moves a little, and sometimes much.
    fn run(&mut self, random: &mut Random, effect: f64, foreign: Option<f64>) -> (u64, bool) {
        self.level += random.normal(0.03);
        if random.happens(0.01) {
            self.level += random.normal(0.6);
        }
        let mut log = self.level + effect + random.normal(self.noise);
        if let Some(slower) = foreign {
            log += slower + self.foreign;
        }
        if random.happens(0.015) {
            log += random.within(0.4, 1.8);
        }
        let passed = !random.happens(0.01);
        if !passed {
            log += random.within(-2.0, 0.5);
        }
        let waited = -150.0 * (1.0 - random.unit()).ln();
        ((log.exp() + waited).round().max(1.0) as u64, passed)
    }

    /// What is renamed is often changed, too.
    fn change(&mut self, random: &mut Random) {
        let much = random.happens(0.3);
        self.level += random.normal(if much { 0.4 } else { 0.05 });
    }
}

/// What changes in a suite.
struct Changes {
    files: BTreeMap<String, Fate>,
    directories: Vec<String>,
    /// What files of several directories are called.
    shared: HashSet<String>,
    words: Vec<String>,
}

impl Changes {
    fn new(random: &mut Random, recorded: &[(String, String, u64)]) -> Changes {
        let mut files: BTreeMap<String, Fate> = BTreeMap::new();
        let mut directories = HashSet::new();
        let mut words = Vec::new();
        let mut seen = HashSet::new();
        let mut listed = Vec::new();
        let (mut bases, mut shared) = (HashSet::new(), HashSet::new());
        for (file, case, _) in recorded {
            for word in of_words(file).chain(of_words(case)) {
                if seen.insert(word.to_owned()) && word.len() > 2 {
                    words.push(word.to_owned());
                }
            }
            let directory = split(file).0;
            if directories.insert(directory.to_owned()) {
                listed.push(directory.to_owned());
            }
            if files.contains_key(file) {
                continue;
            }
            let fate = match random.unit() {
                x if x < 0.03 => Fate::NewFile,
                x if x < 0.05 => Fate::Moved,
                x if x < 0.07 => Fate::Renamed,
                x if x < 0.08 => Fate::Gone,
                _ => Fate::Known,
            };
            files.insert(file.clone(), fate);
            let base = split(file).1;
            if !bases.insert(base) {
                shared.insert(base.to_owned());
            }
        }
        Changes {
            files,
            directories: listed,
            shared,
            words,
        }
    }

    fn fate(&self, random: &mut Random, file: &str, case: &str) -> Fate {
        let chance = random.unit();
        match self.files[file] {
            Fate::Known if !case.is_empty() => match chance {
                x if x < 0.02 => Fate::New,
                x if x < 0.03 => Fate::Gone,
                x if x < 0.045 => Fate::Renamed,
                x if x < 0.09 && parameters(case).is_some() => Fate::Reparametrised,
                _ => Fate::Known,
            },
            fate => fate,
        }
    }

    /// The name that a unit has now. What happens to a file happens to all that is in it in the same way.
    fn renamed(&self, random: &mut Random, fate: Fate, file: &str, case: &str) -> String {
        let mut of_file = Random::new(file.bytes().fold(7, |hash: u64, byte| {
            hash.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte)
        }));
        let of_file = &mut of_file;
        match (fate, self.files[file]) {
            (Fate::Moved, _) => {
                let (directory, base) = split(file);
                let others = &self.directories;
                let other = &others[of_file.below(others.len())];
                let word = self.word(of_file);
                let by = if file.contains('/') { '/' } else { '.' };
                let directory = if self.shared.contains(base) {
                    // Its directory is what it is known by, and moves with it.
                    let around = directory.find(by).map_or(0, |at| at + 1);
                    format!("{}{word}{by}{}", &directory[..around], &directory[around..])
                } else if of_file.happens(0.5) || other == directory {
                    format!("{directory}{word}{by}")
                } else {
                    other.clone()
                };
                joined(&format!("{directory}{base}"), case)
            }
            (Fate::Renamed, Fate::Renamed) => joined(&self.other_word(of_file, file), case),
            (Fate::Renamed, _) => joined(file, &self.other_word(random, case)),
            (Fate::Reparametrised, _) => {
                let at = parameters(case).expect("only what has parameters gets others");
                let inner = self.word(random);
                joined(
                    file,
                    &format!("{}{inner}-{}]", &case[..at], random.below(50)),
                )
            }
            _ => joined(file, case),
        }
    }

    fn word(&self, random: &mut Random) -> String {
        self.words[random.below(self.words.len())].clone()
    }

    /// The name with one of the words of its last component changed, or with one more.
    fn other_word(&self, random: &mut Random, name: &str) -> String {
        let base = split(name).1.len();
        let (kept, base) = name.split_at(name.len() - base);
        let words: Vec<&str> = of_words(base).collect();
        let new = self.word(random);
        match words.get(random.below(words.len().max(1))) {
            Some(&old) if words.len() > 1 && random.happens(0.7) => {
                let changed = base.replacen(old, &new, 1);
                format!("{kept}{changed}")
            }
            _ => format!("{kept}{new}_{base}"),
        }
    }
}

/// Directory, with what ends it, and the rest.
fn split(file: &str) -> (&str, &str) {
    let by = if file.contains('/') { '/' } else { '.' };
    match file.rfind(by) {
        Some(at) => file.split_at(at + 1),
        None => ("", file),
    }
}

/// Where the parameters of a case begin.
fn parameters(case: &str) -> Option<usize> {
    case.ends_with(']')
        .then(|| case.find('[').map(|at| at + 1))?
}

fn of_words(name: &str) -> impl Iterator<Item = &str> {
    let words = name.split(|letter: char| !letter.is_alphanumeric());
    words.filter(|word| !word.is_empty())
}
