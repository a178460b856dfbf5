import pytest
from django.test import TestCase
from shop.models import Fruit

pytestmark = pytest.mark.django_db


def test_rows_are_rolled_back():
    assert Fruit.objects.count() == 0
    Fruit.objects.create(name="apple")


def test_same_name_again():
    assert Fruit.objects.count() == 0
    Fruit.objects.create(name="apple")


@pytest.mark.django_db(transaction=True)
def test_committed_rows_are_flushed():
    assert Fruit.objects.count() == 0
    Fruit.objects.create(name="apple")


@pytest.mark.django_db(transaction=True)
def test_after_a_flush():
    assert Fruit.objects.count() == 0
    Fruit.objects.create(name="apple")
    assert Fruit.objects.count() == 1


def test_client(client):
    Fruit.objects.create(name="apple")
    assert client.get("/fruits").json() == {"fruits": ["apple"]}


def test_queries(django_assert_num_queries):
    with django_assert_num_queries(2):
        Fruit.objects.count()


class TestOld(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.fruit = Fruit.objects.create(name="apple")

    def test_count(self):
        self.assertEqual(Fruit.objects.count(), 1)
        Fruit.objects.all().delete()

    def test_count_again(self):
        self.assertEqual(Fruit.objects.get(), self.fruit)
