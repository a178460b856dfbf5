"""Each process leaves the names of its databases. Where the run has two slots, a file waits until both are at work, so that neither
has all files to itself."""

import os
import pathlib
import time

import pytest

SEEN = pathlib.Path(__file__).parent / "seen"


@pytest.fixture(scope="session", autouse=True)
def databases(django_db_setup, django_db_blocker):
    from django.db import connections

    worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
    with django_db_blocker.unblock():
        names = [connections[alias].settings_dict["NAME"] for alias in connections]
    SEEN.mkdir(exist_ok=True)
    with open(SEEN / worker, "x") as file:  # once a process
        file.write(" ".join(names))
    deadline = time.monotonic() + 60
    while len(list(SEEN.iterdir())) < int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")):
        assert time.monotonic() < deadline, "the other slot never came"
        time.sleep(0.01)
