"""Directories for temporary files, laid as pytest-xdist lays them: one for the run, and in it one for each process.

Suites keep what they make once a run in the parent of their own directory, behind a lock: so that must be the same for all
processes, and another one in the next run. Which directory the run gets, and when old ones go, is pytest's. PYTEST_DONT_REWRITE
"""

import fcntl
import hashlib
import os

from _pytest.tmpdir import TempPathFactory


def share(config, name, common):
    """Gives the process a directory of its own in the run's, which the first of them makes. `common`: a directory that all
    processes of the run on this machine know."""
    if not config.pluginmanager.hasplugin("tmpdir"):
        return
    run = hashlib.sha256(os.environ.get("EVENKEEL_RUN_ID", "").encode("utf-8", "surrogateescape")).hexdigest()
    with open(os.path.join(common, f"basetemp-{run[:16]}"), "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        base = file.read()
        if not base:
            base = str(TempPathFactory.from_config(config, _ispytest=True).getbasetemp())
            file.write(base)
    own, tries = os.path.join(base, f"popen-{name}"), 0
    while os.path.exists(own):  # a process of this slot has died; what its tests left is still there to be looked at
        tries += 1
        own = os.path.join(base, f"popen-{name}-{tries}")
    config.option.basetemp = own
