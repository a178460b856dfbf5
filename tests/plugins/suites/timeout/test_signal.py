import threading

import pytest


def test_before():
    pass


@pytest.mark.timeout(0.3, method="signal")
def test_hangs():
    threading.Event().wait()


@pytest.fixture
def hanging():
    threading.Event().wait()


@pytest.mark.timeout(0.3, method="signal")
def test_set_up_hangs(hanging):
    pass


@pytest.mark.timeout(0.3, method="signal", func_only=True)
def test_only_the_function():
    threading.Event().wait()


@pytest.mark.timeout(60)
def test_in_time():
    pass


def test_behind():
    pass
