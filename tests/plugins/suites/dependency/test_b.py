import pytest


@pytest.mark.dependency(depends=["test_passes"])
def test_unknown_here():
    pass
