"""Which tests must stay together: pytest-xdist's mark `xdist_group`, its modes of distribution, and marks by which tests of a file
say that they depend on one another.

Names groups only. That no group is split is the coordinator's. PYTEST_DONT_REWRITE
"""

from .text import clean

MARK = "xdist_group"
# The marks of pytest-dependency, pytest-depends and pytest-order, and that of the recipe in pytest's own documentation.
TIED = ("dependency", "depends", "order", "incremental")
FREE = "Evenkeel has its own way; each test runs once, and a long file may be shared by several slots"
# pytest-xdist's modes that keep tests together, in words for the user.
MODES = {
    "loadfile": "the tests of a file stay together",
    "loadscope": "the tests of a class, and the functions of a file, stay together",
    "loadgroup": "tests with the same xdist_group stay together, from all files: each slot collects everything",
}


def of_mark(item):
    """The group that the item's marks name, as pytest-xdist reads them."""
    if MARK not in item.keywords:
        return None
    names = set()
    for mark in item.iter_markers(MARK):
        names.add(str(mark.args[0] if mark.args else mark.kwargs.get("name", "default")))
    return clean("_".join(sorted(names))) or None


def of_tie(item):
    """The file of an item whose marks tie it to others of its file."""
    if any(item.get_closest_marker(mark) for mark in TIED):
        return clean(item.nodeid.partition("::")[0])
    return None


def namer(mode):
    """The function that names an item's group, or None for one that may go alone."""
    if mode == "loadfile":
        return lambda item: clean(item.nodeid.partition("::")[0])
    if mode == "loadscope":
        return lambda item: clean(item.parent.nodeid)
    return lambda item: of_mark(item) or of_tie(item)
