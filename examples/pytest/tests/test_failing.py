"""What fails: an assertion, an exception, a fixture. Everything printed is in the report."""

import sys


def test_wrong_total():
    print("adding 2 apples and 2 pears")
    print("\x1b[31mthis line is red on a terminal\x1b[0m", file=sys.stderr)
    assert 2 + 2 == 5


def test_unexpected_exception():
    {"apple": 1}["pear"]


def test_needs_the_warehouse(warehouse):
    raise AssertionError("never reached: its fixture fails")
