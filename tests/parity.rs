//! The catalogue of small suites: each does under Evenkeel what it does under plain pytest.
//!
//! What is compared, and how a case is written, is in tests/parity.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use support::{EVENKEEL, Suite, here, python};

fn catalogue(arguments: &[&str]) {
    let suite = Suite::new();
    let mut command = suite.command(python());
    command.arg(here("parity/catalogue.py"));
    // One job: other tests run beside this one.
    command.args(["--evenkeel", EVENKEEL, "--quick", "--jobs", "1"]);
    let ended = {
        command.args(arguments);
        suite.start(command).end()
    };
    print!("{}", ended.stdout);
    ended.exits(0);
    assert!(ended.stdout.contains(" passed, 0 failed"));
}

#[test]
fn outcomes() {
    catalogue(&["-k", "outcomes:", "subtests:", "ids:", "output:"]);
}

#[test]
fn errors_and_imports() {
    catalogue(&["-k", "errors:", "imports:", "items:"]);
}

#[test]
fn configuration() {
    catalogue(&["-k", "config:"]);
}

#[test]
fn selection() {
    catalogue(&["-k", "select:"]);
}

#[test]
fn fixtures_and_hooks() {
    catalogue(&["-k", "fixtures:", "hooks:", "environment:"]);
}

#[test]
fn unittest_doctests_and_warnings() {
    catalogue(&["-k", "unittest:", "doctest:", "warnings:"]);
}

#[test]
fn planted_differences_are_seen() {
    catalogue(&["--self-test"]);
}
