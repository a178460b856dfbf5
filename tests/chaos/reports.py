"""Reports and events of a run, held against its ledger case by case."""

import json
import xml.etree.ElementTree as etree
from collections import Counter

JUNIT = {"passed": None, "failed": "failure", "error": "error", "lost": "error", "skipped": "skipped", "not_run": "skipped"}


class Unwritten(Exception):
    """A report that cannot be read at all."""


def told(ledger):
    """Suite, id and occurrence of each test with its verdict and attempts, in the order of the ledger."""
    for unit, case, verdict in ledger.verdicts():
        name, occurrence = case.key if case else (unit.name, 0)
        yield (ledger.suites[unit.suite], name, occurrence), verdict or "lost", len(case.attempts) if case else 0


def check_json(ledger, path):
    try:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
    except (OSError, ValueError) as error:
        raise Unwritten(f"{path}: {error}") from error
    wrong = lambda text: ledger.wrong("json", text)
    closed, run = ledger.closed or {}, report["run"]
    for name, ours in (("verdict", closed.get("verdict")), ("exit_code", closed.get("exit_code")), ("id", ledger.opened["run"])):
        if run[name] != ours:
            wrong(f"it says {name} {run[name]!r}, the ledger {ours!r}")
    if report["totals"] != ledger.totals():
        wrong(f"its totals {report['totals']} are not the ledger's {ledger.totals()}")
    seen = Counter((test["suite"], test["id"], test.get("occurrence", 0)) for test in report["tests"])
    for key in (key for key, count in seen.items() if count > 1):
        wrong(f"{key[1]} is there {seen[key]} times")
    listed = {(test["suite"], test["id"], test.get("occurrence", 0)): test for test in report["tests"]}
    for key, verdict, attempts in told(ledger):
        test = listed.pop(key, None)
        if test is None:
            wrong(f"{key[1]} is missing")
        elif (test["outcome"], test["attempts"]) != (verdict, attempts):
            wrong(f"{key[1]} is {test['outcome']} after {test['attempts']} attempts, in the ledger {verdict} after {attempts}")
    for key in listed:
        wrong(f"{key[1]} is not in the ledger")


def junit_names(case):
    """Class and name of a case as JUnit has them: the framework's own, else its id split behind the last `::`."""
    bracket = case.id.find("[")
    before, split, name = case.id[:bracket if bracket >= 0 else None].rpartition("::")
    name = case.id[len(before) + len(split):]
    parts = before.split("::")
    parts[0] = parts[0].removesuffix(".py").replace("/", ".")
    return case.group or ".".join(parts), case.name or name


def check_junit(ledger, path):
    try:
        root = etree.parse(path).getroot()
    except (OSError, etree.ParseError) as error:
        raise Unwritten(f"{path}: {error}") from error
    wrong = lambda text: ledger.wrong("junit", text)
    kind = lambda case: next((name for name in ("failure", "error", "skipped") if case.find(name) is not None), None)
    suites = root.findall("testsuite")
    if len(suites) != len(ledger.units):
        wrong(f"it has {len(suites)} suites for {len(ledger.units)} units")
    for suite, unit in zip(suites, ledger.units):
        own = [(*junit_names(case), case.verdict or "lost") for case in unit.cases]
        if unit.stands_for_itself():
            own.append(("", unit.name, unit.settled[0] if unit.settled else "lost"))
        cases = suite.findall("testcase")
        there = Counter((case.get("classname") or "", case.get("name"), kind(case)) for case in cases)
        due = Counter((group, name, JUNIT[verdict]) for group, name, verdict in own)
        for group, name, outcome in due - there:
            wrong(f"{unit.name}: {name} is missing or not {outcome or 'passed'}")
        for group, name, outcome in there - due:
            wrong(f"{unit.name}: {name} as {outcome or 'passed'} is not in the ledger")
        _counts(suite, cases, kind, wrong, unit.name)
    _counts(root, root.findall("testsuite/testcase"), kind, wrong, "the report")


def _counts(element, cases, kind, wrong, name):
    kinds = Counter(kind(case) for case in cases)
    for attribute, own in (("tests", len(cases)), ("failures", kinds["failure"]), ("errors", kinds["error"]),
                           ("skipped", kinds["skipped"])):
        said = element.get(attribute)
        if said is not None and int(said) != own:
            wrong(f"{name} says {attribute}={said} and has {own}")


def check_events(ledger, path):
    """The events of one watcher that saw the run's end: each test is decided once in them, as in the ledger."""
    try:
        with open(path, encoding="utf-8") as file:
            events = [json.loads(line) for line in file]
    except (OSError, ValueError) as error:
        raise Unwritten(f"{path}: {error}") from error
    wrong = lambda text: ledger.wrong("events", text)
    sequences = [event["seq"] for event in events]
    if sequences != sorted(sequences):
        wrong("they are not in order")
    seen = Counter()
    for event in events:
        if event["event"] == "test_finished" and event["final"]:
            seen[event["suite"], event["id"], event.get("occurrence") or 0, event["outcome"]] += 1
    due = Counter((*key, case.verdict) for (key, *_), (_, case, _) in zip(told(ledger), ledger.verdicts()) if case and not case.reason)
    for suite, name, _, outcome in due - seen:
        wrong(f"{name} is never told to be {outcome}")
    for suite, name, _, outcome in seen - due:
        wrong(f"{name} is told to be {outcome} once too often")
    if not events or events[-1]["event"] != "run_closed":
        wrong("they do not end with the run's end")
