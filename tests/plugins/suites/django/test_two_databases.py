"""The only file that wants the second database. Where it comes behind others, that has to be there all the same."""

import pytest
from django.db import connections
from shop.models import Fruit

pytestmark = pytest.mark.django_db(databases=["default", "second"])


def test_second():
    Fruit.objects.using("second").create(name="pear")
    assert Fruit.objects.count() == 0
    assert connections["second"].settings_dict["NAME"].startswith("test_store")


def test_rolled_back_in_both():
    assert Fruit.objects.using("second").count() == 0
