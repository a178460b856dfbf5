#!/usr/bin/env python3
"""Checks gap.py itself, on runs whose bound is known by hand."""

import json
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import gap  # noqa: E402


class Events:
    """A run in the making: two slots that are ready at 0."""

    def __init__(self, ready=(0.0, 0.0)):
        self.list = [{"event": "process_started", "shard": shard + 1, "ready_s": at} for shard, at in enumerate(ready)]
        self.leases = 0

    def lease(self, unit, start, setup, *cases, tail=0.0, told=None, waited=0.0):
        """A lease that loads for `setup` seconds and runs `cases`: (id, seconds) or (id, seconds, group). `told` is the set-up
        that it tells, if that is more than the loading; `waited` is within the last case."""
        self.leases += 1
        at = start + setup
        for id, seconds, *group in cases:
            finished = {"event": "test_finished", "id": id, "occurrence": 0, "file": unit, "lease": self.leases}
            finished.update(start_s=at, end_s=at + seconds, duration_s=seconds, group=group[0] if group else None)
            self.list.append(finished)
            at += seconds
        ended = {"event": "lease_ended", "lease": self.leases, "unit": unit, "start_s": start, "end_s": at + waited + tail, "waited_s": waited}
        self.list.append(dict(ended, setup_s=setup if told is None else told))
        return self

    def check(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            for event in self.list:
                file.write(json.dumps(event) + "\n")
            file.flush()
            return gap.check(file.name)


def nothing_ran():
    return Events().check(), dict(makespan=0.0, bound=0.0, gap=1.0)


def two_whole_files():
    return Events().lease("a", 0, 1, ("a1", 3)).lease("b", 0, 0, ("b1", 1), ("b2", 1)).check(), dict(makespan=4, bound=4, longest="a1")


def work_is_spread_from_when_slots_are_ready():
    events = Events(ready=(0.0, 2.0)).lease("a", 0, 0, *[(f"a{n}", 1) for n in range(5)]).lease("b", 2, 0, ("b1", 1))
    return events.check(), dict(makespan=5, bound=4, by_longest=False)


def a_unit_in_two_parts_is_set_up_once():
    events = Events().lease("a", 0, 1, ("a1", 1), ("a2", 1)).lease("a", 0, 1, ("a3", 1), ("a4", 1))
    return events.check(), dict(makespan=3, bound=2.5, gap=1.2)


def a_case_carries_the_set_up_of_its_unit():
    events = Events().lease("a", 0, 1, ("a1", 0.5)).lease("a", 0, 1, ("a2", 0.1), ("a3", 4))
    return events.check(), dict(makespan=5.1, bound=5, longest="a3")


def fixtures_within_the_first_case_count_once():
    # Loading takes 1 s, the module's fixture 2 s within the first case.
    return Events().lease("a", 0, 1, ("a1", 5), told=3).check(), dict(makespan=6, bound=6)


def a_group_is_one_piece():
    events = Events().lease("a", 0, 0, ("a1", 2, "g"), ("a2", 2, "g")).lease("b", 0, 0, ("b1", 1))
    return events.check(), dict(makespan=4, bound=4, by_longest=True, longest="group g of a")


def groups_of_two_units_are_two():
    events = Events().lease("a", 0, 0, ("a1", 2, "g")).lease("b", 0, 0, ("b1", 2, "g"))
    return events.check(), dict(makespan=2, bound=2)


def a_long_file_that_could_have_been_split_is_no_excuse():
    return Events().lease("a", 0, 0, *[(f"a{n}", 1) for n in range(4)]).check(), dict(makespan=4, bound=2, gap=2)


def tear_down_is_work_and_in_no_piece():
    return Events(ready=(0.0,)).lease("a", 0, 0, ("a1", 1), tail=1).check(), dict(makespan=2, bound=2, by_longest=False)


CASES = (
    nothing_ran,
    two_whole_files,
    work_is_spread_from_when_slots_are_ready,
    a_unit_in_two_parts_is_set_up_once,
    a_case_carries_the_set_up_of_its_unit,
    fixtures_within_the_first_case_count_once,
    a_group_is_one_piece,
    groups_of_two_units_are_two,
    a_long_file_that_could_have_been_split_is_no_excuse,
    tear_down_is_work_and_in_no_piece,
)


def same(found, expected):
    return abs(found - expected) < 1e-9 if isinstance(found, float) else found == expected


def main():
    failed = 0
    for case in CASES:
        result, expected = case()
        wrong = [name for name, value in expected.items() if not same(getattr(result, name), value)]
        failed += bool(wrong)
        print("FAILED" if wrong else "passed", case.__name__)
        for name in wrong:
            print(f"  {name} is {getattr(result, name)}, not {expected[name]}")
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
