"""Hooks that pytest-xdist calls in its controller; each leaves its name."""

import os
import pathlib
import time

import pytest

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="session", autouse=True)
def both():
    """No slot is through before the other one is up: what concerns a worker is told only of one that there was."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker:
        (HERE / f"begun-{worker}").touch()
        until = time.monotonic() + 20
        while len(list(HERE.glob("begun-*"))) < 2 and time.monotonic() < until:
            time.sleep(0.005)


def leave(name):
    with open(HERE / "called.txt", "a") as file:
        print(name, file=file)


def pytest_xdist_setupnodes():
    leave("setupnodes")


def pytest_xdist_auto_num_workers():
    leave("auto_num_workers")
    return 2


def pytest_xdist_make_scheduler():
    leave("make_scheduler")


def pytest_configure_node(node):
    leave(f"configure_node {node.workerinput['workerid']}")


def pytest_testnodeready():
    leave("testnodeready")


def pytest_xdist_node_collection_finished():
    leave("node_collection_finished")


def pytest_testnodedown(node, error):
    leave(f"testnodedown {node.workeroutput['left']} {error}")


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left"] = session.config.workerinput["workerid"]
