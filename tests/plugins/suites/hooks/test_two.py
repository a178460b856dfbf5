import os

import pytest


def test_pass():
    pass


def test_what_a_controller_would_have_set(request):
    if not os.environ.get("PYTEST_XDIST_WORKER"):
        pytest.skip("alone")
    assert request.config.workerinput["url"]
