import pytest

PRICES = {"apple": 1, "pear": 2}


def test_prices(snapshot):
    assert PRICES == snapshot


@pytest.mark.parametrize("fruit", PRICES)
def test_price(snapshot, fruit):
    assert PRICES[fruit] == snapshot


class TestGroup:
    def test_twice(self, snapshot):
        assert "first" == snapshot
        assert "second" == snapshot
