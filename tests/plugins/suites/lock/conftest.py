"""The recipe of pytest-xdist's manual for what is made once a run: https://pytest-xdist.readthedocs.io, "how to"."""

import json
import os
import pathlib
import time

import pytest
from filelock import FileLock

HERE = pathlib.Path(__file__).parent


def produce():
    with open(HERE / "made.txt", "a") as file:
        print("made", file=file)
    return {"price": 1}


@pytest.fixture(scope="session")
def data(tmp_path_factory, worker_id):
    if worker_id == "master":
        return produce()
    path = tmp_path_factory.getbasetemp().parent / "data.json"
    with FileLock(f"{path}.lock"):
        if path.is_file():
            return json.loads(path.read_text())
        made = produce()
        path.write_text(json.dumps(made))
        return made


@pytest.fixture(scope="session", autouse=True)
def all_slots_are_at_work(data, testrun_uid):
    seen = HERE / "seen" / testrun_uid
    seen.mkdir(parents=True, exist_ok=True)
    (seen / os.environ.get("PYTEST_XDIST_WORKER", "alone")).write_text("")
    deadline = time.monotonic() + 60
    while len(list(seen.iterdir())) < int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")):
        assert time.monotonic() < deadline, "the other slot never came"
        time.sleep(0.01)
