//! Cargo: the same tests with the same outcomes as `cargo test` has, whatever the slots; crashes, builds that fail, and what a test
//! finds around it.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use std::collections::BTreeMap;
use support::*;

const MANIFEST: &str = r#"
[workspace]
members = ["core", "app"]
resolver = "3"
"#;

const CORE_MANIFEST: &str = r#"
[package]
name = "demo-core"
version = "0.1.0"
edition = "2024"
"#;

const CORE: &str = r#"
//! ```
//! assert_eq!(demo_core::double(2), 4);
//! ```

/// ```
/// assert_eq!(demo_core::double(1), 2);
/// ```
///
/// ```
/// assert_eq!(demo_core::double(1), 3);
/// ```
///
/// ```compile_fail
/// let x: u8 = "no";
/// ```
///
/// ```no_run
/// loop {}
/// ```
///
/// ```ignore
/// not rust
/// ```
///
/// ```should_panic
/// panic!();
/// ```
pub fn double(x: u32) -> u32 {
    x * 2
}

#[cfg(test)]
mod tests {
    #[test]
    fn passes() {}

    #[test]
    fn fails() {
        println!("on the way");
        assert_eq!(1 + 1, 3, "sums are hard");
    }

    #[test]
    #[ignore = "takes long"]
    fn ignored() {
        panic!("it was asked for");
    }

    #[test]
    #[should_panic]
    fn panics() {
        panic!("as it should");
    }

    #[test]
    #[should_panic(expected = "one")]
    fn panics_wrongly() {
        panic!("two");
    }

    #[test]
    #[should_panic]
    fn does_not_panic() {}

    #[test]
    fn returns_an_error() -> Result<(), String> {
        Err("no luck".to_owned())
    }

    #[test]
    fn finds_what_cargo_sets() {
        assert_eq!(env!("CARGO_MANIFEST_DIR"), std::env::var("CARGO_MANIFEST_DIR").unwrap());
        assert_eq!(std::env::current_dir().unwrap().to_str(), Some(env!("CARGO_MANIFEST_DIR")));
        assert_eq!(std::env::var("OUT_DIR").unwrap(), env!("OUT_DIR"));
        assert_eq!(std::env::var("FROM_THE_BUILD").as_deref(), Ok("yes"));
        let left: Vec<String> = std::env::vars().map(|(name, _)| name)
            .filter(|name| name.contains("CAPTURE") || name.contains("RUNNER") || name == "RUSTDOC" || name == "EVENKEEL_SOCKET")
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
"#;

const CORE_BUILD: &str = r#"
fn main() {
    println!("cargo::rustc-env=FROM_THE_BUILD=yes");
}
"#;

const APP_MANIFEST: &str = r#"
[package]
name = "app"
version = "0.1.0"
edition = "2021"

[dependencies]
demo-core = { path = "../core" }

[[test]]
name = "black"
harness = false

[[test]]
name = "box"
harness = false

[[example]]
name = "shown"
test = true

[[example]]
name = "hidden"
"#;

const APP: &str = r#"
fn main() {
    println!("{}", demo_core::double(21));
}

#[test]
fn of_the_binary() {}
"#;

const APP_TEST: &str = r#"
use std::process::Command;

#[test]
fn runs_the_binary() {
    let output = Command::new(env!("CARGO_BIN_EXE_app")).output().unwrap();
    assert_eq!(output.stdout, b"42\n");
}

mod many {
    macro_rules! tests { ($($name:ident)*) => { $(#[test] fn $name() { std::thread::sleep(std::time::Duration::from_millis(3)); })* } }
    tests! { a b c d e f g h i j k l m n o p q r s t u v w x y z }
}
"#;

fn demo() -> Suite {
    Suite::with(&[
        ("Cargo.toml", MANIFEST),
        ("core/Cargo.toml", CORE_MANIFEST),
        ("core/build.rs", CORE_BUILD),
        ("core/src/lib.rs", CORE),
        ("app/Cargo.toml", APP_MANIFEST),
        ("app/src/main.rs", APP),
        ("app/src/bin/empty.rs", "fn main() {}\n"),
        ("app/tests/it.rs", APP_TEST),
        ("app/tests/none.rs", "fn nothing() {}\n"),
        ("app/tests/black.rs", "fn main() { println!(\"fine\"); }\n"),
        (
            "app/tests/box.rs",
            "fn main() { println!(\"bad\"); std::process::exit(7); }\n",
        ),
        (
            "app/examples/shown.rs",
            "fn main() {}\n#[test]\nfn of_the_example() {}\n",
        ),
        (
            "app/examples/hidden.rs",
            "fn main() {}\n#[test]\nfn never() { panic!() }\n",
        ),
    ])
}

/// A package with nothing but a library.
fn package(name: &str, library: &str) -> Suite {
    let manifest =
        format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
    Suite::with(&[("Cargo.toml", &manifest), ("src/lib.rs", library)])
}

type Outcomes = BTreeMap<(String, String), u32>;

fn count(outcomes: impl Iterator<Item = (String, String)>) -> Outcomes {
    let mut counts = Outcomes::new();
    for outcome in outcomes {
        *counts.entry(outcome).or_default() += 1;
    }
    counts
}

/// What `cargo test` says of each test, run one after the other.
fn plain(suite: &Suite, arguments: &[&str], harness: &[&str]) -> Outcomes {
    let mut command = suite.command("cargo");
    command.args(["test", "--no-fail-fast"]).args(arguments);
    command.args(["--", "--test-threads=1"]).args(harness);
    let ended = suite.start(command).end();
    let mut outcomes = Vec::new();
    for line in ended.stdout.lines() {
        let Some((name, outcome)) = line
            .strip_prefix("test ")
            .and_then(|line| line.split_once(" ... "))
        else {
            continue;
        };
        let kind = [" - should panic", " - compile fail", " - compile"];
        let name = kind
            .iter()
            .find_map(|kind| name.strip_suffix(kind))
            .unwrap_or(name);
        let outcome = match outcome.split(',').next() {
            Some("ok") => "passed",
            Some("FAILED") => "failed",
            Some("ignored") => "skipped",
            _ => continue,
        };
        outcomes.push((name.to_owned(), outcome.to_owned()));
    }
    assert!(!outcomes.is_empty(), "{}", ended.stderr);
    count(outcomes.into_iter())
}

/// What the report says of each test that has a harness.
fn ours(suite: &Suite) -> Outcomes {
    let report = suite.report();
    let tests = report
        .tests()
        .iter()
        .map(|test| (text(&test["name"]), text(&test["outcome"])));
    let boxes = ["app::black", "app::box"];
    count(tests.filter(|(name, _)| !boxes.contains(&name.as_str())))
}

fn cargo<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["cargo", "test"], arguments].concat()
}

#[test]
fn outcomes_are_those_of_cargo_test() {
    let suite = demo();
    let expected = plain(&suite, &[], &[]);
    for options in [
        &["-j", "1"][..],
        &["-j", "2"],
        &["-j", "5"],
        &["-j", "2", "--isolate"],
    ] {
        let ended = suite.run(options, &cargo(&[]));
        ended.exits(1);
        assert_eq!(ours(&suite), expected, "{options:?}");
        let report = suite.report();
        assert_eq!(report.test("app::black")["outcome"], "passed");
        let failed = report.test("app::box");
        assert_eq!(failed["outcome"], "failed");
        assert_eq!(failed["message"], "its process exited with status 7");
        let failed = report.test("demo-core tests::fails");
        let message = failed["message"].as_str().unwrap();
        assert!(message.contains("sums are hard"), "{message}");
        suite.nothing_stays();
    }
    // What is asked of the harness reaches it, and what is asked of Cargo reaches Cargo.
    for (arguments, harness) in [
        (
            &["-p", "demo-core", "--lib"][..],
            &["--include-ignored"][..],
        ),
        (&["--workspace", "--lib", "--bins"], &["--ignored"]),
        (
            &["-p", "app"],
            &["--skip", "many", "--exact", "runs_the_binary"],
        ),
        (&["--doc"], &["--skip", "20"]),
        (&["--test", "it", "many"], &[]),
    ] {
        let expected = plain(&suite, arguments, harness);
        let command = [&cargo(arguments)[..], &["--"], harness].concat();
        suite.run(&["-j", "2"], &command);
        assert_eq!(ours(&suite), expected, "{arguments:?} {harness:?}");
    }
}

#[test]
fn a_test_that_ends_its_process_is_an_error_and_its_neighbours_run() {
    let suite = package(
        "crash",
        r#"
            #[cfg(test)]
            mod tests {
                #[test] fn a() {}
                #[test] fn b() { println!("last words"); std::process::abort() }
                #[test] fn c() {}
                #[test] fn d() { println!("ok"); std::process::exit(0) }
                #[test] fn e() {}
                #[test] fn f() { #[allow(unconditional_recursion)] fn deep(x: u64) -> u64 { deep(x + 1) + x } assert_eq!(deep(1), 2) }
                #[test] fn g() {}
                #[test] fn h() {
                    use std::io::Write;
                    let said = b"ok\ntest tests::g ... FAILED\n\ntest result: FAILED. 0 passed; 7 failed; 0 ignored\nno line break";
                    std::io::stdout().write_all(said).unwrap();
                }
            }
            "#,
    );
    for options in [&["-j", "1"][..], &["-j", "3"]] {
        let ended = suite.run(options, &cargo(&["--lib"]));
        ended.exits(1);
        let report = suite.report();
        let outcome = |name: &str| report.test(&format!("crash tests::{name}"))["outcome"].clone();
        for name in ["a", "c", "e", "g", "h"] {
            assert_eq!(outcome(name), "passed", "{name}");
        }
        for (name, how) in [("b", "SIGABRT"), ("d", "status 0"), ("f", "SIGABRT")] {
            assert_eq!(outcome(name), "error", "{name}");
            let message = report.test(&format!("crash tests::{name}"))["message"].clone();
            assert!(message.as_str().unwrap().contains(how), "{message}");
        }
        assert!(ended.stderr.contains("last words"), "{}", ended.stderr);
        assert_eq!(report.tests().len(), 8);
    }
}

#[test]
fn a_build_that_fails_is_red_and_no_test_failed() {
    let suite = package("broken", "pub fn f() -> u8 { \"text\" }\n");
    let ended = suite.run(&["-j", "2"], &cargo(&[]));
    ended.exits(5);
    assert!(
        ended.stderr.contains("mismatched types"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("the build failed"),
        "{}",
        ended.stderr
    );
    let report = suite.report();
    assert_eq!(report.0["run"]["verdict"], "red");
    assert_eq!(report.0["run"]["exit_code"], 5);
    assert_eq!(report.tests().len(), 0);
    // Cargo's own refusals are the user's to mend, and so are commands that run nothing.
    for (arguments, said) in [
        (&["-p", "absent"][..], "absent"),
        (&["--no-such-option"], "--no-such-option"),
        (&["--no-run"], "--no-run"),
        (&["--", "--list"], "--list"),
    ] {
        let ended = suite.run(&[], &cargo(arguments));
        ended.exits(2);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
}

#[test]
fn a_test_past_its_deadline_is_ended_with_what_it_printed() {
    let suite = package(
        "slow",
        "#[test] fn a() {}\n#[test] fn b() { println!(\"so far\"); loop { std::thread::park() } }\n#[test] fn c() {}\n",
    );
    let ended = suite.run(&["-j", "1", "--timeout", "2s"], &cargo(&["--lib"]));
    ended.exits(1);
    let report = suite.report();
    assert_eq!(report.test("slow b")["outcome"], "error");
    assert_eq!(report.test("slow a")["outcome"], "passed");
    assert_eq!(report.test("slow c")["outcome"], "passed");
    assert!(ended.stderr.contains("so far"), "{}", ended.stderr);
    suite.nothing_stays();
}

/// rustdoc compiles what it can together, runs and sums that up, and goes on with what has to be compiled alone.
#[test]
fn doctests_of_all_kinds_that_pass_are_green() {
    let kinds = [
        "",
        "compile_fail",
        "should_panic",
        "standalone_crate",
        "no_run",
        "ignore",
    ];
    let bodies = [
        "assert!(true);",
        "let x: u8 = \"a\";",
        "panic!();",
        "assert!(true);",
        "loop {}",
        "no",
    ];
    let mut source = String::new();
    for (kind, body) in kinds.iter().zip(bodies) {
        source.push_str(&format!("//! ```{kind}\n//! {body}\n//! ```\n"));
    }
    for edition in ["2021", "2024"] {
        let manifest =
            format!("[package]\nname = \"docs\"\nversion = \"0.1.0\"\nedition = \"{edition}\"\n");
        let suite = Suite::with(&[("Cargo.toml", &manifest), ("src/lib.rs", &source)]);
        let expected = plain(&suite, &[], &[]);
        assert_eq!(expected.len(), 6);
        for options in [&["-j", "1"][..], &["-j", "2"], &["-j", "2", "--isolate"]] {
            suite.run(options, &cargo(&[])).exits(0);
            assert_eq!(ours(&suite), expected, "{edition} {options:?}");
        }
    }
}

#[test]
fn a_package_without_tests_ran_nothing() {
    let suite = package("none", "pub fn f() {}\n");
    suite.run(&["-j", "2"], &cargo(&[])).exits(4);
}

#[test]
fn a_runner_of_the_users_own_starts_every_test() {
    let suite = Suite::with(&[
        (
            "Cargo.toml",
            "[package]\nname = \"through\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
        ),
        (
            ".cargo/config.toml",
            "[target.'cfg(unix)']\nrunner = [\"env\", \"FROM_RUNNER=a b\"]\n[env]\nFROM_CONFIG = \"yes\"\n",
        ),
        (
            "src/lib.rs",
            r#"
            //! ```
            //! assert_eq!(std::env::var("FROM_RUNNER").as_deref(), Ok("a b"));
            //! ```
            #[test]
            fn passes_through() {
                assert_eq!(std::env::var("FROM_RUNNER").as_deref(), Ok("a b"));
                assert_eq!(std::env::var("FROM_CONFIG").as_deref(), Ok("yes"));
            }
            "#,
        ),
    ]);
    let expected = plain(&suite, &[], &[]);
    assert_eq!(expected.len(), 2);
    suite.run(&["-j", "2"], &cargo(&[])).exits(0);
    assert_eq!(ours(&suite), expected);
}

/// A harness of its own is asked for its tests if it could understand; one that only looks as if is a test as a whole.
#[test]
fn harnesses_that_speak_and_harnesses_that_do_not() {
    let manifest = "[package]\nname = \"own\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
        [[test]]\nname = \"speaks\"\nharness = false\n[[test]]\nname = \"silent\"\nharness = false\n";
    let speaks = r#"
        fn main() {
            let words: Vec<String> = std::env::args().skip(1).collect();
            let has = |word: &str| words.iter().any(|given| given == word);
            if has("--list") {
                assert!(has("terse"));
                println!("one: test\ntwo: test");
                return;
            }
            let mut failed = 0;
            let run: Vec<&str> = ["one", "two"].into_iter().filter(|name| has(name) || !has("--exact")).collect();
            for name in &run {
                print!("test {name} ... ");
                failed += u32::from(*name == "two");
                println!("{}", if *name == "two" { "FAILED" } else { "ok" });
            }
            println!("\ntest result: x. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out\n", run.len() as u32 - failed);
            std::process::exit(if failed > 0 { 101 } else { 0 });
        }
    "#;
    // It knows the word, and no argument; it fails without a word.
    let silent = "fn main() { let known = [\"terse\"]; std::process::exit(if known.len() == std::env::args().count() { 9 } else { 0 }); }\n";
    let suite = Suite::with(&[
        ("Cargo.toml", manifest),
        ("src/lib.rs", ""),
        ("tests/speaks.rs", speaks),
        ("tests/silent.rs", silent),
    ]);
    for options in [&["-j", "1"][..], &["-j", "2", "--isolate"]] {
        suite.run(options, &cargo(&[])).exits(1);
        let report = suite.report();
        assert_eq!(report.test("own::speaks one")["outcome"], "passed");
        assert_eq!(report.test("own::speaks two")["outcome"], "failed");
        report.blames("own::silent", "failed", &["status 9"]);
        assert_eq!(report.tests().len(), 3, "{:#}", report.0["tests"]);
        assert!(
            report.0["framework"]["failed"]
                .as_array()
                .unwrap()
                .is_empty()
        );
    }
}

/// Stands for `cargo nextest list`: it builds with Cargo and asks each binary for its tests through the runner that it is given.
const NEXTEST: &str = r#"#!/usr/bin/env python3
import json, os, subprocess, sys
words = sys.argv[1:]
assert words[:4] == ["nextest", "list", "--message-format", "json"], words
runner = json.loads(words[words.index("--config") + 1].split("=", 1)[1])
done = subprocess.run(["cargo", "test", "--no-run", "--message-format=json-render-diagnostics"], stdout=subprocess.PIPE, text=True)
if done.returncode:
    sys.exit(101)
suites = {}
for line in done.stdout.splitlines():
    message = json.loads(line)
    if message.get("executable") and message["profile"]["test"]:
        def ask(*more):
            listed = subprocess.run([*runner, message["executable"], "--list", "--format", "terse", *more], env=dict(os.environ, FROM_NEXTEST="yes"), check=True, stdout=subprocess.PIPE, text=True)
            return [line.removesuffix(": test") for line in listed.stdout.splitlines() if line.endswith(": test")]
        ignored = ask("--ignored")
        def chosen(name):
            if "left_out" in name:
                return {"status": "mismatch", "reason": "expression"}
            return {"status": "mismatch", "reason": "ignored"} if name in ignored else {"status": "matches"}
        cases = {name: {"kind": "test", "ignored": name in ignored, "filter-match": chosen(name)} for name in ask()}
        suites[message["target"]["name"]] = {"binary-path": message["executable"], "cwd": os.getcwd(), "testcases": cases}
print(json.dumps({"rust-build-meta": {}, "test-count": 0, "rust-suites": suites}))
"#;

#[test]
fn nextest_chooses_and_each_test_has_a_process() {
    let suite = package(
        "chosen",
        r#"
        #[test] fn one() { assert_eq!(std::env::var("NEXTEST").as_deref(), Ok("1")); std::fs::write(format!("pid-{}", std::process::id()), "").unwrap(); }
        #[test] fn two() { assert_eq!(std::env::var("FROM_NEXTEST").as_deref(), Ok("yes")); std::fs::write(format!("pid-{}", std::process::id()), "").unwrap(); }
        #[test] fn fails() { assert_eq!(std::env::var("NEXTEST_TEST_NAME").as_deref(), Ok("x")); }
        #[test] #[ignore] fn ignored() { panic!() }
        #[test] fn left_out() { panic!() }
        "#,
    );
    suite.write("bin/cargo-nextest", NEXTEST);
    let path = suite.root.join("bin/cargo-nextest");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}",
        suite.root.join("bin").display(),
        std::env::var("PATH").unwrap()
    );
    let nextest = ["cargo", "nextest", "run", "-j4"];
    let run = |code: i32| {
        let mut command = suite.run_command(&["-j", "2"], &nextest);
        command.env("PATH", &path);
        let ended = suite.start(command).end();
        ended.exits(code);
        ended
    };
    run(1).says(&["-j is not passed on"]);
    let report = suite.report();
    let outcome = |name: &str| report.test(&format!("chosen {name}"))["outcome"].clone();
    let outcomes = ["one", "two", "fails", "ignored"].map(outcome);
    assert_eq!(outcomes, ["passed", "passed", "failed", "skipped"]);
    assert_eq!(report.tests().len(), 4);
    assert_eq!(suite.files("pid-"), 2);
    suite.write("src/lib.rs", "fn f() -> u8 { \"text\" }\n");
    run(5).says(&["the build failed"]);
}
