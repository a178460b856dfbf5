"""The walk: everything that pytest does to find tests, up to the point where it would import the first module.

It is made piece by piece, so that a first file can run before the last one is found. Owns the table of units. What is in a
unit is found by loading.py, when the agent wants it run. PYTEST_DONT_REWRITE
"""

import inspect
import os
import re

import pytest
from _pytest import main as pytest_main

from .text import clean
from .units import Unit


def module_name(path):
    """As pytest makes it where it puts a directory into the search path: with the packages that the file is in."""
    name, directory = os.path.basename(path), os.path.dirname(path)
    while os.path.isfile(os.path.join(directory, "__init__.py")):
        name = os.path.join(os.path.basename(directory), name)
        directory = os.path.dirname(directory)
    return name


def namesakes(units):
    """For units whose modules have one name, those before them that have it too."""
    by_file, by_module = {}, {}
    for unit in units:
        if unit.path.endswith(".py") and os.path.basename(unit.path) != "conftest.py":  # of which pytest keeps many apart
            by_file.setdefault(os.path.basename(unit.path), []).append(unit)
    elders = {}
    for same in by_file.values():
        for unit in same if len(same) > 1 else ():
            before = by_module.setdefault(module_name(unit.path), [])
            elders[unit] = list(before)
            before.append(unit)
    return elders


def overlap(args):
    """Whether one of these places may lie in another: as paths, and as names of packages. Where that takes a look, it may."""
    if len(args) < 2:
        return False
    places = [os.path.normpath(arg) for arg in args]
    if any(place.startswith(os.curdir) for place in places) or len({os.path.isabs(place) for place in places}) > 1:
        return True
    places = sorted(re.sub(r"[./]+", "/", place) + "/" for place in places)
    return any(behind.startswith(before) for before, behind in zip(places, places[1:]))


class Muted:
    """A hook that is called but not heard; whoever registers with it meanwhile is kept."""

    def __init__(self, hook):
        self.hook = hook

    def __call__(self, **arguments):
        return []

    def __getattr__(self, name):
        return getattr(self.hook, name)


def is_leaf(node):
    return isinstance(node, pytest.Item) or isinstance(node, pytest.File) and not isinstance(node, pytest.Package)


class Walk:
    """Between `begin` and `begun` pytest collects the session, which stops at what the arguments name. `step` goes on from
    there; every file that it comes to is noted and not opened."""

    def __init__(self):
        self.units = {}  # by name, in pytest's order
        self.by_path = {}
        self.picked = {}  # path -> what the command picks from it
        self.restore = []
        self.roots = []  # nodes that the arguments stand for
        self.files = iter(())  # the files below them that have not been come to
        self.cache = None  # pytest's own, of what it has collected
        self.walking = False
        self.complete = False
        self.latest = None  # the unit that was noted last, of which more may come
        self.overlapping = False  # whether the arguments may lead to a file more than once

    def begin(self, session):
        args = session.config.args
        self.restore.append(lambda: setattr(session.config, "args", args))
        session.config.args = self.without_names(session.config, args)
        self.overlapping = overlap(session.config.args)

        def genitems(node):
            self.cache = getattr(session, "_collection_cache", None)
            self.roots.append(node)
            return iter(())

        session.genitems = genitems  # an attribute of the instance; the method comes back when it is deleted
        self.restore.append(lambda: delattr(session, "genitems"))
        # perform_collect ends with these, which are meant for a list of items; there is none before a unit is loaded.
        hooks = session.config.hook
        for name in ("pytest_collection_modifyitems", "pytest_collection_finish"):
            real = getattr(hooks, name)
            setattr(hooks, name, Muted(real))
            self.restore.append(lambda name=name, real=real: setattr(hooks, name, real))

    def begun(self, session):
        while self.restore:
            self.restore.pop()()
        expand = session.genitems

        def files(node):
            if is_leaf(node):
                yield node
            else:
                yield from expand(node)

        self.genitems = files
        self.files = (file for root in self.roots for file in files(root))
        # A wrong -k or -m is the user's mistake, and not one of the first unit.
        mark = session.config.pluginmanager.get_plugin("mark")
        if mark is not None:
            mark.pytest_collection_modifyitems(items=[], config=session.config)

    def step(self, session, enough, surroundings):
        """Goes on until `enough()` or until everything has been found."""
        held = getattr(session, "_collection_cache", None)
        if self.cache is not None:
            session._collection_cache = self.cache
        session.genitems = self.genitems  # pytest's own calls it for what is below a node
        try:
            for file in self.files:
                unit = self.note(file)
                if unit.place is None:
                    unit.place = surroundings.here()
                if enough():
                    return
            self.complete = True
        finally:
            del session.genitems
            if held is not None:
                session._collection_cache = held

    def without_names(self, config, args):
        """The arguments without `::` and what follows, which would make pytest import the modules; that is kept for the lease."""
        if not any("::" in arg for arg in args):
            return args
        accepted = inspect.signature(pytest_main.resolve_collection_argument).parameters
        resolved = []
        for index, arg in enumerate(args):
            more = {"arg_index": index, "as_pypath": config.option.pyargs}
            if "consider_namespace_packages" in accepted:
                more["consider_namespace_packages"] = config.getini("consider_namespace_packages")
            more = {name: value for name, value in more.items() if name in accepted}
            resolved.append(pytest_main.resolve_collection_argument(config.invocation_params.dir, arg, **more))
        kept = range(len(args))
        normalize = getattr(pytest_main, "normalize_collection_arguments", None)  # pytest 9
        if normalize is not None and not config.getoption("keepduplicates"):
            kept = [argument.original_index for argument in normalize(resolved)]
        result = []
        for index in kept:
            base, bracket, rest = args[index].partition("[")
            place, *names = base.split("::")
            if not names:
                result.append(args[index])
                continue
            names[-1] += bracket + rest
            path = str(resolved[index][0] if isinstance(resolved[index], tuple) else resolved[index].path)
            if path not in self.picked:
                self.picked[path] = []
                result.append(place)
            self.picked[path].append(names)
        return result

    def note(self, node):
        path = str(node.path)
        unit = self.by_path.get(path)
        if unit is None:
            unit = self.by_path[path] = self.new_unit(node.nodeid, path)
            unit.names = self.picked.get(path, [])
        unit.nodes.append(node)
        self.latest = unit
        return unit

    def has_whole(self, name):
        """Whether all that belongs to a unit has been found. One file may be a module, a text with doctests and more at once, and
        the walk comes to these one by one."""
        unit = self.units.get(name)
        return self.complete or unit is not None and unit is not self.latest and not self.overlapping

    def new_unit(self, nodeid, path):
        name = clean(nodeid) or "."
        if name in self.units:  # seen outside the root directory, where pytest names a file by its path in its argument
            name = clean(path)
        unit = self.units[name] = Unit(name, path)
        return unit

    def troubled(self, reports):
        """What could not be walked is in no unit, and becomes one, so that it is not lost."""
        for report in reports:
            name = clean(report.nodeid) or "."
            unit = self.units.get(name) or self.new_unit(name, name)
            unit.reports.append(report)
