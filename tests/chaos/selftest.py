#!/usr/bin/env python3
"""Damages a good run in many ways and looks whether check.py finds each of them, and by the right rule.

  tests/chaos/selftest.py DIRECTORY RUN NOOP

DIRECTORY holds what `evenkeel run --run-id RUN --json report.json --junit junit.xml --events events.ndjson` left there, with its state in
`.evenkeel`. The run has some failures and no crash, and NOOP says what is in it as for check.py. Where a payload is changed, the chain of
hashes is made good again, so that the rule behind it has to find the change.
"""

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

from blake3_hash import blake3
from payload import ENTRIES, fields

NUMBERS = {name: tag for tag, (name, _) in ENTRIES.items()}


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(tag, kind, value):
    if kind == 0:
        return varint(tag << 3) + varint(value)
    return varint(tag << 3 | kind) + (varint(len(value)) if kind == 2 else b"") + value


class Run:
    """A copy of the good run, to be damaged."""

    def __init__(self, directory, run):
        self.directory, self.run = Path(directory), run
        self.database = sqlite3.connect(self.directory / ".evenkeel/evenkeel.db", isolation_level=None)
        self.number = self.database.execute("SELECT id FROM runs WHERE run = ?", (run,)).fetchone()[0]
        rows = self.database.execute("SELECT epoch, payload FROM ledger WHERE run = ? ORDER BY sequence", (self.number,))
        self.rows = [[epoch, self.open(payload)] for epoch, payload in rows]

    @staticmethod
    def open(payload):
        """Fields of a batch, an entry as its name and its own fields."""
        opened = []
        for tag, kind, value in fields(payload):
            if tag == 2:
                body, _, inner = next(fields(value))
                value = [ENTRIES[body][0], list(fields(inner))]
            opened.append([tag, kind, value])
        return opened

    def entries(self, name):
        """Where the entries of this name are: row, place in it, and their fields by number."""
        for row, (_, opened) in enumerate(self.rows):
            for place, (tag, _, value) in enumerate(opened):
                if tag == 2 and value[0] == name:
                    yield row, place, {key: field for key, _, field in value[1]}

    def set(self, row, place, tag, value):
        """Sets a number in an entry; None takes it away."""
        entry = self.rows[row][1][place][2]
        entry[1] = [field for field in entry[1] if field[0] != tag]
        if value is not None:
            entry[1].append((tag, 0 if isinstance(value, int) else 2, value))

    def insert(self, row, place, name, values):
        own = [(tag, 0 if isinstance(value, int) else 2, value) for tag, value in values.items()]
        self.rows[row][1].insert(place, [2, 2, [name, own]])

    def remove(self, row, place):
        del self.rows[row][1][place]

    def write(self):
        """Stores the rows with a chain that is whole."""
        self.database.execute("DELETE FROM ledger WHERE run = ?", (self.number,))
        previous = bytes(32)
        for sequence, (epoch, opened) in enumerate(self.rows, 1):
            payload = b""
            for tag, kind, value in opened:
                if tag == 2:
                    inner = b"".join(encode(*field) for field in value[1])
                    value = encode(NUMBERS[value[0]], 2, inner)
                payload += encode(tag, kind, value)
            self.sql("INSERT INTO ledger VALUES (?, ?, ?, ?, ?)", self.number, sequence, epoch, previous, payload)
            previous = blake3(previous + sequence.to_bytes(8, "little") + epoch.to_bytes(8, "little") + payload)

    def sql(self, text, *values):
        self.database.execute(text, values)

    def text(self, name, change):
        path = self.directory / name
        path.write_text(change(path.read_text()))


DAMAGES = []


def damage(*rules):
    """A way to damage a run, and the rules of which one must find it."""
    return lambda function: DAMAGES.append((function, rules))


@damage("sequence")
def a_row_is_dropped(run):
    run.sql("DELETE FROM ledger WHERE run = ? AND sequence = 5", run.number)


@damage("chain")
def two_rows_are_swapped(run):
    for old, new in ((5, -1), (6, 5), (-1, 6)):
        run.sql("UPDATE ledger SET sequence = ? WHERE run = ? AND sequence = ?", new, run.number, old)


@damage("chain")
def the_hash_of_the_row_before_is_another(run):
    run.sql("UPDATE ledger SET previous = zeroblob(32) WHERE run = ? AND sequence = 4", run.number)


@damage("chain")
def a_payload_is_changed_in_its_place(run):
    row, place, _ = next(run.entries("attempt"))
    old = run.database.execute("SELECT payload FROM ledger WHERE run = ? AND sequence = ?", (run.number, row + 1)).fetchone()[0]
    run.sql("UPDATE ledger SET payload = ? WHERE run = ? AND sequence = ?", encode(1, 0, 7) + old, run.number, row + 1)


@damage("epoch")
def epochs_fall(run):
    run.rows[3][0] += 1
    run.write()


@damage("epoch")
def an_epoch_rises_without_a_word(run):
    for row in run.rows[4:]:
        row[0] += 1
    run.write()


@damage("outcome")
def a_failure_becomes_a_pass(run):
    row, place, _ = next(entry for entry in run.entries("attempt") if entry[2][3] == 2)
    run.set(row, place, 3, 1)
    run.write()


@damage("twice", "lease", "result")
def an_attempt_comes_again_under_another_lease(run):
    *_, (row, place, attempt) = run.entries("attempt")
    other = next(lease[2][1] for lease in run.entries("leased") if lease[2][1] != attempt[1])
    run.insert(row, place + 1, "attempt", {**attempt, 1: other})
    run.write()


@damage("twice")
def an_attempt_comes_twice(run):
    row, place, attempt = next(run.entries("attempt"))
    run.insert(row, place + 1, "attempt", attempt)
    run.write()


@damage("missing")
def a_verdict_is_removed(run):
    row, place, _ = next(run.entries("attempt"))
    run.remove(row, place)
    run.write()


@damage("lease")
def a_result_comes_after_its_lease_ended(run):
    ends = {entry[1]: (row, place) for row, place, entry in run.entries("lease_ended")}
    row, place, attempt = next(run.entries("attempt"))
    run.remove(row, place)
    end, behind = ends[attempt[1]]
    run.insert(end, behind + (end != row), "attempt", attempt)
    run.write()


@damage("lease")
def a_lease_ends_twice(run):
    row, place, ended = next(run.entries("lease_ended"))
    run.insert(row, place + 1, "lease_ended", ended)
    run.write()


@damage("lease")
def a_lease_is_given_twice(run):
    row, place, leased = next(run.entries("leased"))
    run.insert(row, place + 1, "leased", leased)
    run.write()


@damage("reference")
def a_shard_is_named_that_nobody_opened(run):
    row, place, _ = next(run.entries("leased"))
    run.set(row, place, 4, 99)
    run.write()


@damage("unplanned")
def a_case_is_added_that_nobody_planned(run):
    row, place, declared = next(run.entries("declared"))
    run.rows[row][1][place][2][1].append((3, 2, encode(1, 2, b"unit-0::case-999")))
    run.write()


@damage("result")
def a_case_is_taken_from_the_lease_that_declared_it(run):
    row, place, declared = next(run.entries("declared"))
    cases = sum(1 for tag, *_ in run.rows[row][1][place][2][1] if tag == 3)
    run.insert(row, place + 1, "returned", {1: declared[1], 2: bytes(range(cases))})
    run.write()


@damage("gate")
def the_ledger_says_green(run):
    row, place, _ = next(run.entries("closed"))
    run.set(row, place, 1, b"green")
    run.set(row, place, 2, 0)
    run.write()


@damage("gate")
def the_ledger_says_incomplete(run):
    row, place, _ = next(run.entries("closed"))
    run.set(row, place, 1, b"incomplete")
    run.set(row, place, 2, 3)
    run.write()


@damage("lease")
def a_result_comes_from_an_agent_that_is_gone(run):
    row, place, _ = next(run.entries("attempt"))
    run.insert(row, place, "agent_gone", {1: 0, 2: b"it left"})
    run.write()


@damage("twice")
def what_has_a_result_is_settled_too(run):
    row, place, attempt = next(run.entries("attempt"))
    unit = next(lease[2].get(3, 0) for lease in run.entries("leased") if lease[2][1] == attempt[1])
    run.insert(row, place + 1, "settled", {1: unit, 2: attempt.get(2, 0), 3: b"lost"})
    run.write()


@damage("table")
def the_table_of_runs_says_green(run):
    run.sql("UPDATE runs SET verdict = 'green', exit_code = 0, failures = 0 WHERE id = ?", run.number)


@damage("table")
def the_table_of_runs_counts_one_test_fewer(run):
    run.sql("UPDATE runs SET tests = tests - 1 WHERE id = ?", run.number)


@damage("run", "table")
def the_end_is_missing(run):
    row, place, _ = next(run.entries("closed"))
    run.remove(row, place)
    run.write()


@damage("locks")
def a_lock_is_taken_twice(run):
    row, place, leased = next(run.entries("leased"))
    for shard in (0, 1):
        run.insert(row, place + 1, "locked", {1: b"database", 2: shard, 3: leased[1]})
    run.write()


@damage("attempts")
def a_case_is_repeated_without_end(run):
    row, place, attempt = next(run.entries("attempt"))
    for _ in range(5):
        run.insert(row, place, "attempt", {**attempt, 3: 5})
    run.write()


@damage("json")
def the_json_report_drops_a_case(run):
    def change(text):
        report = json.loads(text)
        del report["tests"][3]
        return json.dumps(report)
    run.text("report.json", change)


@damage("json")
def the_json_report_tells_another_outcome(run):
    def change(text):
        report = json.loads(text)
        next(test for test in report["tests"] if test["outcome"] == "failed")["outcome"] = "passed"
        return json.dumps(report)
    run.text("report.json", change)


@damage("junit")
def the_junit_report_drops_a_case(run):
    def change(text):
        start = text.index("<testcase")
        return text[:start] + text[text.index("<testcase", start + 1):]
    run.text("junit.xml", change)


@damage("junit")
def the_junit_report_counts_one_failure_fewer(run):
    run.text("junit.xml", lambda text: text.replace('failures="1"', 'failures="0"', 1))


@damage("events")
def a_watcher_hears_of_a_test_twice(run):
    def change(text):
        lines = text.splitlines(keepends=True)
        at = next(at for at, line in enumerate(lines) if json.loads(line)["event"] == "test_finished")
        return "".join(lines[:at + 1] + lines[at:])
    run.text("events.ndjson", change)


def check(directory, run, noop):
    words = [sys.executable, Path(__file__).with_name("check.py"), "--run", run, "--noop", noop, "--state", directory / ".evenkeel",
             "--store", f"sqlite:{directory}/.evenkeel/evenkeel.db", "--json", directory / "report.json",
             "--junit", directory / "junit.xml", "--events", directory / "events.ndjson"]
    ended = subprocess.run(words, capture_output=True, text=True)
    return ended.returncode, ended.stdout, ended.stderr


def main():
    good, run, noop = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    status, found, said = check(good, run, noop)
    bad = [] if status == 0 else [f"the good run is not: {found}{said}"]
    for function, rules in DAMAGES:
        with tempfile.TemporaryDirectory(prefix="chaos-") as place:
            copy = Path(place) / "run"
            shutil.copytree(good, copy, ignore=shutil.ignore_patterns("tmp", "cache", "out-*", "err-*"))
            damaged = Run(copy, run)
            with contextlib.closing(damaged.database):
                function(damaged)
            status, found, said = check(copy, run, noop)
            named = {line.partition(":")[0] for line in found.splitlines()}
            if status != 1 or not named & set(rules):
                bad.append(f"{function.__name__}: status {status}, found {sorted(named)} and not {rules}\n{said}")
    status, *_ = check(good, "unheard-of", noop)
    if status != 2:
        bad.append(f"a run that is not there: status {status}")
    print("\n".join(bad) or f"{len(DAMAGES)} damages, each found by its rule")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
