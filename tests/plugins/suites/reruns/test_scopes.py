import pytest

made = []


@pytest.fixture(scope="module")
def module():
    made.append("module")
    yield len(made)
    made.append("gone")


def test_first(module):
    pass


def test_set_up_anew(module):
    assert made.count("module") == 2, made


class TestGroup:
    def setup_class(cls):
        cls.tries = 0

    def test_in_class(self):
        type(self).tries += 1
        assert self.tries == 2
