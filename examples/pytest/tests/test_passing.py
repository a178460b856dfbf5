"""What works: plain tests, parameters, a skip, an expected failure."""

import os
import sys

import pytest


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_price_grows_with_count(count):
    assert count * 3 > (count - 1) * 3


def test_environment_of_the_suite():
    assert os.environ["SHOP_CURRENCY"] == "EUR"


@pytest.mark.skipif(sys.platform != "win32", reason="only on Windows")
def test_on_windows():
    pass


@pytest.mark.xfail(reason="rounding is not decided yet")
def test_rounding():
    assert round(2.675, 2) == 2.68
