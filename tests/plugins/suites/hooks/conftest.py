"""Hooks that pytest-xdist calls in its controller; each leaves its name."""

import pathlib

HERE = pathlib.Path(__file__).parent


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
