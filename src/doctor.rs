//! `evenkeel doctor`: whether a run would work here, and what would make it slow.

use crate::cli::DoctorArgs;
use crate::config::Place;
use crate::exit::{Exit, Failure};
use crate::render::{Paint, Style};
use crate::suites;
use evenkeel_coordinator::run::Rules;
use evenkeel_coordinator::store::{Store, UnitTimes};
use evenkeel_proto::suite::Suite;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A program that is asked for its version has this long.
const PATIENCE: Duration = Duration::from_secs(20);
/// Every batch of results waits for the disk once: more than this is felt.
const SLOW_DISK: Duration = Duration::from_millis(20);
/// Fewer open files than this are used up by many slots.
const FEW_FILES: u64 = 1024;
/// Of a unit's time, a larger part than this for loading it is worth a look, in percent.
const LOADING: u64 = 30;

/// How one thing is.
enum Finding {
    Good(String),
    /// It works, and something about it could be better: what it is, and what to do.
    Warning(String, String),
    /// A run would not work.
    Bad(String, String),
}
use Finding::{Bad, Good, Warning};

pub async fn doctor(args: DoctorArgs) -> Result<Exit, Failure> {
    let mut report = Report {
        paint: Style::new(args.color, false).paint,
        warnings: 0,
        bad: 0,
    };
    report.title("evenkeel");
    report.say(Good(format!("version {}", env!("CARGO_PKG_VERSION"))));
    report.say_all(machine());
    let place = Place::find(args.what.root.as_deref(), args.what.state.as_deref());
    let place = match place {
        Ok(place) => place,
        Err(failure) => {
            report.title("configuration");
            report.say(of_failure(&failure));
            return Ok(report.end());
        }
    };
    report.title("configuration");
    report.say(match &place.found {
        Some(found) => Good(format!("{}", found.source.path.display())),
        None => Warning(
            "there is no evenkeel.toml here or above".to_owned(),
            "write one, so that `evenkeel run` needs no command, or go on giving it behind --"
                .to_owned(),
        ),
    });
    report.say(Good(format!("project {}", place.project())));
    let (suites, slots) = if args.what.command.is_empty() && place.found.is_none() {
        (Vec::new(), None)
    } else {
        match suites::of_run(&args.what, &place) {
            Ok(found) => found,
            Err(failure) => {
                report.say(of_failure(&failure));
                (Vec::new(), None)
            }
        }
    };
    report.title("state");
    report.say_all(state(&place.state));
    let store = match place.state.join("evenkeel.db").exists() {
        true => match Store::read(&place.state).await {
            Ok(store) => Some(store),
            Err(error) => {
                report.say(of_failure(&crate::run::store_failure(error)));
                None
            }
        },
        false => None,
    };
    if let Some(store) = &store {
        report.say_all(records(store).await);
    }
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let slots = u64::from(slots.unwrap_or(cores));
    let mut known: Vec<Vec<UnitTimes>> = Vec::new();
    for suite in &suites {
        report.title(&format!("suite {}", suite.name));
        report.say_all(framework(suite).await);
        let times = match &store {
            Some(store) => store.times(&place.project(), &suite.name).await,
            None => Ok(Vec::new()),
        };
        match times {
            Ok(times) => {
                report.say_all(history(&times, slots));
                known.push(times);
            }
            Err(error) => report.say(of_failure(&crate::run::store_failure(error))),
        }
    }
    report.say_all(one_after_the_other(&suites, &known, slots));
    Ok(report.end())
}

fn of_failure(failure: &Failure) -> Finding {
    Bad(
        failure.to_string(),
        failure.hint().unwrap_or_default().to_owned(),
    )
}

/// What is said, as it is found.
struct Report {
    paint: Paint,
    warnings: u32,
    bad: u32,
}

impl Report {
    fn title(&self, title: &str) {
        println!("{title}");
    }

    fn say_all(&mut self, findings: Vec<Finding>) {
        findings.into_iter().for_each(|finding| self.say(finding));
    }

    fn say(&mut self, finding: Finding) {
        let (mark, text, hint) = match finding {
            Good(text) => (self.paint.green("ok     "), text, String::new()),
            Warning(text, hint) => {
                self.warnings += 1;
                (self.paint.yellow("warning"), text, hint)
            }
            Bad(text, hint) => {
                self.bad += 1;
                (self.paint.red("error  "), text, hint)
            }
        };
        println!("  {mark} {}", text.replace('\n', "\n          "));
        if !hint.is_empty() {
            println!("          {}", hint.replace('\n', "\n          "));
        }
        std::io::stdout().flush().ok();
    }

    fn end(&self) -> Exit {
        let counted = |count: u32, word: &str| match count {
            1 => format!("1 {word}"),
            count => format!("{count} {word}s"),
        };
        println!(
            "{}, {}",
            counted(self.bad, "error"),
            counted(self.warnings, "warning")
        );
        if self.bad > 0 {
            Exit::Usage
        } else {
            Exit::Green
        }
    }
}

fn machine() -> Vec<Finding> {
    let mut findings = Vec::new();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    findings.push(Good(format!(
        "{cores} cores: a run has as many slots unless it is told otherwise"
    )));
    let files = open_files();
    if files < FEW_FILES {
        findings.push(Warning(
            format!("a process may have {files} open files"),
            format!(
                "raise it for runs with many slots: ulimit -n {}",
                4 * FEW_FILES
            ),
        ));
    }
    let temporary = std::env::temp_dir();
    if let Err(error) = try_write(&temporary) {
        findings.push(Bad(
            format!(
                "the directory for temporary files, {}, cannot be written to: {error}",
                temporary.display()
            ),
            "set TMPDIR to one that can".to_owned(),
        ));
    }
    findings
}

fn open_files() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: fills in a local.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } {
        0 => limit.rlim_cur,
        _ => u64::MAX,
    }
}

/// Writes a small file to the disk and removes it again: how long that took.
fn try_write(directory: &Path) -> std::io::Result<Duration> {
    let path = directory.join(format!(".evenkeel-doctor-{}", std::process::id()));
    let written = (|| {
        let mut file = std::fs::File::create_new(&path)?;
        file.write_all(&[0; 512])?;
        let begun = Instant::now();
        file.sync_data()?;
        Ok(begun.elapsed())
    })();
    std::fs::remove_file(&path).ok();
    written
}

fn state(directory: &Path) -> Vec<Finding> {
    let shown = directory.display();
    let (place, what) = if directory.is_dir() {
        (directory, format!("{shown}"))
    } else {
        let above = directory.ancestors().find(|above| above.exists());
        (
            above.unwrap_or(directory),
            format!("{shown} is made by the first run"),
        )
    };
    match try_write(place) {
        Err(error) => vec![Bad(
            format!("{} cannot be written to: {error}", place.display()),
            "choose another place: --state DIR".to_owned(),
        )],
        Ok(took) if took > SLOW_DISK => vec![
            Good(what),
            Warning(
                format!(
                    "its disk takes {:.0} ms to keep a file: each batch of results waits for that",
                    took.as_secs_f64() * 1e3
                ),
                "put the state on a local disk: --state DIR".to_owned(),
            ),
        ],
        Ok(_) => vec![Good(what)],
    }
}

async fn records(store: &Store) -> Vec<Finding> {
    /// So many of the newest runs are looked at.
    const RUNS: u32 = 1000;
    let runs = match store.runs(RUNS).await {
        Ok(runs) => runs,
        Err(error) => return vec![of_failure(&crate::run::store_failure(error))],
    };
    let mut findings = Vec::new();
    let known = if runs.len() as u32 == RUNS {
        "or more"
    } else {
        "recorded"
    };
    findings.push(Good(match runs.first() {
        Some(last) if runs.len() == 1 => format!("1 run recorded: {}", last.key.run),
        Some(last) => format!("{} runs {known}, the last one {}", runs.len(), last.key.run),
        None => "no run is recorded".to_owned(),
    }));
    if let Some(last) = runs.first() {
        // The rows are read against their hash chain.
        if let Err(error) = store.rows(&last.key.run).await {
            let failure = crate::run::store_failure(error);
            findings.push(Bad(
                format!(
                    "the ledger of run {} cannot be read: {failure}",
                    last.key.run
                ),
                "keep the directory for a look at it, and choose another one: --state DIR"
                    .to_owned(),
            ));
        }
    }
    let open = runs.iter().filter(|run| run.closed.is_none());
    let open: Vec<&str> = open.map(|run| run.key.run.as_str()).take(3).collect();
    if !open.is_empty() {
        findings.push(Warning(
            format!("without a verdict: {}", open.join(", ")),
            "they are at work now, or their coordinator was killed".to_owned(),
        ));
    }
    findings
}

/// Whether the suite's program is there, and which version.
async fn framework(suite: &Suite) -> Vec<Finding> {
    let framework = evenkeel_agent::recognise(&suite.command, &suite.runner).ok();
    let question = framework.and_then(|framework| framework.asks_version(&suite.command));
    let mut findings = vec![Good(format!(
        "{} in {}",
        suite.command.join(" "),
        suite.directory
    ))];
    let Some(words) = question else {
        // A program that is not asked anything is only looked for.
        findings.push(match found(&suite.command[0], suite) {
            true => Good(format!("{} is there", suite.command[0])),
            false => Bad(
                format!("{} is not there", suite.command[0]),
                "is it installed, and on the PATH?".to_owned(),
            ),
        });
        return findings;
    };
    let mut command = tokio::process::Command::new(&words[0]);
    command
        .args(&words[1..])
        .current_dir(&suite.directory)
        .envs(&suite.environment)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let begun = Instant::now();
    let answer = tokio::time::timeout(PATIENCE, command.output()).await;
    let took = begun.elapsed();
    let asked = words.join(" ");
    findings.push(match answer {
        Err(_) => Bad(
            format!("`{asked}` does not answer within {} s", PATIENCE.as_secs()),
            "try it by hand".to_owned(),
        ),
        Ok(Err(error)) => Bad(
            format!("`{asked}` cannot be started: {error}"),
            "is it installed, and on the PATH?".to_owned(),
        ),
        Ok(Ok(output)) if !output.status.success() => Bad(
            format!("`{asked}` fails: {}", last_line(&output.stderr)),
            "does the suite's command work without Evenkeel?".to_owned(),
        ),
        Ok(Ok(output)) => {
            let said = [output.stdout, output.stderr].concat();
            let version = String::from_utf8_lossy(&said);
            let version = version.lines().find(|line| !line.trim().is_empty());
            let version = version.unwrap_or_default().trim().to_owned();
            if took > Duration::from_secs(2) {
                Warning(
                    format!("{version}, {:.1} s to say so", took.as_secs_f64()),
                    "each slot pays that at its start: what does it do before the first test?"
                        .to_owned(),
                )
            } else {
                Good(version)
            }
        }
    });
    findings
}

fn found(program: &str, suite: &Suite) -> bool {
    if program.contains('/') {
        return Path::new(&suite.directory).join(program).exists();
    }
    let own = suite.environment.get("PATH").map(std::ffi::OsString::from);
    let path = own.or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    last.unwrap_or("it says nothing").trim().to_owned()
}

/// What locks and exclusive units cost, by what is known of all suites.
fn one_after_the_other(suites: &[Suite], known: &[Vec<UnitTimes>], slots: u64) -> Vec<Finding> {
    let Ok(rules) = Rules::new(suites) else {
        return Vec::new(); // the suites were checked before
    };
    let mut all = 0;
    let mut chains: BTreeMap<String, u64> = BTreeMap::new();
    for (number, times) in (0..).zip(known) {
        for unit in times {
            let took = unit.work.0 + unit.setup.0;
            all += took;
            let (locks, exclusive) = rules.demands(number, &unit.unit);
            let alone = exclusive.then(|| "what is exclusive".to_owned());
            let locks = locks
                .into_iter()
                .map(|lock| format!("what needs the lock {lock}"));
            for what in locks.chain(alone) {
                *chains.entry(what).or_default() += took;
            }
        }
    }
    let long = chains
        .into_iter()
        .filter(|(_, took)| *took > all / slots.max(1));
    long.map(|(what, took)| {
        Warning(
            format!(
                "{what} takes {:.1} s one after the other, more than a slot's share of {:.1} s",
                took as f64 / 1e6,
                (all / slots.max(1)) as f64 / 1e6
            ),
            "more slots will not help: name fewer units, or locks that are held for less"
                .to_owned(),
        )
    })
    .collect()
}

/// What is known of the suite's durations, and what they say about the next run.
fn history(times: &[UnitTimes], slots: u64) -> Vec<Finding> {
    if times.is_empty() {
        return vec![Warning(
            "no durations are recorded: the first run guesses from the sizes of files".to_owned(),
            "run it once, or import reports of another runner: evenkeel timings import".to_owned(),
        )];
    }
    let work: u64 = times.iter().map(|unit| unit.work.0).sum();
    let setup: u64 = times.iter().map(|unit| unit.setup.0).sum();
    let all = work + setup;
    let seconds = |us: u64| us as f64 / 1e6;
    let mut findings = vec![Good(format!(
        "{} units took {:.1} s when each was run last: {:.1} s on {slots} slots",
        times.len(),
        seconds(all),
        seconds(all / slots),
    ))];
    let longest = times
        .iter()
        .flat_map(|unit| {
            unit.cases
                .iter()
                .map(move |(case, took)| (took.0, &case.id))
        })
        .max();
    if let Some((took, case)) = longest.filter(|(took, _)| *took > all / slots) {
        findings.push(Warning(
            format!(
                "{case} alone takes {:.1} s, longer than a slot's share",
                seconds(took)
            ),
            "more slots will not help before it is shorter".to_owned(),
        ));
    }
    if all > 1_000_000 && setup * 100 > all * LOADING {
        findings.push(Warning(
            format!(
                "{:.0}% of that is for loading units, not for tests",
                setup as f64 * 100.0 / all as f64
            ),
            "what do its files import, and what do they set up once for all their tests?"
                .to_owned(),
        ));
    }
    findings
}
