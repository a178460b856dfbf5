//! Merging: a record of a million cases into both reports, in a process of its own.

use evenkeel_coordinator::record::Record;
use evenkeel_coordinator::report;
use evenkeel_proto::ledger as l;
use l::entry::Body;
use std::io::BufRead;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const UNITS: u32 = 2_000;
const CASES: u32 = 500;

pub struct Merged {
    pub seconds: f64,
    pub peak_mb: f64,
    pub record_mb: f64,
}

pub fn measure(directory: &Path) -> Merged {
    let this = std::env::current_exe().expect("this program");
    let output = Command::new(this)
        .arg("--merge")
        .arg(directory)
        .output()
        .expect("the child starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut figures = text
        .split_whitespace()
        .map(|figure| figure.parse().expect("a figure"));
    let mut next = || figures.next().expect("three figures");
    Merged {
        seconds: next(),
        peak_mb: next(),
        record_mb: next(),
    }
}

pub fn child(directory: &Path) {
    let record = record();
    let before = memory("VmRSS");
    let started = Instant::now();
    report::write_all(&record, None, directory).expect("the reports are written");
    let seconds = started.elapsed().as_secs_f64();
    let peak = memory("VmHWM");
    let report = std::fs::File::open(directory.join(report::JSON)).expect("the JSON report");
    assert!(std::io::BufReader::new(report).lines().count() > (UNITS * CASES) as usize);
    std::fs::remove_dir_all(directory).expect("the reports can be removed");
    println!("{seconds} {peak} {before}");
}

/// Of this process, in MB.
pub fn memory(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let line = status
        .lines()
        .find(|line| line.starts_with(field))
        .expect("the field is there");
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("a number");
    kib / 1024.0
}

/// One case in a thousand fails with a text, as in life.
fn record() -> Record {
    let mut record = Record::default();
    let mut apply = |body: Body| {
        record
            .apply(&l::Entry { body: Some(body) })
            .expect("an entry that fits");
    };
    apply(Body::RunOpened(l::RunOpened {
        run: "merge".into(),
        suite: "pytest".into(),
        round: 1,
        ..Default::default()
    }));
    apply(Body::AgentJoined(l::AgentJoined {
        agent: 0,
        name: "agent".into(),
        ..Default::default()
    }));
    apply(Body::ShardOpened(l::ShardOpened {
        shard: 0,
        agent: 0,
        slot: 0,
    }));
    let unit = |unit: u32| l::Unit {
        name: format!("tests/package_{}/test_module_{unit}.py", unit % 50),
        ..Default::default()
    };
    apply(Body::Listed(l::Listed {
        whole: Some(0),
        more: false,
        units: (0..UNITS).map(unit).collect(),
    }));
    for number in 0..UNITS {
        let lease = u64::from(number) + 1;
        apply(Body::Leased(l::Leased {
            lease,
            generation: 1,
            unit: number,
            ..Default::default()
        }));
        apply(Body::UnitBegun(l::UnitBegun {
            lease,
            incarnation: 0,
            at_us: lease * 1000,
        }));
        let name = unit(number).name;
        let case = |case: u32| l::Case {
            id: format!("{name}::TestThings::test_case_{case}[value]"),
            ..Default::default()
        };
        apply(Body::Declared(l::Declared {
            lease,
            known: Vec::new(),
            cases: (0..CASES).map(case).collect(),
        }));
        for case in 0..CASES {
            let fails = (number * CASES + case).is_multiple_of(1000);
            apply(Body::Attempt(l::Attempt {
                lease,
                case,
                outcome: if fails {
                    l::Outcome::Failed
                } else {
                    l::Outcome::Passed
                } as i32,
                started_us: 1,
                ended_us: 2,
                duration_us: u64::from(case),
                setup_us: 0,
                message: if fails {
                    "assert 1 == 2".into()
                } else {
                    String::new()
                },
                ..Default::default()
            }));
        }
        let closed = l::lease_ended::Reason::Closed as i32;
        apply(Body::LeaseEnded(l::LeaseEnded {
            lease,
            reason: closed,
            setup_us: 10,
            waited_us: 0,
            at_us: lease * 1000 + 900,
        }));
    }
    record
}
