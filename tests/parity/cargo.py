"""Compares what Evenkeel reports of a Cargo suite with what `cargo test` says, as multisets of (name, outcome).

    cargo.py --evenkeel target/release/evenkeel [--slots 1,2,5] [--attempts 2] [--no-isolate] DIRECTORY [-- ARGS…]

ARGS are those of `cargo test`. Both sides run every binary to its end. Tests whose outcomes differ between two plain runs, one of
them with a single thread, are left out on both sides and counted. The later runs at each number of slots also say how far above the bound
they are. Prints a line per comparison and closes with `N passed, N failed`.
"""

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import tempfile
import time

LINE = re.compile(r"^test (.+?)(?: - should panic| - compile fail| - compile)? +?\.\.\. (ok|FAILED|ignored)(?:,.*)?$")
OUTCOMES = {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}


def plain(directory, options, harness):
    began = time.monotonic()
    command = ["cargo", "test", "--no-fail-fast", *options, "--", *harness]
    done = subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    found = collections.Counter()
    for line in done.stdout.splitlines():
        match = LINE.match(line)
        if match:
            found[(match[1], OUTCOMES[match[2]])] += 1
    return found, done.returncode, time.monotonic() - began


def ours(evenkeel, directory, state, slots, isolate, options, harness):
    began = time.monotonic()
    report = os.path.join(state, "report.json")
    command = [evenkeel, "run", "--quiet", "--state", state, "--slots", str(slots), "--json", report]
    command += ["--isolate"] * isolate + ["--", "cargo", "test", *options] + (["--", *harness] if harness else [])
    done = subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    try:
        with open(report, encoding="utf-8") as file:
            report = json.load(file)
    except OSError:
        sys.exit(f"no report came; it said:\n{done.stdout}")
    # A target without a harness is one test of ours and none of cargo's.
    found = collections.Counter((test["name"], test["outcome"]) for test in report["tests"] if test["name"] != test["id"])
    return found, done.returncode, time.monotonic() - began, report


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--evenkeel", required=True)
    parser.add_argument("--slots", default="1,2,5")
    parser.add_argument("--attempts", type=int, default=2)
    parser.add_argument("--no-isolate", action="store_true")
    parser.add_argument("directory")
    own, _, theirs = "\0".join(sys.argv[1:]).partition("\0--\0")
    args = parser.parse_args(own.split("\0"))
    evenkeel = os.path.abspath(args.evenkeel)
    options, _, harness = theirs.partition("\0--\0")
    options, harness = (words.split("\0") if words else [] for words in (options, harness))
    subprocess.run(["cargo", "test", "--no-run", *options], cwd=args.directory, check=True)

    first, status, took = plain(args.directory, options, harness)
    second, _, alone = plain(args.directory, options, [*harness, "--test-threads=1"])
    unstable = {name for name, _ in (first - second) + (second - first)}
    expected = collections.Counter({key: count for key, count in first.items() if key[0] not in unstable})
    print(f"cargo test: {sum(first.values())} tests, exit {status}, {took:.2f} s, one by one {alone:.2f} s, {len(unstable)} unstable {sorted(unstable)[:5]}", flush=True)

    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="cargo-parity-") as state:
        for slots in map(int, args.slots.split(",")):
            for isolate in [False] if args.no_isolate else [False, True]:
                for attempt in range(args.attempts):
                    place = os.path.join(state, f"{slots}-{isolate}")
                    os.makedirs(place, exist_ok=True)
                    found, code, took, report = ours(evenkeel, args.directory, place, slots, isolate, options, harness)
                    found = collections.Counter({key: count for key, count in found.items() if key[0] not in unstable})
                    same = found == expected and (unstable or (code == 0) == (status == 0))
                    passed, failed = passed + same, failed + (not same)
                    schedule = report["schedule"]
                    print(
                        f"{'same' if same else 'DIFFERENT'}: {slots} slots{', isolated' * isolate}, run {attempt + 1}: {sum(found.values())} tests, exit {code},"
                        f" {took:.2f} s, makespan {schedule['makespan_s']:.2f} s, gap {schedule['gap']:.3f}",
                        flush=True,
                    )
                    if not same:
                        for title, more in (("only cargo", expected - found), ("only evenkeel", found - expected)):
                            for (name, outcome), times in sorted(more.items())[:10]:
                                print(f"  {title}: {name} {outcome} ×{times}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
