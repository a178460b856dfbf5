import pytest


@pytest.fixture
def warehouse():
    raise ConnectionError("the warehouse does not answer")
