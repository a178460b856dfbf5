import pytest


@pytest.mark.dependency()
def test_passes():
    pass


@pytest.mark.dependency()
def test_fails():
    assert False


@pytest.mark.dependency(depends=["test_passes"])
def test_runs():
    pass


@pytest.mark.dependency(depends=["test_fails"])
def test_is_skipped():
    pass


class TestGroup:
    @pytest.mark.dependency(scope="class")
    def test_one(self):
        pass

    @pytest.mark.dependency(depends=["test_one"], scope="class")
    def test_two(self):
        pass
