import flask
import pytest


@pytest.fixture
def app():
    return flask.Flask(__name__)


@pytest.mark.options(debug=True)
def test_options(config):
    assert config["DEBUG"]


def test_none(config):
    assert config["DEBUG"]
