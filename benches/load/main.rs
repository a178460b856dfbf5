//! `cargo bench --bench load`: a coordinator under a thousand agents of four slots, which run nothing, in a process of their own.
//!
//! Each figure stands beside its limit and, where there is one, its raw reference in the same run. Arguments: `sqlite` (what there is
//! else), or `postgres://…`; `--agents N`, `--cases N` for a smaller load; `leases` without the many results; `faults` for what faults cost only.

mod coordinator;
mod faults;
mod generator;
#[path = "../speed/reference.rs"]
#[allow(dead_code)] // the other bench uses the rest
mod reference;

use coordinator::Coordinator;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const EVENKEEL: &str = env!("CARGO_BIN_EXE_evenkeel");
const SLOTS: u32 = 4;
/// Leases a second that slots ask for in the paced run: somewhat more than is wanted, since a slot also waits.
const PACE: f64 = 6400.0;
/// Cases of a unit.
const CASES: u32 = 50;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|word| word == "--generate") {
        let number = |at: usize| arguments[at].parse().expect("a number");
        generator::main(&arguments[at + 1], number(at + 2), number(at + 3));
        return;
    }
    let after = |name: &str| {
        let at = arguments.iter().position(|word| word == name)?;
        arguments.get(at + 1)?.parse::<u32>().ok()
    };
    let agents = after("--agents").unwrap_or(1000);
    let cases = after("--cases").unwrap_or(1_000_000);
    let store = arguments
        .iter()
        .find(|word| word.starts_with("postgres"))
        .cloned();
    let least = if store.is_some() { 60_000 } else { 100_000 };
    if arguments.iter().any(|word| word == "faults") {
        faults::death();
        faults::restart();
        return;
    }
    println!("{:<52} {:>14} {:>14}  note", "figure", "measured", "limit");
    let coordinator = Coordinator::start(store.as_deref());
    let mut load = Load::start(&coordinator.address, agents);
    let connected = load.line("connected");
    row(
        &format!("{agents} agents of {SLOTS} slots connected"),
        &format!("{:.2} s", connected[0]),
        "10 s",
        "",
    );
    std::thread::sleep(Duration::from_secs(2));
    let idle = coordinator.share(Duration::from_secs(5));
    row(
        "idle with them",
        &format!("{:.1}% of a core", idle * 100.0),
        "3%",
        "",
    );

    if !arguments.iter().any(|word| word == "leases") {
        many(&coordinator, cases, least);
    }
    paced(&coordinator, &mut load, agents);
    load.end();
    drop(coordinator);
    if arguments.iter().any(|word| word == "leases") {
        return;
    }
    references();
    faults::death();
    faults::restart();
}

/// A run of many short tests, as fast as it goes.
fn many(coordinator: &Coordinator, cases: u32, least: u32) {
    let units = cases / CASES;
    let begun = Instant::now();
    let cpu = coordinator.on_cpu();
    let ended = coordinator.run("many", &format!("load {units} {CASES} 0"));
    let took = begun.elapsed();
    let cpu = coordinator.on_cpu() - cpu;
    assert_eq!(
        ended.totals.as_ref().map(|totals| totals.passed),
        Some(units * CASES)
    );
    let rate = f64::from(units * CASES) / took.as_secs_f64();
    row(
        &format!("{} results, from the submission to the end", units * CASES),
        &format!("{:.0}/s", rate),
        &format!("{least}/s"),
        &format!(
            "{:.1} s, {:.1} us of the coordinator's CPU each",
            took.as_secs_f64(),
            cpu.as_secs_f64() * 1e6 / f64::from(units * CASES)
        ),
    );
    row(
        "  the coordinator's peak memory",
        &format!("{:.0} MB", coordinator.peak_mb()),
        "500 MB",
        "",
    );
}

/// A run in which slots ask at a steady rate: how long each waits.
fn paced(coordinator: &Coordinator, load: &mut Load, agents: u32) {
    load.ask();
    load.line("waits");
    // Each slot asks once in so long.
    let takes = f64::from(agents * SLOTS) / PACE;
    let units = (agents * SLOTS) * 10;
    let whole = Duration::from_secs_f64(takes * 10.0);
    let window = whole * 4 / 10;
    let paced = format!("load {units} 1 {}", (takes * 1e6) as u64);
    let waits = std::thread::scope(|scope| {
        let running = scope.spawn(|| coordinator.run("paced", &paced));
        // Neither the beginning, when all ask at once, nor the end, when what is left is held back on purpose.
        std::thread::sleep(whole * 3 / 10);
        load.ask();
        load.line("waits");
        std::thread::sleep(window);
        load.ask();
        let waits = load.line("waits");
        running.join().expect("the run ends");
        waits
    });
    let rate = waits[0] / window.as_secs_f64();
    row(
        "from a slot's having nothing to its lease, 99 of 100",
        &format!("{:.1} ms", waits[4] * 1e3),
        "20 ms",
        &format!(
            "{rate:.0} leases/s, half within {:.1} ms; from its having nothing behind: {:.1} ms, half within {:.1} ms",
            waits[3] * 1e3,
            waits[2] * 1e3,
            waits[1] * 1e3
        ),
    );
}

/// The raw costs that are in these figures.
fn references() {
    const COUNT: u32 = 100_000;
    let rate = |took: Duration| format!("{:.0}/s", f64::from(COUNT) / took.as_secs_f64());
    let stream = reference::stream(COUNT);
    row(
        "bare: messages of one result over one stream",
        &rate(stream),
        "",
        "",
    );
    let scratch = std::env::temp_dir().join(format!("evenkeel-bare-{}.db", std::process::id()));
    let insert = reference::insert(&scratch, COUNT);
    for end in ["", "-wal", "-shm"] {
        std::fs::remove_file(format!("{}{end}", scratch.display())).ok();
    }
    row(
        "bare: rows into SQLite, 1,000 a transaction",
        &rate(insert),
        "",
        "",
    );
}

fn row(what: &str, measured: &str, limit: &str, note: &str) {
    println!("{what:<52} {measured:>14} {limit:>14}  {note}");
    std::io::stdout().flush().ok();
}

/// The process that holds the agents.
struct Load {
    child: Child,
    asks: Option<ChildStdin>,
    says: BufReader<ChildStdout>,
}

impl Load {
    fn start(address: &str, agents: u32) -> Load {
        let own = std::env::current_exe().expect("a path to this program");
        let mut child = Command::new(own)
            .args([
                "--generate",
                address,
                &agents.to_string(),
                &SLOTS.to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the generator starts");
        let says = BufReader::new(child.stdout.take().expect("it is piped"));
        Load {
            asks: child.stdin.take(),
            child,
            says,
        }
    }

    fn ask(&mut self) {
        writeln!(self.asks.as_mut().expect("it is open"), "waits").expect("it listens");
    }

    /// The numbers of the next line of this name.
    fn line(&mut self, name: &str) -> Vec<f64> {
        loop {
            let mut line = String::new();
            let read = self.says.read_line(&mut line).expect("it speaks");
            assert!(read > 0, "the generator ended early");
            let mut words = line.split_whitespace();
            if words.next() == Some(name) {
                return words.filter_map(|word| word.parse().ok()).collect();
            }
        }
    }

    fn end(mut self) {
        self.asks = None;
        self.child.wait().expect("it ends");
    }
}
