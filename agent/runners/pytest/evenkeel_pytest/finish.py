"""The process that concludes a run of several slots: to plugins it is what xdist's controller is behind its workers.

Runs no test. It hears what each process left in `workeroutput`, and lets plugins combine and judge that; what they then say goes
the way of every closing. PYTEST_DONT_REWRITE
"""

import base64
import json
import os
import sys
from types import SimpleNamespace

from . import coverage, worker
from .foreign import others

IDENTITY = ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "TEST_ENV_NUMBER")


def needed(config):
    """Whether somebody wants to hear what the processes left."""
    hook = getattr(config.hook, "pytest_testnodedown", None)
    wanting = [impl.plugin for impl in others(hook)] if hook is not None else []
    cov = config.pluginmanager.get_plugin("_cov")
    return any(plugin is not cov or not cov._disabled for plugin in wanting)


def disguise(config):
    """Before plugins look: this is no worker."""
    for name in IDENTITY:
        os.environ.pop(name, None)
    coverage.expect_workers(config)


def encode(value):
    if isinstance(value, (bytes, bytearray)):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)


def decode(value):
    return base64.b64decode(value["base64"]) if set(value) == {"base64"} else value


def carry(session, config):
    """What a slot leaves: its `workeroutput`, as xdist sends it, and its counts."""
    counts = {"failed": session.testsfailed, "collected": session.testscollected}
    return json.dumps({**counts, "output": config.workeroutput}, default=encode, skipkeys=True, separators=(",", ":"))


class Node:
    """A worker, as far as plugins look at one."""

    def __init__(self, config, number, slots, output):
        values = worker.workerinput(config, number, slots)
        root = str(config.rootpath)
        info = {"id": values["workerid"], "platform": sys.platform, "version_info": tuple(sys.version_info), "version": sys.version}
        info.update(executable=sys.executable, cwd=os.getcwd(), sysplatform=sys.platform)
        self.config = config
        self.workerinput = values
        self.workeroutput = output
        self.workerinfo = info
        self.gateway = SimpleNamespace(id=values["workerid"], _rinfo=lambda: SimpleNamespace(**info))
        self.nodemanager = SimpleNamespace(roots=[root], config=config, testrunuid=values["testrunuid"])


def conclude(session, closing, slots, carried):
    """Calls xdist's hooks for each process of the run, in the order of slots."""
    config = session.config
    # Hooks of xdist, which need not be there; a plugin may know one of them only.
    configure, down = (getattr(config.hook, name, None) for name in ("pytest_configure_node", "pytest_testnodedown"))
    for at, entry in enumerate(sorted(carried, key=lambda entry: entry["slot"])):
        left = json.loads(entry["carry"], object_hook=decode)
        session.testsfailed += left["failed"]
        session.testscollected += left["collected"]
        closing.expected += left["failed"]
        node = Node(config, entry["slot"], slots, left["output"])
        try:
            if configure is not None:
                configure(node=node)
            coverage.take_back(config, node.workeroutput, at)
            if down is not None:
                down(node=node, error=None)
        except Exception as error:
            closing.fail_by(error, f"what {node.gateway.id} left cannot be taken")
