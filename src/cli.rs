//! Arguments. The help texts here are the reference: docs/cli.md is generated from them.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Run test suites in timing-balanced shards on warm runners, and end with a verdict that a deploy can trust.
#[derive(Parser, Debug)]
#[command(
    name = "evenkeel",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  evenkeel run -- pytest tests      a command as it is typed today\n  evenkeel run                      the suites of evenkeel.toml\n  evenkeel doctor -- pytest tests   whether it would work, and what would make it slow"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run suites and exit with their verdict
    #[command(
        after_help = "Examples:\n  evenkeel run -j 4 -- pytest tests\n  evenkeel run --junit report.xml -- cargo test --workspace\n  evenkeel run --runner command --with units='test/**' -- scripts/test {junit} {units}\n  evenkeel run --suite unit --suite engine      what evenkeel.toml calls so"
    )]
    Run(RunArgs),
    /// Follow a run that a coordinator has, and exit with its verdict
    #[command(
        after_help = "Examples:\n  evenkeel watch 20261126-2306 --coordinator ci.example:7450\n  evenkeel watch gate-4711 --coordinator 127.0.0.1:7450 --junit report.xml"
    )]
    Watch(WatchArgs),
    /// End a run that a coordinator has: what runs may finish its test, the rest gets no verdict
    #[command(
        after_help = "Examples:\n  evenkeel cancel 20261126-2306 --coordinator 127.0.0.1:7450"
    )]
    Cancel(CancelArgs),
    /// Run again what one shard of a run did: same order, seed, arguments and processes
    #[command(
        after_help = "Examples:\n  evenkeel reproduce 20261126-2306 --shard 2/4\n  evenkeel reproduce 20261126-2306 --shard 2/4 --until tests/test_cart.py::test_total"
    )]
    Reproduce(ReproduceArgs),
    /// List the runs in the state directory or of a coordinator, newest first
    #[command(
        after_help = "Examples:\n  evenkeel runs --limit 5\n  evenkeel runs --coordinator 127.0.0.1:7450"
    )]
    Runs(RunsArgs),
    /// Show one run: its verdict, shards and failures
    #[command(after_help = "Examples:\n  evenkeel show 20261126-2306")]
    Show(ShowArgs),
    /// Play a recorded run on other slots, machines and luck: how long it would take, and what it would cost
    #[command(
        after_help = "Examples:\n  evenkeel simulate 20261126-2306                            half, as many, twice and four times the slots\n  evenkeel simulate 20261126-2306 --slots 8,16,32,64 --svg slots.svg\n  evenkeel simulate 20261126-2306 --within 5m                how many slots for five minutes?\n  evenkeel simulate 20261126-2306 --slots 40 --slow 33%:0.5 --lose 10% --noise 20% --seeds 50\n  evenkeel simulate --history --slots 8,16,32 --boot 2s      before any run on such machines"
    )]
    Simulate(SimulateArgs),
    /// Import, show and export recorded durations
    #[command(
        after_help = "Examples:\n  evenkeel timings import --suite pytest old/*.xml\n  evenkeel timings show\n  evenkeel timings export > timings.json"
    )]
    Timings(TimingsArgs),
    /// Split a suite over CI nodes that have no coordinator: each node works out the same shards and runs its own
    #[command(
        after_help = "Each node must list the same units and know the same durations; the digests on standard error tell.\n\nExamples:\n  evenkeel plan --shards 4 -- pytest tests                     who would run what\n  evenkeel plan --format files --null -- pytest tests | xargs -0 -r pytest\n  find spec -name '*_spec.rb' | evenkeel plan --timings report.xml --format files - | xargs -r rspec\n  evenkeel plan --shards 8 --index 3 --format json --timings timings.json tests/*.js"
    )]
    Plan(PlanArgs),
    /// Check whether a run would work here, and what would make it slow
    #[command(after_help = "Examples:\n  evenkeel doctor\n  evenkeel doctor -- pytest tests")]
    Doctor(DoctorArgs),
    /// Write completions for a shell to standard output
    #[command(
        after_help = "Examples:\n  evenkeel completions bash > ~/.local/share/bash-completion/completions/evenkeel\n  evenkeel completions fish > ~/.config/fish/completions/evenkeel.fish"
    )]
    Completions(CompletionsArgs),
    /// Serve runs to agents on other processes
    #[command(
        after_help = "Examples:\n  evenkeel coordinator --listen 127.0.0.1:7450 --state /var/lib/evenkeel\n  evenkeel coordinator --store postgres://evenkeel@db/evenkeel --state /var/lib/evenkeel --keep 30d"
    )]
    Coordinator(CoordinatorArgs),
    /// Offer slots to a coordinator
    #[command(
        after_help = "Examples:\n  evenkeel agent --coordinator 127.0.0.1:7450 --slots 8 --label os=linux\n  evenkeel agent --coordinator ci.example:7450 --run $GITHUB_RUN_ID --insecure      in a job of a matrix"
    )]
    Agent(AgentArgs),
    /// Check or thin out what a coordinator has stored
    Store(StoreArgs),
    /// A runner that does nothing, for benchmarks and simulation
    #[command(hide = true)]
    NoopRunner(NoopRunnerArgs),
}

#[derive(Args, Debug)]
pub struct RunArgs {
    /// How many processes work at a time [default: the number of cores]
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub slots: Option<u32>,
    #[command(flatten)]
    pub what: What,
    /// Write the merged JUnit report here
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write the JSON report here
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write events here as they happen, one JSON object a line; - is standard output
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// Name the run [default: date, time and a few characters]
    #[arg(long, value_name = "ID")]
    pub run_id: Option<String>,
    /// The run's seed: the hash seed of its processes, and what runners draw from [default: random]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Stop after this many failed tests
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_fail: Option<u32>,
    /// What comes first: whatever makes the run end soonest, with tests that are new, changed or failed lately early where that costs
    /// nothing; or those first, at a price that is printed
    #[arg(long, value_enum, value_name = "ORDER", default_value_t = Order::Balanced)]
    pub order: Order,
    /// Send the run to this coordinator instead of running it here: host:port or unix:PATH
    #[arg(long, value_name = "ADDR")]
    pub coordinator: Option<String>,
    /// Submit the run, print its id and end; `evenkeel watch` follows it
    #[arg(long, requires = "coordinator", conflicts_with_all = ["junit", "json", "events"])]
    pub detach: bool,
    /// Runs of a higher priority get slots first
    #[arg(
        long,
        value_name = "N",
        requires = "coordinator",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub priority: i32,
    /// Only agents that have this label serve the run; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", requires = "coordinator", value_parser = setting)]
    pub labels: Vec<(String, String)>,
    #[command(flatten)]
    pub reach: Reach,
    /// Print failures and the verdict only
    #[arg(short, long)]
    pub quiet: bool,
    /// Whether to use colours
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto")]
    pub color: Color,
}

/// How far a connection is trusted.
#[derive(Args, Clone, Debug)]
pub struct Trust {
    /// Allow connections beyond this machine, which nothing protects yet: whoever reaches the port may run commands
    #[arg(long)]
    pub insecure: bool,
}

/// How to reach a coordinator.
#[derive(Args, Clone, Debug)]
pub struct Reach {
    /// How long to try to reach a coordinator that is gone
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub give_up_after: Duration,
    #[command(flatten)]
    pub trust: Trust,
}

/// A run that a coordinator has.
#[derive(Args, Clone, Debug)]
pub struct RemoteRun {
    /// The run's id, or an unambiguous beginning of it where it has ended
    pub run: String,
    /// The coordinator's address: host:port or unix:PATH
    #[arg(long, value_name = "ADDR")]
    pub coordinator: String,
    /// The run's project, where several have a run of this id
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub project: String,
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Args, Debug)]
pub struct WatchArgs {
    #[command(flatten)]
    pub of: RemoteRun,
    /// Write the merged JUnit report here when the run has ended
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write the JSON report here when the run has ended
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write events here as they happen, one JSON object a line; - is standard output
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// Print failures and the verdict only
    #[arg(short, long)]
    pub quiet: bool,
    /// Whether to use colours
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto")]
    pub color: Color,
}

#[derive(Args, Debug)]
pub struct CancelArgs {
    #[command(flatten)]
    pub of: RemoteRun,
    /// What runs may finish for this long
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    pub grace: Duration,
}

/// Where runs are looked up.
#[derive(Args, Clone, Debug)]
pub struct Books {
    /// The state directory
    #[arg(long, value_name = "DIR", conflicts_with = "coordinator")]
    pub state: Option<PathBuf>,
    /// Ask this coordinator instead: host:port or unix:PATH
    #[arg(long, value_name = "ADDR")]
    pub coordinator: Option<String>,
    /// The project, where several have a run of this id
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub project: String,
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Args, Debug)]
pub struct StoreArgs {
    #[command(subcommand)]
    pub what: StoreCommand,
}

#[derive(Subcommand, Debug)]
pub enum StoreCommand {
    /// Read every run and say what is damaged: chains of rows, verdicts, listings, outputs
    #[command(
        after_help = "Examples:\n  evenkeel store check --state /var/lib/evenkeel\n  evenkeel store check --store postgres://evenkeel@db/evenkeel --state /var/lib/evenkeel"
    )]
    Check(StoreOf),
    /// Remove runs that ended longer ago than this, and what nobody needs of the history
    #[command(
        after_help = "Examples:\n  evenkeel store prune --keep 30d --state /var/lib/evenkeel"
    )]
    Prune(PruneArgs),
}

#[derive(Args, Debug)]
pub struct StoreOf {
    /// Where ledgers and history are: sqlite:FILE or postgres://… [default: evenkeel.db in the state directory]
    #[arg(long, value_name = "STORE")]
    pub store: Option<evenkeel_coordinator::store::StoreAddress>,
    /// Where outputs and reports of runs are
    #[arg(long, value_name = "DIR", default_value = ".evenkeel")]
    pub state: PathBuf,
}

#[derive(Args, Debug)]
pub struct PruneArgs {
    #[command(flatten)]
    pub of: StoreOf,
    /// How long runs are kept after they were opened: 30d, 12h
    #[arg(long, value_name = "DURATION", value_parser = long_duration)]
    pub keep: Duration,
}

/// What is to be run.
#[derive(Args, Debug)]
pub struct What {
    /// The directory that the command runs in
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Where ledger, history and outputs are kept [default: .evenkeel beside evenkeel.toml, else in the root]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Run only this suite of evenkeel.toml; may be repeated [default: all of them]
    #[arg(long, value_name = "NAME")]
    pub suite: Vec<String>,
    /// Name the framework instead of recognising it in the command: pytest, cargo, command, protocol
    #[arg(long, value_name = "NAME")]
    pub runner: Option<String>,
    /// A setting of the runner; may be repeated for one that takes several values
    #[arg(long = "with", value_name = "NAME=VALUE", value_parser = setting)]
    pub with: Vec<(String, String)>,
    /// A test that runs for longer than this is ended and is an error: 30, 90s, 2m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// How a process finds its tests: file by file as it gets them, or the whole suite at once, for plugins
    /// that must see all tests [default: files]
    #[arg(long, value_name = "HOW", value_enum)]
    pub collect: Option<Collect>,
    /// Give each test a process of its own (cargo)
    #[arg(long)]
    pub isolate: bool,
    /// The framework's command with its arguments; without it, evenkeel.toml says what to run
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

#[derive(Args, Debug)]
pub struct PlanArgs {
    /// The units to split, paths for most frameworks; - reads them from standard input, one a line or with NUL characters between them
    #[arg(value_name = "UNIT")]
    pub units: Vec<String>,
    /// How many shards there are [default: what the CI provider says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(crate::plan::MOST)))]
    pub shards: Option<u32>,
    /// Print this shard only, counted from one [default: what the CI provider says, else all]
    #[arg(long, value_name = "I")]
    pub index: Option<u32>,
    /// Take durations from here: JUnit reports of any tool, or what `timings export` printed; may be repeated [default: the state directory]
    #[arg(long, value_name = "FILE")]
    pub timings: Vec<PathBuf>,
    /// How to print shards: for people, for programs, or the units' names, one a line
    #[arg(long, value_name = "HOW", value_enum, default_value = "text")]
    pub format: PlanFormat,
    /// With --format files: end names with NUL characters instead of lines
    #[arg(short = '0', long)]
    pub null: bool,
    #[command(flatten)]
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    Text,
    Json,
    Files,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Order {
    Balanced,
    FirstRed,
}

#[derive(Args, Debug)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub what: What,
    /// Whether to use colours
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto")]
    pub color: Color,
}

#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell that is to complete them
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Collect {
    Files,
    Whole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Args, Debug)]
pub struct ReproduceArgs {
    /// The run's id, or an unambiguous beginning of it
    pub run: String,
    /// Which shard, as the report names it: 2/4
    #[arg(long, value_name = "K/N", value_parser = shard)]
    pub shard: (u32, u32),
    /// Stop behind this test
    #[arg(long, value_name = "TEST")]
    pub until: Option<String>,
    /// The suite of that test, where the run had several
    #[arg(long, value_name = "NAME", requires = "until")]
    pub suite: Option<String>,
    #[command(flatten)]
    pub books: Books,
    /// Whether to use colours
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto")]
    pub color: Color,
}

#[derive(Args, Debug)]
pub struct RunsArgs {
    #[command(flatten)]
    pub books: Books,
    /// How many runs to list
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: u32,
}

#[derive(Args, Debug)]
pub struct ShowArgs {
    /// The run's id, or an unambiguous beginning of it
    pub run: String,
    #[command(flatten)]
    pub books: Books,
}

#[derive(Args, Debug)]
pub struct SimulateArgs {
    /// The run's id, or an unambiguous beginning of it
    pub run: Option<String>,
    /// No certain run, but what is recorded of a suite, on machines that are alike
    #[arg(long, conflicts_with_all = ["run", "coordinator", "project", "informed"])]
    pub history: bool,
    /// The suite whose history it is [default: the one in evenkeel.toml, else the one that has durations]
    #[arg(long, value_name = "NAME", requires = "history")]
    pub suite: Option<String>,
    /// The directory that the suite runs in, as for run
    #[arg(long, value_name = "DIR", requires = "history")]
    pub root: Option<PathBuf>,
    /// Numbers of slots to try [default: half, as many, twice and four times as many as it had; as there are cores, of a history]
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub slots: Vec<u32>,
    /// How many slots have their verdict within this time, from submission on: 90s, 5m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub within: Option<Duration>,
    /// Some of the machines are slow: which share of them, and at which part of their speed (half of it where nothing is said)
    #[arg(long, value_name = "SHARE[:SPEED]", value_parser = slow)]
    pub slow: Option<(f64, f64)>,
    /// This share of the machines is lost at some time, as spot machines are
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub lose: Option<f64>,
    /// Each test takes longer or shorter than recorded: the deviation of the logarithm of its duration
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub noise: Option<f64>,
    /// The suite has grown by this share, in files of which nothing is recorded
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub grow: Option<f64>,
    /// What a process takes to start [default: as recorded; a history does not tell]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub boot: Option<Duration>,
    /// Loading a file and setting up what its tests share takes this part of what it took: 50%, 2
    #[arg(long, value_name = "FACTOR", value_parser = share)]
    pub setup: Option<f64>,
    /// Durations are known from this run, as they will be for the next one [default: what was known before it]
    #[arg(long)]
    pub informed: bool,
    /// How often to play each, with other luck [default: 20 where chance decides anything, else once]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub seeds: Option<u64>,
    /// Draw gate time and cost against slots into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// How to print what comes of it
    #[arg(long, value_name = "HOW", value_enum, default_value = "text")]
    pub format: Format,
    #[command(flatten)]
    pub books: Books,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table and bars
    Text,
    /// One JSON object
    Json,
}

#[derive(Args, Debug)]
pub struct TimingsArgs {
    #[command(subcommand)]
    pub what: Timings,
}

#[derive(Subcommand, Debug)]
pub enum Timings {
    #[command(
        after_help = "Examples:\n  evenkeel timings import --suite pytest old/*.xml\n  evenkeel timings import --suite cargo --root engine target/nextest/ci/junit.xml"
    )]
    /// Take durations from JUnit reports of any tool, for units that have none of their own yet
    Import(ImportArgs),
    #[command(after_help = "Examples:\n  evenkeel timings show | head")]
    /// Show what each unit took last, the longest first
    Show(TimesArgs),
    #[command(after_help = "Examples:\n  evenkeel timings export --suite pytest > timings.json")]
    /// Write what is recorded as JSON to standard output
    Export(TimesArgs),
}

#[derive(Args, Debug)]
pub struct ImportArgs {
    /// JUnit reports
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub of: OfSuite,
    /// How the suite's framework names its tests: pytest, cargo, or anything else for files [default: by the suite]
    #[arg(long, value_name = "NAME")]
    pub runner: Option<String>,
}

#[derive(Args, Debug)]
pub struct TimesArgs {
    #[command(flatten)]
    pub of: OfSuite,
}

#[derive(Args, Debug)]
pub struct OfSuite {
    /// The suite [default: the one in evenkeel.toml, else the one that has durations]
    #[arg(long, value_name = "NAME")]
    pub suite: Option<String>,
    /// The directory that the suite runs in, as for run
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// The state directory
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct CoordinatorArgs {
    /// Where to listen: 127.0.0.1:port (0 picks one) or unix:PATH
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7450")]
    pub listen: String,
    /// Where ledgers and history are kept: sqlite:FILE or postgres://… [default: evenkeel.db in the state directory]
    #[arg(long, value_name = "STORE")]
    pub store: Option<evenkeel_coordinator::store::StoreAddress>,
    /// Where outputs and reports of runs are kept
    #[arg(long, value_name = "DIR", default_value = ".evenkeel")]
    pub state: PathBuf,
    /// Remove runs this long after they were opened, once an hour: 30d [default: keep them all]
    #[arg(long, value_name = "DURATION", value_parser = long_duration)]
    pub keep: Option<Duration>,
    /// An agent of which nothing was heard for this long is lost, and what it held goes elsewhere
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    pub lost_after: Duration,
    /// Serve metrics for Prometheus here, at /metrics: 127.0.0.1:port
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<String>,
    /// How to write the log, to standard error
    #[arg(long, value_name = "HOW", value_enum, default_value = "text")]
    pub log: LogFormat,
    #[command(flatten)]
    pub trust: Trust,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Args, Debug)]
pub struct AgentArgs {
    /// The coordinator's address: host:port or unix:PATH
    #[arg(long, value_name = "ADDR")]
    pub coordinator: String,
    /// How many processes to keep at a time [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub slots: Option<u32>,
    /// A name for reports [default: the machine's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// What it is good for: runs that ask for a label are served by agents that have it; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = setting)]
    pub labels: Vec<(String, String)>,
    /// Serve this run only, and end with it; it may not be there yet
    #[arg(long, value_name = "ID")]
    pub run: Option<String>,
    /// The project of that run, where several have one of this id
    #[arg(
        long,
        value_name = "NAME",
        requires = "run",
        default_value = "",
        hide_default_value = true
    )]
    pub project: String,
    /// With --run: how long to wait for the run to come
    #[arg(long, value_name = "DURATION", requires = "run", value_parser = duration, default_value = "10m")]
    pub wait: Duration,
    /// After SIGTERM: what runs may finish for this long
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    pub drain: Duration,
    #[command(flatten)]
    pub reach: Reach,
    /// A directory for what outlives runs [default: evenkeel in the user's cache directory]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct NoopRunnerArgs {
    /// How many units to list
    #[arg(long, default_value_t = 10)]
    pub units: u32,
    /// How many cases each unit declares
    #[arg(long, default_value_t = 10)]
    pub cases: u32,
    /// How long each case sleeps, in microseconds
    #[arg(long, default_value_t = 0)]
    pub sleep_us: u64,
    /// Every N-th case fails, 0 for none
    #[arg(long, default_value_t = 0)]
    pub fail_every: u32,
}

/// Writes what a shell needs to complete our words.
pub fn completions(args: &CompletionsArgs) -> crate::exit::Exit {
    let mut command = <Cli as clap::CommandFactory>::command();
    clap_complete::generate(args.shell, &mut command, "evenkeel", &mut std::io::stdout());
    crate::exit::Exit::Green
}

/// A number of seconds, or a number with a unit.
fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .ok_or_else(|| format!("{text:?} is no duration above zero; write seconds (30) or a unit with it (90s, 2m, 500ms)"))
}

/// As [`duration`], and in days.
fn long_duration(text: &str) -> Result<Duration, String> {
    let days = text.trim().strip_suffix('d').map(str::trim);
    let days = days.and_then(|days| days.parse::<u32>().ok());
    match days.filter(|days| *days > 0) {
        Some(days) => Ok(Duration::from_secs(u64::from(days) * 86_400)),
        None => duration(text),
    }
}

pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        Err(_) => Duration::try_from(text.parse::<jiff::SignedDuration>().ok()?).ok()?,
    };
    (parsed.as_micros() > 0).then_some(parsed)
}

/// A part of something: 0.25 or 25%.
fn share(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let parsed = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse::<f64>(),
    };
    let parsed = parsed.ok().filter(|share| (0.0..=1000.0).contains(share));
    parsed
        .ok_or_else(|| format!("{text:?} is no share; write a part of one (0.25) or percent (25%)"))
}

/// A share of machines and their speed.
fn slow(text: &str) -> Result<(f64, f64), String> {
    let (machines, speed) = match text.split_once(':') {
        Some((machines, speed)) => (share(machines)?, share(speed)?),
        None => (share(text)?, 0.5),
    };
    if machines > 1.0 || speed <= 0.0 {
        return Err(format!(
            "{text:?} is no share of the machines with a speed above zero, like 33%:0.5"
        ));
    }
    Ok((machines, speed))
}

fn setting(text: &str) -> Result<(String, String), String> {
    let parsed = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let owned = parsed.map(|(name, value)| (name.to_owned(), value.to_owned()));
    owned.ok_or_else(|| {
        format!("{text:?} is no setting; write its name, an equals sign and its value")
    })
}

fn shard(text: &str) -> Result<(u32, u32), String> {
    let parsed = text
        .split_once('/')
        .and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    parsed.filter(|&(k, n)| k >= 1 && k <= n).ok_or_else(|| {
        format!("{text:?} is no shard; write it as the report does, counted from one: 2/4")
    })
}
