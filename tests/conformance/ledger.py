"""What one runner process was sent and what it said: the order rules of the protocol as a state machine.

It does no IO. session.py feeds it; every rule it judges goes to the Report. After a breach it goes on as well as it can.
"""

import os

import shapes

OUTCOMES = ("passed", "failed", "error", "skipped")
REASONS = ("usage", "unsupported", "broken", "build")
LEVELS = ("info", "warning", "error", "progress")
MOST_CARRIED = 8 * 1024 * 1024


class Lease:
    """phase: queued, begun, closed, or gone (given back whole). A case's state: declared, open, ended, returned."""

    def __init__(self, number, unit, only, skip, batch):
        self.number, self.unit, self.only, self.skip, self.batch = number, unit, only, skip, batch
        self.phase = "queued"
        self.cases, self.states, self.outcomes = [], [], {}
        self.complete = False
        self.instead = None
        self.granted = None
        self.waits_for_grant = False
        self.revokes = []

    def unfinished(self):
        return [index for index, state in enumerate(self.states) if state in ("declared", "open")]

    def lacks_grant(self):
        """Whether its next case may not start."""
        first = next((index for index, state in enumerate(self.states) if state == "declared"), None)
        return self.granted is not None and first is not None and first >= self.granted

    def being_given_back(self):
        return self.phase == "queued" and 0 in self.revokes

    def done(self):
        return self.phase in ("closed", "gone")


class Ledger:
    def __init__(self, report, scenario, expect, timings, owns, limit=None):
        """`limit`: how many failures the runner was told to stop after. `expect(lease)` gives the rule and the cases that the lease must declare, or None while nothing is known;
        `owns(pid)` says whether a pid belongs to the runner; `timings` collects (us by the runner, us as received, when)."""
        self.report, self.scenario, self.expect, self.timings, self.owns = report, scenario, expect, timings, owns
        self.leases = {}
        self.strangers = {}
        self.batch = 0
        self.last_wish = ("none", 0)
        self.hello = self.refused = None
        self.units, self.listing = [], "none"
        self.stopped = self.bye = False
        self.open = None
        self.waiting = False
        self.at = 0
        self.line = ""
        self.started_at = (0, 0)
        self.limit, self.failures = limit, 0
        self.stopped_by_limit = False
        self.halted = False
        self.carry = None

    def rule(self, rule, holds, saw):
        self.report.check(rule, holds, self.scenario, saw, self.line)
        return holds

    # What the agent's side sends

    def sent(self, operations):
        self.batch += 1
        for operation in operations:
            name = operation["op"]
            if name == "run":
                number = operation["lease"]
                self.leases[number] = Lease(number, operation["unit"], operation.get("only"), operation.get("skip"), self.batch)
                self.leases[number].granted = operation.get("grant")
            elif name == "grant":
                self.leases[operation["lease"]].granted = operation["to"]
            elif name == "revoke":
                number = operation["lease"]
                queue = self.leases[number].revokes if number in self.leases else self.strangers.setdefault(number, [])
                queue.append(operation["from"])
            elif name == "list":
                self.listing = "asked"
            elif name == "stop":
                self.stopped = True
            if name in ("run", "idle", "stop"):
                self.last_wish = (name, self.batch)
                self.waiting = False

    def all_closed(self):
        return all(lease.done() for lease in self.leases.values())

    def all_answered(self):
        return not any(lease.revokes for lease in self.leases.values()) and not any(self.strangers.values())

    # What the runner says

    def received(self, event, line, seen_us):
        """Judges one decoded line."""
        self.line = line
        if self.bye:
            self.rule("bye-last", False, "an event after `bye`")
        name = event.get("event")
        if not self.rule("known-event", isinstance(name, str) and name in shapes.EVENTS, f"event {name!r}"):
            return
        self.rule("surrogates", "\\u" not in line or not lone_surrogate(event), "a lone surrogate in a text")
        wrong = shapes.EVENTS[name](event)
        if not self.rule("fields", wrong is None, f"event {name!r} {wrong}"):
            return
        if name not in ("hello", "refused"):
            self.rule("hello-first", self.hello is not None, f"{name!r} came before `hello`")
        if "at" in event:
            self.rule("at-monotonic", event["at"] >= self.at, f"`at` went back from {self.at} to {event['at']}")
            self.at = max(self.at, event["at"])
        getattr(self, "on_" + name)(event, seen_us)

    def on_hello(self, event, _seen):
        self.rule("hello-first", self.hello is None, "a second `hello`")
        self.rule("hello-protocol", event["protocol"] == 1, f"protocol {event['protocol']}")
        self.rule("hello-pid", self.owns(event["pid"]), f"pid {event['pid']} is not a live process below the one that was started")
        if event["run_wide"]:
            junit = event["run_wide"].get("junit", "")
            self.rule("run-wide", not os.path.isabs(junit), f"`junit` is the absolute path {junit!r}")
        self.hello = event

    def on_refused(self, event, _seen):
        self.rule("refused", event["reason"] in REASONS, f"reason {event['reason']!r}, not one of {', '.join(REASONS)}")
        self.rule("refused", self.hello is None or self.listing == "asked", "`refused` after `hello`, and not as the answer to `list`")
        self.refused = event

    def on_listed(self, event, _seen):
        if not self.rule("listed", self.listing == "asked", "`listed` that was not asked for, or after its last chunk"):
            return
        known = {unit["unit"] for unit in self.units}
        for unit in event["units"]:
            self.rule("unit-unique", unit["unit"] not in known, f"unit {unit['unit']!r} is listed twice")
            known.add(unit["unit"])
            path = unit.get("path")
            if "size" in unit and path and os.path.isabs(path) and os.path.isfile(path):
                size = os.path.getsize(path)
                self.rule("unit-size", unit["size"] == size, f"size {unit['size']} for {path!r}, which has {size} bytes")
        self.units += event["units"]
        if not event["more"]:
            self.listing = "done"

    def lease_of(self, event):
        """The lease that an event is about, where it may have events now."""
        number, name = event["lease"], event["event"]
        lease = self.leases.get(number)
        if not self.rule("lease-known", lease is not None, f"{name!r} for lease {number}, which was never given"):
            return None
        if lease.phase == "gone":
            self.rule("returned-all", False, f"{name!r} for lease {number}, which was given back whole")
            return None
        if not self.rule("close-last", lease.phase != "closed", f"{name!r} for lease {number} after its `close`"):
            return None
        if name == "begin":
            self.rule("begin-first", lease.phase == "queued", f"a second `begin` for lease {number}")
        elif not self.rule("begin-first", lease.phase == "begun", f"{name!r} for lease {number} before its `begin`"):
            return None
        return lease

    def earlier(self, lease):
        """The leases that came before; one whose revoke is on its way may be gone already."""
        for other in self.leases.values():
            if other is lease:
                return
            if not other.being_given_back():
                yield other

    def on_begin(self, event, _seen):
        lease = self.lease_of(event)
        if lease:
            before = [other.number for other in self.earlier(lease) if not other.done()]
            self.rule("lease-order", not before, f"lease {lease.number} begins while lease {before}, which came first, is not closed")
            lease.phase = "begun"

    def on_declare(self, event, _seen):
        lease = self.lease_of(event)
        if not lease or not self.rule("declare-first", not lease.complete, f"`declare` for lease {lease.number} after its last chunk"):
            return
        for case in event["cases"]:
            lease.cases.append((case, 0) if isinstance(case, str) else (case["id"], case.get("n", 0)))
            lease.states.append("declared")
        if not event["more"]:
            lease.complete = True
            lease.instead = event.get("instead")
            self.judge_declared(lease)

    def judge_declared(self, lease):
        if lease.only is None and lease.skip is None:
            counts = {}
            for name, occurrence in lease.cases:
                earlier = counts.get(name, 0)
                self.rule("occurrence", occurrence == earlier, f"case {name!r} has n={occurrence} after {earlier} of the same id")
                counts[name] = earlier + 1
        expected = self.expect(lease)
        if expected is None:
            return
        rule, cases = expected
        if sorted(lease.cases) != sorted(cases):
            if rule in ("only", "skip") and sorted(name for name, _ in lease.cases) == sorted(name for name, _ in cases):
                rule = "occurrence"
            missing = [case for case in cases if case not in lease.cases]
            surplus = [case for case in lease.cases if case not in cases]
            self.rule(rule, False, f"lease {lease.number} of {lease.unit!r} declares {len(lease.cases)} cases where {len(cases)} were due; "
                                   f"missing {missing[:3]}, surplus {surplus[:3]} (as (id, n))")
            return
        self.rule(rule, True, "")
        if rule == "only" and len(cases) > 1 or rule != "only":
            rule = "only-order" if rule == "only" else rule
            self.rule(rule, lease.cases == cases, f"lease {lease.number} of {lease.unit!r} declares its cases in another order than the unit's: "
                                                  f"{lease.cases[:4]} for {cases[:4]}")

    def case_of(self, lease, event):
        index = event["case"]
        if self.rule("start-declared", index < len(lease.states), f"case {index} of lease {lease.number}, which declared {len(lease.states)}"):
            return index
        return None

    def on_start(self, event, seen):
        lease = self.lease_of(event)
        if not lease:
            return
        self.rule("declare-first", lease.complete, f"a case of lease {lease.number} starts before the last `declare`")
        index = self.case_of(lease, event)
        if index is None:
            return
        self.rule("one-case", self.open is None, f"case {index} of lease {lease.number} starts while {named(self.open)} is open")
        state = lease.states[index]
        if state == "returned":
            self.rule("returned-runs", False, f"case {index} of lease {lease.number} starts after it was returned")
            return
        if not self.rule("start-once", state == "declared", f"case {index} of lease {lease.number} starts a second time"):
            return
        if lease.granted is not None:
            self.rule("grant", index < lease.granted, f"case {index} of lease {lease.number} starts with {lease.granted} granted")
        self.rule("limit", not self.stopped_by_limit, f"case {index} of lease {lease.number} starts after the limit was reached")
        first = lease.states.index("declared")
        self.rule("case-order", index == first, f"case {index} of lease {lease.number} starts before case {first}")
        lease.states[index] = "open"
        self.open = (lease.number, index)
        self.started_at = (event["at"], seen)

    def on_end(self, event, seen):
        self.rule("outcome", event["outcome"] in OUTCOMES, f"outcome {event['outcome']!r}, not one of {', '.join(OUTCOMES)}")
        if "message" in event:
            self.rule("message-line", "\n" not in event["message"], "a `message` with a line break")
        if self.open and not self.rule("end-started", self.open[0] == event["lease"], f"`end` for lease {event['lease']} while {named(self.open)} is open"):
            return
        lease = self.lease_of(event)
        index = self.case_of(lease, event) if lease else None
        if index is None:
            return
        state = lease.states[index]
        self.rule("end-once", state != "ended", f"case {index} of lease {lease.number} ends a second time")
        self.rule("end-started", state in ("open", "ended"), f"case {index} of lease {lease.number} ends and has not started")
        lease.states[index] = "ended"
        lease.outcomes[index] = event["outcome"]
        self.failures += event["outcome"] in ("failed", "error")
        if self.open == (lease.number, index):
            self.timings.append((event["at"] - self.started_at[0], seen - self.started_at[1], seen))
            self.open, self.waiting = None, False

    def on_close(self, event, _seen):
        lease = self.lease_of(event)
        if not lease:
            return
        left = lease.unfinished()
        self.rule("close-complete", lease.complete and not left,
                  f"lease {lease.number} closes " + (f"with cases {left[:5]} neither ended nor returned" if lease.complete else "and its declaration is not complete"))
        lease.phase = "closed"
        if "returned" in lease.states:
            self.rule("returned-runs", True, "")
        if self.open and self.open[0] == lease.number:
            self.open = None

    def on_returned(self, event, _seen):
        number, given, everything = event["lease"], event["cases"], event["all"]
        lease = self.leases.get(number)
        queue = lease.revokes if lease else self.strangers.get(number)
        if lease and not queue and not lease.done() and (self.limit or self.halted):
            reached = self.failures + (self.open is not None)  # the case that decides may not have ended yet
            self.rule("limit", self.halted or reached >= self.limit, f"lease {number} is given back unasked after {self.failures} failures")
            self.stopped_by_limit = True
            queue = [0]
        if not self.rule("revoke-answered", bool(queue), f"`returned` for lease {number} without a revoke to answer"):
            return
        start = queue.pop(0)
        if lease is None or lease.done():
            what = "unknown" if lease is None else "closed"
            self.rule("revoke-closed", not given and not (everything and lease), f"the revoke for the {what} lease {number} is answered with cases {given[:5]}, all {everything}")
        elif lease.phase == "queued":
            if self.rule("returned-all", start == 0 and everything and not given,
                         f"lease {number} had not begun and was revoked from {start}; the answer is cases {given[:5]}, all {everything}"):
                lease.phase = "gone"
        else:
            self.rule("returned-all", not everything, f"\"all\":true for lease {number}, which had begun")
            self.rule("returned-cases", lease.complete, f"lease {number} answers a revoke before it has declared its cases")
            started = [index for index in given if index < len(lease.states) and lease.states[index] in ("open", "ended")]
            if "open" in lease.states or "ended" in lease.states:
                self.rule("returned-started", not started, f"cases {started[:5]} of lease {number} are returned and had started")
            due = [index for index, state in enumerate(lease.states) if index >= start and state == "declared"]
            if "batch" in self.hello["can"]:  # what is in a batch may be kept, but nothing behind it
                due = [index for index in due if given and index >= min(given)]
            self.rule("returned-cases", sorted(given) == sorted(due + started), f"lease {number}, revoked from {start}, returns {given[:8]} where {due[:8]} had not started")
            for index in set(given) & set(due):
                lease.states[index] = "returned"

    def on_waiting(self, event, _seen):
        lease = self.lease_of(event)
        if not lease:
            return
        if lease.lacks_grant():
            ended = event["case"] < len(lease.states) and lease.states[event["case"]] in ("open", "ended")
            self.rule("grant-waiting", ended, f"`waiting` for case {event['case']} of lease {lease.number}, which has not run")
            lease.waits_for_grant = True
            return
        self.rule("waiting", self.open == (lease.number, event["case"]), f"`waiting` for case {event['case']} of lease {lease.number} while {named(self.open)} is open")
        behind = [other.number for other in self.leases.values()
                  if other.phase == "queued" and not other.revokes and other.number > lease.number and other.batch <= lease.batch]
        self.rule("waiting", not behind, f"`waiting` while lease {behind} was queued before this one began")
        wish, batch = self.last_wish
        self.rule("idle", not (wish in ("idle", "stop") and batch <= lease.batch), f"`waiting` after {wish!r}, with nothing more to come")
        self.waiting = True

    def on_halt(self, _event, _seen):
        self.halted = True

    def on_log(self, event, _seen):
        self.rule("log-level", event["level"] in LEVELS, f"level {event['level']!r}, not one of {', '.join(LEVELS)}")

    def on_warnings(self, _event, _seen):
        pass

    def on_bye(self, event, _seen):
        self.rule("bye-sent", self.stopped, "`bye` and nobody sent `stop`")
        left = [lease.number for lease in self.leases.values() if not lease.done()]
        self.rule("stop-finishes", not left, f"`bye` while lease {left} is not closed")
        if not self.all_answered():
            self.rule("revoke-answered", False, "`bye`, and a revoke has no answer")
        if "carry" in event:
            self.carry = event["carry"]
            self.rule("carry", len(self.carry) <= MOST_CARRIED, f"`carry` has {len(self.carry)} characters")
        self.bye = True


def named(place):
    return f"case {place[1]} of lease {place[0]}" if place else "no case"


def lone_surrogate(value):
    """Whether a text in a decoded line cannot be written as UTF-8."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return True
        return False
    if isinstance(value, dict):
        return any(lone_surrogate(key) or lone_surrogate(item) for key, item in value.items())
    return isinstance(value, list) and any(map(lone_surrogate, value))
