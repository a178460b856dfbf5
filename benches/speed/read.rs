//! Reading JUnit: a report of 100,000 cases, in a process of its own.

use crate::merge::memory;
use std::fmt::Write;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const SUITES: u32 = 1_000;
const CASES: u32 = 100;

pub struct Read {
    pub seconds: f64,
    pub peak_mb: f64,
    pub file_mb: f64,
}

pub fn measure(directory: &Path) -> Read {
    let file = directory.join("large.xml");
    let text = report();
    std::fs::write(&file, &text).expect("the report can be written");
    let this = std::env::current_exe().expect("this program");
    let output = Command::new(this)
        .arg("--read")
        .arg(&file)
        .output()
        .expect("the child starts");
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut figures = told
        .split_whitespace()
        .map(|figure| figure.parse().expect("a figure"));
    let mut next = || figures.next().expect("two figures");
    Read {
        seconds: next(),
        peak_mb: next(),
        file_mb: text.len() as f64 / 1e6,
    }
}

pub fn child(file: &Path) {
    let started = Instant::now();
    let mut names = 0;
    let file = File::open(file).expect("the report");
    let summary = evenkeel_junit::read(file, |_, case| names += case.name.len());
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(summary.cases, u64::from(SUITES * CASES));
    assert_eq!((summary.failed, summary.damage), (1_000, None));
    assert!(names > 0);
    println!("{seconds} {}", memory("VmHWM"));
}

/// One case in a hundred fails with a text, and one in ten has printed something.
fn report() -> String {
    let mut text = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<testsuites>\n".to_owned();
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        text.write_fmt(arguments).expect("a string takes all");
    };
    for suite in 0..SUITES {
        line(format_args!(
            "<testsuite name=\"suite {suite}\" tests=\"{CASES}\">\n"
        ));
        for case in 0..CASES {
            line(format_args!(
                "<testcase classname=\"package.module_{suite}.TestThings\" name=\"test_case_{case}[&quot;value&quot;]\" time=\"0.0{case}\">"
            ));
            if case == 0 {
                let detail = "    assert 1 == 2\n".repeat(20);
                line(format_args!(
                    "<failure message=\"assert 1 == 2\">{detail}</failure>"
                ));
            }
            if case % 10 == 0 {
                line(format_args!(
                    "<system-out><![CDATA[{case} was here]]></system-out>"
                ));
            }
            line(format_args!("</testcase>\n"));
        }
        line(format_args!("</testsuite>\n"));
    }
    line(format_args!("</testsuites>\n"));
    text
}
