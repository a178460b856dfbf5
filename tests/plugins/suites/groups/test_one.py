import pytest


@pytest.mark.xdist_group("database")
def test_in_a_group():
    pass


@pytest.mark.xdist_group("database")
class TestInAGroup:
    def test_one(self):
        pass

    def test_two(self):
        pass


def test_alone():
    pass
