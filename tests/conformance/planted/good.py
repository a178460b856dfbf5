#!/usr/bin/env python3
"""A runner that keeps every rule of docs/runner-protocol.md and runs nothing: a reference to read, and bad.py's base.

    good.py [--units N] [--cases N] [--first-ms MS]

Units are unit-0, unit-1 …; each has N cases, the last of which has the id of its first one where there are four or more.
The first case of unit-0 takes MS milliseconds. The last case of a lease holds its tear-down open until it is known what
comes next, as frameworks with shared fixtures do.
"""

import json
import os
import select
import socket
import sys
import time

FIELDS = {"list": {}, "run": {"lease": int, "unit": str}, "revoke": {"lease": int, "from": int}, "grant": {"lease": int, "to": int},
          "idle": {}, "stop": {}, "finish": {"carried": list}}


class Runner:
    def __init__(self, units, cases, first_ms):
        self.units, self.cases, self.first_ms = units, cases, first_ms
        self.pieces = []
        self.queue, self.revokes = [], []
        self.current = None
        self.stopping = self.idle = False
        self.granted = {}
        self.limit, self.failures = int(os.environ.get("EVENKEEL_MAX_FAIL", "0")), 0

    def names(self):
        return [f"unit-{number}" for number in range(self.units)]

    def all_cases(self, unit):
        """The unit's cases in its own order, as (id, occurrence)."""
        if unit not in self.names():
            return [(unit, 0)]
        cases = [(f"{unit}::case-{number}", 0) for number in range(self.cases)]
        return cases[:-1] + [(cases[0][0], 1)] if self.cases > 3 else cases

    def emit(self, name, **fields):
        self.write(json.dumps({"event": name, **fields}).encode() + b"\n")

    def write(self, data):
        self.socket.sendall(data)

    def at(self):
        return time.monotonic_ns() // 1000

    def read(self, block):
        """Takes in the operations that are there; with `block`, waits for some."""
        while select.select([self.socket], [], [], 0)[0] or block:
            data = self.socket.recv(1 << 20)
            if not data:
                sys.exit("the agent is gone")
            block = not self.feed(data) and block

    def feed(self, data):
        """Takes the lines that `data` completes; False when it completes none."""
        self.pieces.append(data)
        if b"\n" not in data:
            return False
        *lines, rest = b"".join(self.pieces).split(b"\n")
        self.pieces = [rest]
        for line in lines:
            self.take(json.loads(line))
        return True

    def take(self, operation):
        name = operation.get("op")
        if name not in FIELDS:
            self.protocol_error(f"operation {name!r}")
        for field, kind in FIELDS[name].items():
            if not isinstance(operation.get(field), kind):
                self.protocol_error(f"field {field!r} of {name!r}")
        getattr(self, "take_" + name)(operation)

    def protocol_error(self, what):
        sys.exit(f"protocol error: {what}")

    def take_list(self, _operation):
        units = [{"unit": name} for name in self.names()]
        self.emit("listed", units=units[:1], more=True)
        self.emit("listed", units=units[1:], more=False)

    def take_run(self, operation):
        self.idle = False
        if "grant" in operation:
            self.granted[operation["lease"]] = operation["grant"]
        if self.enough():
            self.emit("returned", lease=operation["lease"], cases=[], all=True)
        else:
            self.queue.append(operation)

    def take_grant(self, operation):
        self.granted[operation["lease"]] = operation["to"]

    def take_finish(self, operation):
        self.carried = operation["carried"]

    def take_idle(self, _operation):
        self.idle = True

    def take_stop(self, _operation):
        self.stopping = True

    def take_revoke(self, operation):
        lease = operation["lease"]
        queued = [entry for entry in self.queue if entry["lease"] == lease]
        if queued and operation["from"] == 0:
            self.queue.remove(queued[0])
            self.emit("returned", lease=lease, cases=[], all=True)
        elif queued:
            self.revokes.append(operation)  # answered when the lease has declared its cases
        elif self.current == lease:
            self.give_back(operation["from"])
        else:
            self.emit("returned", lease=lease, cases=[], all=False)

    def give_back(self, start):
        back = [index for index in self.left if index >= start]
        self.left = [index for index in self.left if index < start]
        self.emit("returned", lease=self.current, cases=back, all=False)

    def chosen(self, operation):
        """The cases that a lease is for."""
        listed = [{(part["id"], part["n"]) for part in operation.get(key, [])} for key in ("only", "skip")]
        return [case for case in self.all_cases(operation["unit"]) if ("only" not in operation or case in listed[0]) and case not in listed[1]]

    def instead(self, operation):
        """What a unit has, where cases are wanted that it does not have."""
        has = self.all_cases(operation["unit"])
        wanted = {(part["id"], part["n"]) for part in operation.get("only", [])}
        return {} if wanted.issubset(has) else {"instead": [{"id": name, "n": n} for name, n in has[:1000]]}

    def enough(self):
        return self.limit and self.failures >= self.limit

    def give_back_unasked(self):
        """The limit of failures is reached."""
        if self.left:
            self.give_back(0)
        for operation in self.queue:
            self.emit("returned", lease=operation["lease"], cases=[], all=True)
        self.queue.clear()

    def next_lease(self):
        return self.queue.pop(0)

    def run_lease(self, operation):
        lease, unit = operation["lease"], operation["unit"]
        self.current = lease
        self.emit("begin", lease=lease, at=self.at())
        cases = self.chosen(operation)
        self.left = list(range(len(cases)))
        self.emit("declare", lease=lease, cases=[{"id": name, "n": n} if n else name for name, n in cases], more=False, **self.instead(operation))
        for revoke in [revoke for revoke in self.revokes if revoke["lease"] == lease]:
            self.revokes.remove(revoke)
            self.give_back(revoke["from"])
        self.read(block=False)
        while self.left:
            if self.left[0] >= self.granted.get(lease, len(cases)):
                self.wait_for_grant(lease)
                continue
            self.run_case(lease, unit, self.left.pop(0))
            self.read(block=False)
            if self.enough():
                self.give_back_unasked()
        self.emit("close", lease=lease, at=self.at(), setup_us=0)
        self.current = None

    def wait_for_grant(self, lease):
        self.emit("waiting", lease=lease, case=self.left[0] - 1, at=self.at())
        self.read(block=True)

    def run_case(self, lease, unit, index):
        started = self.at()
        self.emit("start", lease=lease, case=index, at=started)
        if index == 0 and unit == "unit-0":
            time.sleep(self.first_ms / 1000)
        took = self.at() - started
        if not self.left:
            self.hold(lease, index)
        outcome = "passed" if unit in self.names() else "error"
        self.failures += outcome == "error"
        self.emit("end", lease=lease, case=index, at=self.at(), outcome=outcome, duration_us=took)

    def hold(self, lease, index):
        self.read(block=False)
        if not (self.queue or self.idle or self.stopping):
            self.emit("waiting", lease=lease, case=index, at=self.at())
            while not (self.queue or self.idle or self.stopping):
                self.read(block=True)

    def hello(self):
        return {"protocol": 1, "runner": "good", "framework": "none", "language": f"Python {sys.version.split()[0]}", "pid": os.getpid(),
                "can": ["list", "revoke", "grant"], "notes": [], "closing": True, "finish": os.environ["EVENKEEL_SLOTS"] != "1",
                "run_wide": {"max_fail": 1, "junit": "out/junit.xml", "durations": 10, "durations_min": 0.005, "show_output": True}}

    def main(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(os.environ["EVENKEEL_SOCKET"])
        self.emit("hello", **self.hello())
        self.emit("log", level="info", text="a runner that runs nothing")
        while True:
            self.read(block=not (self.queue or self.stopping))
            if self.queue:
                self.run_lease(self.next_lease())
            elif self.stopping:
                self.bye()
                return self.status()

    def bye(self):
        self.emit("warnings", list=[{"text": "a.py:1: UserWarning: odd", "cases": [], "count": 0}])
        self.emit("bye", failed=[], summary=[{"title": "", "text": "nothing ran"}], carry="a few words")

    def status(self):
        return 0


def options(arguments):
    """The values of --units, --cases and --first-ms."""
    values = {"--units": 3, "--cases": 5, "--first-ms": 0}
    for name, value in zip(arguments[::2], arguments[1::2]):
        values[name] = int(value)
    return list(values.values())[:3]


if __name__ == "__main__":
    sys.exit(Runner(*options(sys.argv[1:])).main())
