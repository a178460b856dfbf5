"""Everything collected at once, before there are leases, as pytest alone and pytest-xdist do it.

For suites whose plugins want to see all tests in one list, and for groups that span files. Owns how the list becomes units; the
collection itself is pytest's. PYTEST_DONT_REWRITE
"""

import os
import sys

import pytest

from . import groups
from .text import clean


def needed(config):
    """Whether a plugin has a fixture of session scope that goes by all tests of the session, so that there is no choice.

    pytest-django sets up the databases that any of them asks for, once. A test of a later file would meet what is there under the name
    of a database that nobody had asked for before: the real one.
    """
    django = sys.modules.get("django.conf")
    configured = django is not None and django.settings.configured
    plugged = any(config.pluginmanager.hasplugin(name) for name in ("django", "pytest_django.plugin"))
    return plugged and (configured or bool(os.environ.get("DJANGO_SETTINGS_MODULE")))


def file_of(node):
    """The node of the file that holds this one; what is in no file stands for itself."""
    chain = node.listchain()
    for parent in chain:
        if isinstance(parent, pytest.File) and not isinstance(parent, pytest.Package):
            return parent
    return chain[-1]


def spanning(items):
    """The groups that marks name in more than one file."""
    files = {}
    for item in items:
        group = groups.of_mark(item)
        if group is not None:
            files.setdefault(group, set()).add(file_of(item))
    return {group for group, where in files.items() if len(where) > 1}


def take(session, walk, loader, mode):
    """Makes units of what was collected: a file each, in the order of their first tests, and each group that spans files."""
    together = spanning(session.items) if mode == "loadgroup" else ()
    held = {}  # unit -> items
    for item in session.items:
        group = groups.of_mark(item) if together else None
        if group in together:
            name, path = f"@{group}", ""
        else:
            file = file_of(item)
            name, path = clean(file.nodeid) or ".", str(file.path)
        unit = walk.units.get(name) or walk.new_unit(name, path)
        held.setdefault(unit, []).append(item)
    for report in loader.take_trouble():
        name = clean(report.nodeid.partition("::")[0]) or "."
        unit = walk.units.get(name) or walk.new_unit(name, name)
        unit.reports.append(report)
    walk.complete = True
    for unit in walk.units.values():
        unit.whole = True
        unit.cases = loader.cases(unit, unit.reports, held.get(unit, ()), None)
