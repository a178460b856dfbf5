import urllib.request

import pytest
from shop.models import Fruit


def test_without_the_mark():
    Fruit.objects.count()


def test_live_server(live_server):
    Fruit.objects.create(name="apple")
    with urllib.request.urlopen(f"{live_server.url}/fruits") as answer:
        assert b"apple" in answer.read()


@pytest.mark.urls("shop.urls")
def test_settings(settings, rf, db, admin_user):
    settings.DEBUG = True
    assert rf.get("/fruits").path == "/fruits" and admin_user.is_superuser
