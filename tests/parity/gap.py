"""Recomputes a run's makespan, lower bound and gap from its events, with none of the product's code.

    gap.py EVENTS [--most 1.05]

The bound is the larger of two: the work (each lease's time from start to end; a unit's set-up once) spread over the
slots from the moment each was ready, and the longest single lease. Exits 1 where the gap is above --most and not excused by one
indivisible unit.
"""

import argparse
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
        excuse = f", decided by {self.longest}" if self.by_longest else ""
        return f"makespan {self.makespan:.3f} s on {self.slots} slots, bound {self.bound:.3f} s, gap {self.gap:.4f}{excuse}"


def spread(work, ready):
    """The smallest T with sum(max(0, T - ready)) >= work."""
    ready = sorted(ready)
    for count in range(1, len(ready) + 1):
        level = (work + sum(ready[:count])) / count
        if count == len(ready) or level <= ready[count]:
            return level


def check(path):
    ready, leases, seen = {}, [], set()
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            if event["event"] == "process_started":
                ready.setdefault(event["shard"], event["ready_s"])
            elif event["event"] == "lease_ended" and event["start_s"] is not None:
                leases.append((event["unit"], event["shard"], event["start_s"], event["end_s"], event["setup_s"]))
    if not leases:
        return Gap(len(ready), 0.0, 0.0, 1.0, False, "")
    first = min(start for _, _, start, _, _ in leases)
    makespan = max(end for _, _, _, end, _ in leases) - first
    work = 0.0
    for unit, _, start, end, setup in leases:
        work += end - start - (setup if unit in seen else 0.0)
        seen.add(unit)
    level = spread(work, [max(0.0, at - first) for at in ready.values()])
    longest, name = max((end - start, unit) for unit, _, start, end, _ in leases)
    bound = max(level, longest)
    return Gap(len(ready), makespan, bound, makespan / bound if bound else 1.0, longest > level, name)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("events")
    parser.add_argument("--most", type=float, default=1.05)
    options = parser.parse_args()
    result = check(options.events)
    print(result)
    return 0 if result.gap <= options.most or result.by_longest else 1


if __name__ == "__main__":
    sys.exit(main())
