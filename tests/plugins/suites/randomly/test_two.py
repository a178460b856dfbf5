import pytest


@pytest.mark.parametrize("number", range(8))
def test_number(number):
    pass


class TestGroup:
    def test_a(self):
        pass

    def test_b(self):
        pass
