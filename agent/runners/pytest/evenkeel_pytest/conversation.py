"""The conversation with the agent: what it wants, what it is told.

Owns the leases that wait, and the answers that need no pytest (the listing, what goes back). Running a lease is slot.py's.
PYTEST_DONT_REWRITE
"""

import collections
import contextlib
import os
import signal

from .text import CHUNK, TEXT_LIMIT, clean, cut, dumps, loads
from .units import Lease
from .wire import now

FAREWELL_SECONDS = 10  # what the tear-down may take after the agent has gone
BROKEN = 3  # exit status where the slot cannot go on; pytest's own "internal error"


def typed(value, kind):
    if type(value) is not kind:
        raise TypeError(f"{value!r} should be of type {kind.__name__}")
    return value


def case_keys(cases):
    if cases is None:
        return None
    return {(typed(case["id"], str), typed(case.get("n", 0), int)) for case in typed(cases, list)}


class Conversation:
    def __init__(self, wire, units, let_go):
        self.wire = wire
        self.units = units  # by name
        self.let_go = let_go  # gives back what fixtures hold, when the agent has gone
        self.queue = collections.deque()
        self.lease = None  # the one at work
        self.idle = False
        self.stopping = False
        self.listing = False  # units are to be named as they are found
        self.listed = 0  # how many have been
        self.full = False  # enough has failed, or pytest was told to stop: no lease is begun any more
        self.told = False  # that this slot waits, since the last word from the agent
        self.carried = None  # what the other processes left, for the one that concludes the run
        self.gone = False  # nothing more is to be said

    def receive(self, wait):
        """Takes what the agent has sent. Everything that waits to be sent goes out before the slot itself waits."""
        try:
            if wait:
                self.wire.flush()
            for line in self.wire.receive(wait):
                self.obey(line)
        except (EOFError, OSError):
            self.leave()

    def send(self, line=""):
        try:
            self.wire.push(line)
            self.wire.flush()
        except OSError:
            self.leave()

    def obey(self, line):
        try:
            operation = loads(line.decode("utf-8"))
            name = operation["op"]
            if name in ("run", "grant", "idle"):
                self.told = False
            if name == "run":
                wanted = typed(operation["unit"], str)
                only, skip = (case_keys(operation.get(field)) for field in ("only", "skip"))
                lease = Lease(typed(operation["lease"], int), wanted, only, skip)
                if "grant" in operation:
                    lease.granted = typed(operation["grant"], int)
                if self.full:
                    self.return_whole(lease)
                else:
                    self.queue.append(lease)
                self.idle = False
            elif name == "grant":
                self.grant(typed(operation["lease"], int), typed(operation["to"], int))
            elif name == "revoke":
                self.revoke(typed(operation["lease"], int), typed(operation["from"], int))
            elif name == "list":
                self.listing = True
            elif name == "idle":
                self.idle = True
            elif name == "finish":
                self.carried = typed(operation["carried"], list)
            elif name == "stop":
                self.stopping = True
            else:
                raise ValueError(f"no such operation: {name}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.say("error", f"protocol error: {type(error).__name__}: {error} in {line[:200]!r}")
            self.leave()

    def list_units(self, more):
        """Names the units that have been found since the last time."""
        entries = []
        found = list(self.units.values())
        for unit in found[self.listed :]:
            entry = {"unit": unit.name, "path": clean(unit.path)}
            with contextlib.suppress(OSError):
                entry["size"] = os.stat(unit.path).st_size
            entries.append(dumps(entry))
        self.listed = len(found)
        self.listing = more
        if entries or not more:
            self.push_list('{"event":"listed","units":[', entries, more=more)
        self.send()

    def push_list(self, head, entries, tail="", more=False):
        """Takes a list to send, in chunks where it is long. `tail`: further fields of the last chunk; `more`: it is not the last."""
        chunk, size = [], 0
        for entry in entries:
            if size > CHUNK:
                self.wire.push(f'{head}{",".join(chunk)}],"more":true}}\n')
                chunk, size = [], 0
            chunk.append(entry)
            size += len(entry)
        self.wire.push(f'{head}{",".join(chunk)}],"more":{dumps(more)}{tail}}}\n')

    def grant(self, number, to):
        for lease in (self.lease, *self.queue):
            if lease is not None and lease.number == number:
                lease.granted = to

    def await_grant(self, lease):
        """Returns when the lease's next case may start, or nothing is left of it."""
        while lease.granted <= lease.next < lease.limit:
            self.tell_waiting(lease)
            self.receive(wait=True)

    def tell_waiting(self, lease):
        """The case at work, if there is one, cannot come to its end before the agent has said what comes next."""
        if not self.told and lease.next > 0:
            self.told = True
            self.wire.push(f'{{"event":"waiting","lease":{lease.number},"case":{lease.next - 1},"at":{now()}}}\n')

    def revoke(self, number, start):
        lease = self.lease
        if lease is not None and lease.number == number:
            if lease.cases is None:
                lease.revokes.append(start)
            else:
                self.give_back(lease, start)
            return
        for lease in self.queue:
            if lease.number == number:
                if start > 0:
                    lease.revokes.append(start)  # which cases these are shows when the unit is loaded
                else:
                    self.queue.remove(lease)
                    self.return_whole(lease)
                return
        self.send(f'{{"event":"returned","lease":{number},"cases":[],"all":false}}\n')

    def return_whole(self, lease):
        self.send(f'{{"event":"returned","lease":{lease.number},"cases":[],"all":true}}\n')

    def halt(self, reason):
        """The whole run is to end."""
        self.send(dumps({"event": "halt", "reason": cut(reason, TEXT_LIMIT // 16)}) + "\n")
        self.begin_nothing_more()

    def begin_nothing_more(self):
        """Enough has failed: what has not started goes back, unasked."""
        self.full = True
        lease = self.lease
        if lease.next < lease.limit:
            self.give_back(lease, lease.next, everything=True)
        while self.queue:
            self.return_whole(self.queue.popleft())

    def give_back(self, lease, start, everything=False):
        start = min(max(start, lease.next), lease.limit)
        if not everything:
            start = self.whole_groups(lease, start)
        cases = ",".join(map(str, range(start, lease.limit)))
        lease.limit = start
        self.send(f'{{"event":"returned","lease":{lease.number},"cases":[{cases}],"all":false}}\n')

    @staticmethod
    def whole_groups(lease, start):
        """The first place from `start` on that cuts no group."""
        last = {case.group: at for at, case in enumerate(lease.cases[: lease.limit]) if case.group is not None}
        at = 0
        while last and at < start:
            group = lease.cases[at].group
            if group is not None:
                start = max(start, last[group] + 1)
            at += 1
        return start

    def say(self, level, text):
        self.send(dumps({"event": "log", "level": level, "text": cut(text, TEXT_LIMIT // 16)}) + "\n")

    def refuse(self, reason, message, hint=None):
        event = {"event": "refused", "reason": reason, "message": cut(message.strip(), TEXT_LIMIT // 16)}
        if hint:
            event["hint"] = hint
        self.send(dumps(event) + "\n")

    def leave(self):
        """The agent has gone, or talks nonsense: there is nobody to report to. What the fixtures hold is still given back."""
        if not self.wire.ours():
            return
        self.gone = True
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(FAREWELL_SECONDS)
        with contextlib.suppress(BaseException):
            self.let_go()
        os._exit(BROKEN)
