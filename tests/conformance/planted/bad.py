#!/usr/bin/env python3
"""Runners that each break one rule of docs/runner-protocol.md; check.py has to reject every one of them.

    bad.py --fault NAME [good.py's options]
    bad.py --list-faults          prints, for each fault, its name and the rule that check.py has to name
"""

import json
import os
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from good import FIELDS, Runner, options  # noqa: E402

FAULTS = {}


def fault(name, rule):
    """Registers a Runner with a fault in it."""
    def register(runner):
        FAULTS[name] = (rule, runner)
        return runner
    return register


def rewrite(name, rule, *, of):
    """Registers a function that gives, for each event named `of`, the events or bytes that are written instead."""
    def register(function):
        class Rewriting(Runner):
            def emit(self, event, **fields):
                if event != of:
                    return super().emit(event, **fields)
                for instead in function(self, {"event": event, **fields}):
                    self.write(instead if isinstance(instead, bytes) else line(instead))
        fault(name, rule)(Rewriting)
        return function
    return register


def line(event):
    return json.dumps(event).encode() + b"\n"


# Transport

@fault("connects-twice", "connect-once")
class ConnectsTwice(Runner):
    def bye(self):
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).connect(os.environ["EVENKEEL_SOCKET"])
        super().bye()


@fault("never-connects", "connect-once")
class NeverConnects(Runner):
    def main(self):
        return 0


@rewrite("child-writes", "one-writer", of="close")
def child_writes(runner, event):
    child = os.fork()
    if child == 0:
        runner.socket.sendall(line({"event": "log", "level": "info", "text": "from a child"}))
        os._exit(0)
    os.waitpid(child, 0)
    yield event


@rewrite("invalid-utf8", "utf8", of="log")
def invalid_utf8(_runner, _event):
    yield b'{"event":"log","level":"info","text":"\xff"}\n'


@rewrite("not-json", "json-line", of="log")
def not_json(_runner, _event):
    yield b"ready to go\n"


@rewrite("not-an-object", "json-line", of="log")
def not_an_object(_runner, event):
    yield [event]


@rewrite("no-line-end", "json-line", of="bye")
def no_line_end(_runner, event):
    yield event
    yield b" "


@rewrite("line-too-long", "line-length", of="log")
def line_too_long(_runner, event):
    yield {**event, "text": "x" * (16 << 20)}


@fault("one-read-one-line", "accepts-lines")
class OneReadOneLine(Runner):
    """Takes what one recv gives for whole lines."""
    def feed(self, data):
        for one in data.splitlines():
            self.take(json.loads(one))
        return True


@rewrite("unknown-event", "known-event", of="log")
def unknown_event(_runner, _event):
    yield {"event": "progress", "percent": 10}


@rewrite("field-missing", "fields", of="end")
def field_missing(_runner, event):
    del event["duration_us"]
    yield event


@rewrite("field-of-another-type", "fields", of="begin")
def field_of_another_type(_runner, event):
    yield {**event, "at": event["at"] / 1e6}


@fault("rejects-additional-fields", "extra-field")
class RejectsAdditionalFields(Runner):
    def take(self, operation):
        if set(operation) - {"op", "lease", "unit", "only", "skip", "from"}:
            self.protocol_error("additional field")
        super().take(operation)


@fault("goes-on-after-unknown-op", "protocol-error")
class GoesOnAfterUnknownOp(Runner):
    def take(self, operation):
        if operation.get("op") in FIELDS:
            super().take(operation)


@fault("unknown-op-ends-with-zero", "protocol-error")
class UnknownOpEndsWithZero(Runner):
    def protocol_error(self, what):
        sys.exit(0)


# hello

@rewrite("no-hello", "hello-first", of="hello")
def no_hello(_runner, _event):
    return ()


@rewrite("hello-after-log", "hello-first", of="hello")
def hello_after_log(_runner, event):
    yield {"event": "log", "level": "info", "text": "starting"}
    yield event


@rewrite("hello-twice", "hello-first", of="hello")
def hello_twice(_runner, event):
    yield event
    yield event


@rewrite("wrong-protocol-number", "hello-protocol", of="hello")
def wrong_protocol_number(_runner, event):
    yield {**event, "protocol": 2}


@rewrite("pid-of-parent", "hello-pid", of="hello")
def pid_of_parent(_runner, event):
    yield {**event, "pid": os.getppid()}


@rewrite("absolute-junit", "run-wide", of="hello")
def absolute_junit(_runner, event):
    yield {**event, "run_wide": {"junit": "/tmp/junit.xml"}}


@rewrite("refused-for-no-listed-reason", "refused", of="hello")
def refused_for_no_listed_reason(_runner, _event):
    yield {"event": "refused", "reason": "tired", "message": "not today"}
    sys.exit(3)


# Listing

@rewrite("listing-without-end", "listed", of="listed")
def listing_without_end(_runner, event):
    yield {**event, "more": True}


@rewrite("listed-unasked", "listed", of="close")
def listed_unasked(_runner, event):
    yield event
    yield {"event": "listed", "units": [], "more": False}


@rewrite("unit-listed-twice", "unit-unique", of="listed")
def unit_listed_twice(_runner, event):
    yield {**event, "units": event["units"] * 2}


@fault("listing-differs", "unit-same")
class ListingDiffers(Runner):
    def names(self):
        return [*super().names(), f"unit-of-{os.getpid()}"]


@rewrite("wrong-size", "unit-size", of="listed")
def wrong_size(_runner, event):
    yield {**event, "units": [{**unit, "path": os.path.abspath(__file__), "size": 1} for unit in event["units"]]}


# A lease's events

@rewrite("unknown-lease", "lease-known", of="close")
def unknown_lease(_runner, event):
    yield event
    yield {"event": "begin", "lease": event["lease"] + 500, "at": event["at"]}


@fault("another-order-of-units", "lease-order")
class AnotherOrderOfUnits(Runner):
    def next_lease(self):
        return self.queue.pop()


@rewrite("begins-the-next-unit-early", "lease-order", of="close")
def begins_the_next_unit_early(runner, event):
    if runner.queue:
        yield {"event": "begin", "lease": runner.queue[0]["lease"], "at": event["at"]}
    yield event


@rewrite("no-begin", "begin-first", of="begin")
def no_begin(_runner, _event):
    return ()


@rewrite("declare-after-start", "declare-first", of="start")
def declare_after_start(_runner, event):
    yield event
    yield {"event": "declare", "lease": event["lease"], "cases": ["late"], "more": False}


@rewrite("start-before-last-declare", "declare-first", of="declare")
def start_before_last_declare(_runner, event):
    yield {**event, "more": True}


@rewrite("wrong-occurrence", "occurrence", of="declare")
def wrong_occurrence(_runner, event):
    yield {**event, "cases": [case["id"] if isinstance(case, dict) else case for case in event["cases"]]}


@fault("occurrence-counted-in-only", "occurrence")
class OccurrenceCountedInOnly(Runner):
    def chosen(self, operation):
        cases = super().chosen(operation)
        return [(name, 0) for name, _ in cases] if "only" in operation else cases


@fault("ids-differ", "cases-same")
class IdsDiffer(Runner):
    def all_cases(self, unit):
        return [(f"{name}@{os.getpid()}", n) for name, n in super().all_cases(unit)]


@fault("ids-carry-the-slot", "slots-same")
class IdsCarryTheSlot(Runner):
    def all_cases(self, unit):
        return [(name + os.environ.get("TEST_ENV_NUMBER", ""), n) for name, n in super().all_cases(unit)]


@fault("listing-by-slot", "slots-same")
class ListingBySlot(Runner):
    def names(self):
        return super().names()[int(os.environ["EVENKEEL_SLOT"])::int(os.environ["EVENKEEL_SLOTS"])]


@fault("unit-only-once", "lease-again")
class UnitOnlyOnce(Runner):
    """A second lease of a unit finds it loaded already, and so has no cases."""
    def chosen(self, operation):
        self.loaded = getattr(self, "loaded", set())
        cases = super().chosen(operation) if operation["unit"] not in self.loaded else []
        self.loaded.add(operation["unit"])
        return cases


@fault("nothing-left-means-all", "no-cases")
class NothingLeftMeansAll(Runner):
    def chosen(self, operation):
        return super().chosen(operation) or self.all_cases(operation["unit"])


@fault("unloadable-unit-is-empty", "unloadable")
class UnloadableUnitIsEmpty(Runner):
    def all_cases(self, unit):
        return super().all_cases(unit) if unit in self.names() else []


@rewrite("unloadable-unit-fails", "unloadable", of="end")
def unloadable_unit_fails(_runner, event):
    yield {**event, "outcome": "failed" if event["outcome"] == "error" else event["outcome"]}


@rewrite("undeclared-index", "start-declared", of="start")
def undeclared_index(_runner, event):
    yield {**event, "case": event["case"] + 100}


@rewrite("index-from-one", "start-declared", of="end")
def index_from_one(_runner, event):
    yield {**event, "case": event["case"] + 1}


@rewrite("case-starts-twice", "start-once", of="end")
def case_starts_twice(_runner, event):
    yield event
    yield {"event": "start", "lease": event["lease"], "case": event["case"], "at": event["at"]}
    yield event


@fault("another-order-of-cases", "case-order")
class AnotherOrderOfCases(Runner):
    def run_case(self, lease, unit, index):
        if self.left:
            self.left.append(index)
            index = self.left.pop(0)
            self.left.sort()
        super().run_case(lease, unit, index)


@fault("two-cases-open", "one-case")
class TwoCasesOpen(Runner):
    def run_case(self, lease, unit, index):
        if self.left:
            second = self.left.pop(0)
            self.emit("start", lease=lease, case=index, at=self.at())
            super().run_case(lease, unit, second)
            self.emit("end", lease=lease, case=index, at=self.at(), outcome="passed", duration_us=0)
        else:
            super().run_case(lease, unit, index)


@rewrite("start-held-back", "start-reaches", of="start")
def start_held_back(runner, event):
    runner.held = line(event)
    return ()


class HoldsStartBack(FAULTS["start-held-back"][1]):
    def write(self, data):
        held, self.held = getattr(self, "held", b""), b""
        super().write(held + data)


FAULTS["start-held-back"] = ("start-reaches", HoldsStartBack)


@rewrite("end-before-start", "end-started", of="start")
def end_before_start(_runner, event):
    yield {**event, "event": "end", "outcome": "passed", "duration_us": 0}
    yield event


@rewrite("case-of-another-lease", "end-started", of="end")
def case_of_another_lease(_runner, event):
    yield {**event, "lease": max(1, event["lease"] - 1)}


@rewrite("case-ends-twice", "end-once", of="end")
def case_ends_twice(_runner, event):
    yield event
    yield event


@rewrite("unknown-outcome", "outcome", of="end")
def unknown_outcome(_runner, event):
    yield {**event, "outcome": "xfailed"}


@rewrite("message-of-two-lines", "message-line", of="end")
def message_of_two_lines(_runner, event):
    yield {**event, "message": "assert 1 == 2\n  where 1 = one()"}


@rewrite("lone-surrogate", "surrogates", of="end")
def lone_surrogate(_runner, event):
    yield {**event, "detail": "half of a pair: \ud83d"}


@rewrite("case-never-ends", "close-complete", of="end")
def case_never_ends(_runner, event):
    return () if event["case"] == 2 else (event,)


@fault("close-with-a-case-missing", "close-complete")
class CloseWithACaseMissing(Runner):
    def run_case(self, lease, unit, index):
        if self.left or index == 0:
            super().run_case(lease, unit, index)


@rewrite("log-of-a-closed-lease", "close-last", of="close")
def event_after_close(_runner, event):
    yield event
    yield {"event": "waiting", "lease": event["lease"], "case": 0, "at": event["at"]}


@rewrite("no-close", "close-last", of="close")
def no_close(_runner, _event):
    return ()


@rewrite("at-goes-back", "at-monotonic", of="end")
def at_goes_back(_runner, event):
    yield {**event, "at": event["at"] - 1_000_000}


# Parts of a unit

@fault("ignores-only", "only")
class IgnoresOnly(Runner):
    def take_run(self, operation):
        operation.pop("only", None)
        super().take_run(operation)
        self.queue[-1]["only"] = [{"id": name, "n": n} for name, n in self.all_cases(operation["unit"])]


@fault("only-by-id-alone", "only")
class OnlyByIdAlone(Runner):
    def chosen(self, operation):
        ids = {part["id"] for part in operation.get("only", [])}
        return [case for case in self.all_cases(operation["unit"]) if case[0] in ids] if ids else super().chosen(operation)


@fault("only-in-the-agents-order", "only-order")
class OnlyInTheAgentsOrder(Runner):
    def chosen(self, operation):
        return [(part["id"], part["n"]) for part in operation["only"]] if "only" in operation else super().chosen(operation)


@fault("ignores-skip", "skip")
class IgnoresSkip(Runner):
    def chosen(self, operation):
        return super().chosen({**operation, "skip": []})


@rewrite("nothing-named-instead", "instead", of="declare")
def nothing_named_instead(_runner, event):
    event.pop("instead", None)
    yield event


@fault("ignores-grants", "grant")
class IgnoresGrants(Runner):
    def take_run(self, operation):
        operation.pop("grant", None)
        super().take_run(operation)


@fault("waits-in-silence", "grant-waiting")
class WaitsInSilence(Runner):
    def wait_for_grant(self, lease):
        self.read(block=True)


# revoke

@rewrite("no-returned", "revoke-answered", of="returned")
def no_returned(_runner, _event):
    return ()


@rewrite("returned-twice", "revoke-answered", of="returned")
def returned_twice(_runner, event):
    yield event
    yield event


@fault("gives-back-too-little", "returned-cases")
class GivesBackTooLittle(Runner):
    def give_back(self, start):
        super().give_back(start + 1)


@fault("gives-back-too-much", "returned-cases")
class GivesBackTooMuch(Runner):
    def give_back(self, start):
        super().give_back(0)


@rewrite("returns-a-started-case", "returned-started", of="returned")
def returns_a_started_case(runner, event):
    yield {**event, "cases": [0, *event["cases"]] if runner.current == event["lease"] and 0 not in runner.left else event["cases"]}


@fault("runs-a-revoked-case", "returned-runs")
class RunsARevokedCase(Runner):
    def give_back(self, start):
        left = self.left
        super().give_back(start)
        self.left = left


@fault("runs-a-lease-given-back", "returned-all")
class RunsALeaseGivenBack(Runner):
    def take_revoke(self, operation):
        queue = list(self.queue)
        super().take_revoke(operation)
        self.queue = queue


@rewrite("all-without-saying-so", "returned-all", of="returned")
def all_without_saying_so(_runner, event):
    yield {**event, "all": False}


@rewrite("closed-lease-given-back", "revoke-closed", of="returned")
def closed_lease_given_back(runner, event):
    yield {**event, "cases": event["cases"] if runner.current or event["all"] else [0]}


@fault("gives-back-before-the-limit", "limit")
class GivesBackBeforeTheLimit(Runner):
    def enough(self):
        return self.limit > 0


# Between leases, and the end

@fault("waits-with-a-queue", "waiting")
class WaitsWithAQueue(Runner):
    def hold(self, lease, index):
        if self.queue:
            self.emit("waiting", lease=lease, case=index, at=self.at())
        super().hold(lease, index)


@rewrite("waits-for-another-case", "waiting", of="waiting")
def waits_for_another_case(_runner, event):
    yield {**event, "case": 0}


@fault("ends-when-idle", "idle")
class EndsWhenIdle(Runner):
    def read(self, block):
        if block and self.idle and not self.current:
            sys.exit(0)
        super().read(block)


@fault("holds-open-after-idle", "idle")
class HoldsOpenAfterIdle(Runner):
    def take_idle(self, operation):
        pass


@rewrite("level-of-its-own", "log-level", of="log")
def level_of_its_own(_runner, event):
    yield {**event, "level": "fatal"}


@fault("stop-drops-the-queue", "stop-finishes")
class StopDropsTheQueue(Runner):
    def take_stop(self, operation):
        super().take_stop(operation)
        self.queue.clear()


@rewrite("carries-too-much", "carry", of="bye")
def carries_too_much(_runner, event):
    yield {**event, "carry": "x" * (9 << 20)}


@fault("concludes-nothing", "finish")
class ConcludesNothing(Runner):
    def take_finish(self, operation):
        sys.exit(0)


@fault("exits-without-bye", "bye-sent")
class ExitsWithoutBye(Runner):
    def bye(self):
        pass


@rewrite("bye-before-stop", "bye-sent", of="hello")
def bye_before_stop(_runner, event):
    yield event
    yield {"event": "bye"}


@rewrite("writes-after-bye", "bye-last", of="bye")
def writes_after_bye(_runner, event):
    yield event
    yield {"event": "log", "level": "info", "text": "one more thing"}


@fault("exits-non-zero", "exit-zero")
class ExitsNonZero(Runner):
    def status(self):
        return 1


@fault("stays-after-bye", "exit-zero")
class StaysAfterBye(Runner):
    def status(self):
        time.sleep(600)


def main(arguments):
    if arguments == ["--list-faults"]:
        for name, (rule, _) in FAULTS.items():
            print(name, rule)
        return 0
    if len(arguments) < 2 or arguments[0] != "--fault" or arguments[1] not in FAULTS:
        sys.exit("usage: bad.py --fault NAME [good.py's options] | --list-faults")
    return FAULTS[arguments[1]][1](*options(arguments[2:])).main()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
