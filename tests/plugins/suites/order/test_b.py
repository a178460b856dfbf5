import pytest


@pytest.mark.order(after="test_y")
def test_x():
    pass


def test_y():
    pass


@pytest.mark.order(before="test_x")
def test_z():
    pass
