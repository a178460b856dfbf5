"""Likeness to a worker of pytest-xdist, the way plugins know that other processes run the same suite beside this one.

Owns what stands in xdist's place where a run has several slots: its controller tells workers a few things before they start, and
runs servers for them; a slot has to know the one and do without the other. With one slot only the run's seed is used.
PYTEST_DONT_REWRITE
"""

import os
import sys

import pytest
from _pytest.cacheprovider import Cache

from . import basetemp, coverage

# Plugins whose controller draws a seed for all its workers, and tells it under the name of the option that sets it. In a worker
# they do not look at that option.
SEEDS = ("randomly_seed", "random_order_seed")


class Fixtures:
    """Those of pytest-xdist, for suites that ask for them where it is not there."""

    @pytest.fixture(scope="session")
    def worker_id(self, request):
        """The id of this process: gw0, gw1 and so on."""
        return request.config.workerinput["workerid"]

    @pytest.fixture(scope="session")
    def testrun_uid(self, request):
        """The same in all processes of the run."""
        return request.config.workerinput["testrunuid"]


class Hooks:
    """Those of pytest-xdist that are called here, for plugins that wait for them where it is not there."""

    def pytest_configure_node(self, node):
        pass

    def pytest_testnodedown(self, node, error):
        pass


class WorkerInput(dict):
    """What a controller tells a worker. Suites have their own pytest_configure_node add to it, which nobody calls before the tests."""

    def __missing__(self, key):
        raise KeyError(f"no controller has set {key!r}: under Evenkeel pytest_configure_node is called when all tests are done")


def stand_in(config):
    """For pytest-xdist, under the name of its module: where plugins ask by that of the package, they go on to import it."""
    if not config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.add_hookspecs(Hooks)
        if hasattr(config, "workerinput"):
            config.pluginmanager.register(Fixtures(), "xdist.plugin")
        else:
            config.pluginmanager.register(Hooks(), "xdist.plugin")


def name_run(config):
    """Before a conftest.py looks."""
    uid = getattr(config.known_args_namespace, "testrunuid", None) or os.environ.get("EVENKEEL_RUN_ID", "")
    os.environ["PYTEST_XDIST_TESTRUNUID"] = uid


def share_seeds(config, number, slots):
    """What plugins would draw at random comes from the run's seed: all slots draw the same, and so does a shard that is run again."""
    seed = int(os.environ.get("EVENKEEL_SEED", "0")) & 0xFFFFFFFF
    for name in SEEDS:
        value = getattr(config.option, name, None)
        if isinstance(value, str) and value.startswith("default"):
            value = f"default:{seed}" if ":" in value else seed  # pytest-random-order marks what it drew itself
        if slots > 1 and config.pluginmanager.hasplugin("cacheprovider"):
            # Where a controller keeps it, for the value `last`.
            cache = Cache.for_config(config, _ispytest=True)
            value = cache.get(name, seed) if value == "last" else value
            if value is not None and number == 0:
                cache.set(name, value)
        if value is not None:
            setattr(config.option, name, value)


def told_seeds(config):
    """The seeds as a controller tells them."""
    values = {name: getattr(config.option, name, None) for name in SEEDS}
    return {name: value for name, value in values.items() if value is not None}


def workerinput(config, number, slots):
    """What xdist's controller gives each worker, and what plugins add to it there."""
    values = WorkerInput(workerid=f"gw{number}", workercount=slots, mainargv=list(sys.argv))
    values["testrunuid"] = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
    values.update(told_seeds(config))
    values.update(coverage.workerinput(config))
    return values


def become(config, number, slots, private):
    """Says what xdist says in its workers, so that plugins leave shared files alone. `private`: a directory for this process."""
    config.workerinput = workerinput(config, number, slots)
    config.workeroutput = {}
    stand_in(config)
    coverage.keep_apart(config, private)
    do_without_servers(config)
    basetemp.share(config, config.workerinput["workerid"], os.path.dirname(private))


def do_without_servers(config):
    """Two plugins look for a server that their controller would run, and cannot start without one. What they would send there only
    serves reports of theirs, and each has a way to keep it for itself."""
    rerunfailures = config.pluginmanager.get_plugin("rerunfailures")
    if hasattr(rerunfailures, "HAS_PYTEST_HANDLECRASHITEM"):
        rerunfailures.HAS_PYTEST_HANDLECRASHITEM = False
    retry = config.pluginmanager.get_plugin("pytest-retry")
    if hasattr(retry, "ClientReporter") and hasattr(retry, "OfflineReporter"):
        config.workerinput["server_port"] = 0
        retry.ClientReporter = lambda port: retry.OfflineReporter()
