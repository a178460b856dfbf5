#!/usr/bin/env python3
"""How fast Evenkeel runs pytest suites, beside plain pytest and pytest-xdist, and whether that is fast enough.

    python3 benches/pytest/speed.py [--evenkeel BIN] [--quick] [--only NAME] [--repeat 5] [--patience 0] [--json FILE]

Each suite is run by plain pytest, by xdist with two workers and its modes load, loadfile and worksteal, and by Evenkeel on two
slots: a first run in a new state directory, and a second one that finds the first one's history. A second run on four slots gives
another gap, one on a single slot shows what the adapter costs in CPU time and memory. The contenders take turns, round by round, and the
one that begins changes, so that what else the machine does hits all alike. Before the first round each has run once.

A figure is the median of its rounds; the limit that it is compared with is made of medians of the same rounds. Times are walls, from the start of the
command to its end, unless the line says otherwise. CPU is user and system time of the command and all below it, as the kernel counts it for who waits for
them. On a machine that others use it says more than the wall; "others" is how many cores they had meanwhile. With `--patience` each
run waits for a quiet second, that long at most.

- bound: the least that the work could have taken on the slots, recomputed from the run's events by tests/parity/gap.py.
- start of pytest: one empty test in the suite's environment.
- overhead per test: CPU of the Python process of a single slot minus that of plain pytest, each counted by its parent, over the number of
  tests. Start, collection and end of the process are in both.
- memory: the largest resident set of these two processes.

`--quick` takes small parts of the suites and one round: it shows that everything works, and its figures are not judged.

Exit status: 0 if all targets hold, 1 if one does not, 2 if something could not be measured.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import suites
from contenders import DISTS, Broken, Contest

REPOSITORY = Path(__file__).resolve().parent.parent.parent


class Target(NamedTuple):
    what: str
    limit: float
    figure: float
    unit: str

    @property
    def ratio(self):
        return self.figure / self.limit

    @property
    def holds(self):
        return self.figure <= self.limit


def median(samples, of):
    return statistics.median(of(sample) for sample in samples)


def wall(sample):
    return sample.wall


def targets(contest):
    """What a suite's runs must come to."""
    results = contest.results
    if contest.suite.kind == "last":
        return [gap_target(results, "second, 4 slots", "makespan ≤ 1.05 × bound, second run, 4 slots")]
    best, dist = min((median(results[f"xdist {dist}"], wall), dist) for dist in DISTS)
    plain = median(results["plain"], wall)
    second, first = median(results["second"], wall), median(results["first"], wall)
    found = []
    if contest.suite.kind == "long":
        bound = median(results["second"], lambda sample: sample.gap.bound)
        start = median(results["start"], wall)
        limit = min(best, max(0.95 * best, 1.02 * bound + start))
        which = "0.95 × best xdist" if limit <= 0.95 * best else "best xdist" if limit == best else "1.02 × bound + start of pytest"
        found.append(Target(f"wall ≤ {which} ({dist} {best:.2f}, bound {bound:.2f}, start {start:.2f})", limit, second, "s"))
    else:
        found.append(Target(f"wall ≤ 0.5 × best xdist ({dist} {best:.2f})", 0.5 * best, second, "s"))
        found.append(Target(f"wall ≤ 0.7 × plain ({plain:.2f})", 0.7 * plain, second, "s"))
    found.append(Target(f"wall without history ≤ 1.05 × best xdist ({dist} {best:.2f})", 1.05 * best, first, "s"))
    found.append(gap_target(results, "second", "gap ≤ 1.05, second run, 2 slots"))
    found.append(gap_target(results, "second, 4 slots", "gap ≤ 1.05, second run, 4 slots"))
    slot = results["one slot"]
    memory = median(results["plain"], lambda sample: sample.rss_kb) / 1024
    found.append(Target(f"memory of a slot ≤ 1.1 × plain ({memory:.1f})", 1.1 * memory, median(slot, lambda sample: sample.python_rss_kb) / 1024, "MiB"))
    if contest.suite.kind == "empty":
        more = median(slot, lambda sample: sample.python_cpu) - median(results["plain"], lambda sample: sample.cpu)
        found.append(Target("overhead per test ≤ 60 µs of CPU, one slot", 60.0, more / slot[0].tests * 1e6, "µs"))
    return found


def gap_target(results, series, what):
    samples = results[series]
    bound, makespan = (median(samples, lambda sample: getattr(sample.gap, part)) for part in ("bound", "makespan"))
    longest = [sample.gap.longest for sample in samples if sample.gap.by_longest]
    decided = f", decided by {longest[0]}" if len(longest) * 2 > len(samples) else ""
    return Target(f"{what} ({makespan:.2f} of {bound:.2f} s{decided})", 1.05, median(samples, lambda sample: sample.gap.gap), "×")


def show(contest, found, judged):
    tests = next(iter(contest.results.values()))[-1].tests if "plain" not in contest.results else contest.results["plain"][0].tests
    rounds = max(len(samples) for samples in contest.results.values())
    loads = [sample.load for samples in contest.results.values() for sample in samples]
    print(f"\n{contest.suite.name}: {contest.suite.what}; {tests:,} tests, {rounds} rounds, load {min(loads):.1f} to {max(loads):.1f}")
    print(f"  {'':<44} {'wall s':>8} {'fastest':>8} {'slowest':>8} {'CPU s':>8} {'Python':>8} {'others':>8} {'gap':>7}")
    for name, samples in contest.results.items():
        walls = [sample.wall for sample in samples]
        python = f"{median(samples, lambda sample: sample.python_cpu):8.2f}" if samples[0].python_cpu else f"{'':>8}"
        gap = f"{median(samples, lambda sample: sample.gap.gap):7.3f}" if samples[0].gap else ""
        cpu, others = (median(samples, lambda sample: getattr(sample, part)) for part in ("cpu", "others"))
        print(f"  {label(name):<44} {statistics.median(walls):8.2f} {min(walls):8.2f} {max(walls):8.2f} {cpu:8.2f} {python} {others:8.2f} {gap}".rstrip())
    width = max(90, *(len(target.what) for target in found))
    print(f"  {'target':<{width}} {'at most':>9} {'figure':>9}      {'ratio':>6}")
    for target in found:
        verdict = ("holds" if target.holds else "FAILS") if judged else "not judged"
        print(f"  {target.what:<{width}} {target.limit:9.3f} {target.figure:9.3f} {target.unit:<4} {target.ratio:6.3f}  {verdict}")
    sys.stdout.flush()


LABELS = {
    "start": "one start of pytest",
    "plain": "pytest",
    "first": "Evenkeel, 2 slots, without history",
    "second": "Evenkeel, 2 slots, second run",
    "first, 4 slots": "Evenkeel, 4 slots, without history",
    "second, 4 slots": "Evenkeel, 4 slots, second run",
    "one slot": "Evenkeel, 1 slot, second run",
}


def label(name):
    return LABELS.get(name) or f"pytest -n 2 --dist {name.split()[-1]}"


def machine(evenkeel):
    version = subprocess.run([evenkeel, "--version"], stdout=subprocess.PIPE, check=True).stdout.decode().strip()
    return {"evenkeel": version, "cores": len(os.sched_getaffinity(0)), "kernel": platform.release(), "load": os.getloadavg()}


def as_json(contest, found):
    series = {
        name: [dict(sample._asdict(), gap=sample.gap and sample.gap._asdict()) for sample in samples]
        for name, samples in contest.results.items()
    }
    told = [dict(target._asdict(), ratio=target.ratio, holds=target.holds) for target in found]
    return {"name": contest.suite.name, "what": contest.suite.what, "series": series, "targets": told}


def measure(options, name, workshop, evenkeel, scratch):
    suite = workshop.make(name)
    contest = Contest(suite, workshop.start(suite), evenkeel, scratch, options.patience)
    suites.say(f"{name}: each once, not measured")
    contest.warm()
    for number in range(options.repeat):
        suites.say(f"{name}: round {number + 1} of {options.repeat}")
        contest.round(number, rare=number == 0)
    contest.agree()
    return contest


def arguments():
    parser = argparse.ArgumentParser(description="How fast Evenkeel runs pytest suites, and whether that is fast enough.")
    parser.add_argument("--evenkeel", type=Path, default=REPOSITORY / "target/release/evenkeel", metavar="BIN")
    parser.add_argument("--python", default=sys.executable, help="the Python that suites run on")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "target/bench-pytest", metavar="DIR", help="where suites are kept")
    parser.add_argument("--only", action="append", choices=suites.NAMES, help="this suite; may be repeated")
    parser.add_argument("--repeat", type=int, default=None, metavar="N", help="rounds [default: 5, with --quick 1]")
    parser.add_argument("--quick", action="store_true", help="small parts of the suites, nothing is judged")
    parser.add_argument("--patience", type=float, default=0, metavar="SECONDS", help="wait that long for a quiet machine, before each run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples and targets here")
    options = parser.parse_args()
    options.evenkeel = options.evenkeel.resolve()
    if not options.evenkeel.exists():
        parser.error(f"there is no {options.evenkeel}: build it by `cargo build --release`, or name another by --evenkeel")
    options.repeat = options.repeat or (1 if options.quick else 5)
    return options


def main():
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="speed-") as scratch:
        # A copy, so that a build meanwhile does not change what is measured.
        evenkeel = shutil.copy2(options.evenkeel, scratch)
        return compare(options, evenkeel, Path(scratch))


def compare(options, evenkeel, scratch):
    workshop = suites.Workshop(options.work, options.python, options.quick)
    told = {"machine": machine(evenkeel), "quick": options.quick, "suites": []}
    about = told["machine"]
    print(f"{about['evenkeel']}, {about['cores']} cores, load {about['load'][0]:.1f}, medians of {options.repeat}", flush=True)
    failed = broken = 0
    for name in options.only or suites.NAMES:
        place = scratch / name
        place.mkdir()
        try:
            contest = measure(options, name, workshop, evenkeel, place)
        except (Broken, subprocess.CalledProcessError) as error:
            print(f"\n{name}: could not be measured: {error}", flush=True)
            broken += 1
            continue
        found = targets(contest)
        show(contest, found, judged=not options.quick)
        told["suites"].append(as_json(contest, found))
        failed += sum(not target.holds for target in found)
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    if broken:
        return 2
    if options.quick:
        print("\nquick: nothing was judged")
        return 0
    print(f"\n{failed} targets failed" if failed else "\nall targets hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
