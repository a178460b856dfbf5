//! What a run runs: the suites of the command line or of the file, checked and as a coordinator takes them.

use crate::cli::{Collect, What};
use crate::config::{self, Found, Override, Place, Suite, Words, did_you_mean};
use crate::exit::Failure;
use evenkeel_agent::{Framework, RecogniseError};
use evenkeel_coordinator::run::Rules;
use evenkeel_proto::suite;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use toml::Spanned;

/// As many slots as one agent may have.
const MAX_SLOTS: u32 = 4096;
const KNOWN: &str = "Evenkeel knows pytest and cargo test, also behind a wrapper (uv run pytest, python -m pytest); a command that writes JUnit goes with --runner command, a runner of your own with --runner protocol";

/// The suites of a run, and how many slots the file gives it, if it does.
pub fn of_run(args: &What, place: &Place) -> Result<(Vec<suite::Suite>, Option<u32>), Failure> {
    if !args.command.is_empty() {
        if let Some(name) = args.suite.first() {
            return Err(Failure::usage(format!(
                "--suite {name} and a command were given"
            ))
            .with_hint("leave one of them out: a command is run in place of the suites of evenkeel.toml"));
        }
        let suite = of_command(args, &place.root)?;
        return Ok((vec![suite], None));
    }
    let found = place.found.as_ref().ok_or_else(|| {
        Failure::usage(format!(
            "no command was given, and there is no {} here or above",
            config::FILE
        ))
        .with_hint(
            "give the framework's command behind --, for example: evenkeel run -- pytest tests",
        )
    })?;
    let chosen = chosen(args, found)?;
    let one = chosen.len() == 1;
    if let (false, Some(option)) = (one, of_one_suite(args)) {
        let names: Vec<&str> = chosen.iter().map(|(name, _)| *name).collect();
        return Err(
            Failure::usage(format!("{option} was given, and a run of several suites")).with_hint(
                format!(
                    "write it into {}, or choose one suite: --suite {}",
                    found.source.path.display(),
                    names[0]
                ),
            ),
        );
    }
    let suites: Vec<suite::Suite> = chosen
        .iter()
        .map(|&(name, written)| {
            let file = File {
                found,
                home: &place.home,
                name,
                suite: written.get_ref(),
            };
            file.suite(args)
        })
        .collect::<Result<_, Failure>>()?;
    Ok((suites, slots(found, &chosen)?))
}

/// An option that says something of one suite only.
fn of_one_suite(args: &What) -> Option<&'static str> {
    let given = [
        (args.runner.is_some(), "--runner"),
        (!args.with.is_empty(), "--with"),
    ];
    given
        .iter()
        .find(|(given, _)| *given)
        .map(|(_, name)| *name)
}

type Named<'a> = (&'a str, &'a Spanned<Suite>);

/// The suites that were asked for, else all.
fn chosen<'a>(args: &What, found: &'a Found) -> Result<Vec<Named<'a>>, Failure> {
    let all = found.config.suites();
    if all.is_empty() {
        return Err(found.source.lacks("no suite is written there").with_hint(
            "add [suite.NAME] with a command, or give the command: evenkeel run -- pytest tests",
        ));
    }
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    let unknown = args
        .suite
        .iter()
        .find(|name| !names.contains(&name.as_str()));
    if let Some(wrong) = unknown {
        let message = format!("there is no suite {wrong:?}");
        return Err(found
            .source
            .lacks(&message)
            .with_hint(did_you_mean(wrong, &names)));
    }
    let wanted =
        |name: &str| args.suite.is_empty() || args.suite.iter().any(|wanted| wanted == name);
    Ok(all.into_iter().filter(|(name, _)| wanted(name)).collect())
}

/// The slots of the run, else the most that one of its suites has.
fn slots(found: &Found, chosen: &[Named<'_>]) -> Result<Option<u32>, Failure> {
    let own = chosen
        .iter()
        .filter_map(|(_, suite)| suite.get_ref().slots.as_ref());
    for slots in own.clone().chain(&found.config.slots) {
        if !(1..=MAX_SLOTS).contains(slots.get_ref()) {
            let message = format!("there cannot be {} slots", slots.get_ref());
            return Err(found
                .source
                .wrong(slots.span(), &message)
                .with_hint(format!("write a number from 1 to {MAX_SLOTS}")));
        }
    }
    let most = own.map(|slots| *slots.get_ref()).max();
    let of_run = found.config.slots.as_ref().map(|slots| *slots.get_ref());
    Ok(of_run.or(most))
}

fn of_command(args: &What, root: &Path) -> Result<suite::Suite, Failure> {
    let runner = args.runner.clone().unwrap_or_default();
    let framework = evenkeel_agent::recognise(&args.command, &runner)
        .map_err(|error| Failure::usage(error.to_string()).with_hint(KNOWN))?;
    if args.isolate {
        can_isolate(framework)
            .map_err(|(message, hint)| Failure::usage(message).with_hint(hint))?;
    }
    let settings = config::settings_of(&args.with);
    if let Some((_, message, hint)) = unknown_setting(framework, settings.keys()) {
        return Err(Failure::usage(message).with_hint(hint));
    }
    Ok(suite::Suite {
        name: framework.name().to_owned(),
        runner: framework.name().to_owned(),
        command: args.command.clone(),
        directory: root.to_string_lossy().into_owned(),
        case_timeout_us: micros(args.timeout),
        whole: args.collect == Some(Collect::Whole),
        isolate: args.isolate,
        settings: listed(settings),
        ..suite::Suite::default()
    })
}

/// A suite of the file.
struct File<'a> {
    found: &'a Found,
    home: &'a Path,
    name: &'a str,
    suite: &'a Suite,
}

impl File<'_> {
    fn wrong(&self, span: Range<usize>, message: &str) -> Failure {
        self.found.source.wrong(span, message)
    }

    fn suite(&self, args: &What) -> Result<suite::Suite, Failure> {
        let suite = self.suite;
        self.check_name()?;
        let command = self.words(&suite.command)?;
        let framework = self.framework(args, &command)?;
        if let Some(isolate) = suite.isolate.as_ref().filter(|isolate| *isolate.get_ref()) {
            can_isolate(framework)
                .map_err(|(message, hint)| self.wrong(isolate.span(), &message).with_hint(hint))?;
        }
        if args.isolate {
            can_isolate(framework).map_err(|(message, hint)| {
                Failure::usage(format!("suite {}: {message}", self.name)).with_hint(hint)
            })?;
        }
        let settings = suite.settings(&args.with);
        if let Some((name, message, hint)) = unknown_setting(framework, settings.keys()) {
            let written = suite.with.keys().find(|key| *key.get_ref() == name);
            return Err(match written {
                Some(key) => self.wrong(key.span(), &message).with_hint(hint),
                None => Failure::usage(message).with_hint(hint),
            });
        }
        let isolate = suite
            .isolate
            .as_ref()
            .is_some_and(|isolate| *isolate.get_ref());
        let hook = |words: &Option<Spanned<Words>>| {
            let words = words.as_ref().map(|words| self.words(words));
            words.transpose().map(Option::unwrap_or_default)
        };
        let suite = suite::Suite {
            name: self.name.to_owned(),
            runner: framework.name().to_owned(),
            command,
            directory: self.directory()?,
            environment: self.environment(&suite.environment)?,
            case_timeout_us: micros(args.timeout.or(suite.timeout.map(|limit| limit.0))),
            whole: args.collect.or(suite.collect) == Some(Collect::Whole),
            isolate: args.isolate || isolate,
            settings: listed(settings),
            slow_us: micros(suite.slow.map(|limit| limit.0)),
            grace_us: micros(suite.grace.map(|limit| limit.0)),
            locks: self.locks(&suite.locks)?,
            exclusive: suite.exclusive,
            copies: suite.copies,
            overrides: suite
                .overrides
                .iter()
                .map(|over| self.over(over))
                .collect::<Result<_, Failure>>()?,
            setup: hook(&suite.setup)?,
            teardown: hook(&suite.teardown)?,
            slot_setup: hook(&suite.slot_setup)?,
            slot_teardown: hook(&suite.slot_teardown)?,
        };
        Ok(suite)
    }

    /// A suite's name stands in reports and commands.
    fn check_name(&self) -> Result<(), Failure> {
        let plain = !self.name.trim().is_empty() && !self.name.chars().any(char::is_control);
        if plain {
            return Ok(());
        }
        let span = self.suite.command.span();
        let message = format!("{:?} is no name for the suite of this command", self.name);
        Err(self
            .wrong(span, &message)
            .with_hint("name it in a word: [suite.unit]"))
    }

    fn environment(
        &self,
        variables: &BTreeMap<Spanned<String>, String>,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let checked = variables.iter().map(|(name, value)| {
            let key = name.get_ref();
            if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
                let message = format!("{key:?} cannot be an environment variable of this value");
                return Err(self.wrong(name.span(), &message).with_hint(
                    "a name is not empty and holds no =; neither name nor value holds a NUL character",
                ));
            }
            Ok((key.clone(), value.clone()))
        });
        checked.collect()
    }

    fn framework(&self, args: &What, command: &[String]) -> Result<Framework, Failure> {
        let written = self.suite.runner.as_ref();
        let runner = args.runner.clone();
        let runner = runner.or_else(|| written.map(|runner| runner.get_ref().clone()));
        evenkeel_agent::recognise(command, &runner.unwrap_or_default()).map_err(|error| {
            let of_runner = written.filter(|_| args.runner.is_none());
            let (span, hint) = match (&error, of_runner) {
                (RecogniseError::UnknownRunner { name, .. }, Some(runner)) => {
                    let known = Framework::ALL.map(Framework::name);
                    (runner.span(), did_you_mean(name, &known))
                }
                _ => (self.suite.command.span(), KNOWN.to_owned()),
            };
            self.wrong(span, &error.to_string()).with_hint(hint)
        })
    }

    fn words(&self, words: &Spanned<Words>) -> Result<Vec<String>, Failure> {
        let list = words.get_ref().list();
        if list.first().is_none_or(String::is_empty) || list.iter().any(|word| word.contains('\0'))
        {
            return Err(self
                .wrong(
                    words.span(),
                    "the command is empty, or holds a NUL character",
                )
                .with_hint("write its words: [\"pytest\", \"tests\"]"));
        }
        Ok(list)
    }

    fn directory(&self) -> Result<String, Failure> {
        let written = self.suite.directory.as_ref();
        let directory = written.map_or_else(
            || self.home.to_owned(),
            |directory| self.home.join(directory.get_ref()),
        );
        if let Some(written) = written.filter(|_| !directory.is_dir()) {
            let message = format!("{} is no directory", directory.display());
            return Err(self
                .wrong(written.span(), &message)
                .with_hint("it is relative to the file"));
        }
        Ok(directory.to_string_lossy().into_owned())
    }

    fn locks(&self, locks: &[Spanned<String>]) -> Result<Vec<String>, Failure> {
        let names = locks.iter().map(|lock| {
            if lock.get_ref().trim().is_empty() {
                return Err(self.wrong(lock.span(), "a lock has no name").with_hint(
                    "name it after what is not to be used twice at a time: \"database\"",
                ));
            }
            Ok(lock.get_ref().clone())
        });
        names.collect()
    }

    fn over(&self, over: &Spanned<Override>) -> Result<suite::Override, Failure> {
        let says = over.get_ref();
        let example = "[[suite.NAME.override]]\n  units = [\"tests/slow/**\"]\n  timeout = \"10m\"";
        if says.units.is_empty() {
            return Err(self
                .wrong(over.span(), "this override is for no unit")
                .with_hint(format!("name some, by patterns:\n  {example}")));
        }
        let written = suite::Override {
            units: says
                .units
                .iter()
                .map(|unit| unit.get_ref().clone())
                .collect(),
            case_timeout_us: says.timeout.map(|limit| micros(Some(limit.0))),
            slow_us: says.slow.map(|limit| micros(Some(limit.0))),
            grace_us: says.grace.map(|limit| micros(Some(limit.0))),
            exclusive: says.exclusive,
            locks: match &says.locks {
                Some(locks) => Some(suite::Names {
                    names: self.locks(locks)?,
                }),
                None => None,
            },
            environment: match &says.environment {
                Some(variables) => Some(suite::Variables {
                    variables: self.environment(variables)?,
                }),
                None => None,
            },
        };
        let silent = suite::Override {
            units: written.units.clone(),
            ..suite::Override::default()
        };
        if written == silent {
            return Err(self
                .wrong(over.span(), "this override says nothing of its units")
                .with_hint(format!("say what is different for them:\n  {example}")));
        }
        for unit in &says.units {
            if unit.get_ref().is_empty() {
                return Err(self
                    .wrong(unit.span(), "an empty pattern names no unit")
                    .with_hint(format!("name some, by patterns:\n  {example}")));
            }
            let alone = suite::Suite {
                overrides: vec![suite::Override {
                    units: vec![unit.get_ref().clone()],
                    ..suite::Override::default()
                }],
                ..suite::Suite::default()
            };
            if let Err(error) = Rules::new(&[alone]) {
                let message = format!("{:?} is no pattern: {}", unit.get_ref(), error.reason);
                return Err(self
                    .wrong(unit.span(), &message)
                    .with_hint("* stands for part of a name, ** for directories, [ab] for one of these characters, {a,b} for one of these words"));
            }
        }
        Ok(written)
    }
}

fn listed(settings: BTreeMap<String, Vec<String>>) -> Vec<suite::Setting> {
    let settings = settings.into_iter();
    settings
        .map(|(name, values)| suite::Setting { name, values })
        .collect()
}

/// A setting that the runner does not have: its name, what is wrong, and what there is.
fn unknown_setting<'a>(
    framework: Framework,
    mut given: impl Iterator<Item = &'a String>,
) -> Option<(String, String, String)> {
    let known = framework.settings()?;
    let wrong = given.find(|name| !known.contains(&name.as_str()))?;
    let runner = framework.name();
    let hint = if known.is_empty() {
        format!("{runner} has no settings of its own; leave it out")
    } else {
        did_you_mean(wrong, known)
    };
    let message = format!("there is no setting {wrong:?} for {runner}");
    Some((wrong.clone(), message, hint))
}

fn can_isolate(framework: Framework) -> Result<(), (String, String)> {
    if framework.isolates() {
        return Ok(());
    }
    Err((
        format!("--isolate is not possible with {}", framework.name()),
        "leave it out: tests of one file share a process".to_owned(),
    ))
}

fn micros(duration: Option<Duration>) -> u64 {
    duration.map_or(0, |duration| {
        u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
    })
}
