import pytest

ran = []


@pytest.mark.order(2)
def test_second():
    ran.append(2)
    assert ran == [1, 2]


@pytest.mark.order("last")
def test_last():
    assert ran == [1, 2, 3]


@pytest.mark.order(1)
def test_first():
    ran.append(1)


def test_third():
    ran.append(3)
