import pytest


def test_pass():
    print("said by a test that passes")


def test_fail():
    assert [1, 2] == [1, 3], "numbers differ"


@pytest.mark.skip(reason="not today")
def test_skip():
    pass


@pytest.mark.xfail(reason="known")
def test_xfail():
    assert False


@pytest.mark.xfail
def test_xpass():
    pass


@pytest.fixture
def broken():
    raise RuntimeError("no set-up")


def test_error(broken):
    pass


@pytest.mark.parametrize("number", range(3))
def test_number(number):
    pass
