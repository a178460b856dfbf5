#!/usr/bin/env python3
"""Checks a runner against docs/runner-protocol.md, version 1, by playing the agent's side.

    python3 tests/conformance/check.py [--dir DIR] [--timeout S] [--unit UNIT]… [--fail-fast] -- RUNNER ARGS…

Prints a line for each rule: `ok`, `broken` with what was seen and the sentence of the document, or `unseen` where nothing
that the runner did shows the rule. Exit status 0 when no rule is broken, 1 when one is, 2 for bad usage. Needs Python 3.9
and nothing else. RUNNER runs about fifteen times over the units it lists, or over UNIT… only.
"""

import argparse
import os
import sys

from rules import Report
from scenarios import Conformance, NothingToRun
from session import NoSuchRunner


def parse(arguments):
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, command = arguments[:cut], arguments[cut + 1:]
    else:
        command = []
    parser = argparse.ArgumentParser(prog="check.py", usage="check.py [--dir DIR] [--timeout S] [--unit UNIT]... [--fail-fast] -- RUNNER ARGS...",
                                     description="Check a runner against Evenkeel's runner protocol, version 1.")
    parser.add_argument("--dir", default=".", help="the directory that the runner starts in (default: this one)")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="S",
                        help="the longest silence that is waited out, in seconds; a scenario may take twenty times as long (default: 30)")
    parser.add_argument("--unit", action="append", default=[], dest="units",
                        help="check with this unit only, may be repeated; needed for a runner that cannot list")
    parser.add_argument("--fail-fast", action="store_true", help="stop after the first scenario that breaks a rule")
    options = parser.parse_args(arguments)
    if not command:
        parser.error("no runner; hint: put its command behind `--`")
    if not os.path.isdir(options.dir):
        parser.error(f"no directory {options.dir!r}")
    if not options.timeout > 0:
        parser.error("--timeout must be above 0")
    return options, command


def main(arguments):
    options, command = parse(arguments)
    report = Report()
    check = Conformance(command, options.dir, options.timeout, options.units, report, options.fail_fast)
    try:
        check.run()
    except NoSuchRunner as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except NothingToRun as nothing:
        for line in report.lines() if report.failed() else ():
            print(line)
        lists = nothing.args[0]
        print("error: " + ("the runner lists no unit" if lists else "the runner cannot list"), file=sys.stderr)
        print("hint: " + ("--dir a directory with some tests" if lists else "name units with --unit"), file=sys.stderr)
        return 1 if report.failed() else 2
    for line in report.lines():
        print(line)
    if report.failed() and check.log_tail:
        print(f"\nthe end of the runner's own output in the first scenario:\n{check.log_tail}", file=sys.stderr)
    return 1 if report.failed() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
