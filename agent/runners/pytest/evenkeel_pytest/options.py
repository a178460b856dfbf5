"""The options that belong to the whole run: refused by name, or switched off here and named to the agent.

Knows no option that works in a slot as it does in plain pytest. PYTEST_DONT_REWRITE
"""

import os

from . import groups
from .text import clean

DEBUG = (
    "debug that one test with pytest itself: `pytest --pdb ID`; if it passes alone, `evenkeel reproduce RUN --shard I/N --until ID` "
    "names and runs what ran before it"
)
# Options that do something else than run tests, or that need to see all tests of a run: (dest, as typed, what to do instead).
NOT_HERE = (
    ("version", "--version", "ask pytest itself"),
    ("help", "--help", "ask pytest itself"),
    ("collectonly", "--collect-only", "ask pytest itself, or list with Evenkeel"),
    ("showfixtures", "--fixtures", "ask pytest itself"),
    ("show_fixtures_per_test", "--fixtures-per-test", "ask pytest itself"),
    ("markers", "--markers", "ask pytest itself"),
    ("setuponly", "--setup-only", "ask pytest itself"),
    ("setupplan", "--setup-plan", "ask pytest itself"),
    ("cacheshow", "--cache-show", "ask pytest itself"),
    ("cacheclear", "--cache-clear", "run `pytest --cache-clear --collect-only` before, or remove .pytest_cache"),
    ("lf", "--lf", "leave it out, and name the tests to run"),
    ("failedfirst", "--ff", "leave it out: Evenkeel orders the tests by what it knows of them"),
    ("newfirst", "--nf", "leave it out: Evenkeel orders the tests by what it knows of them"),
    ("stepwise", "--sw", "leave it out, or use -x"),
    ("stepwise_skip", "--sw-skip", "leave it out, or use -x"),
    ("stepwise_reset", "--sw-reset", "leave it out, or use -x"),
    ("usepdb", "--pdb", DEBUG),
    ("trace", "--trace", DEBUG),
    ("looponfail", "-f", "run pytest itself in a loop"),
    ("pastebin", "--pastebin", "leave it out"),
)


def refused(config):
    """The first option that cannot work here, as typed, with what to do instead; None if all can."""
    option = config.option
    wrong = [(spelled, hint) for dest, spelled, hint in NOT_HERE if getattr(option, dest, None)]
    if most_warnings(config) is not None:
        wrong.append(("--max-warnings", "leave it out, also in the configuration file; the run's warnings are not counted"))
    return wrong[0] if wrong else None


def most_warnings(config):
    if getattr(config.option, "max_warnings", None) is not None:
        return config.option.max_warnings
    try:
        return config.getini("max_warnings")
    except (KeyError, ValueError):  # pytest before 9.1 has no such setting
        return None


class RunWide:
    """What is switched off here and told to the agent, as `hello` has it."""

    def __init__(self, config, limit):
        """`limit`: how many failures end the run, where the agent knows better."""
        option = config.option
        self.told, self.notes = {}, []
        self.take_limit(option, limit)
        if getattr(option, "xmlpath", None):
            self.told["junit"] = clean(os.path.expanduser(os.path.expandvars(option.xmlpath)))
            option.xmlpath = None
        self.junit_prefix = getattr(option, "junitprefix", None)
        self.take_durations(option)
        self.mode = self.take_distribution(option)
        if getattr(option, "capture", "no") == "no":
            self.told["show_output"] = True

    def take_limit(self, option, limit):
        own = getattr(option, "maxfail", 0) or 0
        if own:
            self.told["max_fail"] = own
            option.maxfail = 0
        self.limit = own if limit is None else limit

    def take_durations(self, option):
        if getattr(option, "durations", None) is None:
            return
        least = getattr(option, "durations_min", None)
        if least is None:
            least = 0.005 if getattr(option, "verbose", 0) < 2 else 0.0
        self.told.update(durations=option.durations, durations_min=least)
        option.durations = None

    def take_distribution(self, option):
        """pytest-xdist's mode, where the user gave one."""
        mode = getattr(option, "dist", "no")
        if getattr(option, "numprocesses", None) or getattr(option, "tx", None):
            self.notes.append("-n: Evenkeel's own slots take its place; set them with --slots")
        if mode != "no":
            self.notes.append(f"--dist {mode}: {groups.MODES.get(mode, groups.FREE)}")
        for dest, off in (("numprocesses", None), ("tx", []), ("dist", "no"), ("distload", False)):
            if hasattr(option, dest):
                setattr(option, dest, off)
        return mode
