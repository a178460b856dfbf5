"""Recomputes a run's makespan, lower bound and gap from its events, with none of the product's code.

    gap.py EVENTS [--most 1.05]

A unit may be run in several parts, each a lease. The bound is the larger of two:

(a) The work, spread over the slots from the moment each was ready. The work of a lease is the time from its start to its end
    without its set-up and without what its slot waited to hear what comes next; to that comes each unit's set-up once: that of the unit's first lease, by start, that tells one.
    What a split pays on top is not in the bound, so that it shows in the gap.
(b) The longest piece, with the set-up of its unit. A piece is one case, as long as its attempts took, or all cases of
    a unit that share a `group`, which are never split; events without groups mean that every case can move by itself. The set-up
    is again the unit's first. For the piece that opens a lease it is the time from the lease's start instead: fixtures of the
    module are set up within its first case, and would count twice. The end of a unit (tear-down behind its last case) is in
    no piece, so this part of the bound is on the small side.

Exits 1 where the gap is above --most.
"""

import argparse
import collections
import json
import sys
from typing import NamedTuple


class Gap(NamedTuple):
    slots: int
    makespan: float
    bound: float
    gap: float
    by_longest: bool
    longest: str

    def __str__(self):
        decides = f", decided by {self.longest}" if self.by_longest else ""
        return f"makespan {self.makespan:.3f} s on {self.slots} slots, bound {self.bound:.3f} s, gap {self.gap:.4f}{decides}"


class Lease(NamedTuple):
    unit: str
    start: float
    end: float
    setup: float
    waited: float

    @property
    def work(self):
        return max(0.0, self.end - self.start - self.setup - self.waited)


class Attempt(NamedTuple):
    lease: int
    case: tuple  # the unit, the id, the occurrence
    start: float
    took: float


def spread(work, ready):
    """The smallest T with sum(max(0, T - ready)) >= work."""
    ready = sorted(ready)
    for count in range(1, len(ready) + 1):
        level = (work + sum(ready[:count])) / count
        if count == len(ready) or level <= ready[count]:
            return level


def read(path):
    """When each slot was ready, the leases that began, by number, the attempts, and the groups of cases."""
    ready, leases, attempts, groups = {}, {}, [], {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            kind = event["event"]
            if kind == "process_started":
                ready.setdefault(event["shard"], event["ready_s"])
            elif kind == "test_finished":
                case = (event["file"], event["id"], event["occurrence"])
                attempts.append(Attempt(event["lease"], case, event["start_s"], event["duration_s"]))
                if event.get("group") is not None:
                    groups[case] = event["group"]
            elif kind == "lease_ended" and event["start_s"] is not None:
                leases[event["lease"]] = Lease(*(event[name] for name in ("unit", "start_s", "end_s", "setup_s", "waited_s")))
    return ready, leases, attempts, groups


def first_setups(leases):
    """What setting a unit up took, for each unit."""
    setups = {}
    for lease in sorted(leases, key=lambda lease: lease.start):
        if not setups.get(lease.unit):
            setups[lease.unit] = lease.setup
    return setups


def longest_piece(leases, attempts, groups, setups):
    """The length of the longest piece with its set-up, and its name."""
    opening = {}
    for attempt in attempts:
        if attempt.lease not in opening or attempt.start < opening[attempt.lease].start:
            opening[attempt.lease] = attempt
    length = collections.Counter()
    lead = {}
    for attempt in attempts:
        unit, id, occurrence = attempt.case
        group = groups.get(attempt.case)
        piece = (unit, "case", id, occurrence) if group is None else (unit, "group", group, 0)
        length[piece] += attempt.took
        lead.setdefault(piece, setups.get(unit, 0.0))
        if opening[attempt.lease] is attempt and attempt.lease in leases:
            lead[piece] = attempt.start - leases[attempt.lease].start
    if not length:
        return 0.0, ""
    took, piece = max((length[piece] + lead[piece], piece) for piece in length)
    unit, kind, name, _ = piece
    return took, name if kind == "case" else f"group {name} of {unit}"


def check(path):
    ready, leases, attempts, groups = read(path)
    if not leases:
        return Gap(len(ready), 0.0, 0.0, 1.0, False, "")
    first = min(lease.start for lease in leases.values())
    makespan = max(lease.end for lease in leases.values()) - first
    setups = first_setups(leases.values())
    work = sum(setups.values()) + sum(lease.work for lease in leases.values())
    level = spread(work, [max(0.0, at - first) for at in ready.values()])
    longest, name = longest_piece(leases, attempts, groups, setups)
    bound = max(level, longest)
    return Gap(len(ready), makespan, bound, makespan / bound if bound else 1.0, longest > level, name)


def main():
    parser = argparse.ArgumentParser(description="Recomputes a run's makespan, lower bound and gap from its events.")
    parser.add_argument("events")
    parser.add_argument("--most", type=float, default=1.05, help="the largest gap that is good")
    options = parser.parse_args()
    result = check(options.events)
    print(result)
    return 0 if result.gap <= options.most else 1


if __name__ == "__main__":
    sys.exit(main())
