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
