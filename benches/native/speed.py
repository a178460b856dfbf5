#!/usr/bin/env python3
"""How fast Evenkeel runs Cargo suites, beside `cargo test` and `cargo nextest run`, and what the command runner adds to a command.

    python3 benches/native/speed.py [--evenkeel BIN] [--nextest BIN] [--only NAME] [--repeat 5] [--work DIR]

Suites are crates of the registry, at fixed versions, and generated ones. Everything is built before it is measured. The contenders take turns, round by round, and
the one that begins changes. A figure is the median of the rounds, a wall from the start of the command to its end, on two slots; Evenkeel finds the history of one
run. Without `cargo nextest` (it is looked for on the PATH) its figures are left out.

The command runner is measured with a command that copies a report: once by itself, and once a unit in a run of many units, one a process, on one slot.

Exit status: 0 if all targets hold, 1 if one does not, 2 if something could not be measured.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent.parent
MANY = 300  # tests of a millisecond
BATCHES = 200


class Suite(NamedTuple):
    name: str
    what: str
    directory: Path
    arguments: tuple
    kind: str  # "one" binary, "several", or "short" tests in one


def run(command, directory, environment=None, ends=(0,)):
    began = time.monotonic()
    done = subprocess.run(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    took = time.monotonic() - began
    if done.returncode not in ends:
        print(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-3000:]}", file=sys.stderr)
        sys.exit(2)
    return took


def crate(work, name, version):
    """A crate's source as the registry has it."""
    place = work / f"{name}-{version}"
    if not place.exists():
        scratch = work / "fetch"
        shutil.rmtree(scratch, ignore_errors=True)
        (scratch / "src").mkdir(parents=True)
        (scratch / "src/lib.rs").touch()
        (scratch / "Cargo.toml").write_text(f'[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n[dependencies]\n{name} = "={version}"\n')
        run(["cargo", "fetch", "--quiet"], scratch)
        told = subprocess.run(["cargo", "metadata", "--format-version=1", "--offline"], cwd=scratch, check=True, capture_output=True, text=True)
        (found,) = [Path(p["manifest_path"]).parent for p in json.loads(told.stdout)["packages"] if p["name"] == name and p["version"] == version]
        shutil.copytree(found, place)
        (place / "Cargo.toml").open("a").write("\n[workspace]\n")
    return place


def generated(work, name, files):
    place = work / name
    for path, text in {"Cargo.toml": f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n[workspace]\n', "src/lib.rs": "", **files}.items():
        file = place / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
    return place


def sleeping(millis):
    return "".join(f"#[test] fn t{number:04}() {{ std::thread::sleep(std::time::Duration::from_millis({time})); }}\n" for number, time in enumerate(millis))


def suites(work):
    short = {"tests/many.rs": sleeping([1] * MANY)}
    several = {f"tests/part{number}.rs": sleeping([10] * 20 + [400]) for number in range(6)}
    return [
        Suite("regex-syntax", "regex-syntax 0.8.8, unit tests", crate(work, "regex-syntax", "0.8.8"), ("--lib",), "one"),
        Suite("many", f"{MANY} tests of a millisecond in one binary", generated(work, "many", short), ("--test", "many"), "short"),
        Suite("memchr", "memchr 2.7.6, unit tests", crate(work, "memchr", "2.7.6"), ("--lib",), "one"),
        Suite("several", "6 binaries, each 20 tests of 10 ms and one of 400 ms", generated(work, "several", several), ("--tests",), "several"),
    ]


def cargo(args, suite, scratch):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("EVENKEEL", "RUST_BACKTRACE"))}
    state = scratch / suite.name
    contenders = {
        "cargo test": ["cargo", "test", "--quiet", *suite.arguments],
        "evenkeel": [args.evenkeel, "run", "--quiet", "--slots", "2", "--state", state, "--", "cargo", "test", *suite.arguments],
    }
    if args.nextest:
        environment["PATH"] = f"{Path(args.nextest).parent}:{environment['PATH']}"
        contenders["cargo nextest run"] = ["cargo", "nextest", "run", "--test-threads", "2", *suite.arguments]
    results = {name: [] for name in contenders}
    for command in contenders.values():  # builds, and leaves a history
        run(command, suite.directory, environment)
    for turn in range(args.repeat):
        names = list(contenders)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            results[name].append(run(contenders[name], suite.directory, environment))
    print(f"\n{suite.name}: {suite.what}; medians of {args.repeat}")
    medians = {name: statistics.median(samples) for name, samples in results.items()}
    for name, samples in results.items():
        print(f"  {name:<20} {medians[name]:8.3f} s  ({min(samples):.3f} to {max(samples):.3f})")
    ours = medians["evenkeel"]
    targets = []
    if "cargo nextest run" in medians:
        limit = 0.3 if suite.kind == "short" else 1.03
        targets.append((f"≤ {limit} × cargo nextest run", ours / medians["cargo nextest run"], limit))
    limit = 1.0 if suite.kind == "several" else 1.1
    targets.append((f"≤ {limit} × cargo test", ours / medians["cargo test"], limit))
    return targets


def command(args, scratch):
    report = scratch / "report.xml"
    report.write_text('<testsuite><testcase name="t" time="0.001"/></testsuite>')
    bare = [run(["cp", report, scratch / "copy.xml"], scratch) for _ in range(BATCHES)]
    (scratch / "units").write_text("".join(f"unit{number}\n" for number in range(BATCHES)))
    state = scratch / "command"
    words = [args.evenkeel, "run", "--quiet", "--slots", "1", "--state", state, "--runner", "command", "--with", "units-file=units", "--with", "together=1"]
    words += ["--with", "environment=UNIT={unit}"]  # `cp` takes no units
    whole = [run([*words, "--", "cp", report, "{junit}"], scratch) for _ in range(args.repeat)]
    each, own = statistics.median(whole) / BATCHES * 1000, statistics.median(bare) * 1000
    print(f"\ncommand: {BATCHES} processes that copy a report; {each:.2f} ms each, {own:.2f} ms by itself")
    return [("≤ 5 ms a process beyond its own time", each - own, 5.0)]


def main():
    parser = argparse.ArgumentParser(description="How fast Evenkeel runs Cargo suites and commands, and whether that is fast enough.")
    parser.add_argument("--evenkeel", default=REPOSITORY / "target/release/evenkeel", type=Path)
    parser.add_argument("--nextest", default=shutil.which("cargo-nextest"), help="cargo-nextest")
    parser.add_argument("--only", action="append", help="this suite; may be repeated")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--work", type=Path, default=REPOSITORY / "target/bench-native", help="where suites are kept")
    args = parser.parse_args()
    args.evenkeel = args.evenkeel.resolve()
    if not args.evenkeel.exists():
        print(f"there is no {args.evenkeel}: cargo build --release", file=sys.stderr)
        sys.exit(2)
    args.work.mkdir(parents=True, exist_ok=True)
    missed = 0
    with tempfile.TemporaryDirectory(prefix="native-speed-") as scratch:
        scratch = Path(scratch)
        measures = [(suite.name, lambda suite=suite: cargo(args, suite, scratch)) for suite in suites(args.work)]
        measures.append(("command", lambda: command(args, scratch)))
        for name, measure in measures:
            if args.only and name not in args.only:
                continue
            for what, figure, limit in measure():
                holds = figure <= limit
                missed += not holds
                print(f"  {what:<40} {figure:8.3f}  {'holds' if holds else 'MISSED'}", flush=True)
    print("\nall targets hold" if not missed else f"\n{missed} targets missed")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
