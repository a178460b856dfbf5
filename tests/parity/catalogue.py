"""Runs each case of tests/parity/catalogue by plain pytest and by Evenkeel, and compares everything that shows.

    catalogue.py --evenkeel target/release/evenkeel [--python PYTHON …] [--slots 1,2] [--jobs 2] [-k PART …] [--quick] [--verbose] [--self-test]

catalogue_cases.py says how a case is written, catalogue_compare.py what is compared. Prints a line per case and Python, then
`N passed, N failed`. --quick starts each interpreter once and forks it (warm.py), keeps the state directory, with what was compiled, from
run to run, and runs what needs a run of its own with one of the numbers of slots only, in turn. With --self-test it plants differences instead, and fails where one of them goes unnoticed.
"""

import argparse
import concurrent.futures
import copy
import os
import shutil
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import catalogue_cases  # noqa: E402
import catalogue_compare  # noqa: E402
from catalogue_compare import Comparison, Seen, exit_status  # noqa: E402

PATIENCE = 120  # seconds for a command
SHOWN, SHOWN_WIDTH = 20, 240  # lines and characters of what differs in a case
STRANGE = ("PYTEST", "PYTHON", "EVENKEEL", "COV_", "TOX_")  # variables that would make this machine's runs other than the next one's
STRANGE += ("CI", "BUILD_NUMBER", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "COLUMNS", "LINES")


def surroundings():
    """The environment of every command."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(STRANGE)}
    return dict(kept, PYTHONHASHSEED="0", PYTHONPATH=HERE, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", COLUMNS="120")


class Python:
    warm = None  # a process that forks for each command

    def __init__(self, path):
        self.path = shutil.which(path) or path
        tell = "import pytest, sys; print(pytest.__version__, '%d.%d.%d' % sys.version_info[:3])"
        self.pytest, self.language = self.call(tell).split()
        self.version = int(self.pytest.split(".")[0])
        self.modules = {}

    def call(self, script):
        return subprocess.run([self.path, "-c", script], stdout=subprocess.PIPE, check=True, text=True).stdout

    def has(self, module):
        if module not in self.modules:
            self.modules[module] = bool(self.call(f"import importlib.util as i; print(i.find_spec({module!r}) or '')").strip())
        return self.modules[module]

    def keep_warm(self, directory):
        os.mkdir(directory)
        command = [self.path, os.path.join(HERE, "warm.py"), directory]
        self.warm = subprocess.Popen(command, env=surroundings(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.warm.stdout.readline()

    def cool(self):
        if self.warm:
            self.warm.communicate()

    def command(self, case):
        own = any(name.startswith("PYTHON") and name != "PYTHONPATH" for name in case.environment)
        return [os.path.join(self.warm.args[2], "python") if self.warm and not own else self.path, "-m", "pytest"]

    def takes(self, case):
        return (case.versions is None or self.version in case.versions) and all(map(self.has, case.plugins))


class Bench:
    """Where the runs take place."""

    def __init__(self, scratch, evenkeel, slots, quick):
        self.scratch = scratch
        self.evenkeel = evenkeel
        self.slots = slots
        self.quick = quick

    def run(self, python, cases, arguments, case, slots, plant=""):
        """Cases beside each other, or one alone, on this many slots; none: by plain pytest."""
        room = tempfile.mkdtemp(dir=self.scratch)
        root, records, temporary = (os.path.join(room, name) for name in ("suite", "records", "tmp"))
        for directory in (root, records, temporary):
            os.mkdir(directory)
        for one in cases:
            one.write(root if one.alone else os.path.join(root, one.directory))
        environment = dict(surroundings(), CATALOGUE_RECORDS=records, TMPDIR=temporary)
        environment["PYTHONPATH"] += os.pathsep + plant if plant else ""
        environment.update((name, value.replace("$PYTHONPATH", HERE)) for name, value in case.environment.items())
        junit, report = os.path.join(room, "junit.xml"), os.path.join(room, "report.json")
        command = [*python.command(case), "-p", "catalogue_recorder"]
        if slots is None:
            command += ["--junitxml", junit]
        else:
            state = os.path.join(self.scratch, f"state-{threading.get_ident()}") if self.quick else os.path.join(room, "state")
            ours = [self.evenkeel, "run", "-j", str(slots), "--state", state, "--junit", junit, "--json", report, "--color", "never", *case.options, "--"]
            command = ours + command + (["-p", "planted"] if plant else [])
        done = subprocess.run(
            command + arguments,
            cwd=os.path.join(root, case.cwd),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
        )
        seen = Seen(room, done.returncode, done.stdout.decode(errors="replace"), records, junit, report)
        shutil.rmtree(room, ignore_errors=True)
        return seen

    def alone(self, python, case, number):
        """A case and what differs in it."""
        plain = self.run(python, [case], case.arguments, case, None)
        differences, printed = [], [plain.printed]
        numbers = [self.slots[number % len(self.slots)]] if self.quick else self.slots
        for slots in [case.slots] if case.slots else numbers:
            ours = self.run(python, [case], case.arguments, case, slots)
            printed.append(ours.printed)
            found = [*exit_status(case, plain, ours), *Comparison(case, plain, ours, slots).differences()]
            differences += [f"{slots} slots: {line}" for line in found]
        return [(case, differences, printed)]

    def together(self, python, cases):
        """Cases that share a run; their exit status counts as one more."""
        whole = catalogue_cases.Case("shared run", "exit status")
        arguments = ["--continue-on-collection-errors"]
        plain = self.run(python, cases, arguments, whole, None)
        differences, printed = {case: [] for case in [whole, *cases]}, [plain.printed]
        if plain.status not in (0, 1):
            differences[whole].append(f"plain pytest ends with {plain.status}, and hardly anything is compared")
        for slots in self.slots:
            ours = self.run(python, cases, arguments, whole, slots)
            printed.append(ours.printed)
            differences[whole] += [f"{slots} slots: {line}" for line in exit_status(whole, plain, ours)]
            for case in cases:
                one = Comparison(case, plain.part(case.directory), ours.part(case.directory), slots)
                found = one.differences(but=("printed",))  # only the first failures of a run are printed in full
                differences[case] += [f"{slots} slots: {line}" for line in found]
            if slots == 1:
                nowhere = catalogue_cases.Case("shared run", "order")
                differences[whole] += [f"{slots} slots: {line}" for line in Comparison(nowhere, plain, ours, 1).order()]
        return [(case, found, printed) for case, found in differences.items()]


PLANTED = {
    "reports": "def pytest_runtest_protocol(item):\n    return True if item.name == 'test_passes' else None\n",
    "verdicts": (
        "import pytest\n@pytest.hookimpl(hookwrapper=True)\ndef pytest_runtest_makereport(item):\n    outcome = yield\n"
        "    outcome.get_result().outcome = 'passed'\n"
    ),
    "log": (
        "from catalogue_recorder import log\ndef pytest_fixture_post_finalizer(fixturedef):\n"
        "    if fixturedef.argname == 'resource':\n        log('resource down')\n"
    ),
    "warnings": "import warnings\ndef pytest_runtest_setup():\n    warnings.simplefilter('ignore')\n",
    "order": "def pytest_collection_modifyitems(items):\n    items.reverse()\n",
}


def tampered(ours):
    """Copies of what Evenkeel left, each with one thing wrong, by the check that must see it."""

    def copied(change):
        other = copy.deepcopy(ours)
        change(other)
        return other

    def report(seen, **fields):
        next(record for record in seen.all("report") if record["text"]).update(fields)

    yield "texts", copied(lambda seen: report(seen, text="E   something else"))
    yield "captured", copied(lambda seen: report(seen, sections=[]))
    yield "properties", copied(lambda seen: report(seen, properties=[["'a'", "'b'"]]))
    yield "reports", copied(lambda seen: report(seen, wasxfail="why"))
    yield "collection", copied(lambda seen: seen.processes[0].append({"kind": "collect", "nodeid": "a", "outcome": "failed", "text": ""}))
    yield "deselected", copied(lambda seen: seen.processes[0].append({"kind": "deselected", "nodeid": "a"}))
    yield "verdicts", copied(lambda seen: seen.report["tests"].pop())
    yield "details", copied(lambda seen: [test.pop("detail", None) for test in seen.report["tests"]])
    yield "outputs", copied(lambda seen: [test.pop("output", None) for test in seen.report["tests"]])
    yield "junit", copied(lambda seen: seen.junit.pop())
    yield "printed", copied(lambda seen: setattr(seen, "printed", ""))
    yield "exit", copied(lambda seen: setattr(seen, "status", 0))


def self_test(bench, python):
    case = catalogue_cases.Case("self-test", "a small suite")
    case.alone = True
    case.files["test_small.py"] = (
        "import pytest, warnings\nfrom catalogue_recorder import log\n\n"
        "@pytest.fixture\ndef resource():\n    log('resource up')\n    yield\n    log('resource down')\n\n"
        "def test_passes(resource): warnings.warn('careful')\ndef test_fails():\n    print('said')\n    assert 1 == 2\n"
    )
    plain = bench.run(python, [case], [], case, None)
    trials = [("", bench.run(python, [case], [], case, 1))]
    trials += tampered(trials[0][1])
    for check, plugin in PLANTED.items():
        plant = tempfile.mkdtemp(dir=bench.scratch)
        with open(os.path.join(plant, "planted.py"), "w") as file:
            file.write(plugin)
        trials.append((check, bench.run(python, [case], [], case, 1, plant)))
    failed = 0
    for check, ours in trials:
        found = [*exit_status(case, plain, ours), *Comparison(case, plain, ours, 1).differences()]
        good = any(line.startswith(check + ":") for line in found) if check else not found
        failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {'planted for ' + check if check else 'nothing planted'}")
        if not good:
            print("\n".join("     " + line for line in found))
    return len(trials) - failed, failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--evenkeel", required=True)
    parser.add_argument("--python", nargs="+", default=[sys.executable])
    parser.add_argument("--slots", default="1,2")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("-k", nargs="+", dest="parts", default=[""], help="cases with one of these in `area: name`")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="show all that differs, and what the runs printed")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    slots = [int(word) for word in options.slots.split(",")]
    chosen = [case for case in catalogue_cases.read_all() if any(part in str(case) for part in options.parts)]
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="ek-") as scratch, concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        bench = Bench(scratch, os.path.abspath(options.evenkeel), slots, options.quick)
        for number, python in enumerate(map(Python, options.python)):
            if options.quick:
                python.keep_warm(os.path.join(scratch, f"warm{number}"))
            print(f"# pytest {python.pytest}, Python {python.language}", flush=True)
            if options.self_test:
                good, bad = self_test(bench, python)
                passed, failed = passed + good, failed + bad
                continue
            cases = [case for case in chosen if python.takes(case)]
            shared = [case for case in cases if not case.alone]
            runs = [pool.submit(bench.together, python, shared)] if shared else []
            alone = [case for case in cases if case.alone]
            runs += [pool.submit(bench.alone, python, case, number) for number, case in enumerate(alone)]
            for case, differences, printed in (result for run in runs for result in run.result()):
                passed, failed = passed + (not differences), failed + bool(differences)
                print(f"{'FAIL' if differences else 'ok  '} {case}", flush=True)
                if options.verbose:
                    print("\n".join("     " + line for line in differences))
                    print("\n".join(printed))
                else:
                    print("".join(f"     {line[:SHOWN_WIDTH]}\n" for line in differences[:SHOWN]), end="", flush=True)
            python.cool()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
