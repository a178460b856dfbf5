#!/usr/bin/env python3
"""Checks check.py itself: the good runner passes, every planted fault is rejected for its own rule, each rule has a
planted fault, and each quotation is in docs/runner-protocol.md."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from rules import RULES

HERE = os.path.dirname(os.path.abspath(__file__))
GOOD = os.path.join(HERE, "planted", "good.py")
BAD = os.path.join(HERE, "planted", "bad.py")
DOCUMENT = os.path.join(HERE, "..", "..", "docs", "runner-protocol.md")
# Only silence takes that long, once for each fault that makes the runner hang.
TIMEOUT = "2"


def check(*command, timeout=TIMEOUT):
    """The exit status of check.py against a runner, the rules it names by mark, and its output."""
    done = subprocess.run([sys.executable, "-S", os.path.join(HERE, "check.py"), "--timeout", timeout, *command], capture_output=True, text=True)
    marks = {"ok": set(), "broken": set(), "unseen": set()}
    for line in done.stdout.splitlines():
        match = re.match(r"(ok|broken|unseen) +([a-z0-9-]+)", line)
        if match:
            marks[match.group(1)].add(match.group(2))
    return done.returncode, marks, done.stdout + done.stderr


def runner(path, *arguments):
    return ["--", sys.executable, "-S", path, *arguments]


def passes(*arguments, unseen=()):
    status, marks, output = check(*runner(GOOD, *arguments), timeout="10")
    if status != 0 or marks["broken"]:
        return f"rejected, exit status {status}:\n{output}"
    if unseen and marks["unseen"] != set(unseen):
        return f"unseen are {sorted(marks['unseen'])}, not {sorted(unseen)}"
    return None


def rejected(name, rule):
    status, marks, output = check("--fail-fast", *runner(BAD, "--fault", name, "--first-ms", "60"))
    if status != 1:
        return f"exit status {status}:\n{output}"
    if rule not in marks["broken"]:
        return f"rejected for {sorted(marks['broken'])}, not for {rule}:\n{output}"
    return None


def usage(*arguments):
    status, _, output = check(*arguments)
    return None if status == 2 else f"exit status {status}, not 2:\n{output}"


def quotations():
    with open(DOCUMENT, encoding="utf-8") as file:
        text = " ".join(file.read().split())
    absent = [rule for rule, quotation in RULES.items() if quotation not in text]
    return f"not in the document: {absent}" if absent else None


def coverage(faults):
    bare = [rule for rule in RULES if rule not in {rule for _, rule in faults}]
    return f"rules without a planted fault: {bare}" if bare else None


def main():
    listing = subprocess.run([sys.executable, BAD, "--list-faults"], capture_output=True, text=True, check=True).stdout
    faults = [tuple(line.split()) for line in listing.splitlines()]
    jobs = [
        ("quotations", quotations, ()),
        ("coverage", coverage, (faults,)),
        ("good", lambda: passes("--first-ms", "60", unseen=("refused", "unit-size", "message-line")), ()),
        ("good with one unit of one case", passes, ("--units", "1", "--cases", "1")),
        ("good with one unit of two cases", passes, ("--units", "1", "--cases", "2")),
        ("good without cases", passes, ("--cases", "0")),
        ("good with many cases", passes, ("--units", "20", "--cases", "50")),
        ("usage: no runner", usage, ()),
        ("usage: no such command", usage, ("--", "/no/such/runner")),
        ("usage: no such directory", usage, ("--dir", "/no/such", *runner(GOOD))),
        ("usage: no units", usage, runner(GOOD, "--units", "0")),
        *((f"fault {name}", rejected, (name, rule)) for name, rule in faults),
    ]
    failures = 0
    with ThreadPoolExecutor(3 * (os.cpu_count() or 1)) as pool:
        for (name, _, _), result in zip(jobs, pool.map(lambda job: job[1](*job[2]), jobs)):
            failures += result is not None
            print(f"ok      {name}" if result is None else f"failed  {name}: {result}")
    print(f"{len(jobs) - failures} passed, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
