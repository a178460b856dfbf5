import time

import pytest


@pytest.mark.parametrize("number", range(60))
def test_some(number):
    time.sleep(0.05)
