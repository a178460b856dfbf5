"""Likeness to a worker of pytest-xdist, the way plugins know that other processes run the same suite beside this one.

Owns what stands in xdist's place where a run has several slots; with one slot nothing of it is used. PYTEST_DONT_REWRITE
"""

import os
import sys

import pytest

from . import coverage


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


def name_run(config):
    """Before a conftest.py looks."""
    uid = getattr(config.known_args_namespace, "testrunuid", None) or os.environ.get("EVENKEEL_RUN_ID", "")
    os.environ["PYTEST_XDIST_TESTRUNUID"] = uid


def workerinput(config, number, slots):
    """What xdist's controller gives each worker, and what plugins add to it there."""
    seed = int(os.environ.get("EVENKEEL_SEED", "0"))
    values = {"workerid": f"gw{number}", "workercount": slots, "mainargv": list(sys.argv)}
    values["testrunuid"] = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
    if config.pluginmanager.hasplugin("randomly"):
        values["randomly_seed"] = seed & 0xFFFFFFFF
    values.update(coverage.workerinput(config))
    return values


def become(config, number, slots, private):
    """Says what xdist says in its workers, so that plugins leave shared files alone. `private`: a directory for this process."""
    config.workerinput = workerinput(config, number, slots)
    config.workeroutput = {}
    if not config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(Fixtures(), "evenkeel-worker-fixtures")
    coverage.keep_apart(config, private)
    rerunfailures = config.pluginmanager.get_plugin("rerunfailures")
    if hasattr(rerunfailures, "HAS_PYTEST_HANDLECRASHITEM"):
        rerunfailures.HAS_PYTEST_HANDLECRASHITEM = False  # else it looks for a server that its controller would run
    if getattr(config.option, "basetemp", None):
        os.makedirs(config.option.basetemp, exist_ok=True)
        config.option.basetemp = os.path.join(config.option.basetemp, config.workerinput["workerid"])
