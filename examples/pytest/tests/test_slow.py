"""What takes long, and one test that never ends by itself: `timeout` in evenkeel.toml ends it."""

import time

import pytest


@pytest.mark.parametrize("seconds", [0.2, 0.4, 0.8])
def test_slow_delivery(seconds):
    time.sleep(seconds)


def test_hangs():
    time.sleep(600)


def test_behind_the_one_that_hangs():
    pass
