"""What the agent and the slot talk about: units, cases, leases.

Plain data. How units are found is walk.py's, how they are loaded loading.py's. PYTEST_DONT_REWRITE
"""

import sys

from .text import clean, dumps

INSTEAD = 1000  # cases that are named where a unit has others than were asked for


class Unit:
    """A test file, or whatever else pytest found that is not a directory."""

    def __init__(self, name, path):
        self.name = name
        self.path = path
        self.nodes = []  # as pytest would expand them; one twice where the command names it twice
        self.names = []  # what the command picks from the file behind `::`; empty: everything
        self.reports = []  # what went wrong on the walk already, for a directory
        self.place = None  # where the walk met it, for its import
        self.cases = None  # what it holds, kept while more leases on it are to be expected
        self.loaded = False  # whether it was, in this process
        self.whole = False  # whether its cases were found before there were leases; then they are kept for good
        self.load_us = 0


class Case:
    """A test, or, without an item, the word on a unit or a part of one that could not be loaded."""

    __slots__ = ("id", "n", "item", "verdict", "group")

    def __init__(self, id, n, item, verdict=None, group=None):
        self.id = id
        self.n = n
        self.item = item
        self.verdict = verdict
        self.group = group  # what it must stay together with

    def describe(self, prefix=None):
        """As declared, with the names that pytest's own JUnit report would give it."""
        id = self.id
        entry = f'{{"id":{dumps(id)}'
        if self.n:
            entry += f',"n":{self.n}'
        if self.group is not None:
            entry += f',"group":{dumps(self.group)}'
        base, bracket, parameters = id.partition("[")
        place, *names = base.split("::")
        place = place[:-3] if place.endswith(".py") else place
        names = [place.replace("/", "."), *names]
        group = ".".join(names[:-1] if prefix is None else [prefix, *names[:-1]])
        entry += f',"name":{dumps(names[-1] + bracket + parameters)},"class":{dumps(group)}'
        if self.item is None:
            return entry + "}"
        try:
            file, line, _ = self.item.location
        except Exception:  # an item that cannot say where it is; pytest will tell in its own way when it runs
            return entry + "}"
        entry += f',"file":{dumps(clean(str(file)))}'
        if line is not None:
            entry += f',"line":{line + 1}'
        return entry + "}"


class Lease:
    """The right to run cases [next, limit) of a unit, of which those below `granted` may start."""

    def __init__(self, number, name, only, skip):
        self.number = number
        self.name = name
        self.unit = None  # when it has been found
        self.only = only
        self.skip = skip
        self.cases = None
        self.next = 0
        self.limit = 0
        self.granted = sys.maxsize
        self.revokes = []  # what came while the cases were not known yet

    def instead(self):
        """Where cases are asked for that the unit does not have here: those that it has."""
        has = [(case.id, case.n) for case in self.unit.cases]
        if self.only is None or self.only.issubset(has):
            return None
        return [{"id": id, "n": n} for id, n in has[:INSTEAD]]

    def admits(self, case):
        key = (case.id, case.n)
        return (self.only is None or key in self.only) and (self.skip is None or key not in self.skip)
