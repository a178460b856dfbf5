//! `cargo bench --bench speed`: the cost of a case, of a start, of merging and of waiting, each beside its reference in the
//! same run. Medians of five. Prints one table.

mod merge;
mod process;
mod read;
mod reference;

use std::path::Path;
use std::time::Duration;

const EVENKEEL: &str = env!("CARGO_BIN_EXE_evenkeel");
const CASES: u32 = 100_000;
const RUNS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // Merging is measured in a process of its own, so that its peak memory is its own.
    if let Some(at) = arguments.iter().position(|argument| argument == "--merge") {
        merge::child(Path::new(&arguments[at + 1]));
        return;
    }
    if let Some(at) = arguments.iter().position(|argument| argument == "--read") {
        read::child(Path::new(&arguments[at + 1]));
        return;
    }
    let scratch = std::env::temp_dir().join(format!("evenkeel-speed-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).expect("a temporary directory");
    println!(
        "{:<58} {:>12} {:>12}  note",
        "figure (median of five)", "measured", "at most"
    );
    noop(&scratch);
    start(&scratch);
    merging(&scratch);
    reading(&scratch);
    idle(&scratch);
    std::fs::remove_dir_all(&scratch).expect("the temporary directory can be removed");
}

fn row(what: &str, measured: String, most: &str, note: &str) {
    println!("{what:<58} {measured:>12} {most:>12}  {note}");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn per_case(total: Duration) -> f64 {
    total.as_secs_f64() * 1e6 / f64::from(CASES)
}

/// A JUnit report of another tool.
fn reading(scratch: &Path) {
    let read: Vec<read::Read> = (0..RUNS).map(|_| read::measure(scratch)).collect();
    row(
        "reading a JUnit report of 100,000 cases",
        format!(
            "{:.2} s",
            median(read.iter().map(|read| read.seconds).collect())
        ),
        "0.3 s",
        &format!("{:.0} MB of XML", read[0].file_mb),
    );
    row(
        "  peak memory",
        format!(
            "{:.0} MB",
            median(read.iter().map(|read| read.peak_mb).collect())
        ),
        "20 MB",
        "all of the process",
    );
}

/// 100,000 cases of the runner that does nothing, and the two raw costs that are in it.
fn noop(scratch: &Path) {
    let (mut walls, mut cpus, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    let (mut streams, mut inserts) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let directory = scratch.join(format!("noop-{run}"));
        std::fs::create_dir_all(&directory).expect("a directory");
        let used = process::run(
            &directory,
            &[
                "run",
                "--quiet",
                "--runner",
                "protocol",
                "-j2",
                "--junit",
                "junit.xml",
                "--json",
                "report.json",
                "--",
                EVENKEEL,
                "noop-runner",
                "--units",
                "1000",
                "--cases",
                "100",
            ],
        );
        let report = std::fs::read_to_string(directory.join("report.json"))
            .expect("the run wrote its report");
        assert!(
            report.contains("\"passed\":100000,"),
            "the run passed 100,000 cases"
        );
        walls.push(per_case(used.wall));
        cpus.push(per_case(used.cpu));
        memory.push(used.peak_kib as f64 / 1024.0);
        streams.push(per_case(reference::stream(CASES)));
        inserts.push(per_case(reference::insert(
            &directory.join("bare.db"),
            CASES,
        )));
    }
    row(
        "a case, from start to written reports, 2 slots",
        format!("{:.2} µs", median(walls)),
        "10 µs",
        "100,000 cases, 1,000 units",
    );
    row(
        "  CPU of it, all processes",
        format!("{:.2} µs", median(cpus)),
        "",
        "",
    );
    row(
        "  reference: bare stream, one message a case",
        format!("{:.2} µs", median(streams)),
        "",
        "same messages, nothing else",
    );
    row(
        "  reference: bare SQLite insert, one row a case",
        format!("{:.2} µs", median(inserts)),
        "",
        "500 rows a statement, 1,000 a durable transaction",
    );
    row(
        "  coordinator and agent together, peak memory",
        format!("{:.0} MB", median(memory)),
        "200 MB",
        "one process holds both",
    );
}

fn start(scratch: &Path) {
    let directory = scratch.join("start");
    std::fs::create_dir_all(&directory).expect("a directory");
    let (mut walls, mut bare, mut flushes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..=RUNS * 2 {
        let used = process::run(
            &directory,
            &[
                "run",
                "--quiet",
                "--runner",
                "protocol",
                "-j1",
                "--",
                EVENKEEL,
                "noop-runner",
                "--units",
                "1",
                "--cases",
                "1",
            ],
        );
        walls.push(used.wall.as_secs_f64() * 1e3);
        bare.push(process::run(&directory, &["--version"]).wall.as_secs_f64() * 1e3);
        flushes.push(reference::flush(&directory.join("flush")).as_secs_f64() * 1e3);
    }
    // The first one made the state directory.
    walls.remove(0);
    row(
        "start plus one test",
        format!("{:.1} ms", median(walls)),
        "15 ms",
        "median of ten",
    );
    row(
        "  reference: this binary printing its version",
        format!("{:.1} ms", median(bare)),
        "",
        "it is started three times in a run",
    );
    row(
        "  reference: one flush of the disk",
        format!("{:.1} ms", median(flushes)),
        "",
        "a run waits for three",
    );
}

fn merging(scratch: &Path) {
    let (mut walls, mut memory, mut base) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let merged = merge::measure(&scratch.join("merge"));
        walls.push(merged.seconds);
        memory.push(merged.peak_mb);
        base.push(merged.record_mb);
    }
    row(
        "merging 1,000,000 cases into JUnit and JSON",
        format!("{:.2} s", median(walls)),
        "5 s",
        "both written to disk",
    );
    row(
        "  peak memory, the run's record included",
        format!("{:.0} MB", median(memory)),
        "500 MB",
        "",
    );
    row(
        "  reference: the record alone",
        format!("{:.0} MB", median(base)),
        "",
        "",
    );
}

fn idle(scratch: &Path) {
    let directory = scratch.join("idle");
    std::fs::create_dir_all(&directory).expect("a directory");
    let mut shares = Vec::new();
    for _ in 0..RUNS {
        let share = process::idle_share(
            &directory,
            &[
                "run",
                "--quiet",
                "--runner",
                "protocol",
                "-j2",
                "--",
                EVENKEEL,
                "noop-runner",
                "--units",
                "2",
                "--cases",
                "1",
                "--sleep-us",
                "4000000",
            ],
            Duration::from_millis(1000),
            Duration::from_millis(2000),
        );
        shares.push(share * 100.0);
    }
    row(
        "waiting for a slow test, share of a core",
        format!("{:.3} %", median(shares)),
        "0.2 %",
        "evenkeel and its guards",
    );
}
