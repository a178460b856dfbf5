"""The options that belong to the whole run: refused by name, or switched off here and named to the agent.

Knows no option that works in a slot as it does in plain pytest. PYTEST_DONT_REWRITE
"""

import os

from .text import clean

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
    ("usepdb", "--pdb", "run that one test with pytest itself"),
    ("trace", "--trace", "run that one test with pytest itself"),
    ("looponfail", "-f", "run pytest itself in a loop"),
    ("pastebin", "--pastebin", "leave it out"),
)


def refused(config):
    """The first option that cannot work here, as typed, with what to do instead; None if all can."""
    option = config.option
    wrong = [(spelled, hint) for dest, spelled, hint in NOT_HERE if getattr(option, dest, None)]
    if getattr(option, "cov_source", None) and not getattr(option, "no_cov", False):
        wrong.append(("--cov", "add --no-cov; several processes would write one data file"))
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


def take_over(config):
    """Switches off what belongs to the whole run. Returns it, and the notes for the user, as `hello` tells them."""
    option = config.option
    run_wide, notes = {}, []
    if getattr(option, "maxfail", 0):
        run_wide["max_fail"] = option.maxfail
        option.maxfail = 0
    if getattr(option, "xmlpath", None):
        run_wide["junit"] = clean(os.path.expanduser(os.path.expandvars(option.xmlpath)))
        option.xmlpath = None
    if getattr(option, "numprocesses", None) or getattr(option, "tx", None) or getattr(option, "dist", "no") != "no":
        notes.append("-n: Evenkeel's own slots take its place; set them with --slots")
    for dest, off in (("numprocesses", None), ("tx", []), ("dist", "no"), ("distload", False)):
        if hasattr(option, dest):
            setattr(option, dest, off)
    return run_wide, notes
