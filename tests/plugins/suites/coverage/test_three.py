import subprocess
import sys

import pytest

from shop.three import discount, price


def test_price():
    assert price("apple") == 1
    assert price("pear") == 2


@pytest.mark.parametrize("rate", [0])
def test_discount(rate):
    assert discount(2, rate) == 2
