//! The build, by Cargo itself with the user's own arguments, and what Cargo would have started after it.

use super::capture::{self, Kind, Start};
use super::nextest;
use super::plan::{self, Built, Shared, Speaks, Target, Tests};
use super::runners;
use super::words::{self, Tool, Words};
use crate::RunnerError;
use crate::conversation::Conversation;
use crate::wire::{Level, Refusal};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// Of what Cargo says so much is kept for the report of a failure, bytes.
const TAIL: usize = 256 << 10;

/// nextest's exit status where the build failed.
const UNBUILT: i32 = 101;

/// Why there is nothing to run.
#[derive(Debug)]
pub(super) struct Refused {
    pub reason: Refusal,
    pub message: String,
    pub hint: String,
    pub detail: String,
}

impl Refused {
    pub(super) fn new(reason: Refusal, message: impl Into<String>, hint: &str) -> Refused {
        Refused {
            reason,
            message: message.into(),
            hint: hint.to_owned(),
            detail: String::new(),
        }
    }
}

/// Builds, and says what there is to run. What Cargo prints is passed on as it comes.
pub(super) async fn build(
    command: &[String],
    found: &Words,
    shared: &Shared,
    conversation: &mut Conversation,
) -> Result<Result<Built, Refused>, RunnerError> {
    let io = |what: &str| {
        let what = what.to_owned();
        move |source| RunnerError::Io { what, source }
    };
    let own = std::env::current_exe().map_err(io("the path of this program is not known"))?;
    let starts = shared.path("starts");
    std::fs::File::create(&starts).map_err(io("a file in the temporary directory"))?;
    let rustdoc = shared.path(super::RUSTDOC).with_file_name(super::RUSTDOC);
    match std::os::unix::fs::symlink(&own, &rustdoc) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(io("a link in the temporary directory")(error));
        }
        _ => {}
    }
    let words = match arguments(command, found, &own) {
        Ok(words) => words,
        Err(refused) => return Ok(Err(refused)),
    };
    let mut cargo = Command::new(&words[0]);
    cargo
        .args(&words[1..])
        .env(capture::FILE, &starts)
        .env(
            capture::REAL_RUSTDOC,
            std::env::var_os("RUSTDOC").unwrap_or_else(|| "rustdoc".into()),
        )
        .env("RUSTDOC", &rustdoc)
        .env_remove(super::SOCKET)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if found.tool == Tool::Nextest {
        cargo.env(capture::START, "1");
    }
    // What this process has and Cargo was given: whatever a test has beyond that comes from Cargo.
    let mut given = capture::environment();
    given.remove(super::SOCKET);
    for (name, value) in cargo.as_std().get_envs() {
        let name = name.to_string_lossy().into_owned();
        if let Some(value) = value {
            given.insert(name, value.to_string_lossy().into_owned());
        }
    }
    let mut child = match cargo.spawn() {
        Ok(child) => child,
        Err(error) => {
            let message = format!("cannot start {}: {error}", words[0]);
            let hint = "is the command right, and is it on the PATH?";
            return Ok(Err(Refused::new(Refusal::Broken, message, hint)));
        }
    };
    let mut messages = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut talk = BufReader::new(child.stderr.take().expect("it is piped")).split(b'\n');
    let mut said = String::new();
    let mut built = Messages::default();
    let (mut more_messages, mut more_talk) = (true, true);
    while more_messages || more_talk {
        tokio::select! {
            line = messages.next_line(), if more_messages => match line {
                Ok(Some(line)) => built.take(&line),
                _ => more_messages = false,
            },
            line = talk.next_segment(), if more_talk => match line {
                Ok(Some(line)) => {
                    let line = String::from_utf8_lossy(&line);
                    let line = line.trim_end();
                    if !is_start(line) {
                        conversation.log(Level::Progress, line);
                        conversation.flush().await?;
                        said.push_str(line);
                        said.push('\n');
                    }
                }
                _ => more_talk = false,
            },
        }
        if said.len() > 2 * TAIL {
            let cut = (said.len() - TAIL..)
                .find(|&at| said.is_char_boundary(at))
                .unwrap_or(0);
            said.drain(..cut);
        }
    }
    let status = child.wait().await.map_err(io("cargo's end"))?;
    if !status.success() {
        // nextest keeps Cargo's messages to itself, and says by its status that the build failed.
        built.failed |= found.tool == Tool::Nextest && status.code() == Some(UNBUILT);
        return Ok(Err(built.refusal(&said)));
    }
    let starts = std::fs::read_to_string(&starts).map_err(io("what Cargo started"))?;
    let starts = starts.lines().map(serde_json::from_str).collect();
    let starts: Vec<Start> = match starts {
        Ok(starts) => starts,
        Err(error) => {
            let source = std::io::Error::other(error);
            return Err(io("what Cargo started cannot be read")(source));
        }
    };
    Ok(match found.tool {
        Tool::Test => Ok(Built {
            targets: built.targets(starts, &given),
            tests: BTreeMap::new(),
        }),
        Tool::Nextest => chosen(&built.other, starts, &given),
    })
}

/// What nextest has listed and chosen.
fn chosen(
    listing: &str,
    starts: Vec<Start>,
    given: &BTreeMap<String, String>,
) -> Result<Built, Refused> {
    let listing: nextest::Listing = serde_json::from_str(listing).map_err(|error| {
        let message = format!("nextest's listing cannot be read: {error}");
        Refused::new(Refusal::Broken, message, "is nextest up to date?")
    })?;
    let mut starts: HashMap<String, Start> = starts
        .into_iter()
        .map(|start| (start.program.clone(), start))
        .collect();
    let mut built = Built {
        targets: Vec::new(),
        tests: BTreeMap::new(),
    };
    for (unit, suite) in listing.rust_suites {
        let belong = suite.testcases.iter().filter(|(_, case)| case.belongs());
        let names: Vec<String> = belong.clone().map(|(name, _)| name.clone()).collect();
        if names.is_empty() {
            continue;
        }
        let start = starts.remove(&suite.binary_path).ok_or_else(|| {
            let message = format!("nextest has tests of {unit} and did not start it to list them");
            let hint = "a test binary that is started by other means cannot be run here";
            Refused::new(Refusal::Broken, message, hint)
        })?;
        let marked = |run: bool| {
            belong
                .clone()
                .filter(|(_, case)| case.ignored && case.is_run() == run)
                .map(|(name, _)| name.clone())
                .collect()
        };
        let tests = Tests::Chosen {
            ignored: marked(true),
            skipped: marked(false),
            names,
        };
        built.tests.insert(built.targets.len(), tests);
        let start = Start {
            arguments: Vec::new(),
            directory: suite.cwd,
            ..start
        };
        built
            .targets
            .push(plan::target(start, unit, Speaks::Nextest, given));
    }
    Ok(built)
}

/// Whether this line of Cargo's says that a test binary starts, which is not true of this build.
fn is_start(line: &str) -> bool {
    let line = line.trim_start();
    // With -v Cargo also says that a compiler is running, between quotes.
    let quoted = line.starts_with("Running `") && !line.contains(super::CAPTURED);
    (line.starts_with("Running ") && !quoted) || line.starts_with("Doc-tests ")
}

/// The user's command, made to build everything and to hand over each start.
fn arguments(command: &[String], found: &Words, own: &Path) -> Result<Vec<String>, Refused> {
    let mut options = command[found.options.clone()].to_vec();
    let directory = std::env::current_dir().unwrap_or_default();
    let runner = runners::options(own, &directory, &options)?;
    if found.tool == Tool::Nextest {
        let options = nextest::options(&options)?.list;
        let list = ["nextest", "list", "--message-format", "json"].map(str::to_owned);
        return Ok([
            &command[..found.subcommand.start],
            &list[..],
            &runner[..],
            &options[..],
            &command[found.options.end..],
        ]
        .concat());
    }
    for nothing in ["--no-run", "--help", "-h"] {
        if options.iter().any(|option| option == nothing) {
            let message = format!("with {nothing} Cargo runs no test");
            return Err(Refused::new(Refusal::Usage, message, "leave it out"));
        }
    }
    words::take_value(&mut options, "--message-format");
    words::take_flag(&mut options, "--no-fail-fast");
    let mine = ["--no-fail-fast", "--message-format=json-render-diagnostics"];
    let mine = mine.map(str::to_owned);
    Ok([
        &command[..found.subcommand.start],
        &runner[..],
        &command[found.subcommand.clone()],
        &mine[..],
        &options[..],
        &command[found.options.end..],
    ]
    .concat())
}

/// What Cargo's messages tell.
#[derive(Default)]
struct Messages {
    /// By the path of the executable.
    artifacts: HashMap<String, Artifact>,
    /// Everything that is no message of Cargo's: what build scripts print, or nextest's listing.
    other: String,
    /// It began to compile and did not come to a good end.
    failed: bool,
}

#[derive(Deserialize)]
struct Artifact {
    manifest_path: PathBuf,
    target: ArtifactTarget,
    executable: Option<String>,
}

#[derive(Deserialize)]
struct ArtifactTarget {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    CompilerArtifact(Artifact),
    BuildFinished {
        success: bool,
    },
    #[serde(other)]
    Other,
}

impl Messages {
    fn take(&mut self, line: &str) {
        match serde_json::from_str(line) {
            Ok(Message::CompilerArtifact(artifact)) => {
                if let Some(executable) = artifact.executable.clone() {
                    self.artifacts.insert(executable, artifact);
                }
            }
            Ok(Message::BuildFinished { success }) => self.failed = !success,
            Ok(Message::Other) => {}
            Err(_) => self.other.push_str(line),
        }
    }

    fn refusal(&self, said: &str) -> Refused {
        let error = said
            .lines()
            .rfind(|line| line.starts_with("error"))
            .unwrap_or("cargo says nothing about it");
        if self.failed {
            return Refused {
                detail: said.to_owned(),
                ..Refused::new(Refusal::Build, format!("the build failed: {error}"), "")
            };
        }
        let message = said.trim().strip_prefix("error: ").unwrap_or(said.trim());
        let hint = "the same command without Evenkeel says the same";
        Refused::new(Refusal::Usage, message, hint)
    }

    /// The targets in the order in which Cargo would have run them.
    fn targets(&self, starts: Vec<Start>, given: &BTreeMap<String, String>) -> Vec<Target> {
        let mut names: HashSet<String> = HashSet::new();
        let mut targets = Vec::new();
        for start in starts {
            let package = start
                .environment
                .get("CARGO_PKG_NAME")
                .map_or("", String::as_str);
            let (unit, speaks) = match start.kind {
                Kind::Doctests => {
                    let name = super::doctests::crate_name(&start.arguments).unwrap_or(package);
                    (format!("{package}::doc/{name}"), Speaks::Rustdoc)
                }
                Kind::Binary => match self.artifacts.get(&start.program) {
                    Some(artifact) => (artifact.unit(package), artifact.speaks(&start.program)),
                    None => (start.program.clone(), Speaks::Libtest),
                },
            };
            let unit = unique(unit, &mut names);
            targets.push(plan::target(start, unit, speaks, given));
        }
        targets
    }
}

/// Two packages of a workspace may have the same name, at different versions.
fn unique(unit: String, names: &mut HashSet<String>) -> String {
    let again = (2..).map(|number| format!("{unit}#{number}"));
    let name = std::iter::once(unit.clone())
        .chain(again)
        .find(|name| !names.contains(name))
        .expect("numbers do not end");
    names.insert(name.clone());
    name
}

impl Artifact {
    /// A binary's id as nextest has it.
    fn unit(&self, package: &str) -> String {
        let name = &self.target.name;
        match self.target.kind.first().map(String::as_str) {
            Some("test") => format!("{package}::{name}"),
            Some(kind @ ("bin" | "example" | "bench")) => format!("{package}::{kind}/{name}"),
            _ => package.to_owned(),
        }
    }

    /// Whether its harness takes libtest's arguments. One of its own that does has to know the format that is asked for.
    fn speaks(&self, executable: &str) -> Speaks {
        let own = self.has_own_harness().unwrap_or(false);
        let knows_terse = || {
            std::fs::read(executable).is_ok_and(|bytes| {
                // No other word in a program has these letters: but "intersection".
                const FORMAT: &[u8] = b"terse";
                let mut places = bytes.windows(FORMAT.len() + 1);
                places.any(|place| place.starts_with(FORMAT) && place[FORMAT.len()] != b'c')
            })
        };
        match own {
            false => Speaks::Libtest,
            true if knows_terse() => Speaks::Own,
            true => Speaks::Nothing,
        }
    }

    fn has_own_harness(&self) -> Option<bool> {
        let manifest: toml::Table = std::fs::read_to_string(&self.manifest_path)
            .ok()?
            .parse()
            .ok()?;
        let off = |target: &toml::Value| {
            let harness = target.get("harness").and_then(toml::Value::as_bool);
            harness == Some(false)
        };
        let kind = self.target.kind.first()?.as_str();
        if let "test" | "bin" | "example" | "bench" = kind {
            let targets = manifest.get(kind)?.as_array()?;
            let mut named = targets.iter().filter(|target| {
                target.get("name").and_then(toml::Value::as_str) == Some(self.target.name.as_str())
            });
            return named.next().map(off);
        }
        manifest.get("lib").map(off)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_arguments_stay_and_no_process_stops_the_next() {
        let line = "cargo +nightly test -p a --no-fail-fast --message-format json -- --skip b";
        let command: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let found = words::find(&command).expect("it is there");
        let words = arguments(&command, &found, Path::new("/opt/e")).expect("they are fine");
        let runner = r#"target.'cfg(all())'.runner=["/opt/e","__runner","capture","0"]"#;
        let expected = [
            "cargo",
            "+nightly",
            "--config",
            runner,
            "test",
            "--no-fail-fast",
            "--message-format=json-render-diagnostics",
            "-p",
            "a",
            "--",
            "--skip",
            "b",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn names_of_units_are_unique() {
        let mut names = HashSet::new();
        let units = ["a", "a", "b", "a"].map(|unit| unique(unit.to_owned(), &mut names));
        assert_eq!(units, ["a", "a#2", "b", "a#3"]);
    }
}
