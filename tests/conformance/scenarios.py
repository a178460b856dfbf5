"""The scenarios: what the agent's side sends, each in a fresh runner process.

`survey` goes first and finds the units and their cases; the others compare with it.
"""

import os
import time

from rules import RULES
from session import Abandoned, Session, encode
from stalls import Stalls

REVOKES = ("revoke-answered", "returned-cases", "returned-started", "returned-runs", "returned-all", "revoke-closed")
LISTS = ("listed", "unit-unique", "unit-same", "unit-size")
PADDING = 15 * 1024 * 1024
ENOUGH_SILENCE = 3


class NothingToRun(Exception):
    """There is no unit to check with: bad usage, not a fault of the runner."""


class Conformance:
    """The state that scenarios share: what the survey found, and the record."""

    def __init__(self, command, cwd, timeout, units, report, fail_fast=False):
        self.command, self.cwd, self.timeout, self.report = command, cwd, timeout, report
        self.units, self.fail_fast = units, fail_fast
        self.catalogue = {}
        self.listed = []
        self.can = None
        self.finish, self.carry = False, None
        self.timings = []
        self.stalls = Stalls()
        self.log_tail = ""

    def session(self, scenario, **place):
        seen_units = set()

        def expect(lease):
            full = self.catalogue.get(lease.unit)
            again = lease.unit in seen_units
            seen_units.add(lease.unit)
            if full is None:
                return None
            if lease.only is not None:
                wanted = pairs(lease.only)
                return "lease-again" if again else "only", [case for case in full if case in wanted]
            if lease.skip is not None:
                cases = [case for case in full if case not in pairs(lease.skip)]
                return "no-cases" if not cases else "skip", cases
            return "lease-again" if again else "slots-same" if "slots" in place else "cases-same", full

        return Session(self.command, self.cwd, self.timeout, self.report, scenario, expect, self.timings, **place)

    def run(self):
        """Goes through all scenarios, until the runner has been silent in too many."""
        silent = 0
        for scenario in SCENARIOS:
            name = scenario.__doc__.split(":", 1)[0]
            try:
                scenario(self, name)
            except Abandoned as abandoned:
                silent += abandoned.silent
            if self.can is None:
                self.report.unseen(RULES, "no process said `hello`")
                return
            if not self.catalogue:
                self.report.unseen(RULES, "no unit ran to its end in the first scenario")
                return
            if silent >= ENOUGH_SILENCE:
                self.report.unseen(RULES, f"given up after {silent} scenarios in which the runner was silent")
                return
            if self.fail_fast and self.report.failed():
                self.report.unseen(RULES, f"stopped at the scenario \"{name}\", the first that broke a rule")
                return
        self.judge_timings()

    def judge_timings(self):
        """A case that took 40 ms by the runner's clock must not arrive as start and end at once. One late wake-up of
        this checker looks the same, so that three of them and half of all must, and none while the machine stalled."""
        long_cases = [(took, seen) for took, seen, at in self.timings if took >= 40_000 and not self.stalls.touches(at - took, at)]
        if len(long_cases) < 3:
            self.report.unseen(["start-reaches"], "fewer than three cases ran for 40 ms")
            return
        late = [(took, seen) for took, seen in long_cases if seen < took // 2]
        took, seen = late[0] if late else (0, 0)
        self.report.check("start-reaches", len(late) < 3 or 2 * len(late) < len(long_cases), "all",
                          f"{len(late)} of {len(long_cases)} cases of 40 ms and more: `start` was held back; one ran {took} us and its `end` came {seen} us after its `start`")

    def largest(self):
        return max(self.catalogue, key=lambda unit: len(self.catalogue[unit]))

    def other(self, unit):
        return next((name for name in self.catalogue if name != unit), unit)


def pairs(parts):
    return {(part["id"], part.get("n", 0)) for part in parts}


def parts(cases):
    return [{"id": name, "n": occurrence} for name, occurrence in cases]


def every_other(cases):
    """Every other case; where an id occurs twice, the second one and not the first."""
    wanted = set(cases[1::2])
    repeated = next((case for case in cases if case[1] > 0), None)
    if repeated:
        wanted.add(repeated)
        wanted.discard((repeated[0], 0))
    return [case for case in cases if case in wanted]


def run_op(lease, unit, **fields):
    return {"op": "run", "lease": lease, "unit": unit, **fields}


def survey(check, name):
    """units one by one: list, then run every unit, the next one queued ahead; a revoke of what is closed; idle; stop."""
    with check.session(name) as session:
        try:
            session.greet()
            check.can = session.ledger.hello["can"]
            if "list" in check.can:
                check.listed = session.list()
                check.units = check.units or check.listed
            else:
                check.report.unseen(LISTS, "`can` has no \"list\"")
            if not check.units:
                raise NothingToRun("list" in check.can)
            leases = [run_op(number, unit) for number, unit in enumerate(check.units, 1)]
            session.send(leases[0])
            for position, lease in enumerate(leases):
                number = lease["lease"]
                session.wait(lambda: session.ledger.leases[number].phase != "queued", "begin-first", f"`begin` of lease {number}")
                if position + 1 < len(leases):
                    session.send(leases[position + 1])
                session.wait(session.ledger.leases[number].done if position + 1 < len(leases) else
                             lambda: session.ledger.all_closed() or session.ledger.waiting, "close-last", f"`close` of lease {number}, or `waiting`")
            session.send({"op": "idle"})
            session.wait_closed("idle")
            if "revoke" in check.can:
                for number in (1, len(leases) + 1000):
                    session.send({"op": "revoke", "lease": number, "from": 0})
                    session.wait(session.ledger.all_answered, "revoke-answered", f"`returned` for lease {number}")
            else:
                check.report.unseen(REVOKES, "`can` has no \"revoke\"")
            session.stop()
        finally:
            check.log_tail = session.log_tail()
            check.catalogue = {lease.unit: list(lease.cases) for lease in session.ledger.leases.values() if lease.phase == "closed"}
            check.units = list(check.catalogue)


def compare_listings(check, session, rule):
    first, now = set(check.listed), set(session.list())
    session.rule(rule, now == first, f"against the first process, this one lists {sorted(now - first)[:3]} more and {sorted(first - now)[:3]} not")


def all_at_once(check, name):
    """all at once, then more: a second process lists the same; units in one write with idle behind; then single ones."""
    with check.session(name) as session:
        session.greet()
        if "list" in check.can:
            compare_listings(check, session, "unit-same")
        first, *rest = check.units
        # Where a case says `waiting`, first a `run` answers it and then the `stop`.
        leases = [run_op(number, unit) for number, unit in enumerate(rest or [first], 1)]
        session.send(*leases, {"op": "idle"})
        session.wait_closed("idle")
        for number, unit in enumerate((first, check.other(first)), len(leases) + 1):
            session.send(run_op(number, unit))
            session.wait(lambda: session.ledger.all_closed() or session.ledger.waiting, "idle", "`close` of the lease that came after `idle`, or `waiting`")
        session.stop()


def only_some(check, name):
    """only: about every other case, named in reverse order; then the other ones, in the same process."""
    unit = check.largest()
    cases = check.catalogue[unit]
    if len(cases) < 2:
        check.report.unseen(["only", "only-order"], "no unit has two cases")
        return
    wanted = every_other(cases)
    if len(wanted) < 2:
        check.report.unseen(["only-order"], "no unit has four cases")
    with check.session(name) as session:
        session.greet()
        session.send(run_op(1, unit, only=parts(reversed(wanted))), {"op": "idle"})
        session.wait_closed()
        session.send(run_op(2, unit, only=parts(case for case in cases if case not in wanted)), {"op": "idle"})
        session.wait_closed("lease-again")
        session.stop()


def skip_some(check, name):
    """skip: all but every other case; and a unit of which all is skipped."""
    unit = check.largest()
    cases = check.catalogue[unit]
    other = check.other(unit)
    with check.session(name) as session:
        session.greet()
        leases = [run_op(2, other, skip=parts(check.catalogue[other]))]
        if len(cases) > 1:
            leases.insert(0, run_op(1, unit, skip=parts(cases[1::2])))
        else:
            check.report.unseen(["skip"], "no unit has two cases")
        session.send(*leases, {"op": "idle"})
        session.wait_closed()
        session.stop()


def revoke_queued(check, name):
    """revoke of queued leases: three in one write; the second is given back whole, the third in part."""
    if "revoke" not in check.can:
        return
    unit = check.largest()
    other = check.other(unit)
    with check.session(name) as session:
        session.greet()
        session.send(run_op(1, unit), run_op(2, other), run_op(3, other if other != unit else unit),
                     {"op": "revoke", "lease": 2, "from": 0}, {"op": "revoke", "lease": 3, "from": 1}, {"op": "idle"})
        session.wait_closed()
        session.wait(session.ledger.all_answered, "revoke-answered", "an answer to each revoke")
        session.stop()


def revoke_running(check, name):
    """revoke of a running lease: twice while its first case runs; what came back runs as a lease of its own."""
    if "revoke" not in check.can:
        return
    unit = check.largest()
    cases = check.catalogue[unit]
    with check.session(name) as session:
        session.greet()
        session.send(run_op(1, unit))
        lease = session.ledger.leases[1]
        session.wait(lambda: "open" in lease.states or "ended" in lease.states or lease.done(), "declare-first", "the first `start` of lease 1")
        session.send({"op": "revoke", "lease": 1, "from": max(1, len(cases) - 1)}, {"op": "revoke", "lease": 1, "from": 1})
        session.wait(session.ledger.all_answered, "revoke-answered", "an answer to each revoke of the running lease")
        session.send({"op": "idle"})
        session.wait_closed()
        left = [cases[index] for index, state in enumerate(lease.states) if state == "returned" and index < len(cases)]
        if left:
            session.send(run_op(2, unit, only=parts(left)), {"op": "idle"})
            session.wait_closed("lease-again")
        else:
            check.report.unseen(["returned-started", "returned-runs"], "all cases were through before the revoke came")
        session.stop()


def stop_with_queue(check, name):
    """stop with leases queued: up to three units and stop in one write."""
    with check.session(name) as session:
        session.greet()
        session.send(*(run_op(number, unit) for number, unit in enumerate(check.units[:3], 1)))
        session.stop()


def stop_at_once(check, name):
    """stop at once: nothing ran."""
    with check.session(name) as session:
        session.greet()
        session.stop()


def unknown_operation(check, name):
    """unknown operation: an `op` that version 1 does not have."""
    with check.session(name) as session:
        session.greet()
        session.refuse_operation({"op": "evenkeel-no-such-op"})


def missing_field(check, name):
    """missing field: a `run` without its unit."""
    with check.session(name) as session:
        session.greet()
        session.refuse_operation({"op": "run", "lease": 1})


def wrong_type(check, name):
    """wrong type: a `run` whose lease is a string."""
    with check.session(name) as session:
        session.greet()
        session.ledger.sent([run_op(1, check.units[0])])  # a runner that takes it breaks one rule, not two
        session.refuse_operation({"op": "run", "lease": "1", "unit": check.units[0]})


def additional_field(check, name):
    """additional fields: operations with fields that version 1 does not have."""
    more = {"x_evenkeel_check": {"any": [1, None, "é"]}}
    with check.session(name) as session:
        session.greet()
        session.send(run_op(1, check.units[0], **more), {"op": "idle", **more})
        session.wait_closed("extra-field")
        session.stop()


def long_lines(check, name):
    """long and cut lines: an operation in three writes, cut inside a character; then a line of 15 MiB."""
    with check.session(name) as session:
        session.greet()
        unit = check.units[0]
        short = run_op(1, unit, skip=[{"id": "no such case é", "n": 0}])
        data = encode(short)
        cut = data.index("é".encode()) + 1
        session.ledger.sent([short])
        for piece in (data[:5], data[5:cut], data[cut:]):
            session.send_bytes(piece)
            session.pump()
        session.send({"op": "idle"})
        session.wait_closed("accepts-lines")
        unit = check.other(unit)
        session.send(run_op(2, unit, skip=[{"id": f"no such case {index} " + "x" * (1 << 20), "n": 0} for index in range(PADDING >> 20)]), {"op": "idle"})
        session.wait_closed("accepts-lines")
        session.stop()


def second_slot(check, name):
    """second slot of two: with EVENKEEL_SLOTS=2 units and cases are the same."""
    with check.session(name, slot=1, slots=2) as session:
        session.greet()
        if "list" in check.can:
            compare_listings(check, session, "slots-same")
        session.send(run_op(1, check.largest()), {"op": "idle"})
        session.wait_closed()
        session.stop()
        check.finish, check.carry = session.ledger.hello.get("finish", False), session.ledger.carry


def conclusion(check, name):
    """the process that concludes: it hears what the second slot carried, runs nothing and says what it has to say."""
    if not check.finish:
        check.report.unseen(["finish"], "no process asked for one that concludes")
        return
    with check.session(name, slots=2, role="finish") as session:
        session.greet()
        carried = [] if check.carry is None else [{"slot": 1, "carry": check.carry}]
        session.send({"op": "finish", "carried": carried}, {"op": "stop"})
        session.wait(lambda: session.ledger.bye, "finish", "`bye`, after `finish` and `stop`")
        session.await_end()
        session.rule("exit-zero", session.status == 0, f"after `bye`: {session.farewell()}")


def granted(check, name):
    """grants: one case of the largest unit, a moment later the others."""
    unit = check.largest()
    if "grant" not in check.can or len(check.catalogue[unit]) < 2:
        check.report.unseen(["grant"], "`can` has no \"grant\"" if "grant" not in check.can else "no unit has two cases")
        return
    with check.session(name) as session:
        session.greet()
        session.send(run_op(1, unit, grant=1), {"op": "idle"})
        lease = session.ledger.leases[1]
        session.wait(lambda: "open" in lease.states or "ended" in lease.states, "declare-first", "the first `start` of lease 1")
        # A runner that goes on does so at once, behind a case of a known length.
        until = time.monotonic() + 0.3 + max((seen for _, seen, _ in check.timings), default=0) / 1e6
        while time.monotonic() < until:
            session.pump()
        session.rule("grant-waiting", lease.waits_for_grant, "its first case is done, the next not granted, and it does not say that it waits")
        session.send({"op": "grant", "lease": 1, "to": len(check.catalogue[unit])})
        session.wait_closed("grant")
        session.stop()


def limit_reached(check, name):
    """a limit of one failure: a unit that is not there is one; what is queued behind it comes back unasked."""
    with check.session(name, limit=1) as session:
        session.greet()
        session.send(run_op(1, absent(check)), run_op(2, check.largest()), {"op": "idle"})
        session.wait_closed()
        if not session.ledger.stopped_by_limit:
            check.report.unseen(["limit"], "it goes on and leaves the limit to the agent")
        session.stop()


def missing_case(check, name):
    """a case that is not there: it is not declared, and the unit's own are named instead."""
    unit = check.largest()
    cases = check.catalogue[unit]
    if not cases:
        check.report.unseen(["instead"], "no unit has a case")
        return
    with check.session(name) as session:
        session.greet()
        session.send(run_op(1, unit, only=[{"id": f"{unit} no such case", "n": 0}, *parts(cases[:1])]), {"op": "idle"})
        session.wait_closed()
        named = session.ledger.leases[1].instead
        due = parts(cases[:1000])
        seen = named and [{"id": case["id"], "n": case.get("n", 0)} for case in named]
        session.rule("instead", seen == due, f"{named and named[:3]} where {due[:3]} was due")
        session.stop()


def absent(check):
    root, extension = os.path.splitext(check.units[0])
    return f"{root}_evenkeel_missing{extension}"


def missing_unit(check, name):
    """a unit that is not there: it is one case, an error, and the next unit runs."""
    gone = absent(check)
    with check.session(name) as session:
        session.greet()
        session.send(run_op(1, gone), run_op(2, check.units[0]), {"op": "idle"})
        session.wait_closed("unloadable")
        lease = session.ledger.leases[1]
        session.rule("unloadable", lease.cases == [(gone, 0)], f"the unit {gone!r} declares {lease.cases[:3]} (as (id, n))")
        session.rule("unloadable", lease.outcomes.get(0) == "error", f"the unit {gone!r} ends with outcome {lease.outcomes.get(0)!r}")
        session.stop()


SCENARIOS = (survey, all_at_once, only_some, skip_some, revoke_queued, revoke_running, stop_with_queue, stop_at_once,
             unknown_operation, missing_field, wrong_type, additional_field, long_lines, second_slot, conclusion, granted, limit_reached, missing_case, missing_unit)
