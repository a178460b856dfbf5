"""A runner of tests that sleep: `hangs.py COUNT SECONDS HANG FILE`. It lists COUNT units of one test, each of which takes SECONDS; the first of
them takes HANG seconds where FILE is there, which it takes away: who runs it next finds nothing wrong."""

import json
import os
import socket
import sys
import time

count, seconds, hang, file = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
connection.connect(os.environ["EVENKEEL_SOCKET"])
lines = connection.makefile("r", encoding="utf-8")


def say(event, **fields):
    connection.sendall(json.dumps({"event": event, **fields}).encode() + b"\n")


def now():
    return time.monotonic_ns() // 1000


def hangs(unit):
    if unit != "unit-0":
        return False
    try:
        os.unlink(file)
    except FileNotFoundError:
        return False
    return True


def run(lease, unit):
    say("begin", lease=lease, at=now())
    say("declare", lease=lease, cases=[{"id": f"{unit}::test", "n": 0}], more=False)
    started = now()
    say("start", lease=lease, case=0, at=started)
    time.sleep(hang if hangs(unit) else seconds)
    ended = now()
    say("end", lease=lease, case=0, at=ended, outcome="passed", duration_us=ended - started)
    say("close", lease=lease, at=ended, setup_us=0)


say("hello", protocol=1, runner="hangs", pid=os.getpid(), can=["list"])
for line in lines:
    operation = json.loads(line)
    if operation["op"] == "list":
        say("listed", units=[{"unit": f"unit-{number}"} for number in range(count)], more=False)
    elif operation["op"] == "run":
        run(operation["lease"], operation["unit"])
    elif operation["op"] == "revoke":
        say("returned", lease=operation["lease"], cases=[], all=False)
    elif operation["op"] == "stop":
        say("bye")
        sys.exit(0)
