"""Each test leaves its name and a number that it drew, in the file of its module."""

import pathlib
import random

import pytest

RAN = pathlib.Path(__file__).parent / "ran"


@pytest.fixture(autouse=True)
def leave_a_trace(request):
    RAN.mkdir(exist_ok=True)
    with open(RAN / f"{request.module.__name__}.txt", "a") as file:
        print(request.node.name, random.random(), file=file)
