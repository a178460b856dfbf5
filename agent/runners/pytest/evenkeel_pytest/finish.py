"""The process that concludes a run of several slots: to plugins it is what xdist's controller is behind its workers.

Runs no test. It hears what each process left in `workeroutput`, and lets plugins combine and judge that; what they then say goes
the way of every closing. PYTEST_DONT_REWRITE
"""

import json
import os
import sys
from types import SimpleNamespace

from . import coverage, replay, worker
from .foreign import others

IDENTITY = ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "TEST_ENV_NUMBER")


def needed(config):
    """Whether somebody wants to hear what the processes left."""
    hook = getattr(config.hook, "pytest_testnodedown", None)
    wanting = [impl.plugin for impl in others(hook)] if hook is not None else []
    cov = config.pluginmanager.get_plugin("_cov")
    return replay.wanted(config) or any(plugin is not cov or not cov._disabled for plugin in wanting)


def disguise(config):
    """Before plugins look: this is no worker."""
    for name in IDENTITY:
        os.environ.pop(name, None)
    coverage.expect_workers(config)


def carry(session, config, reports):
    """What a slot leaves: its `workeroutput`, as xdist sends it, its counts, and its reports where they are kept."""
    left = {"failed": session.testsfailed, "collected": session.testscollected, "output": config.workeroutput}
    if reports is not None:
        left["reports"] = reports
    return replay.pack(left)


class Node:
    """A worker, as far as plugins look at one."""

    def __init__(self, config, number, slots, output):
        values = worker.workerinput(config, number, slots)
        root = str(config.rootpath)
        info = {"id": values["workerid"], "platform": sys.platform, "version_info": tuple(sys.version_info), "version": sys.version}
        info.update(executable=sys.executable, cwd=os.getcwd(), sysplatform=sys.platform)
        self.config = config
        self.workerinput = values
        if output is not None:
            self.workeroutput = output
        self.workerinfo = info
        self.gateway = SimpleNamespace(id=values["workerid"], _rinfo=lambda: SimpleNamespace(**info))
        self.nodemanager = SimpleNamespace(roots=[root], config=config, testrunuid=values["testrunuid"])


def conclude(session, closing, slots, carried):
    """Calls xdist's hooks for each process of the run, in the order of slots. One that was lost has left nothing."""
    config = session.config
    count_workers(config, len(carried))
    # Hooks of xdist, which need not be there; a plugin may know one of them only.
    configure, down = (getattr(config.hook, name, None) for name in ("pytest_configure_node", "pytest_testnodedown"))
    for at, entry in enumerate(sorted(carried, key=lambda entry: entry["slot"])):
        left = json.loads(entry["carry"] or "{}", object_hook=replay.decode)
        node = Node(config, entry["slot"], slots, left.get("output"))
        try:
            if configure is not None:
                configure(node=node)
            if "reports" in left:
                replay.play(config, node, left["reports"])
            else:
                session.testsfailed += left.get("failed", 0)
                closing.expected += left.get("failed", 0)
            session.testscollected += left.get("collected", 0)
            if left:
                coverage.take_back(config, node.workeroutput, at)
            if down is not None:
                down(node=node, error=None if left else "lost")
        except Exception as error:
            closing.fail_by(error, f"what {node.gateway.id} left cannot be taken")


def count_workers(config, count):
    """By its options xdist's controller knows how many workers it started: plugins compare that with how many they heard. Said
    only now, since xdist itself goes by it, too."""
    config.option.numprocesses = count
    config.option.dist = "load"
    config.option.tx = ["popen"] * count
