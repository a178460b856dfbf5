import threading

import pytest


def test_before():
    pass


@pytest.mark.timeout(0.3, method="thread")
def test_hangs():
    print("said before it hung")
    threading.Event().wait()


def test_behind():
    pass
