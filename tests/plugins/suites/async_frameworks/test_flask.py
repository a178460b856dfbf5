import flask
import pytest


@pytest.fixture
def app():
    app = flask.Flask(__name__)
    app.add_url_rule("/a", "a", lambda: {"price": 1})
    return app


def test_answer(client):
    assert client.get("/a").json == {"price": 1}


def test_missing(client):
    assert client.get(flask.url_for("a") + "b").status_code == 200


def test_live(live_server):
    import urllib.request

    with urllib.request.urlopen(flask.url_for("a", _external=True)) as answer:
        assert answer.status == 200
