//! What a run's suites say of their units beyond the command: which kind of process a unit needs, which locks, how long its
//! cases may take.

use evenkeel_proto::suite::{Override, Suite};
use evenkeel_schedule::{Micros, Needs};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::collections::BTreeMap;

/// How long a case may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Its deadline.
    pub timeout: Option<Micros>,
    /// One that runs for longer is warned of.
    pub slow: Option<Micros>,
    /// What one past its deadline has left to end by itself.
    pub grace: Option<Micros>,
}

/// A pattern that is none.
#[derive(Debug, thiserror::Error)]
#[error("suite {suite}: {pattern:?} is no pattern for units: {reason}")]
pub struct PatternError {
    pub suite: String,
    pub pattern: String,
    pub reason: String,
}

/// The suites of a run, ready to be asked about units.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    suites: Vec<SuiteRules>,
    /// Every kind of process that the run may need. The first are the suites themselves, in their order.
    kinds: Vec<Kind>,
    /// The names of locks, in the order in which they are first named.
    locks: Vec<String>,
}

#[derive(Clone, Debug)]
struct SuiteRules {
    suite: Suite,
    overrides: Vec<OverrideRules>,
}

#[derive(Clone, Debug)]
struct OverrideRules {
    units: GlobSet,
    says: Override,
    /// The kind of process for units whose environment this says.
    kind: Option<u32>,
}

#[derive(Clone, Debug)]
struct Kind {
    suite: u32,
    environment: BTreeMap<String, String>,
}

impl Rules {
    /// Fails on a pattern that cannot be read.
    pub fn new(suites: &[Suite]) -> Result<Rules, PatternError> {
        let mut rules = Rules {
            suites: Vec::new(),
            kinds: (0..)
                .zip(suites)
                .map(|(number, suite)| Kind {
                    suite: number,
                    environment: suite.environment.clone(),
                })
                .collect(),
            locks: Vec::new(),
        };
        for (number, suite) in (0..).zip(suites) {
            rules.learn_locks(&suite.locks);
            let mut overrides = Vec::new();
            for says in &suite.overrides {
                rules.learn_locks(says.locks.iter().flat_map(|locks| &locks.names));
                let kind = says.environment.as_ref().map(|more| {
                    let mut environment = suite.environment.clone();
                    environment.extend(more.variables.clone());
                    rules.kinds.push(Kind {
                        suite: number,
                        environment,
                    });
                    rules.kinds.len() as u32 - 1
                });
                overrides.push(OverrideRules {
                    units: patterns(suite, &says.units)?,
                    says: says.clone(),
                    kind,
                });
            }
            rules.suites.push(SuiteRules {
                suite: suite.clone(),
                overrides,
            });
        }
        Ok(rules)
    }

    fn learn_locks<'a>(&mut self, names: impl IntoIterator<Item = &'a String>) {
        for name in names {
            if !self.locks.contains(name) {
                self.locks.push(name.clone());
            }
        }
    }

    /// Every kind of process, as an agent has to know it to start one.
    pub fn kinds(&self) -> Vec<Suite> {
        let kinds = self.kinds.iter().map(|kind| Suite {
            environment: kind.environment.clone(),
            overrides: Vec::new(),
            ..self.suites[kind.suite as usize].suite.clone()
        });
        kinds.collect()
    }

    pub(crate) fn kinds_count(&self) -> u32 {
        self.kinds.len() as u32
    }

    /// The suite of a kind of process.
    pub(crate) fn suite_of(&self, kind: u32) -> Option<u32> {
        self.kinds.get(kind as usize).map(|kind| kind.suite)
    }

    pub(crate) fn count(&self) -> u32 {
        self.suites.len() as u32
    }

    /// Whether a test of a suite may run beside itself.
    pub(crate) fn copies(&self, suite: u32) -> bool {
        self.suites[suite as usize].suite.copies
    }

    pub(crate) fn any_copies(&self) -> bool {
        self.suites.iter().any(|rules| rules.suite.copies)
    }

    pub(crate) fn name(&self, suite: u32) -> &str {
        &self.suites[suite as usize].suite.name
    }

    pub(crate) fn lock(&self, number: u32) -> &str {
        &self.locks[number as usize]
    }

    pub(crate) fn locks(&self) -> usize {
        self.locks.len()
    }

    /// The locks that a unit of a suite needs, by name, and whether nothing may run beside it.
    pub fn demands(&self, suite: u32, name: &str) -> (Vec<&str>, bool) {
        let (needs, _) = self.of(suite, name, "");
        let locks = needs.locks.iter().map(|&lock| self.lock(lock));
        (locks.collect(), needs.exclusive)
    }

    /// Overrides that name none of these units (name and path) of a suite, each by its patterns.
    pub(crate) fn idle_overrides<'a>(
        &self,
        suite: u32,
        units: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Vec<String> {
        let names = |rules: &OverrideRules, (name, path): (&str, &str)| {
            rules.units.is_match(name) || !path.is_empty() && rules.units.is_match(path)
        };
        let overrides = self.suites[suite as usize].overrides.iter();
        let idle = overrides.filter(|rules| !units.clone().any(|unit| names(rules, unit)));
        idle.map(|rules| rules.says.units.join(", ")).collect()
    }

    /// What a unit needs to run, and how long its cases may take.
    pub(crate) fn of(&self, suite: u32, name: &str, path: &str) -> (Needs, Limits) {
        let number = suite;
        let Some(rules) = self.suites.get(number as usize) else {
            return Default::default();
        };
        let suite = &rules.suite;
        let matching = rules.overrides.iter().filter(|rules| {
            rules.units.is_match(name) || !path.is_empty() && rules.units.is_match(path)
        });
        let says = || matching.clone().map(|rules| &rules.says);
        let locks = says().find_map(|says| says.locks.as_ref());
        let locks = locks.map_or(&suite.locks, |locks| &locks.names);
        let mut numbers: Vec<u32> = (0..)
            .zip(&self.locks)
            .filter(|(_, lock)| locks.contains(lock))
            .map(|(number, _)| number)
            .collect();
        numbers.sort_unstable();
        let needs = Needs {
            kind: matching
                .clone()
                .find_map(|rules| rules.kind)
                .unwrap_or(number),
            locks: numbers.into(),
            exclusive: says()
                .find_map(|says| says.exclusive)
                .unwrap_or(suite.exclusive),
            apart: 0,
        };
        let limit = |own: u64, of: fn(&Override) -> Option<u64>| {
            let us = says().find_map(of).unwrap_or(own);
            (us > 0).then_some(Micros(us))
        };
        let limits = Limits {
            timeout: limit(suite.case_timeout_us, |says| says.case_timeout_us),
            slow: limit(suite.slow_us, |says| says.slow_us),
            grace: limit(suite.grace_us, |says| says.grace_us),
        };
        (needs, limits)
    }
}

fn patterns(suite: &Suite, patterns: &[String]) -> Result<GlobSet, PatternError> {
    let failed = |pattern: &str, error: globset::Error| PatternError {
        suite: suite.name.clone(),
        pattern: pattern.to_owned(),
        reason: error.kind().to_string(),
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        set.add(glob.map_err(|error| failed(pattern, error))?);
    }
    set.build()
        .map_err(|error| failed(&patterns.join(" "), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_proto::suite::{Names, Variables};

    fn names(names: &[&str]) -> Option<Names> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Some(Names { names })
    }

    #[test]
    fn of_the_overrides_that_name_a_unit_the_first_that_says_something_counts() {
        let suite = Suite {
            name: "unit".into(),
            case_timeout_us: 10,
            locks: vec!["db".into()],
            environment: BTreeMap::from([("A".into(), "1".into())]),
            overrides: vec![
                Override {
                    units: vec!["slow/**".into()],
                    case_timeout_us: Some(90),
                    ..Override::default()
                },
                Override {
                    units: vec!["slow/a*".into(), "other/x".into()],
                    case_timeout_us: Some(20),
                    slow_us: Some(5),
                    exclusive: Some(true),
                    locks: names(&[]),
                    environment: Some(Variables {
                        variables: BTreeMap::from([("B".into(), "2".into())]),
                    }),
                    ..Override::default()
                },
            ],
            ..Suite::default()
        };
        let second = Suite {
            name: "e2e".into(),
            locks: vec!["port".into(), "db".into()],
            ..Suite::default()
        };
        let rules = Rules::new(&[suite, second]).expect("the patterns are right");
        let (needs, limits) = rules.of(0, "slow/a_test", "");
        assert_eq!((needs.kind, needs.exclusive), (2, true));
        assert!(needs.locks.is_empty(), "{needs:?}");
        assert_eq!(limits.timeout, Some(Micros(90)));
        assert_eq!(limits.slow, Some(Micros(5)));
        let (needs, limits) = rules.of(0, "slow/b_test", "");
        assert_eq!((needs.kind, needs.exclusive), (0, false));
        assert_eq!(*needs.locks, [0]);
        assert_eq!((limits.timeout, limits.slow), (Some(Micros(90)), None));
        // A lock is the same in all suites.
        assert_eq!(*rules.of(1, "slow/a_test", "").0.locks, [0, 1]);
        let kinds = rules.kinds();
        let of = |kind: usize| (kinds[kind].name.as_str(), kinds[kind].environment.len());
        assert_eq!(
            [of(0), of(1), of(2)],
            [("unit", 1), ("e2e", 0), ("unit", 2)]
        );
    }

    #[test]
    fn a_pattern_that_cannot_be_read_is_named_with_its_suite() {
        let suite = Suite {
            name: "unit".into(),
            overrides: vec![Override {
                units: vec!["a[".into()],
                ..Override::default()
            }],
            ..Suite::default()
        };
        let error = Rules::new(&[suite]).expect_err("the pattern is wrong");
        let text = error.to_string();
        assert!(text.contains("suite unit") && text.contains("a["), "{text}");
    }
}
