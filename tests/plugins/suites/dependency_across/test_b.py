import pytest


@pytest.mark.dependency(depends=["test_a.py::test_passes"], scope="session")
def test_of_another_file():
    pass
