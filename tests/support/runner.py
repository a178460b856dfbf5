"""A runner whose faults are chosen by name: `runner.py FAULT [FILE]`. It lists three units of two cases each.

Without a fault (`none`) it keeps the protocol. FILE is where it notes that it was there, a line a start."""

import json
import os
import socket
import sys
import time

fault = sys.argv[1]
if len(sys.argv) > 2:
    with open(sys.argv[2], "a") as notes:
        notes.write("start\n")

if fault == "dies-at-once":
    sys.exit("this runner never comes up")

connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
connection.connect(os.environ["EVENKEEL_SOCKET"])
lines = connection.makefile("r", encoding="utf-8")


def line(event, **fields):
    return json.dumps({"event": event, **fields}).encode() + b"\n"


def say(event, **fields):
    connection.sendall(line(event, **fields))


leapt = 0  # microseconds


def leave(status):
    os._exit(status)


def run(lease, unit, skip):
    global leapt
    if fault == "its-clock-leaps":
        say("begin", lease=lease, at=leapt + 1)
        say("declare", lease=lease, cases=[{"id": f"{unit}::a", "n": 0}], more=False)
        say("start", lease=lease, case=0, at=leapt + 2)
        time.sleep(0.05)  # so that the start has been heard
        ended = line("end", lease=lease, case=0, at=leapt + 3, outcome="passed", duration_us=1)
        leapt += 70_000
        connection.sendall(ended + line("close", lease=lease, at=leapt, setup_us=0))
        return
    say("begin", lease=lease, at=1)
    bad = unit == "unit-1"
    if bad and fault == "exits-0-while-loading":
        leave(0)
    cases = [case for case in ({"id": f"{unit}::a", "n": 0}, {"id": f"{unit}::b", "n": 0}) if case not in skip]
    if not (bad and fault == "closes-without-declaring"):
        if not (bad and fault == "declares-nothing"):
            say("declare", lease=lease, cases=cases, more=False)
        else:
            cases = []
            say("declare", lease=lease, cases=[], more=False)
        for index in range(len(cases)):
            if bad and fault == "exits-0-between-cases" and index == 1:
                leave(0)
            if bad and fault == "closes-early" and index == 1:
                break
            say("start", lease=lease, case=index, at=2)
            if bad and fault == "says-no-json":
                connection.sendall(b"{nonsense\n")
            say("end", lease=lease, case=index, at=3, outcome="passed", duration_us=1)
    say("close", lease=lease, at=4, setup_us=0)


say("hello", protocol=2 if fault == "speaks-another-version" else 1, runner="faulty", pid=os.getpid(), can=["list"])
if fault == "says-bye-unasked":
    say("bye")
    leave(0)
for request in lines:
    operation = json.loads(request)
    if operation["op"] == "list":
        if fault == "exits-0-when-asked-to-list":
            leave(0)
        units = [] if fault == "lists-nothing" else [{"unit": f"unit-{number}"} for number in range(3)]
        if fault == "lists-a-unit-twice":
            units.append(units[0])
        say("listed", units=units, more=False)
        if fault == "exits-0-after-listing":
            leave(0)
    elif operation["op"] == "run":
        if fault == "says-bye-instead-of-running":
            say("bye")
            leave(0)
        run(operation["lease"], operation["unit"], operation.get("skip", []))
    elif operation["op"] == "revoke":
        say("returned", lease=operation["lease"], cases=[], all=False)
    elif operation["op"] == "stop":
        if fault == "exits-1-at-the-end":
            leave(1)
        say("bye")
        leave(0)
