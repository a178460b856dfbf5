//! The runner: it lists what was built, loads units, and runs what leases ask for.

use super::batch;
use super::build::{self, Refused};
use super::harness::tests_of;
use super::plan::{Built, Shared, Speaks, Target, Tests};
use super::words::{self, Tool, Words};
use super::{doctests, nextest};
use crate::RunnerError;
use crate::child::{Abort, ending};
use crate::conversation::{Conversation, Task};
use crate::wire::{
    Case, CaseResult, Event, Lease, Objection, Outcome, PROTOCOL, Refusal, RunWide, Unit,
};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Where earlier runs tell what a lease takes, its first batch is half of it, the next half of the rest, and so on: what is not
/// in a process yet can still go elsewhere. A batch is not shorter than this, since each start of a process costs.
const LEAST: Duration = Duration::from_millis(250);
/// Where nothing is known a batch should run for this long at least,
const UNKNOWN: Duration = Duration::from_millis(100);
/// and for so many times what its start takes,
const STARTUPS: u32 = 10;
/// but no longer than this, and have at most so many times the tests of the one before.
const MOST: Duration = Duration::from_secs(20);
const GROWTH: usize = 8;
/// The first batch of a binary of which nothing is known has so many tests.
const FIRST: usize = 2;
/// The same for doctests: each start of rustdoc reads the crate.
const FIRST_DOCTESTS: usize = 16;
/// Bytes of names in the arguments of one process. The system takes 2 MiB with the environment, and no word above 128 KiB.
const NAMES: usize = 256 << 10;
/// Names in one process: a binary compares each test with each name.
const MANY: usize = 1000;
/// So many processes of a binary in a row may start no test; then it is not started any more.
const STARTS: u32 = 3;
/// What a test is taken to be worth, in bytes of source, where nothing is known of its binary.
const WORTH: u64 = 500;

pub(super) async fn serve(command: Vec<String>) -> Result<(), RunnerError> {
    let mut conversation = Conversation::connect().await?;
    let found = words::find(&command);
    let harness = found.as_ref().map(|found| {
        let words = &command[found.harness.clone()];
        super::harness::Harness::parse(words)
    });
    let mut harness = harness.unwrap_or_default();
    let mut run_wide = RunWide {
        max_fail: None,
        show_output: harness.show_output,
    };
    let options = found.as_ref().filter(|found| found.tool == Tool::Nextest);
    let options = options.map(|found| nextest::options(&command[found.options.clone()]));
    if let Some(Ok(options)) = &options {
        harness.notes.extend(options.notes.iter().cloned());
        run_wide = options.run_wide.clone();
    }
    let Some(found) = found else {
        let refused = Refused::new(
            Refusal::Usage,
            "the command does not start cargo test",
            "write it as cargo test, or cargo nextest run",
        );
        return refuse(conversation, &refused).await;
    };
    if let Some(Err(refused)) = options {
        return refuse(conversation, &refused).await;
    }
    if let Some(option) = harness.runs_nothing {
        let message = format!("with {option} a test binary runs no test");
        return refuse(
            conversation,
            &Refused::new(Refusal::Usage, message, "leave it out"),
        )
        .await;
    }
    conversation.say(&Event::Hello {
        protocol: PROTOCOL,
        runner: "cargo",
        framework: "cargo test",
        language: "Rust",
        pid: std::process::id(),
        at: conversation.at(Instant::now()),
        can: &["list", "revoke", "batch"],
        notes: &harness.notes,
        run_wide: &run_wide,
        closing: true,
    });
    let mut runner = Runner {
        command,
        found,
        shared: Shared::of_this_run(),
        targets: Vec::new(),
        known: HashMap::new(),
        paces: HashMap::new(),
        abort: Abort::listen()?,
        objections: Vec::new(),
        isolated: std::env::var_os(super::ISOLATE).is_some(),
    };
    loop {
        match conversation.next_task().await? {
            Task::List => {
                if let Err(refused) = runner.list(&mut conversation).await? {
                    return refuse(conversation, &refused).await;
                }
            }
            Task::Run(lease) => {
                if let Err(refused) = runner.lease(&mut conversation, &lease).await? {
                    return refuse(conversation, &refused).await;
                }
            }
            Task::Stop => return conversation.bye(&runner.objections).await,
        }
    }
}

async fn refuse(mut conversation: Conversation, refused: &Refused) -> Result<(), RunnerError> {
    conversation.say(&Event::Refused {
        reason: refused.reason,
        message: &refused.message,
        hint: &refused.hint,
        detail: &refused.detail,
    });
    conversation.flush().await
}

struct Runner {
    command: Vec<String>,
    found: Words,
    shared: Shared,
    targets: Vec<Target>,
    /// The tests of the targets that this process has loaded.
    known: HashMap<usize, Tests>,
    paces: HashMap<usize, Pace>,
    abort: Abort,
    objections: Vec<Objection>,
    /// Each test has a process of its own.
    isolated: bool,
}

impl Runner {
    /// Builds, or learns what another process of this agent has built.
    async fn prepare(
        &mut self,
        conversation: &mut Conversation,
    ) -> Result<Result<(), Refused>, RunnerError> {
        if !self.targets.is_empty() {
            return Ok(Ok(()));
        }
        let failed = |source| RunnerError::Io {
            what: "what another slot has built".to_owned(),
            source,
        };
        let _building = self.shared.lock().map_err(failed)?;
        if let Some(built) = self.shared.read("plan").map_err(failed)? {
            self.take(built);
            return Ok(Ok(()));
        }
        let built = build::build(&self.command, &self.found, &self.shared, conversation).await?;
        match built {
            Ok(built) => {
                self.shared.write("plan", &built).map_err(failed)?;
                self.take(built);
                Ok(Ok(()))
            }
            Err(refused) => Ok(Err(refused)),
        }
    }

    fn take(&mut self, built: Built) {
        self.targets = built.targets;
        self.known.extend(built.tests);
    }

    /// Names the targets that have tests, as soon as each is known to.
    async fn list(
        &mut self,
        conversation: &mut Conversation,
    ) -> Result<Result<(), Refused>, RunnerError> {
        if let Err(refused) = self.prepare(conversation).await? {
            return Ok(Err(refused));
        }
        let most = std::thread::available_parallelism().map_or(1, usize::from);
        let mut listings: JoinSet<(usize, Tests)> = JoinSet::new();
        let mut next = 0;
        let mut told = 0;
        while told < self.targets.len() {
            while next < self.targets.len() && listings.len() < most {
                let (number, target) = (next, self.targets[next].clone());
                next += 1;
                if matches!(target.speaks, Speaks::Libtest | Speaks::Own) {
                    listings.spawn(async move { (number, list_tests(&target).await) });
                }
            }
            match listings.join_next().await {
                Some(Ok((number, tests))) => self.keep(number, tests),
                Some(Err(error)) => {
                    return Err(RunnerError::Io {
                        what: "a test binary could not be listed".to_owned(),
                        source: std::io::Error::other(error),
                    });
                }
                None => {}
            }
            // In Cargo's order, whatever is known first.
            let mut units = Vec::new();
            while let Some(target) = self.targets.get(told) {
                let size = match (target.speaks, self.known.get(&told)) {
                    (Speaks::Libtest | Speaks::Own, None) => break,
                    (_, Some(Tests::Named(names) | Tests::Chosen { names, .. })) => {
                        names.len() as u64 * WORTH
                    }
                    _ => WORTH,
                };
                if size > 0 {
                    units.push(Unit {
                        unit: target.unit.clone(),
                        path: String::new(),
                        size,
                    });
                }
                told += 1;
            }
            if !units.is_empty() && told < self.targets.len() {
                conversation.listed(&units, true);
                conversation.flush().await?;
                units.clear();
            }
            if told == self.targets.len() {
                conversation.listed(&units, false);
                return Ok(Ok(()));
            }
        }
        conversation.listed(&[], false);
        Ok(Ok(()))
    }

    /// Remembers a target's tests, also for the other processes of this agent.
    fn keep(&mut self, number: usize, tests: Tests) {
        // Without it they list again.
        self.shared.write(&format!("tests-{number}"), &tests).ok();
        self.known.insert(number, tests);
    }

    async fn tests(&mut self, number: usize) -> &Tests {
        if !self.known.contains_key(&number) {
            let written = self.shared.read(&format!("tests-{number}"));
            match written.ok().flatten() {
                Some(tests) => {
                    self.known.insert(number, tests);
                }
                None => {
                    let tests = list_tests(&self.targets[number]).await;
                    self.keep(number, tests);
                }
            }
        }
        &self.known[&number]
    }

    async fn lease(
        &mut self,
        conversation: &mut Conversation,
        lease: &Lease,
    ) -> Result<Result<(), Refused>, RunnerError> {
        if let Err(refused) = self.prepare(conversation).await? {
            return Ok(Err(refused));
        }
        let began = Instant::now();
        conversation.begin(lease, conversation.at(began));
        conversation.flush().await?;
        let number = self
            .targets
            .iter()
            .position(|target| target.unit == lease.unit);
        let Some(number) = number else {
            let what = "this checkout has no such test binary";
            fail_unit(conversation, lease, what);
            return Ok(Ok(()));
        };
        let target = self.targets[number].clone();
        let names = match self.tests(number).await.clone() {
            Tests::Named(names) | Tests::Chosen { names, .. } => names,
            Tests::Whole => {
                conversation.declare(lease, vec![Case::whole(&target.unit)]);
                for case in conversation.claim(1) {
                    let command = target.command(&target.harness);
                    batch::run_whole(conversation, &mut self.abort, command, case).await?;
                }
                conversation.close(0);
                return Ok(Ok(()));
            }
            Tests::Unknown(why) => {
                fail_unit(conversation, lease, &why);
                return Ok(Ok(()));
            }
        };
        conversation.declare(lease, cases(&target.unit, &names));
        conversation.flush().await?;
        let loaded = began.elapsed();
        let each = u32::try_from(conversation.free())
            .unwrap_or(u32::MAX)
            .max(1);
        let expected =
            (lease.expected_us > 0).then(|| Duration::from_micros(lease.expected_us) / each);
        if lease.shared {
            conversation.hear_of_sharing().await?;
        }
        let startup = self
            .run(conversation, number, &target, &names, expected)
            .await?;
        let setup = loaded + startup;
        conversation.close(u64::try_from(setup.as_micros()).unwrap_or(u64::MAX));
        Ok(Ok(()))
    }

    /// Runs what the lease has, batch by batch; what its first process paid once is returned. `expected` is what a test should take.
    async fn run(
        &mut self,
        conversation: &mut Conversation,
        number: usize,
        target: &Target,
        names: &[String],
        expected: Option<Duration>,
    ) -> Result<Duration, RunnerError> {
        let mut setup = None;
        let mut failed_starts = 0;
        loop {
            let pace = self.paces.entry(number).or_default();
            // rustdoc gives each doctest a process of its own anyway.
            let alone = match target.speaks {
                Speaks::Nextest => true,
                Speaks::Rustdoc => false,
                Speaks::Libtest | Speaks::Own | Speaks::Nothing => self.isolated,
            };
            let size = if alone || failed_starts > 0 {
                1
            } else {
                let left = conversation.free();
                // By its even share; what a lease has lost of its cases it has lost of its time.
                let expected = expected.map(|each| each * u32::try_from(left).unwrap_or(u32::MAX));
                pace.size(target.speaks, left, expected)
            };
            let claimed = conversation.claim(size);
            if claimed.is_empty() {
                break;
            }
            let (claimed, over) = fitting(conversation, claimed);
            conversation.release(&over);
            let tests: Vec<(usize, String)> = claimed
                .iter()
                .map(|&case| (case, conversation.case(case).name.clone()))
                .collect();
            let known = &self.known[&number];
            if let (Tests::Chosen { skipped, .. }, [(case, name)]) = (known, &tests[..])
                && skipped.contains(name)
            {
                let at = conversation.at(Instant::now());
                conversation.start(*case, at);
                let result = CaseResult::new(Outcome::Skipped, "ignored");
                conversation.end(*case, at, (0, 0), &result);
                continue;
            }
            let command = command(target, known, names, &tests);
            // rustdoc may run more than it was asked for.
            let others: Vec<&str> = match target.speaks {
                Speaks::Rustdoc => {
                    let wanted: BTreeSet<&str> =
                        tests.iter().map(|(_, name)| name.as_str()).collect();
                    let names = names.iter().map(String::as_str);
                    names.filter(|name| !wanted.contains(name)).collect()
                }
                _ => Vec::new(),
            };
            let ran = batch::run(
                conversation,
                &mut self.abort,
                command,
                &target.unit,
                &tests,
                &others,
            )
            .await?;
            setup.get_or_insert(ran.startup + ran.setup);
            self.paces.entry(number).or_default().learn(&ran);
            self.objections.extend(ran.objection);
            let Some(said) = ran.nothing else {
                failed_starts = 0;
                conversation.release(&ran.unstarted);
                continue;
            };
            // The binary did not come to any test: one is tried by itself, then the next one.
            failed_starts += 1;
            let given_up = failed_starts >= STARTS;
            let mut left: VecDeque<usize> = ran.unstarted.into();
            if tests.len() == 1 || given_up {
                if given_up {
                    left.extend(conversation.claim(usize::MAX));
                }
                for case in left {
                    let at = conversation.at(Instant::now());
                    conversation.start(case, at);
                    let (message, detail) = said.split_once('\n').unwrap_or((&said, ""));
                    let result = CaseResult {
                        detail: detail.to_owned(),
                        ..CaseResult::new(Outcome::Error, message)
                    };
                    conversation.end(case, at, (0, 0), &result);
                }
            } else {
                conversation.release(left.make_contiguous());
            }
        }
        Ok(setup.unwrap_or_default())
    }
}

/// How fast a target's tests go, as far as this process has seen.
#[derive(Default)]
struct Pace {
    /// Seconds that a test takes on average, the latest batch counting half.
    usual: Option<f64>,
    startup: Duration,
    last: usize,
}

impl Pace {
    /// How many tests the next batch has, of so many that are left of a lease.
    fn size(&self, speaks: Speaks, left: usize, expected: Option<Duration>) -> usize {
        let first = match speaks {
            Speaks::Rustdoc => FIRST_DOCTESTS,
            _ => FIRST,
        };
        let least = (self.startup * STARTUPS).min(MOST);
        let Some(expected) = expected else {
            let Some(usual) = self.usual else {
                return first;
            };
            let span = least.max(UNKNOWN).as_secs_f64();
            let most = (self.last * GROWTH).clamp(first, MANY);
            return ((span / usual.max(1e-6)) as usize).clamp(1, most);
        };
        // Each test its even share of what is expected.
        let share = expected.as_secs_f64() / left.max(1) as f64;
        let least = least.max(LEAST).as_secs_f64();
        let half = (expected.as_secs_f64() / 2.0).clamp(least, MOST.as_secs_f64().max(least));
        ((half / share.max(1e-6)) as usize).clamp(1, MANY)
    }

    fn learn(&mut self, ran: &batch::Ran) {
        if ran.started == 0 {
            return;
        }
        let each = ran.running.as_secs_f64() / ran.started as f64;
        self.usual = Some(self.usual.map_or(each, |usual| (usual + each) / 2.0));
        self.startup = ran.startup;
        self.last = ran.started;
    }
}

/// What of some cases fits the arguments of one process, and the rest.
fn fitting(conversation: &Conversation, mut claimed: Vec<usize>) -> (Vec<usize>, Vec<usize>) {
    let mut bytes = 0;
    let fits = claimed.iter().take_while(|&&case| {
        bytes += conversation.case(case).name.len() + 1;
        bytes <= NAMES
    });
    let over = claimed.split_off(fits.count().max(1));
    (claimed, over)
}

/// The process that runs these tests and, where that can be said, no other.
fn command(
    target: &Target,
    known: &Tests,
    names: &[String],
    tests: &[(usize, String)],
) -> tokio::process::Command {
    let harness = target.harness();
    if let (Tests::Chosen { ignored, .. }, [(_, name)]) = (known, tests) {
        let mut arguments = harness.exactly();
        if ignored.contains(name) {
            arguments.push("--ignored".to_owned());
        }
        arguments.push(name.clone());
        let mut command = target.command(&arguments);
        command.envs(nextest::environment(&target.unit, name));
        return command;
    }
    let wanted = tests.iter().map(|(_, name)| name.as_str());
    let arguments = if target.speaks == Speaks::Rustdoc {
        let wanted: BTreeSet<&str> = wanted.collect();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        [harness.matching(), doctests::select(&all, &wanted)].concat()
    } else {
        // libtest-mimic shows a kind before a name, which is no part of it.
        let exact = wanted.map(|name| match name.strip_prefix('[') {
            Some(rest) => rest.split_once("] ").map_or(name, |(_, name)| name),
            None => name,
        });
        [harness.exactly(), exact.map(str::to_owned).collect()].concat()
    };
    target.command(&arguments)
}

/// The cases of a target. Tests with the same name cannot be told apart: they run in one process.
fn cases(unit: &str, names: &[String]) -> Vec<Case> {
    let mut counts: HashMap<&str, u32> = HashMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    let mut seen: HashMap<&str, u32> = HashMap::new();
    let mut cases: Vec<Case> = Vec::with_capacity(names.len());
    for name in names {
        let n = seen.entry(name).or_default();
        let group = if counts[name.as_str()] > 1 {
            name.clone()
        } else {
            String::new()
        };
        cases.push(Case {
            id: format!("{unit} {name}"),
            n: *n,
            name: name.clone(),
            class: unit.to_owned(),
            group,
        });
        *n += 1;
    }
    if seen.len() < names.len() {
        // Side by side.
        let first: HashMap<String, usize> = names
            .iter()
            .enumerate()
            .rev()
            .map(|(at, name)| (name.clone(), at))
            .collect();
        cases.sort_by_key(|case| first[&case.name]);
    }
    cases
}

/// A unit that cannot be loaded is one case that is an error.
fn fail_unit(conversation: &mut Conversation, lease: &Lease, why: &str) {
    conversation.declare(lease, vec![Case::whole(&lease.unit)]);
    for case in conversation.claim(1) {
        let at = conversation.at(Instant::now());
        conversation.start(case, at);
        let (message, detail) = why.split_once('\n').unwrap_or((why, ""));
        let result = CaseResult {
            detail: detail.to_owned(),
            ..CaseResult::new(Outcome::Error, message)
        };
        conversation.end(case, at, (0, 0), &result);
    }
    conversation.close(0);
}

/// Asks a target for its tests, those that the user's arguments choose.
async fn list_tests(target: &Target) -> Tests {
    if target.speaks == Speaks::Nothing {
        return Tests::Whole;
    }
    let harness = target.harness();
    let tests = ask(target, &harness.listing()).await;
    if target.speaks != Speaks::Own {
        return tests;
    }
    // A harness of its own that names no test may not have understood.
    match tests {
        Tests::Named(names) if !names.is_empty() => Tests::Named(names),
        Tests::Named(none) => match ask(target, &harness.listing_of_all()).await {
            Tests::Named(names) if !names.is_empty() => Tests::Named(none),
            _ => Tests::Whole,
        },
        _ => Tests::Whole,
    }
}

async fn ask(target: &Target, arguments: &[String]) -> Tests {
    let output = match target.command(arguments).output().await {
        Ok(output) => output,
        Err(error) => return Tests::Unknown(format!("it cannot be started: {error}")),
    };
    let listing = String::from_utf8_lossy(&output.stdout);
    match tests_of_noisy(&listing, target.speaks) {
        Some(tests) if output.status.success() => Tests::Named(tests),
        _ => Tests::Unknown(unlisted(output.status, &output.stdout, &output.stderr)),
    }
}

/// rustdoc prints an empty line and what it compiles around its listing.
fn tests_of_noisy(listing: &str, speaks: Speaks) -> Option<Vec<String>> {
    if speaks == Speaks::Rustdoc {
        let tests = listing.lines().filter(|line| line.ends_with(": test"));
        let tests: Vec<&str> = tests.collect();
        return tests_of(&tests.join("\n"));
    }
    tests_of(listing)
}

fn unlisted(status: ExitStatus, stdout: &[u8], stderr: &[u8]) -> String {
    let how = if status.success() {
        "it printed something else".to_owned()
    } else {
        ending(status)
    };
    format!(
        "it was asked to list its tests (--list --format terse), and {how}\n{}{}",
        String::from_utf8_lossy(stdout),
        String::from_utf8_lossy(stderr)
    )
}
