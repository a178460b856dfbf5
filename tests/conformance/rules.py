"""The rules that a checker can see, and the record of which of them held.

Each rule quotes the sentence of docs/runner-protocol.md that it comes from; selftest.py fails when a quotation is no
longer in the document. A rule that was never exercised is reported as `unseen`, never as `ok`.
"""

RULES = {
    # Transport
    "connect-once": "The runner connects once.",
    "one-writer": "Only the process that connected may write",
    "utf8": "Both sides send UTF-8 JSON objects",
    "json-line": "JSON objects, one a line, ended by `\\n`",
    "line-length": "no line is longer than 16 MiB",
    "accepts-lines": "JSON objects, one a line, ended by `\\n`; no line is longer than 16 MiB",
    "known-event": "An operation or event with a name that the receiver does not know",
    "fields": "a missing field, a field of another type: a protocol error",
    "extra-field": "Unknown *additional* fields are ignored.",
    "protocol-error": "a protocol error, which ends the runner",
    # hello
    "hello-first": "**`hello`**, first, once, as soon as the framework is set up",
    "hello-protocol": "Version: **1**.",
    "hello-pid": "`pid` is the process that loads tests",
    "run-wide": "`max_fail` (a number), `junit` (a path, absolute or relative to the working directory)",
    "refused": "**`refused`** instead of `hello`, then exit",
    # listing
    "listed": "**`listed`**, the answer to `list`",
    "unit-unique": "A unit's name is unique within a listing",
    "unit-same": "the same in every process of a run",
    "unit-size": "`path` and `size` (bytes) are optional",
    # a lease's events
    "lease-known": "A **lease** is the right to run (a part of) one unit",
    "lease-order": "For each lease, in the order in which the leases came",
    "begin-first": "For each lease, in the order in which the leases came",
    "declare-first": "the cases that this lease will run, in their order, before any of them starts",
    "occurrence": "`n`, the occurrence where it is not 0, counted over the whole unit",
    "cases-same": "`n` is the occurrence: how many earlier cases of the unit have the same id",
    "slots-same": "how many slots the run has when this process starts",
    "lease-again": "named by an integer that is never used again in this process",
    "no-cases": "No cases: `\"cases\":[]`",
    "unloadable": "A unit that cannot be loaded declares one case whose id is the unit's name and ends it with outcome `error`",
    "start-declared": "is its position, from 0, in the declaration of its lease",
    "start-once": "For each case `{\"event\":\"start\",\"lease\":7,\"case\":0,\"at\":120}` and then `end`",
    "case-order": "the cases that this lease will run, in their order",
    "one-case": "One case at a time.",
    "start-reaches": "A `start` has reached the socket before the case's code runs",
    "end-started": "For each case `{\"event\":\"start\",\"lease\":7,\"case\":0,\"at\":120}` and then `end`",
    "end-once": "For each case `{\"event\":\"start\",\"lease\":7,\"case\":0,\"at\":120}` and then `end`",
    "outcome": "`outcome` is `passed`, `failed`",
    "message-line": "`message` (one line)",
    "surrogates": "lone surrogates are sent as U+FFFD",
    "close-complete": "every declared case has ended or was returned",
    "close-last": "For each lease, in the order in which the leases came",
    "at-monotonic": "whole microseconds on a monotonic clock whose origin the runner chooses; they never go back",
    # parts of a unit
    "only": "With `\"only\":[{\"id\":\"…\",\"n\":0},…]` just these cases",
    "only-order": "`only` runs in the unit's own order",
    "skip": "with `\"skip\":[…]` all but these",
    "instead": "Where `only` names a case that the unit does not have in this process, the last chunk has `\"instead\":[{\"id\":\"…\",\"n\":0},…]`",
    "grant": "A runner that can `grant` waits, between two cases, until the next one is granted or given back",
    "grant-waiting": "until the next one is granted or given back, and says so by `waiting`",
    # revoke
    "revoke-answered": "Answered by `returned`.",
    "returned-cases": "Give back every case of index ≥ `from` that has not started.",
    "returned-started": "Cases that had started when the revoke came are not in it.",
    "returned-runs": "The cases will not run here.",
    "returned-all": "nothing of the lease had been declared, and no other event for it follows",
    "revoke-closed": "A revoke for a lease that is closed or unknown is answered with an empty list.",
    "limit": "Unasked, when the limit of failures is reached by this process alone: it starts no further case",
    # between leases, and the end
    "waiting": "its tear-down depends on what comes next, and nothing is queued",
    "idle": "do not hold anything open for a next unit. More may still come.",
    "log-level": "levels `info`, `warning`, `error`, and `progress`",
    "stop-finishes": "Finish the queued leases, tear down what stays open",
    "bye-sent": "send `bye`, exit with status 0",
    "carry": "`carry` (a string of at most 8 MiB, for the process that concludes)",
    "finish": "It says `hello`, and is sent `{\"op\":\"finish\",\"carried\":[{\"slot\":0,\"carry\":\"…\"},…]}` with all that was carried, then `stop`. It answers with `bye`.",
    "bye-last": "**`bye`**: `{\"event\":\"bye\"}`, last, after `stop`.",
    "exit-zero": "send `bye`, exit with status 0",
}


def shorten(text, limit=160):
    return text if len(text) <= limit else text[:limit] + "…"


class Report:
    """What was seen of each rule over all scenarios."""

    def __init__(self):
        self.seen = set()
        self.breaches = {}
        self.unseen_because = {}

    def check(self, rule, holds, scenario, saw, line=""):
        if rule not in RULES:
            raise KeyError(rule)
        self.seen.add(rule)
        if not holds:
            at = f"; at: {shorten(line)}" if line else ""
            saw = " ".join(f"{saw} (scenario \"{scenario}\"{at})".split())
            self.breaches.setdefault(rule, []).append(saw)

    def unseen(self, rules, because):
        for rule in rules:
            self.unseen_because.setdefault(rule, because)

    def passed(self):
        return [rule for rule in RULES if rule in self.seen and rule not in self.breaches]

    def failed(self):
        return [rule for rule in RULES if rule in self.breaches]

    def lines(self):
        for rule, quotation in RULES.items():
            if rule in self.breaches:
                first, *more = self.breaches[rule]
                again = f" [and {len(more)} more]" if more else ""
                yield f"broken  {rule}: {first}{again}. The document says: “{quotation}”"
            elif rule in self.seen:
                yield f"ok      {rule}"
            else:
                yield f"unseen  {rule}: {self.unseen_because.get(rule, 'nothing that the runner did shows it')}"
        yield f"{len(self.passed())} passed, {len(self.failed())} failed"
