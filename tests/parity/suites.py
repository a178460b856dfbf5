"""Real suites, which nobody wrote for this: fetches them, makes an environment for each version of pytest, and has compare.py
compare what Evenkeel's slots report with what plain pytest reports.

    suites.py --evenkeel target/release/evenkeel --work DIRECTORY [--pytest 7,8,9] [--slots 1,2,5] [-k NAME …] [--list]

Sources and environments stay in the work directory and are used again. Prints a line per suite and version of pytest, then
`N passed, N failed`. The comparison's own words are in DIRECTORY/NAME-VERSION.txt.
"""

import argparse
import glob
import os
import re
import subprocess
import sys
import tarfile
import time
from typing import NamedTuple, Tuple

HERE = os.path.dirname(os.path.abspath(__file__))
PYTEST = {7: "pytest==7.4.4", 8: "pytest==8.4.2", 9: "pytest==9.*"}


class Suite(NamedTuple):
    name: str  # of the package
    what: str  # as pip knows it
    arguments: str  # of pytest, in the directory of the sources
    needs: Tuple[str, ...] = ()  # packages of the tests
    source: bool = True  # whether the tests are in its source distribution, else in the package itself
    install: bool = True  # whether what is tested is to be installed from the sources
    pytest: Tuple[int, ...] = (7, 8, 9)
    kind: str = ""


SUITES = (
    Suite("more-itertools", "more-itertools==11.*", "tests", kind="unittest, subtests, long files"),
    Suite("attrs", "attrs==26.*", "tests --ignore=tests/test_mypy.yml", ("cloudpickle", "hypothesis"), kind="hypothesis, fixtures"),
    Suite(
        "networkx",
        "networkx==3.6.1",
        "--pyargs networkx.algorithms.flow networkx.algorithms.isomorphism networkx.algorithms.connectivity networkx.algorithms.centrality",
        ("numpy", "scipy"),
        source=False,
        kind="--pyargs, xunit functions",
    ),
    Suite("pluggy", "pluggy==1.6.0", "testing", kind="conftest, parameters", pytest=(8, 9)),
    Suite("packaging", "packaging==25.0", "tests", ("pretend",), kind="60,000 parametrised tests"),
    Suite("click", "click==8.3.1", "tests --continue-on-collection-errors", kind="fixtures, conftest"),  # one file cannot be loaded by pytest 9
    Suite("jinja2", "jinja2==3.1.6", "tests", ("trio",), kind="fixtures, asynchronous tests"),
    Suite(
        "werkzeug",
        "werkzeug==3.1.4",
        "tests -k not(reload)",  # without the one that watches directories and never ends where there is no inotify
        ("ephemeral-port-reserve", "cryptography", "pytest-timeout", "watchdog"),
        kind="servers in processes, pytest-timeout",
    ),
    Suite("itsdangerous", "itsdangerous==2.2.0", "tests", ("freezegun",), kind="class hierarchies, freezegun"),
    Suite("cachetools", "cachetools==6.2.4", "tests", kind="unittest mix-ins"),
    Suite("toolz", "toolz==1.1.0", "--doctest-modules toolz", kind="doctests of modules"),
    Suite("boltons", "boltons==25.0.0", "--doctest-modules boltons tests", kind="doctests, modules", pytest=(7, 8)),
    Suite("idna", "idna==3.11", "tests", kind="unittest"),
    Suite("pytest-mock", "pytest-mock==3.15.1", "tests", ("pytest-asyncio", "mock"), kind="pytester, a plugin tests itself"),
    Suite(
        "anyio",
        "anyio==4.12.0",
        "tests",
        ("trio", "psutil", "trustme", "hypothesis", "blockbuster", "pytest-mock", "truststore", "exceptiongroup"),
        kind="parametrised module fixtures, a plugin of its own",
        pytest=(8, 9),
    ),
    Suite("tomlkit", "tomlkit==0.13.3", "tests", ("pyyaml",), kind="generated parameters"),
    Suite("pyparsing", "pyparsing==3.2.5", "tests", ("railroad-diagrams", "jinja2", "matplotlib"), kind="unittest, set-up of classes"),
)


def call(command, **more):
    """Runs a command to its end; if it fails, says what it said."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **more)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-2000:]}")
    return done.stdout


def sources(suite, work):
    """The directory of the unpacked source distribution."""
    place = os.path.join(work, "sources", suite.name)
    if not glob.glob(place + "/*/"):
        os.makedirs(place, exist_ok=True)
        call([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", place, suite.what])
        with tarfile.open(glob.glob(place + "/*.tar.gz")[0]) as archive:
            archive.extractall(place)
    return glob.glob(place + "/*/")[0]


def environment(suite, version, work):
    """The Python of an environment with this pytest, the package and what its tests need."""
    place = os.path.join(work, "environments", f"{suite.name}-{version}")
    python = os.path.join(place, "bin", "python")
    if not os.path.exists(place + "/complete"):
        call([sys.executable, "-m", "venv", "--without-pip", "--clear", place])
        package = sources(suite, work) if suite.source else suite.what
        wanted = [PYTEST[version], package, *suite.needs]
        call([sys.executable, "-m", "pip", "--python", python, "install", "-q", "--disable-pip-version-check", *wanted])
        open(place + "/complete", "w").close()
    return python


def compare(suite, version, options):
    """Whether all reports are equal, and a line on it."""
    python = environment(suite, version, options.work)
    directory = sources(suite, options.work) if suite.source else options.work
    command = [sys.executable, os.path.join(HERE, "compare.py"), "--evenkeel", options.evenkeel, "--python", python, "--dir", directory]
    command += ["--slots", options.slots, "--plain-runs", "1", "--attempts", str(options.attempts), "--no-gap", "--", *suite.arguments.split()]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=kept)
    with open(os.path.join(options.work, f"{suite.name}-{version}.txt"), "w") as file:
        file.write(done.stdout)
    plain = re.search(r"plain run 1: exit (\d+), (\d+) reports, ([\d.]+) s", done.stdout)
    runs = re.findall(r"(\d+) slots, run (\d): exit (\d+), (\d+) reports, ([\d.]+) s: (\w+)", done.stdout)
    unstable = re.search(r"^(\d+) tests are not stable", done.stdout, re.M)
    text = f"{plain[2]} reports, {plain[3]} s" if plain else "no plain run"
    text += "".join(f"; {slots} slots {seconds} s{'' if same == 'same' else ' ' + same}" for slots, _, _, _, seconds, same in runs)
    text += f" ({unstable[1]} unstable tests left out)" if unstable else ""
    enough = bool(plain) and int(plain[2]) > 0 and len(runs) == len(options.slots.split(",")) * options.attempts
    return done.returncode == 0 and enough, text


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--evenkeel", required=True, type=os.path.abspath)
    parser.add_argument("--work", required=True, type=os.path.abspath)
    parser.add_argument("--pytest", default="7,8,9")
    parser.add_argument("--slots", default="1,2,5")
    parser.add_argument("--attempts", type=int, default=2)
    parser.add_argument("-k", nargs="+", dest="names", default=None)
    options = parser.parse_args()
    passed = failed = 0
    for suite in SUITES:
        if options.names and suite.name not in options.names:
            continue
        for version in map(int, options.pytest.split(",")):
            if version not in suite.pytest:
                continue
            started = time.monotonic()
            try:
                good, text = compare(suite, version, options)
            except (RuntimeError, OSError) as error:
                good, text = False, f"could not be tried: {error}"
            passed, failed = passed + good, failed + (not good)
            print(f"{'ok  ' if good else 'FAIL'} {suite.name}, pytest {version}: {text} [{time.monotonic() - started:.0f} s]", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
