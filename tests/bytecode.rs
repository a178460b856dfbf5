//! Bytecode is kept between slots and runs, out of sight of the tests and out of the checkout.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod support;

use support::{Ended, Suite, pytest};

/// Writes down what a test, and a process that it starts, can see of how Python was started.
const SEEN: &str = r#"
import helper, importlib.util, json, os, subprocess, sys
SEE = "import json, os, sys; print(json.dumps([dict(os.environ), list(sys.flags), sys.dont_write_bytecode, sys.pycache_prefix]))"
OURS = ("EVENKEEL", "PYTHONHASHSEED", "PYTEST_")
def seen(text):
    environment, *rest = json.loads(text)
    return [{name: value for name, value in environment.items() if not name.startswith(OURS)}, rest]
def test_it(tmp_path):
    import lazy
    here = [dict(os.environ), list(sys.flags), sys.dont_write_bytecode, sys.pycache_prefix]
    child = subprocess.run([sys.executable, "-c", SEE], capture_output=True, text=True).stdout
    with open(os.environ["SEEN"], "w") as file:
        json.dump([seen(json.dumps(here)), seen(child), helper.__cached__, __cached__, sys.path, sys.argv[1:]], file, indent=1)
"#;

fn directories(suite: &Suite) -> String {
    let list = "import os\nprint(*sorted(os.path.join(d, n) for d, ds, fs in os.walk('.') if '.evenkeel' not in d for n in ds if n == '__pycache__'))";
    suite.python(list, &[])
}

fn kept(suite: &Suite) -> String {
    let list = "import os\nprint(*sorted(n.split('.')[0] for d, _, fs in os.walk('.evenkeel/bytecode') for n in fs))";
    suite.python(list, &[])
}

#[test]
fn what_tests_see_of_it_is_what_plain_pytest_shows_them() {
    for set in [None, Some("1")] {
        let suite = Suite::with(&[
            ("test_it.py", SEEN),
            ("helper.py", "VALUE = 1\n"),
            ("lazy.py", ""),
            ("conftest.py", ""),
        ]);
        let start = |mut command: std::process::Command, to: &str| -> Ended {
            command.env_remove("PYTHONDONTWRITEBYTECODE");
            command.env("SEEN", to).env("PYTHONHASHSEED", "1");
            if let Some(value) = set {
                command.env("PYTHONDONTWRITEBYTECODE", value);
            }
            suite.start(command).end()
        };
        for seen in ["first", "second"] {
            start(suite.run_command(&["-j", "1"], &pytest(&[])), seen).exits(0);
            assert_eq!(directories(&suite).trim(), "", "the checkout is untouched");
            for module in ["conftest", "helper", "lazy", "test_it", "slot"] {
                assert!(kept(&suite).contains(module), "{}", kept(&suite));
            }
        }
        let words = pytest(&[]);
        let mut plain = suite.command(words[0]);
        plain.args(&words[1..]);
        start(plain, "plain").exits(0);
        let of = |name: &str| suite.read(name).replace(&format!("\"{name}\""), "\"SEEN\"");
        assert_eq!(of("first"), of("plain"));
        assert_eq!(of("second"), of("plain"));
    }
}

#[test]
fn an_edit_of_the_same_size_in_the_same_moment_counts() {
    let suite = Suite::with(&[
        (
            "test_it.py",
            "import helper\ndef test_it(): assert helper.VALUE == 1\n",
        ),
        ("helper.py", "VALUE = 1\n"),
    ]);
    let stamp = "import os, sys\nfor name in sys.argv[1:]: os.utime(name, (10**9, 10**9))";
    let run = || {
        suite.python(stamp, &["test_it.py", "helper.py"]);
        suite.pytest(&["-j", "1"], &[])
    };
    run().exits(0);
    suite.write("helper.py", "VALUE = 2\n");
    run().exits(1);
    suite.write(
        "test_it.py",
        "import helper\ndef test_it(): assert helper.VALUE == 2\n",
    );
    run().exits(0);
}

#[test]
fn what_does_not_compile_or_warns_does_so_each_time_as_in_plain_pytest() {
    let suite = Suite::with(&[
        ("broken.py", "def f(:\n"),
        ("odd.py", "VALUE = 1 is 1\n"),
        ("test_broken.py", "def f(:\n"),
        ("test_imports.py", "import broken\n"),
        ("test_odd.py", "import odd\ndef test_it(): assert (1, 2)\n"),
    ]);
    let words = pytest(&["-q", "-W", "error"]);
    let mut plain = suite.command(words[0]);
    plain.args(&words[1..]);
    let plain = suite.start(plain).end();
    for _ in 0..2 {
        suite.pytest(&["-j", "1"], &["-q", "-W", "error"]).exits(1);
        let report = suite.report();
        for file in ["test_broken.py", "test_imports.py", "test_odd.py"] {
            let test = report.test(file);
            assert_eq!(test["outcome"], "error");
            let detail = support::text(&test["detail"]);
            assert!(plain.stdout.contains(&detail), "{detail}\n{}", plain.stdout);
        }
    }
}

#[test]
fn a_place_that_the_user_chose_wins() {
    let suite = Suite::with(&[("test_it.py", "def test_it(): pass\n")]);
    let mut run = suite.run_command(&["-j", "1"], &pytest(&[]));
    run.env_remove("PYTHONDONTWRITEBYTECODE");
    run.env("PYTHONPYCACHEPREFIX", suite.root.join("theirs"));
    suite.start(run).end().exits(0);
    assert_eq!(kept(&suite).trim(), "");
    assert!(suite.root.join("theirs").is_dir());
}
