"""Likeness to a worker of pytest-xdist, the way plugins know that other processes run the same suite beside this one.

Owns what stands in xdist's place where a run has several slots; with one slot nothing of it is used. PYTEST_DONT_REWRITE
"""

import os
import sys


def become(config, number, slots):
    """Says what xdist says in its workers, so that plugins leave shared files alone."""
    name = f"gw{number}"
    seed = int(os.environ.get("EVENKEEL_SEED", "0"))
    config.workerinput = {
        "workerid": name,
        "workercount": slots,
        "testrunuid": os.environ.get("EVENKEEL_RUN_ID", ""),
        "mainargv": list(sys.argv),
        "randomly_seed": seed & 0xFFFFFFFF,  # pytest-randomly expects its controller's
    }
    config.workeroutput = {}
    rerunfailures = config.pluginmanager.get_plugin("rerunfailures")
    if hasattr(rerunfailures, "HAS_PYTEST_HANDLECRASHITEM"):
        rerunfailures.HAS_PYTEST_HANDLECRASHITEM = False  # else it looks for a server that its controller would run
    if getattr(config.option, "basetemp", None):
        os.makedirs(config.option.basetemp, exist_ok=True)
        config.option.basetemp = os.path.join(config.option.basetemp, name)
