#!/usr/bin/env python3
"""Checks a run that is over against what it was to be: nothing lost, nothing twice, no false green.

It has its own reading of the store, of the ledger's payloads and of both reports, and shares no code with Evenkeel.

  tests/chaos/check.py --store sqlite:.evenkeel/evenkeel.db --run RUN --noop 40,10,7 --json report.json --junit report.xml

Findings go to standard output, one a line, each behind the rule that it breaks. Exit status: 0 without findings, 1 with some, 2 if
there is nothing that could be read.
"""

import argparse
import json
import sys
from pathlib import Path

import reading
import reports
from ledger import Ledger


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, help="sqlite:FILE or postgres://…")
    parser.add_argument("--run", required=True, help="the run's id")
    parser.add_argument("--state", type=Path, help="the state directory: texts are checked too")
    parser.add_argument("--noop", action="append", default=[], metavar="[SUITE=]UNITS,CASES,FAIL_EVERY", help="what the do-nothing runner has")
    parser.add_argument("--plan", action="append", default=[], type=Path, help="a JSON object: of each test's id its outcome")
    parser.add_argument("--json", type=Path, help="the JSON report")
    parser.add_argument("--junit", type=Path, help="the JUnit report")
    parser.add_argument("--events", type=Path, help="the events of a watcher that saw the end")
    parser.add_argument("--exit", type=int, help="how who waited for the run ended")
    return parser.parse_args()


def planned(arguments):
    """Of each test that is to be there its outcome."""
    plan = {}
    for path in arguments.plan:
        plan.update(json.loads(path.read_text()))
    for words in arguments.noop:
        units, cases, fails = (int(word) for word in words.rpartition("=")[2].split(","))
        for unit in range(units):
            for case in range(cases):
                failed = fails and (case + 1) % fails == 0
                plan[f"unit-{unit}::case-{case}"] = "failed" if failed else "passed"
    return plan


def check_plan(ledger, plan):
    """Every planned case has one verdict, the one that is due, and nothing else has any."""
    seen, given_up = {}, set()
    for unit, case, verdict in ledger.verdicts():
        if case is None:
            given_up.add(unit.name)
            if not any(name.startswith(f"{unit.name}::") for name in plan):
                ledger.wrong("unplanned", f"{unit.name} is no unit of the plan")
            continue
        name = case.id if case.occurrence == 0 else f"{case.id}#{case.occurrence}"
        if name in seen:
            ledger.wrong("twice", f"{name} is there twice")
        seen[name] = verdict
        due = plan.get(name)
        if due is None:
            ledger.wrong("unplanned", f"{name} is {verdict} and was never planned")
        elif verdict in ("lost", "not_run"):
            if ledger.closed and ledger.closed["verdict"] == "green":
                ledger.wrong("outcome", f"{name} is {verdict} in a green run")
        elif verdict == "error" and due != "error":
            if not case.may_be_error():
                ledger.wrong("outcome", f"{name} is an error and should be {due}; neither processes nor agents were lost by it")
        elif verdict != due:
            ledger.wrong("outcome", f"{name} is {verdict} and should be {due}")
    verdict = ledger.closed and ledger.closed["verdict"]
    for name in plan:
        if name in seen:
            continue
        excused = name.split("::")[0] in given_up or (verdict != "green" and ledger.listed != set(range(len(ledger.suites))))
        if verdict == "green" or not excused:
            ledger.wrong("missing", f"{name} is planned and nowhere on record")


def check_table(ledger, line):
    _, verdict, code, tests, failures = line
    totals, closed = ledger.totals(), ledger.closed
    ours = (closed["verdict"], closed["exit_code"], totals["tests"], totals["failed"] + totals["errors"]) if closed else (None,) * 4
    if (verdict, code, tests, failures) != ours:
        ledger.wrong("table", f"the table of runs says {(verdict, code, tests, failures)}, the ledger {ours}")


def main():
    arguments = parse()
    try:
        plan = planned(arguments)
        line, rows = reading.run(arguments.store, arguments.run)
    except (reading.Unreadable, OSError, ValueError) as error:
        print(f"cannot be read: {error}", file=sys.stderr)
        return 2
    ledger = Ledger()
    ledger.play(rows)
    if ledger.opened is None:
        print("cannot be read: the ledger has no beginning", file=sys.stderr)
        return 2
    if ledger.opened["run"] != arguments.run:
        ledger.wrong("reference", f"the ledger is of run {ledger.opened['run']}")
    ledger.end()
    check_plan(ledger, plan)
    check_table(ledger, line)
    if arguments.exit is not None and ledger.closed and arguments.exit != ledger.closed["exit_code"]:
        ledger.wrong("gate", f"who waited ended with {arguments.exit}, the run with {ledger.closed['exit_code']}")
    for check, path in ((reports.check_json, arguments.json), (reports.check_junit, arguments.junit),
                        (reports.check_events, arguments.events)):
        if path:
            try:
                check(ledger, path)
            except (reports.Unwritten, KeyError, TypeError) as error:
                ledger.wrong("report", f"it cannot be read: {error!r}")
    if arguments.state:
        outputs = arguments.state / "runs" / str(line[0]) / "outputs"
        ledger.texts(outputs.read_bytes() if outputs.exists() else b"")
    for rule, text in ledger.findings:
        print(f"{rule}: {text}")
    totals = ledger.totals()
    print(f"{arguments.run}: {len(rows)} rows, {totals['tests']} tests, {totals['passed']} passed, {len(ledger.leases)} leases, "
          f"{ledger.evidence} results too late, {ledger.recoveries} times taken up again, {len(ledger.findings)} findings",
          file=sys.stderr)
    return 1 if ledger.findings else 0


if __name__ == "__main__":
    sys.exit(main())
