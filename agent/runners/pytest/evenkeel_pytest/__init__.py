"""The half of an Evenkeel slot that lives inside pytest.

The agent starts the user's own command with `-p evenkeel_pytest` behind the word pytest. This plugin then lets pytest set
itself up as ever, finds the test files without importing them, and runs file by file what the agent leases to it over a socket
of its own. The conversation is described in docs/runner-protocol.md, which is the authority; words in here (unit, case, lease)
are meant as there.

The package owns the walk, the loop over leases and the way results take. It deliberately leaves alone how a test is collected,
set up, run and reported: those are pytest's own hooks, called as pytest calls them, so that an outcome is what pytest alone
would have said. Nothing is written to the checkout, nothing is installed, nothing but pytest and the standard library is needed.

This file owns the way in: it takes the agent's traces out of the process and registers the slot, which slot.py describes.

Runs on pytest 7 and later, Python 3.8 and later. PYTEST_DONT_REWRITE: there are no asserts in here to explain.
"""

import atexit
import os
import sys

from . import bytecode


OWN = ("EVENKEEL_SOCKET", "EVENKEEL_BYTECODE", "EVENKEEL_PYTHONPATH_WAS", "EVENKEEL_ROLE", "EVENKEEL_COLLECT", "EVENKEEL_MAX_FAIL")


def _clean_environment():
    """Undoes what the agent had to do to get this package loaded, so that tests and the processes that they start see what plain
    pytest would show them. Returns what the agent says in the environment, without what tests may read there."""
    environ = os.environ
    given = {name: environ.pop(name) for name in OWN if name in environ}
    if "EVENKEEL_SOCKET" not in given:
        return {}
    here = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    # Only the first entry is the agent's; somebody may have put the same directory there on purpose.
    for at, entry in enumerate(sys.path):
        if entry and os.path.realpath(entry) == here:
            del sys.path[at]
            break
    entries = environ.get("PYTHONPATH", "").split(os.pathsep)
    entries = [entry for entry in entries if os.path.realpath(entry or os.curdir) != here]
    was = given.get("EVENKEEL_PYTHONPATH_WAS")
    if was is not None:
        environ["PYTHONPATH"] = was
    elif any(entries):  # a wrapper between the agent and pytest has added some
        environ["PYTHONPATH"] = os.pathsep.join(entries)
    else:
        environ.pop("PYTHONPATH", None)
    sys.argv[:] = _without_us(sys.argv)  # pytest has taken its copy; a test that starts sys.argv again must not need us
    # Beside the socket, where the agent clears away.
    given["private"] = os.path.join(os.path.dirname(given["EVENKEEL_SOCKET"]), f"process-{os.getpid()}")
    return given


def _without_us(words):
    for at in range(len(words) - 1):
        if tuple(words[at : at + 2]) == ("-p", "evenkeel_pytest"):
            return words[:at] + words[at + 2 :]
    return words


_given = _clean_environment()
if "EVENKEEL_BYTECODE" in _given:
    bytecode.install(_given["EVENKEEL_BYTECODE"])

# The rest is among the first that need not be compiled again.
from .slot import Slot  # noqa: E402
from .wire import Wire  # noqa: E402

_wire = Wire(_given["EVENKEEL_SOCKET"]) if _given else None


def pytest_addoption(parser, pluginmanager):
    """The first hook that pytest calls, with the plugin hardly loaded: from here on no way out goes unnoticed."""
    global _wire
    wire, _wire = _wire, None
    if wire is not None:
        config = pluginmanager.get_plugin("pytestconfig")
        params = config.invocation_params
        config.invocation_params = type(params)(args=_without_us(params.args), plugins=params.plugins, dir=params.dir)
        slot = Slot(wire, config, _given)
        pluginmanager.register(slot, "evenkeel-slot")
        pluginmanager.register(slot.ending, "evenkeel-ending")
        stack = getattr(config, "_cleanup_stack", None)  # pytest 8
        if stack is not None:
            stack.push(slot.ending.leave)
        else:
            config.add_cleanup(slot.ending.farewell)
        atexit.register(slot.ending.farewell)
