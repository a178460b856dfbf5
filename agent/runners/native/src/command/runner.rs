//! The runner: it lists units, runs the command on bundles of them, and reports what their reports say.

use super::results::{self, Reported};
use super::settings::Settings;
use super::template::{self, Filling};
use super::units;
use crate::RunnerError;
use crate::child::{Abort, Running, ending};
use crate::conversation::{Conversation, Task};
use crate::wire::{
    Case, CaseResult, Event, Lease, Level, Outcome, Output, PROTOCOL, Refusal, RunWide, Unit,
};
use evenkeel_junit::{ReadCase, ReadOutcome};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::process::Command;

/// What a command that ran for too long has left to end by itself, where nothing else is set.
const GRACE: Duration = Duration::from_secs(2);
/// Of what a command prints so much is kept at both ends, bytes.
const KEPT: usize = 128 << 10;
/// Bytes of units on one command line. The system takes 2 MiB with the environment, and no word above 128 KiB.
const WORDS: usize = 96 << 10;

pub(super) async fn serve(template: Vec<String>) -> Result<(), RunnerError> {
    let mut conversation = Conversation::connect().await?;
    let text = std::env::var("EVENKEEL_WITH").ok();
    let settings = Settings::parse(text.as_deref()).and_then(|settings| {
        template::check(&holes(&template, &settings), !settings.results.is_empty())?;
        Ok(settings)
    });
    let mut settings = match settings {
        Ok(settings) => settings,
        Err(message) => return refuse(conversation, &message).await,
    };
    if template::takes_one(&holes(&template, &settings)) {
        settings.together = 1;
    }
    // One that takes a unit at a time is given its next one as any other runner is.
    let can: &[&str] = match settings.together {
        1 => &["list", "revoke", "whole"],
        _ => &["list", "revoke", "whole", "bundle"],
    };
    conversation.say(&Event::Hello {
        protocol: PROTOCOL,
        runner: "command",
        framework: "command",
        language: "",
        pid: std::process::id(),
        at: conversation.at(Instant::now()),
        can,
        notes: &[],
        run_wide: &RunWide::default(),
        closing: false,
    });
    let directory = std::env::current_dir().unwrap_or_default();
    let socket = PathBuf::from(std::env::var_os(crate::cargo::SOCKET).unwrap_or_default());
    let mut place = socket.into_os_string();
    place.push(".d");
    let mut runner = Runner {
        template,
        settings,
        directory,
        place: PathBuf::from(place),
        abort: Abort::listen()?,
        runs: 0,
        strays: false,
    };
    loop {
        match conversation.next_task().await? {
            Task::List => match units::list(&runner.settings, &runner.directory) {
                Ok(units) => runner.listed(&mut conversation, units),
                Err(message) => return refuse(conversation, &message).await,
            },
            Task::Run(lease) => {
                let group = runner.gather(&mut conversation, lease).await?;
                runner.group(&mut conversation, &group).await?;
            }
            Task::Stop => {
                std::fs::remove_dir_all(&runner.place).ok();
                return conversation.bye(&[]).await;
            }
        }
    }
}

async fn refuse(mut conversation: Conversation, message: &str) -> Result<(), RunnerError> {
    conversation.say(&Event::Refused {
        reason: Refusal::Usage,
        message,
        hint: "docs/command.md says what the command runner takes",
        detail: "",
    });
    conversation.flush().await
}

/// The words of a command, and the values of its variables.
fn holes(template: &[String], settings: &Settings) -> Vec<String> {
    let values = settings.environment.iter().map(|(_, value)| value);
    template.iter().chain(values).cloned().collect()
}

struct Runner {
    template: Vec<String>,
    settings: Settings,
    directory: PathBuf,
    /// A directory of this process's own, for reports and lists.
    place: PathBuf,
    /// What a unit may take.
    abort: Abort,
    runs: u32,
    /// Cases could not be told apart by unit: each unit is run by itself.
    strays: bool,
}

/// What a run of the command came to.
struct Ran {
    began: Instant,
    ended: Instant,
    status: Result<ExitStatus, String>,
    printed: String,
    overdue: bool,
    results: results::Results,
}

impl Runner {
    fn listed(&self, conversation: &mut Conversation, units: Vec<String>) {
        let unit = |unit: String| {
            let size = std::fs::metadata(self.directory.join(&unit)).map_or(0, |file| file.len());
            Unit {
                unit,
                path: String::new(),
                size,
            }
        };
        let units: Vec<Unit> = units.into_iter().map(unit).collect();
        let mut chunks = units.chunks(5000).peekable();
        if chunks.peek().is_none() {
            conversation.listed(&[], false);
        }
        while let Some(chunk) = chunks.next() {
            conversation.listed(chunk, chunks.peek().is_some());
        }
    }

    /// As many leases of a bundle as one process takes. The others stay queued, so that they can still be given back.
    async fn gather(
        &self,
        conversation: &mut Conversation,
        first: Lease,
    ) -> Result<Vec<Lease>, RunnerError> {
        let most = if self.strays {
            1
        } else {
            self.settings.together
        };
        let on_the_line = template::takes_words(&self.holes());
        let mut bytes = first.unit.len() + 1;
        let mut group = vec![first];
        while group.len() < most && group.last().is_some_and(|lease| lease.more) {
            let Some(next) = conversation.next_of_bundle().await? else {
                break;
            };
            bytes += next.unit.len() + 1;
            if on_the_line && bytes > WORDS {
                break;
            }
            group.extend(conversation.take_run());
        }
        Ok(group)
    }

    /// Everything that may have holes.
    fn holes(&self) -> Vec<String> {
        holes(&self.template, &self.settings)
    }

    /// Runs units in one process, and tells what became of them in their order.
    async fn group(
        &mut self,
        conversation: &mut Conversation,
        group: &[Lease],
    ) -> Result<(), RunnerError> {
        let began = conversation.at(Instant::now());
        conversation.begin(&group[0], began);
        conversation.flush().await?;
        let mut ran = self.run(conversation, group).await?;
        if group.len() == 1 {
            self.tell(conversation, &group[0], &ran, began);
            return Ok(());
        }
        self.heed_strays(conversation, &ran);
        if !ran.can_be_trusted(group.len()) {
            // What a unit's tests are, and whether there were more, shows when it is run by itself.
            ran.results.units.clear();
        }
        let mut share = Share::of(&ran);
        let mut at = began;
        // Its process said nothing of these: by themselves they show why, in whichever slot that is.
        let silent = |lease: &&Lease| !ran.results.units.contains_key(&lease.unit);
        for lease in group.iter().filter(silent) {
            conversation.give_back_unrun(lease);
        }
        for (number, lease) in group.iter().enumerate() {
            let Some(reported) = ran.results.units.remove(&lease.unit) else {
                continue; // given back
            };
            if number > 0 {
                conversation.begin(lease, at);
            }
            let setup = std::mem::take(&mut share.setup);
            let cases = cases_of(&lease.unit, reported);
            at = emit(conversation, lease, cases, (at + setup, share.scale));
            conversation.close_at(at, setup);
        }
        Ok(())
    }

    /// Where a case could not be given to a unit, the next processes run one unit each.
    fn heed_strays(&mut self, conversation: &mut Conversation, ran: &Ran) {
        let Some((stray, count)) = &ran.results.stray else {
            return;
        };
        self.strays = true;
        let text = format!(
            "{count} tests of a report belong to no unit that was run, such as that of {stray}; each unit is run by itself from now on (the setting match says how a test's unit is made)"
        );
        conversation.log(Level::Warning, &text);
    }

    /// Tells what became of the one unit that a process ran.
    fn tell(&self, conversation: &mut Conversation, lease: &Lease, ran: &Ran, began: u64) {
        let mut share = Share::of(ran);
        let reported = ran
            .results
            .units
            .get(&lease.unit)
            .cloned()
            .unwrap_or_default();
        let nothing = reported.cases.is_empty();
        let any_failed = reported.cases.iter().any(|case| is_failure(case.outcome));
        let mut cases = cases_of(&lease.unit, reported);
        let damage = ran.results.damage.first();
        let wrong = match (ran.good_end(), damage) {
            (Err(how), _) if nothing => Some(format!("{how}, and reported no test")),
            (Ok(()), _) if nothing => {
                Some("the command exited with status 0 and reported no test".to_owned())
            }
            (_, Some(damage)) => Some(format!("its report cannot be read to its end: {damage}")),
            (Err(how), None) if !any_failed || ran.overdue => {
                Some(format!("{how} although no test failed"))
            }
            _ => None,
        };
        if let Some(message) = wrong {
            share.setup = 0;
            let result = CaseResult {
                detail: ran.printed.clone(),
                ..CaseResult::new(Outcome::Error, message)
            };
            if lease.only.is_empty() {
                cases.push((Case::whole(&lease.unit), 0, result));
            } else {
                // Only what was asked for can be told of.
                cases.iter_mut().for_each(|case| case.2 = result.clone());
            }
        }
        let at = emit(
            conversation,
            lease,
            cases,
            (began + share.setup, share.scale),
        );
        let ended = conversation.at(Instant::now()).max(at);
        conversation.close_at(ended, share.setup);
    }

    async fn run(
        &mut self,
        conversation: &mut Conversation,
        leases: &[Lease],
    ) -> Result<Ran, RunnerError> {
        let io = |source| RunnerError::Io {
            what: "the directory for reports".to_owned(),
            source,
        };
        self.runs += 1;
        let place = self.place.join(self.runs.to_string());
        let reports = place.join("reports");
        std::fs::create_dir_all(&reports).map_err(io)?;
        let units: Vec<String> = leases.iter().map(|lease| lease.unit.clone()).collect();
        let list = place.join("units");
        std::fs::write(&list, units.join("\n") + "\n").map_err(io)?;
        let junit = place.join("junit.xml");
        let filling = Filling {
            units: &units,
            units_file: &list,
            junit: &junit,
            junit_directory: &reports,
        };
        let words = filling.words(&self.template);
        let mut command = Command::new(words.first().map_or("", String::as_str));
        command
            .args(words.iter().skip(1))
            .env_remove(crate::cargo::SOCKET)
            .env_remove("EVENKEEL_WITH")
            .stdin(Stdio::null())
            // So that what it starts can be ended with it.
            .process_group(0)
            .kill_on_drop(true);
        for (name, value) in &self.settings.environment {
            command.env(name, filling.fill(value));
        }
        let since = std::time::SystemTime::now();
        let began = Instant::now();
        let printed = std::cell::RefCell::new(Vec::new());
        // Together they may take as long as each of them one after the other, where each has a limit.
        let limits = leases.iter().map(|lease| lease.timeout_us);
        let limit = limits.clone().all(|limit| limit > 0);
        let limit = limit.then(|| Duration::from_micros(limits.fold(0, u64::saturating_add)));
        let grace = leases.iter().map(|lease| lease.grace_us).max();
        let grace = match grace.unwrap_or_default() {
            0 => GRACE,
            us => Duration::from_micros(us),
        };
        let mut overdue = false;
        let status = match Running::start(command) {
            Ok(mut running) => {
                let mut took = |_: &mut Conversation, bytes: &[u8], _: Instant| {
                    keep(&mut printed.borrow_mut(), bytes);
                };
                let last_words = || String::from_utf8_lossy(&printed.borrow()).into_owned();
                let served = running.serve(conversation, &mut self.abort, &mut took, &last_words);
                match limit {
                    None => Ok(served.await?),
                    Some(limit) => match tokio::time::timeout(limit, served).await {
                        Ok(status) => Ok(status?),
                        Err(_) => {
                            overdue = true;
                            running.end_group(grace).await;
                            Err(format!(
                                "it ran for longer than {:.1} s",
                                limit.as_secs_f64()
                            ))
                        }
                    },
                }
            }
            Err(error) => Err(format!(
                "the command {:?} cannot be started: {error}",
                words.first().map_or("", String::as_str)
            )),
        };
        let ended = Instant::now();
        let files = self.reports(&junit, &reports, since);
        let unit_of = self.settings.unit_of.as_deref();
        let results = results::collect(&files, &units, unit_of, &self.directory);
        std::fs::remove_dir_all(&place).ok();
        Ok(Ran {
            began,
            ended,
            status,
            printed: String::from_utf8_lossy(&printed.into_inner()).into_owned(),
            overdue,
            results,
        })
    }

    /// The reports that a run left: where it was told to, and where the settings say that it writes.
    fn reports(
        &self,
        junit: &Path,
        directory: &Path,
        since: std::time::SystemTime,
    ) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = Vec::new();
        if junit.is_file() {
            files.push(junit.to_owned());
        }
        let all = walkdir::WalkDir::new(directory).sort_by_file_name();
        files.extend(
            all.into_iter()
                .flatten()
                .filter(|entry| entry.file_type().is_file())
                .filter(|entry| entry.path().extension().is_some_and(|end| end == "xml"))
                .map(walkdir::DirEntry::into_path),
        );
        let patterns = Settings {
            units: self.settings.results.clone(),
            ..Settings::default()
        };
        if !patterns.units.is_empty() {
            let found = units::list(&patterns, &self.directory).unwrap_or_default();
            let new = |path: &PathBuf| {
                let changed = std::fs::metadata(path).and_then(|file| file.modified());
                changed.is_ok_and(|changed| changed >= since)
            };
            files.extend(
                found
                    .into_iter()
                    .map(|path| self.directory.join(path))
                    .filter(new),
            );
        }
        files
    }
}

impl Ran {
    /// Whether what several units reported is all of it, and theirs: every report was read to its end, every case has its unit, and the
    /// command ended well, or in order because a test failed.
    fn can_be_trusted(&self, units: usize) -> bool {
        let reported = self.results.units.values();
        let mut cases = reported.flat_map(|reported| &reported.cases);
        let in_order = match &self.status {
            Ok(status) if status.success() => true,
            Ok(status) => status.code().is_some() && cases.any(|case| is_failure(case.outcome)),
            Err(_) => false,
        };
        // One that says nothing of a unit did not come to its end, whatever its status.
        let complete = self.results.units.len() == units;
        in_order && complete && self.results.damage.is_empty() && self.results.stray.is_none()
    }

    /// How the command failed, if it did.
    fn good_end(&self) -> Result<(), String> {
        match &self.status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(ending(*status)),
            Err(how) => Err(how.clone()),
        }
    }
}

/// How a process's time is divided.
struct Share {
    /// Microseconds that are in no test: the start of the command.
    setup: u64,
    /// By what the reported times are scaled: a command that runs tests beside each other reports more than there was.
    scale: f64,
}

impl Share {
    fn of(ran: &Ran) -> Share {
        let whole = micros(ran.ended - ran.began);
        let units = ran.results.units.values();
        let told: u64 = units.map(|reported| micros(reported.time)).sum();
        Share {
            setup: whole.saturating_sub(told),
            scale: if told > whole {
                whole as f64 / told as f64
            } else {
                1.0
            },
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn is_failure(outcome: ReadOutcome) -> bool {
    matches!(outcome, ReadOutcome::Failed | ReadOutcome::Error)
}

/// A unit's cases as they are told: each with its time, and what of the unit's time is in none of them with the first.
fn cases_of(unit: &str, reported: Reported) -> Vec<(Case, u64, CaseResult)> {
    let inside: Duration = reported.cases.iter().filter_map(|case| case.time).sum();
    let beside = micros(reported.time.saturating_sub(inside));
    let mut counts: HashMap<String, u32> = HashMap::new();
    let mut cases = Vec::with_capacity(reported.cases.len());
    for (number, case) in reported.cases.into_iter().enumerate() {
        let id = id(unit, &case);
        let n = counts.entry(id.clone()).or_default();
        let told = Case {
            id,
            n: *n,
            name: case.name.clone(),
            class: if case.class.is_empty() {
                unit.to_owned()
            } else {
                case.class.clone()
            },
            group: String::new(),
        };
        *n += 1;
        let took = micros(case.time.unwrap_or_default()) + if number == 0 { beside } else { 0 };
        cases.push((told, took, result_of(case)));
    }
    cases
}

/// Unit, class and name, each where it says something.
fn id(unit: &str, case: &ReadCase) -> String {
    let mut id = unit.to_owned();
    if !case.class.is_empty() && case.class != unit && case.class != case.name {
        id.push_str("::");
        id.push_str(&case.class);
    }
    format!("{id}::{}", case.name)
}

fn result_of(case: ReadCase) -> CaseResult {
    let outcome = match case.outcome {
        ReadOutcome::Passed => Outcome::Passed,
        ReadOutcome::Failed => Outcome::Failed,
        ReadOutcome::Error => Outcome::Error,
        ReadOutcome::Skipped => Outcome::Skipped,
    };
    let printed = [("stdout", case.stdout), ("stderr", case.stderr)];
    // Some tools say what was wrong in the message only, some in the text only.
    let detail = if case.detail.contains(case.message.trim()) || case.detail.is_empty() {
        case.detail
    } else {
        format!("{}\n{}", case.message.trim_end(), case.detail)
    };
    CaseResult {
        detail,
        output: printed
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| Output { name, text })
            .collect(),
        ..CaseResult::new(outcome, first_line(&case.message))
    }
}

fn first_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim);
    lines
        .find(|line| !line.is_empty())
        .unwrap_or_default()
        .to_owned()
}

/// Declares and reports a unit's cases, from this time on and with times scaled so; when the last one ended is returned.
fn emit(
    conversation: &mut Conversation,
    lease: &Lease,
    cases: Vec<(Case, u64, CaseResult)>,
    (mut at, scale): (u64, f64),
) -> u64 {
    let mut told: HashMap<_, _> = HashMap::new();
    let mut declared = Vec::with_capacity(cases.len());
    for (case, took, result) in cases {
        told.insert(case.key(), (took, result));
        declared.push(case);
    }
    conversation.declare(lease, declared);
    for number in conversation.claim(usize::MAX) {
        let Some((took, result)) = told.remove(&conversation.case(number).key()) else {
            continue;
        };
        // What it took is what its report says; where it stands in the slot's time is scaled.
        conversation.start(number, at);
        at += (took as f64 * scale) as u64;
        conversation.end(number, at, (took, 0), &result);
    }
    at
}

/// Adds what was printed, and leaves out the middle of what is too long.
fn keep(kept: &mut Vec<u8>, bytes: &[u8]) {
    kept.extend_from_slice(bytes);
    if kept.len() > 4 * KEPT {
        let end = kept.len() - KEPT;
        kept.splice(KEPT..end, *b"\n[...]\n");
    }
}
