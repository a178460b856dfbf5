"""Who runs a suite, and what each run took."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple, Optional

import suites

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tests" / "parity"))
from gap import Gap, check  # noqa: E402

DISTS = ("load", "loadfile", "worksteal")
MEASURED = [sys.executable, "-I", "-S", str(HERE / "measured.py")]
COUNTED = re.compile(r"\b(\d+) (?:passed|failed|skipped|xfailed|xpassed|errors?)\b")


class Broken(Exception):
    """A run that did not do what was measured."""


class Sample(NamedTuple):
    wall: float
    cpu: float
    rss_kb: int
    exit: int
    others: float  # cores that everything else on the machine used meanwhile
    load: float  # the machine's load average over a minute, at the end
    tests: int
    gap: Optional[Gap] = None  # recomputed from Evenkeel's events
    python_cpu: Optional[float] = None  # of the slot's Python alone
    python_rss_kb: Optional[int] = None


class Contest:
    """The runs of one suite. `results` holds the samples of each series, by name."""

    def __init__(self, suite, start, evenkeel, scratch, patience):
        self.patience = patience
        self.suite = suite
        self.start = start
        self.evenkeel = str(evenkeel)
        self.scratch = Path(scratch)
        self.results = {}

    def contenders(self, rare):
        """What runs in a round, as functions. `rare`: also what needs no repetition."""
        kind = self.suite.kind
        if kind == "last":
            return [lambda: self.ours(pairs=(("first, 4 slots", 4), ("second, 4 slots", 4)))]
        result = [self.one_start, lambda: self.peer("plain")]
        result += [lambda dist=dist: self.peer(f"xdist {dist}", "-n", "2", "--dist", dist) for dist in DISTS]
        pairs = [("first", 2), ("second", 2), ("second, 4 slots", 4)]
        if rare or kind == "empty":
            pairs.append(("one slot", 1))
        result.append(lambda: self.ours(pairs))
        return result

    def warm(self):
        """Each once, unmeasured, so that all find bytecode and pages where they will look for them."""
        kept, self.results = self.results, {}
        if self.suite.kind != "last":
            self.one_start()
            self.peer("plain")
            self.peer("xdist load", "-n", "2")
        self.ours([("first", 2)])
        self.results = kept

    def round(self, number, rare):
        contenders = self.contenders(rare)
        turn = number % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            contender()

    def add(self, name, sample):
        self.results.setdefault(name, []).append(sample)
        suites.say(f"  {self.suite.name} {name}: {sample.wall:.2f} s, CPU {sample.cpu:.2f} s, others {sample.others:.1f} cores")

    def one_start(self):
        self.add("start", self.pytest(self.start))

    def peer(self, name, *more):
        self.add(name, self.pytest(self.suite, *more))

    def pytest(self, suite, *more):
        out, figures = self.measure([str(suite.python), "-m", "pytest", *suite.arguments, *more], suite.directory)
        last = out.rstrip().rsplit("\n", 1)[-1]
        tests = sum(map(int, COUNTED.findall(last)))
        if not tests:
            raise Broken(f"pytest ran no test in {suite.directory}:\n{out[-2000:]}")
        return self.sample(figures, tests)

    def ours(self, pairs):
        """Runs of Evenkeel: a first one in a state directory that is new, and further ones that each find only its history."""
        fresh = self.scratch / "state"
        (first, slots), *further = pairs
        shutil.rmtree(fresh, ignore_errors=True)
        self.add(first, self.run(slots, fresh))
        for name, slots in further:
            state = self.scratch / "state-copy"
            shutil.rmtree(state, ignore_errors=True)
            shutil.copytree(fresh, state, symlinks=True)
            self.add(name, self.run(slots, state))

    def run(self, slots, state):
        events, inner = self.scratch / "events", self.scratch / "slot"
        inner.unlink(missing_ok=True)
        command = [self.evenkeel, "run", "--slots", str(slots), "--state", str(state), "--events", str(events), "--"]
        if slots == 1:  # the wrapper in the slot sees its Python alone
            command += [*MEASURED, str(inner)]
        out, figures = self.measure([*command, str(self.suite.python), "-m", "pytest", *self.suite.arguments], self.suite.directory)
        with open(events, encoding="utf-8") as lines:
            last = [json.loads(line) for line in lines]
        tests = sum(event["event"] == "settled" or event["event"] == "test_finished" and event["final"] for event in last)
        if not tests or last[-1].get("verdict") not in ("green", "red"):
            raise Broken(f"evenkeel ran {tests} tests in {self.suite.directory}:\n{out[-2000:]}")
        more = {"gap": check(events)}
        if slots == 1:
            (slot,) = read_lines(inner)
            more.update(python_cpu=slot["cpu"], python_rss_kb=slot["rss_kb"])
        return self.sample(figures, tests, **more)

    def measure(self, command, directory):
        figures = self.scratch / "figures"
        figures.unlink(missing_ok=True)
        wait_for_quiet(self.patience)
        before = busy()
        done = subprocess.run(
            [*MEASURED, str(figures), *command],
            cwd=directory,
            env=suites.clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        out = done.stdout.decode(errors="replace")
        if not figures.exists():
            raise Broken(f"{' '.join(command)} could not be started: {out}")
        (line,) = read_lines(figures)
        line["others"] = max(0.0, (busy() - before - line["cpu"]) / line["wall"])
        return out, line

    @staticmethod
    def sample(figures, tests, **more):
        return Sample(load=os.getloadavg()[0], tests=tests, **figures, **more)

    def agree(self):
        """All must have run the same number of tests to the same end, or their times cannot be compared."""
        ends = {name: {(sample.tests, sample.exit) for sample in samples} for name, samples in self.results.items() if name != "start"}
        if len(set.union(*ends.values())) > 1:
            told = "; ".join(f"{name}: {', '.join(f'{tests} tests, exit {code}' for tests, code in sorted(end))}" for name, end in ends.items())
            raise Broken(f"{self.suite.name}: the runs differ in what they ran: {told}")


def busy():
    """CPU seconds that all cores have worked so far, for whomever."""
    with open("/proc/stat", encoding="ascii") as lines:
        user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, lines.readline().split()[1:])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def wait_for_quiet(patience):
    """Waits until nobody has used a fifth of a core for a second, for `patience` seconds at most."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        before = busy()
        time.sleep(1)
        if busy() - before < 0.2:
            break


def read_lines(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
